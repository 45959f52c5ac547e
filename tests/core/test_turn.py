"""One member's turn, where a whole cluster is more than is needed."""

from dataclasses import replace
from random import Random

import pytest

from peerupgrade.core.effects import Memory, Remember, RunProbes, RunTurnStep, StepOutcome
from peerupgrade.core.health import Prober, Probing
from peerupgrade.core.membership import Membership, NodeConfig
from peerupgrade.core.record import HealthState, Rollout, Standing, Turn, TurnStep, Work, WorkState
from peerupgrade.core.requests import View
from peerupgrade.core.timers import Timers
from peerupgrade.core.turn import Walker
from tests.core.builders import V, record

TURN = Turn("3.10", "a", "2.0", 2000)
GIVEN = record(rollout=Rollout("3.9", "2.0", "ann", "new", 1000, turns=(TURN,)))
INSTALLING = Work("3.10", "2.0", "1.0", TurnStep.INSTALL)


def walker(memory, *, standing=Standing.SERVING, told=Standing.SERVING, seen=GIVEN, probing=None):
    """A registered member that has heard of its turn."""
    config = NodeConfig("a", V("1.0"), V("0"), installs=True)
    membership = Membership(config, memory, Random(1), Timers())
    membership.view, membership._registered = View(seen, "server"), True
    membership.operating = V("1.0") if standing is Standing.SERVING else None
    membership._standing = standing
    membership._reported = replace(membership._reported, standing=told)
    return Walker(membership, Prober(probing, membership, membership.timers))


def test_a_turn_begins_on_the_disk():
    (_, remember) = walker(Memory("t", record=GIVEN)).follow(0.0)
    assert isinstance(remember, Remember)
    assert remember.memory.work == Work("3.10", "2.0", "1.0")


def test_a_turn_that_the_disk_does_not_know_of_does_not_begin():
    assert walker(Memory("t", record=record())).follow(0.0) == []


def test_a_turn_in_a_store_that_is_in_doubt_is_none():
    doubtful = replace(GIVEN, identity="another server")
    assert walker(Memory("t", record=GIVEN), seen=doubtful).follow(0.0) == []


def test_after_a_start_nothing_is_done_before_the_store_knows_that_the_node_is_away():
    memory = Memory("t", record=GIVEN, work=INSTALLING)
    assert walker(memory, standing=Standing.AWAY).follow(0.0) == []
    (run,) = walker(memory, standing=Standing.AWAY, told=Standing.AWAY).follow(0.0)
    assert run == RunTurnStep(run.order)
    assert (run.order.work, run.order.look) == (INSTALLING, True)


def test_a_turn_that_has_ended_is_not_begun_again():
    ended = replace(INSTALLING, step=TurnStep.UNDRAIN, state=WorkState.ENDED)
    assert walker(Memory("t", record=GIVEN, work=ended)).follow(0.0) == []


def test_without_a_turn_nothing_is_done():
    assert walker(Memory("t", record=record()), seen=record()).follow(0.0) == []


def given_up(work, installed="1.0"):
    """A member that is away, in a turn that somebody gave up."""
    turns = (replace(TURN, given_up=1),)
    seen = replace(GIVEN, rollout=replace(GIVEN.rollout, turns=turns))
    memory = Memory("t", record=GIVEN, work=work)
    made = walker(memory, standing=Standing.AWAY, told=Standing.AWAY, seen=seen)
    made.membership.config = replace(made.membership.config, installed=V(installed))
    return made


def saved(effects):
    (memory,) = [effect.memory for effect in effects if isinstance(effect, Remember)]
    return memory.work.step


def test_what_was_installed_also_runs_before_a_member_comes_back():
    made = given_up(INSTALLING)
    (run,) = made.follow(0.0)
    assert saved(made.ended(0.0, run.order, StepOutcome.DONE, "")) is TurnStep.RESTART
    assert saved(given_up(replace(INSTALLING, state=WorkState.FAILED)).follow(0.0)) is (
        TurnStep.RETURN
    )
    half = replace(INSTALLING, state=WorkState.FAILED)
    assert saved(given_up(half, installed="2.0").follow(0.0)) is TurnStep.RESTART


def test_what_nobody_wants_any_more_is_not_installed():
    made = given_up(INSTALLING)
    (run,) = made.follow(0.0)
    assert run.order.look
    assert saved(made.ended(0.0, run.order, StepOutcome.NOT_DONE, "")) is TurnStep.RETURN


# --- health ---------------------------------------------------------------------------------------

PROBING = Probing(interval_s=5.0, failures=2, successes=1, wait_s=60.0)
BACK = replace(INSTALLING, step=TurnStep.RETURN)


def back(work=BACK, seen=GIVEN):
    """A member that serves again, and whose program is probed."""
    made = walker(Memory("t", record=GIVEN, work=work), seen=seen, probing=PROBING)
    made.prober.begin()
    return made


def probed(made, now, error=""):
    made.prober.looked(now, made.prober._call, error)


def test_a_member_has_returned_only_once_its_program_is_healthy():
    made = back()
    (timer,) = made.follow(0.0)
    assert timer.at_s == 60.0
    probed(made, 1.0, "503")
    assert made.follow(1.0) == []
    probed(made, 6.0)
    assert saved(made.follow(6.0)) is TurnStep.UNDRAIN


