"""What becomes of a turn's steps if the program that the agent runs does not come up."""

import asyncio
import sys

import pytest

from peerupgrade.core.membership import NodeState
from peerupgrade.errors import ConfigError
from peerupgrade.runtime.supervised import Supervised
from peerupgrade.runtime.turns import TurnContext

pytestmark = pytest.mark.asyncio

CONTEXT = TurnContext("verify", "2.0", "1.0", 1)
RUN = f"{sys.executable} -c 'import time; time.sleep(60)'"


class Away:
    """A node in its turn, as far as its program sees it."""

    operating = acting = None
    state = NodeState.AWAY

    def __init__(self):
        self.told = []

    def status(self):
        return self

    def watch(self, look):
        self.look = look

    def installed_changed(self, *versions):
        pass

    def tell(self, event, detail):
        self.told.append(detail)


async def _never():
    await asyncio.Event().wait()


async def _reads():
    return "2.0", "0"


async def _hangs(_context):
    await _never()


def supervised(tmp_path, read, step_s):
    program = Supervised(RUN, 5.0, step_s, tmp_path / "acting", read)
    program.start(Away(), "")
    return program


@pytest.mark.parametrize("step", ["restart", "verify"])
async def test_a_program_that_never_comes_up_fails_the_step_in_time(tmp_path, step):
    program = supervised(tmp_path, _never, 0.2)
    run, _ = program.turn_steps({})[step]
    words = rf"{step} of run .* did not end within 0\.2 s: step_timeout_s says how long"
    with pytest.raises(ConfigError, match=words):
        await run(CONTEXT)
    assert program._in_turn is False  # it does not come up behind the cluster's back
    program._task.cancel()


async def test_what_verifies_it_has_that_time_too_and_may_try_again(tmp_path):
    program = supervised(tmp_path, _reads, 3.0)
    verify, _ = program.turn_steps({"verify": (_hangs, None)})["verify"]
    with pytest.raises(ConfigError, match=r"verify of run .* did not end within 3 s"):
        await verify(CONTEXT)
    again, _ = program.turn_steps({"verify": (lambda _context: "it answers", None)})["verify"]
    assert await again(CONTEXT) == "it answers"
    await program.stop()
    assert program._node.told[-1].startswith("was stopped")
