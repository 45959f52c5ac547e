"""What is done on a node in its turn, and what can be seen of it afterwards."""

import pytest

from peerupgrade.core.effects import Order, StepOutcome
from peerupgrade.core.record import TurnStep, Work
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import ConfigError
from peerupgrade.runtime.turns import TurnSteps

pytestmark = pytest.mark.asyncio


def order(step, *, look=False):
    return Order(Work("1.2", "2.0", "1.0", TurnStep(step)), look)


def turns(installed="1.0"):
    return TurnSteps(parse_version(installed))


async def test_a_callback_is_told_what_it_is_for_and_what_it_says_is_kept():
    steps, told = turns(), []

    async def install(context):
        told.append((context.step, context.version, context.before, context.attempt))
        return "fetched 3 files"

    steps.register("install", install, None)
    assert await steps.run(order("install")) == (StepOutcome.DONE, "fetched 3 files")
    assert told == [("install", "2.0", "1.0", 1)]
    assert steps.installs


async def test_a_step_without_a_callback_has_nothing_to_do():
    assert not turns().installs
    for look in (False, True):
        assert await turns().run(order("drain", look=look)) == (StepOutcome.DONE, "")


@pytest.mark.parametrize(
    ("step", "installed", "seen"),
    [
        ("drain", "1.0", StepOutcome.UNKNOWN),
        ("install", "1.0", StepOutcome.NOT_DONE),
        ("install", "2.0", StepOutcome.DONE),
        ("restart", "1.0", StepOutcome.DONE),  # this very process has started since
        ("verify", "2.0", StepOutcome.NOT_DONE),
        ("undrain", "2.0", StepOutcome.UNKNOWN),
    ],
)
async def test_what_can_be_seen_of_a_step_without_help(step, installed, seen):
    steps, ran = turns(installed), []
    steps.register(step, ran.append, None)
    assert await steps.run(order(step, look=True)) == (seen, "")
    assert ran == []


@pytest.mark.parametrize(
    ("installed", "seen"), [("2.0", StepOutcome.NOT_DONE), ("1.0", StepOutcome.DONE)]
)
async def test_on_the_way_back_only_the_older_version_is_an_install_that_was_done(installed, seen):
    steps = turns(installed)
    steps.register("install", lambda _: None, None)
    back = Order(Work("1.2", "1.0", "2.0", TurnStep.INSTALL), look=True)
    assert await steps.run(back) == (seen, "")


@pytest.mark.parametrize(
    ("answer", "seen"),
    [(True, StepOutcome.DONE), (False, StepOutcome.NOT_DONE), (None, StepOutcome.UNKNOWN)],
)
async def test_whoever_registers_a_step_may_look_at_it(answer, seen):
    steps = turns()
    steps.register("drain", lambda _: None, lambda _: answer)
    assert (await steps.run(order("drain", look=True)))[0] is seen


async def test_beside_a_program_the_version_is_read_and_a_restart_cannot_be_seen():
    steps = turns("1.0")

    async def read():
        return "2.0", "1.0"

    steps.read_by(read)
    for step in ("install", "restart"):
        steps.register(step, lambda _: None, None)
    assert await steps.read() == ("2.0", "1.0")
    assert (await steps.run(order("install", look=True)))[0] is StepOutcome.DONE
    assert (await steps.run(order("restart", look=True)))[0] is StepOutcome.UNKNOWN


@pytest.mark.parametrize("step", ["leave", "reboot"])
async def test_only_steps_of_a_turn_can_be_registered_and_each_once(step):
    steps = turns()
    with pytest.raises(ConfigError, match="a turn has no step"):
        steps.register(step, lambda _: None, None)
    steps.register("drain", lambda _: None, None)
    with pytest.raises(ConfigError, match="already"):
        steps.register("drain", lambda _: None, None)