def test_a_turn_fails_where_the_program_is_not_healthy_in_time_and_may_be_tried_again():
    made = back()
    made.follow(0.0)
    probed(made, 1.0, "503")
    probed(made, 6.0, "503")
    assert made.follow(59.0) == []
    (remember,) = made.follow(60.0)
    work = remember.memory.work
    assert (work.step, work.state) == (TurnStep.RETURN, WorkState.FAILED)
    assert work.note == "not healthy within 60 s, its probes fail: 503"
    retried = replace(GIVEN.rollout, turns=(replace(TURN, attempt=2),))
    made = back(work, replace(GIVEN, rollout=retried))
    probe, again = made.follow(61.0)
    assert isinstance(probe, RunProbes)
    assert again.memory.work.state is WorkState.RUNS
    assert made.membership.health.state is HealthState.UNKNOWN


def test_what_was_asked_before_the_program_was_replaced_does_not_count():
    made = walker(Memory("t", record=GIVEN, work=INSTALLING), probing=PROBING)
    (before,) = made.prober.begin()
    made._come_back(INSTALLING)
    made.prober.looked(1.0, before.call, "")
    assert made.membership.health.state is HealthState.UNKNOWN


@pytest.mark.parametrize(
    ("error", "state", "step"),
    [("503", WorkState.DRAINED, TurnStep.RETURN), ("", WorkState.RUNS, TurnStep.UNDRAIN)],
)
def test_whom_nobody_wants_any_more_is_not_undrained_unless_it_is_healthy(error, state, step):
    turns = (replace(TURN, given_up=1),)
    unwanted = replace(GIVEN, rollout=replace(GIVEN.rollout, turns=turns))
    for work in (BACK, replace(BACK, state=WorkState.FAILED)):
        made = back(work, unwanted)
        probed(made, 1.0, error)
        probed(made, 6.0, error)
        (remember,) = made.follow(6.0)
        assert (remember.memory.work.step, remember.memory.work.state) == (step, state)


# --- out of its turn, and drained -----------------------------------------------------------------

DRAINED = replace(BACK, state=WorkState.DRAINED, note="its probes fail: 503")
OVER = record()  # no rollout any more


def test_whoever_stayed_drained_is_undrained_once_its_program_is_healthy():
    made = back(DRAINED, OVER)
    assert made.follow(0.0) == []
    probed(made, 1.0)
    (remember,) = made.follow(1.0)
    work = remember.memory.work
    assert (work.step, work.state, work.note) == (TurnStep.UNDRAIN, WorkState.RUNS, "")
    made.membership.remembered(1.0, remember.memory)
    (run,) = made.follow(1.0)
    assert (run.order.work.step, run.order.look) == (TurnStep.UNDRAIN, False)
    (_, remember) = made.ended(2.0, run.order, StepOutcome.DONE, "")
    assert remember.memory.work.state is WorkState.ENDED


def test_nobody_is_undrained_before_it_operates():
    made = back(DRAINED, OVER)
    probed(made, 1.0)
    made.membership.operating = None
    assert made.follow(1.0) == []


UNDRAIN_FAILED = replace(BACK, step=TurnStep.UNDRAIN, state=WorkState.FAILED, note="no answer")


def test_an_undrain_that_failed_in_a_turn_that_is_over_is_done_again_after_pauses_that_grow():
    made = walker(Memory("t", record=GIVEN, work=UNDRAIN_FAILED), seen=OVER)
    now, pauses = 0.0, []
    for attempt in range(1, 10):
        (remember,) = made.follow(now)
        work = remember.memory.work
        assert (work.state, work.attempt) == (WorkState.DRAINED, attempt)
        made.membership.remembered(now, remember.memory)
        (timer,) = made.follow(now)
        assert made.follow(timer.at_s - 0.1) == []
        pauses.append(timer.at_s - now)
        now = timer.at_s
        (remember,) = made.follow(now)
        made.membership.remembered(now, remember.memory)
        (run,) = made.follow(now)
        assert (run.order.work.attempt, run.order.look) == (attempt + 1, False)
        (_, remember) = made.ended(now, run.order, StepOutcome.FAILED, "no answer")
        made.membership.remembered(now, remember.memory)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_an_undrain_that_failed_in_a_turn_that_is_over_is_done_again_at_once_by_the_next_process():
    made = walker(Memory("t", record=GIVEN, work=UNDRAIN_FAILED), seen=OVER)
    (remember,) = made.follow(0.0)
    drained = remember.memory.work
    assert drained == replace(UNDRAIN_FAILED, state=WorkState.DRAINED)
    (remember,) = walker(Memory("t", record=GIVEN, work=drained), seen=OVER).follow(0.0)
    again = remember.memory.work
    assert (again.step, again.state, again.attempt) == (TurnStep.UNDRAIN, WorkState.RUNS, 2)


def test_a_turn_that_is_given_up_before_it_begins_leaves_a_member_drained():
    turns = (replace(TURN, id="3.20", given_up=1),)
    seen = replace(GIVEN, rollout=replace(GIVEN.rollout, turns=turns))
    (remember,) = back(DRAINED, seen).follow(0.0)
    work = remember.memory.work
    assert (work.turn, work.step, work.state) == ("3.20", TurnStep.RETURN, WorkState.DRAINED)
    assert work.note == DRAINED.note
