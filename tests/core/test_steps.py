"""The application's own steps: when the master runs them, who may, and what everyone sees."""

from dataclasses import replace

from peerupgrade.core.acting import StepName
from peerupgrade.core.blockers import Code, all_blockers
from peerupgrade.core.effects import RunSteps, StopSteps
from peerupgrade.core.progress import steps_wanted
from peerupgrade.core.record import Hold, Job, Phase, StepState, Upgrade
from peerupgrade.core.requests import Done, SaveStep, View
from peerupgrade.core.store import StoreState, execute
from tests.core.builders import V, member, record, snapshot
from tests.core.test_master import began, read, requested

HAS = ("before 2.0", "migration 2.0")
STEPS = {Phase.BEFORE: frozenset({V("2.0")}), Phase.MIGRATION: frozenset({V("2.0")})}
BEFORE = Job(Phase.BEFORE, V("1.0"), V("2.0"))
MIGRATION = Job(Phase.MIGRATION, V("1.0"), V("2.0"))


def raising(**changes):
    changes = {"floor": V("2.0"), "floor_revision": 10, "upgrade": Upgrade("1.0", 1)} | changes
    return record(**changes)


def settled(**changes):
    return record("2.0", data=V("1.0"), upgrade=Upgrade("1.0", 1), **changes)


def at(the_record, *states, steps=HAS, **changes):
    one = member("a", "2.0", steps=steps)
    return snapshot(the_record, one, steps={one.key: one for one in states}, **changes)


def state(done=0, total=0, phase=Phase.BEFORE, version="2.0", **changes):
    began = {"began_at_ms": 990_000}
    return StepState(phase, V(version), "fill", done=done, total=total, **(began | changes))


def test_the_version_rises_only_once_the_steps_have_succeeded():
    master, effects = began(at(raising()), steps=STEPS)
    assert effects == [RunSteps(BEFORE, 4, "token")]
    assert requested(master.decide(1.0)) == []
    (commit,) = requested(master.steps_done(2.0, BEFORE, 4))
    assert commit.step == StepName.BEFORE
    written = replace(commit.record, revision=11)
    (commit,) = requested(master.replied(2.0, 2, Done(View(written, "server"))))
    assert commit.step == StepName.RAISED


def test_the_data_version_rises_only_once_the_migrations_have_succeeded():
    master, effects = began(at(settled()), steps=STEPS)
    assert RunSteps(MIGRATION, 4, "token") in effects
    assert requested(read(master, master.decide(1.0), at(settled()))) == []
    (commit,) = requested(read(master, master.steps_done(2.0, MIGRATION, 4), at(settled())))
    assert commit.step == StepName.CONVERTED


def test_without_steps_anywhere_nothing_waits():
    for the_record, name in ((raising(), StepName.RAISED), (settled(), StepName.CONVERTED)):
        _, effects = began(at(the_record, steps=()), steps=STEPS)
        (commit,) = requested(effects)
        assert commit.step == name


def test_the_steps_of_a_version_that_a_raise_leaves_out_are_wanted_too():
    skipping = raising(floor=V("3.0"))
    assert steps_wanted(at(skipping)) == {V("2.0")}
    assert steps_wanted(at(record("2.0", floor=V("3.0")))) == frozenset()


def test_one_that_has_begun_is_wanted_though_nobody_says_that_he_has_it():
    assert steps_wanted(at(raising(), state(1, 3), steps=())) == {V("2.0")}
    assert steps_wanted(at(raising(), state(3, 3, finished=1), steps=())) == frozenset()


def test_results_of_another_mastership_or_job_count_for_nothing():
    master, _ = began(at(raising()), steps=STEPS)
    for job, epoch in ((BEFORE, 3), (MIGRATION, 4)):
        assert master.steps_done(1.0, job, epoch) == []
        assert master.steps_failed(1.0, job, epoch, "no") == []
    assert master.step_failure == ""


def test_steps_that_failed_are_tried_again_after_a_while():
    master, _ = began(at(raising()), steps=STEPS)
    master.steps_failed(1.0, BEFORE, 4, "no room")
    assert master.step_failure == "no room"
    assert requested(master.decide(1.5)) == []
    assert RunSteps(BEFORE, 4, "token") in master.decide(2.0)


def test_steps_are_interrupted_when_they_are_not_due_any_more_or_somebody_elses():
    master, _ = began(at(raising()), steps=STEPS)
    held = raising(revision=11, hold=Hold("ann", "wait", 1))
    (withdraw,) = requested(master.heard_record(1.0, held))
    assert withdraw.step == StepName.FLOOR_WITHDRAWN
    lowered = replace(withdraw.record, revision=12)
    effects = master.replied(1.0, 2, Done(View(lowered, "server")))
    assert StopSteps() in effects
    master, _ = began(at(settled()), steps=STEPS)
    paused = settled(revision=11, pause=Hold("ann", "wait", 1))
    assert StopSteps() in read(master, master.heard_record(1.0, paused), at(paused))
    master, _ = began(at(raising()), steps=STEPS)
    assert StopSteps() in master.end()


def test_a_master_without_the_steps_hands_over_to_whoever_has_them():
    master, effects = began(at(raising()), steps={})
    assert not any(isinstance(effect, RunSteps) for effect in effects)
    assert master.lacks_steps
    nobody = at(raising(), state(1, 3), steps=())
    master, _ = began(nobody, steps={})
    assert not master.lacks_steps


# --- the store ------------------------------------------------------------------------------------


def save(number=1, *, epoch=3, **changes):
    given = {"done": number, "total": 3, "version": V("2.0")} | changes
    return SaveStep("token", epoch, "before", name="fill", checkpoint="1", number=number, **given)


def asked(the_state, *requests):
    """What the store says to each."""
    return [type(execute(the_state, one, 1_000_000, "server")[0]).__name__ for one in requests]


def store(the_record):
    return StoreState(record=the_record, master_token="token")


def test_only_the_newest_mastership_saves():
    superseded = store(raising(epoch=4))
    assert asked(superseded, save(epoch=3)) == ["Fenced"]
    assert superseded.steps == {}
    superseded.master_token = "another"
    assert asked(superseded, save(epoch=4)) == ["Fenced"]


def test_a_step_is_saved_only_while_it_is_due_and_succeeds_once():
    assert asked(store(record()), save()) == ["Refused"]
    assert asked(store(raising()), save(version=V("3.0"))) == ["Refused"]
    due = store(raising())
    assert asked(due, save(1), save(2, finished=True), save(3)) == ["Done", "Done", "Refused"]


def test_a_save_that_arrives_late_takes_nothing_back():
    due = store(raising())
    assert asked(due, save(2), save(1), save(2)) == ["Done", "Conflict", "Conflict"]


# --- what everyone sees ---------------------------------------------------------------------------


def codes(view):
    return [(one.code, one.subject, one.evidence) for one in all_blockers(view, view.now_ms)]


def test_everyone_sees_what_is_awaited_and_how_far_it_is():
    waits = (Code.BEFORE_STEP, "2.0", "the steps before 2.0 have not begun")
    assert waits in codes(at(raising()))
    half = "step 'fill' for 2.0: [##########..........] 5 of 10 done, about 10 s left"
    assert (Code.BEFORE_STEP, "2.0 fill", half) in codes(at(raising(), state(5, 10)))
    failed = "step 'fill' for 2.0 failed: no room"
    assert (Code.BEFORE_STEP, "2.0 fill", failed) in codes(
        at(raising(), state(5, 10, failure="no room"))
    )
    runs = (Code.MIGRATION, "2.0 fill", "migration 'fill' for 2.0 runs")
    assert runs in codes(at(settled(), state(phase=Phase.MIGRATION)))
    finished = state(10, 10, finished=1)
    assert not any(code is Code.BEFORE_STEP for code, *_ in codes(at(raising(), finished)))
