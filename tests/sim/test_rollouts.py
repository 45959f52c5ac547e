"""The orders of events that break a rollout with one guard less, each told on the real core.

Every event is judged by the invariants, so a scenario also fails where it asserts nothing.
"""

import pytest

from peerupgrade.core.effects import Resign, SetAway, StepOutcome, Stop
from peerupgrade.core.health import Probing
from peerupgrade.core.record import HealthState, Standing, TurnStep, WorkState
from peerupgrade.core.requests import (
    Done,
    Exclude,
    Fenced,
    Outcome,
    ReleaseHold,
    Report,
    ReturnSlot,
    SetHold,
    TakeSlot,
)
from peerupgrade.core.steering import Abort, Change, Pause, Resume, Retry, Skip, Start, steer
from peerupgrade.core.store import snapshot
from peerupgrade.core.strategy import OnUnhealthy, Strategy
from peerupgrade.errors import RefusedError
from peerupgrade.sim.stage import Event
from tests.sim.scene import Scene, asks, commits

RUN = (TurnStep.DRAIN, TurnStep.INSTALL, TurnStep.RESTART, TurnStep.VERIFY, TurnStep.UNDRAIN)


NOTHING = commits("nothing")


class Rollouts(Scene):
    """A cluster that is told to bring itself to 2.0; "b" is the first, the master "a" the last."""

    def __init__(self, names="abc", strategy=Strategy(), **config):  # noqa: B008 - it is frozen
        super().__init__(names, **config)
        self.steer(Start("2.0", "ann", "new", strategy))

    def steer(self, asked):
        store = self.stage.store
        request = steer(snapshot(store.state, self.stage.store_now_ms, store.identity), asked)
        assert isinstance(self.operate(request), Done)

    def come_to(self, name, step, without=NOTHING):
        """Everything happens until a step begins on a node; it has not ended yet."""
        for _ in range(200):
            self.run(0.1, without=without, but=[("stepped", name)])
            order = self.stage.hosts[name].ordered
            if order is not None and order.work.step is step:
                return order
            if order is not None:
                self.happen(Event("stepped", name))
        raise AssertionError(f"{name} does not come to {step}")

    def work(self, name):
        """What the store knows of a node's turn."""
        return self.members[name].work

    @property
    def rollout(self):
        return self.record.rollout

    @property
    def slots(self):
        return self.stage.store.state.slots

    def ended(self, names="abc", version="2.0"):
        self.run(40.0)
        assert self.rollout is None, self.awaited()
        assert self.slots == {}
        assert {name: str(self.members[name].installed) for name in names} == dict.fromkeys(
            names, version
        )
        return True


# --- the whole way --------------------------------------------------------------------------------


def test_a_rollout_brings_every_member_to_the_version_and_ends_by_itself():
    scene = Rollouts()
    assert scene.ended()
    assert [scene.operates(name) for name in "abc"] == ["2.0"] * 3
    assert (scene.record.rollout_end.version, scene.record.rollout_end.aborted) == ("2.0", 0)
    assert scene.record.upgrade is None


def test_the_masters_own_node_is_the_last_after_handing_over():
    scene = Rollouts()
    scene.ended()
    given = [e["inputs"][0] for e in scene.stage.store.state.history if e["kind"] == "turn given"]
    assert given == ["b", "c", "a"]
    last = [e for e in scene.stage.store.state.history if e["kind"] == "turn given"][-1]
    assert last["by"] != "a"


def test_a_cluster_of_one_upgrades_itself():
    scene = Rollouts("a")
    assert scene.ended("a")


def test_as_many_are_down_as_the_budget_says_and_no_more():
    scene = Rollouts("abcde", Strategy(budget=2))
    scene.run(2.0, but=["stepped"])
    assert [turn.node for turn in scene.rollout.turns] == ["b", "c"]
    assert ("rollout", "") in scene.awaited()
    scene.run(10.0, but=[("stepped", "b")])
    assert [str(scene.members[name].installed) for name in "bcdea"] == ["1.0", *["2.0"] * 3, "1.0"]
    assert [turn.node for turn in scene.rollout.turns] == ["b"]  # the master waits for all turns
    assert scene.ended("abcde")


def test_what_a_person_installs_meanwhile_counts():
    scene = Rollouts()
    scene.come_to("b", TurnStep.DRAIN)
    scene.in_place("c", "2.0")
    scene.run(but=[("stepped", "b")])
    scene.ended()
    history = scene.stage.store.state.history
    assert [e["inputs"][0] for e in history if e["kind"] == "turn given"] == ["b", "a"]


def test_before_and_after_a_rollout_nothing_is_asked_of_the_store():
    for scene in (Scene(), Rollouts()):
        scene.run(40.0)
        scene.stage.take()
        scene.stage.live(30.0)
        assert [served.request for served in scene.stage.take().served] == []


# --- slots ----------------------------------------------------------------------------------------


def test_a_turn_begins_only_once_its_slot_was_acknowledged():
    scene = Scene()
    scene.slow("reply")  # it is in the store, and the master does not know
    scene = started(scene, but=[("reply", "a")])
    scene.run(1.0, but=[("reply", "a")])
    assert list(scene.slots) == ["b"]
    assert scene.rollout.turns == ()


def test_a_superseded_master_takes_no_slot():
    scene = Scene()
    scene.slow("read")
    take = asks("a", TakeSlot)
    scene = started(scene, without=take)
    assert scene.waits(take)
    scene.stage.pause("a")
    scene.run(5.0, without=take)
    assert any(scene.node(name).mastership.holding for name in "bc")
    assert isinstance(scene.let(take), Fenced)


def test_a_slot_is_returned_only_once_the_member_has_come_back():
    scene = Rollouts()
    for step in RUN:
        scene.come_to("b", step)
        assert list(scene.slots) == ["b"]
        assert [turn.node for turn in scene.rollout.turns] == ["b"]


def test_a_script_and_a_rollout_together_take_down_no_more_than_the_budget():
    scene = Rollouts()
    scene.come_to("b", TurnStep.DRAIN)
    assert scene.operate(TakeSlot("c", "bob", 1)).rule == "budget_spent"
    scene.run(20.0, without=commits("turn ended"))
    assert isinstance(scene.operate(TakeSlot("a", "bob", 1)), Done)
    scene.run(3.0)
    assert scene.rollout.turns == ()
    assert ("budget_spent", "c") in scene.awaited()
    scene.operate(ReturnSlot("a", "bob", Outcome.UNUSED))
    assert scene.ended()


# --- one step after the other ---------------------------------------------------------------------


def test_nothing_is_installed_before_the_store_knows_that_the_node_does_not_serve():
    scene = Rollouts()
    scene.come_to("b", TurnStep.DRAIN)
    scene.happen(Event("stepped", "b"))
    late = asks("b", Report)
    scene.run(3.0, without=late)
    assert scene.operates("b") is None
    assert scene.stage.hosts["b"].ordered is None
    scene.run(0.1, but=["stepped"])
    assert scene.stage.hosts["b"].ordered.work.step is TurnStep.INSTALL


@pytest.mark.parametrize("step", [TurnStep.INSTALL, TurnStep.VERIFY])
def test_a_step_that_was_cut_short_is_looked_at(step):
    """An installed version shows; to verify changes nothing, so a stage says that it is unknown."""
    scene = Rollouts()
    scene.come_to("b", step)
    scene.stage.kill("b")
    scene.start("b")
    scene.run(1.0, but=["stepped"])
    order = scene.stage.hosts["b"].ordered
    assert (order.work.step, order.look) == (step, True)
    assert scene.operates("b") is None
    assert scene.members["b"].standing is Standing.AWAY


@pytest.mark.parametrize("step", [TurnStep.DRAIN, TurnStep.RESTART, TurnStep.UNDRAIN])
def test_where_nothing_says_whether_a_step_was_done_a_person_decides(step):
    scene = Rollouts()
    scene.come_to("b", step)
    scene.stage.kill("b")
    scene.start("b")
    scene.run(2.0)
    assert scene.work("b").state is WorkState.UNKNOWN
    assert ("step_unknown", "b") in scene.awaited()
    assert scene.rollout.pause.by == "b"
    scene.steer(Retry("b", "ann"))
    assert scene.ended()


def test_a_step_that_ended_does_not_run_again_although_nobody_heard_of_it():
    scene = Rollouts()
    scene.come_to("b", TurnStep.INSTALL)
    scene.slow("saved")
    scene.happen(Event("stepped", "b"))
    scene.stage.kill("b")
    scene.start("b")
    scene.run(2.0)
    assert scene.work("b").step is not TurnStep.INSTALL
    assert scene.ended()


def test_a_step_begins_only_once_the_disk_knows_of_it():
    scene = Rollouts()
    scene.come_to("b", TurnStep.DRAIN)
    scene.slow("saved")
    scene.happen(Event("stepped", "b"))
    for _ in range(30):
        scene.run(0.1, but=[("saved", "b")])
        assert scene.stage.hosts["b"].ordered is None
    assert scene.stage.hosts["b"].disk.work.step is TurnStep.DRAIN


def test_a_node_that_starts_in_the_middle_of_its_turn_does_not_serve():
    scene = Rollouts()
    scene.come_to("b", TurnStep.INSTALL)
    scene.stage.kill("b")
    scene.start("b")
    scene.run(1.0, but=["stepped"])
    assert scene.operates("b") is None
    scene.feed("b", SetAway(False))  # nor by anybody's word
    scene.run(1.0, but=["stepped"])
    assert scene.operates("b") is None
    assert scene.members["b"].standing is Standing.AWAY
    assert scene.ended()


def test_a_node_that_ends_in_the_middle_of_its_turn_does_not_leave():
    scene = Rollouts()
    scene.come_to("b", TurnStep.RESTART)
    scene.feed("b", Stop(leave=True))
    scene.run(1.0)
    assert scene.members["b"].standing is Standing.AWAY
    assert list(scene.slots) == ["b"]


@pytest.mark.parametrize("step", RUN)
def test_the_next_master_goes_on_where_the_last_one_died(step):
    scene = Rollouts()
    scene.come_to("b", step)
    scene.stage.kill("a")
    scene.run(5.0, but=[("stepped", "b")])
    assert scene.stage.hosts["b"].ordered.work.step is step
    scene.start("a")
    assert scene.ended()


@pytest.mark.parametrize("step", RUN)
def test_a_store_that_was_away_is_only_waited_for(step):
    scene = Rollouts()
    scene.come_to("b", step)
    scene.stage.restart_store()
    scene.judge()
    assert scene.ended()


def test_a_store_that_forgot_a_turn_is_told_of_it():
    scene = Rollouts()
    scene.stage.replicate()
    scene.come_to("b", TurnStep.INSTALL)
    scene.forget()
    assert scene.rollout.turns == ()
    scene.run(10.0, but=[("stepped", "b")])
    assert [turn.node for turn in scene.rollout.turns] == ["b"]
    assert scene.ended()


# --- what people do -------------------------------------------------------------------------------


def failed(step=TurnStep.VERIFY, name="b"):
    scene = Rollouts()
    scene.come_to(name, step)
    scene.stage._own(name).step_ends = StepOutcome.FAILED
    scene.happen(Event("stepped", name))
    scene.stage._own(name).step_ends = StepOutcome.DONE
    scene.run(2.0)
    return scene


@pytest.mark.parametrize("step", RUN)
def test_a_step_that_fails_pauses_the_rollout_until_it_is_tried_again(step):
    scene = failed(step)
    assert (scene.rollout.pause.by, len(scene.rollout.turns)) == ("b", 1)
    assert ("step_failed", "b") in scene.awaited()
    assert ("rollout_paused", "") not in scene.awaited()
    with pytest.raises(RefusedError) as refused:
        scene.steer(Resume("ann"))
    assert refused.value.rule == "turn_stopped"
    scene.steer(Retry("b", "ann"))
    assert scene.ended()


@pytest.mark.parametrize("step", RUN)
def test_a_member_that_is_skipped_comes_back_with_what_it_has(step):
    scene = failed(step)
    installed = str(scene.stage.hosts["b"].installed)
    scene.steer(Skip("b", "ann", "broken"))
    scene.run(30.0)
    assert scene.rollout is None
    assert scene.record.rollout_end.skipped == ("b",)
    assert str(scene.members["b"].installed) == installed
    assert scene.operates("b") is not None
    assert str(scene.members["c"].installed) == "2.0"


@pytest.mark.parametrize("step", RUN)
def test_a_rollout_that_is_aborted_ends_once_everybody_is_back(step):
    scene = Rollouts()
    scene.come_to("b", step)
    scene.steer(Abort("ann", "too slow"))
    scene.run(2.0, but=["stepped"])
    assert scene.rollout is not None
    scene.run(10.0)
    assert (scene.rollout, scene.record.rollout_end.aborted) == (None, 1)
    assert all(scene.operates(name) for name in "abc")
    assert str(scene.members["c"].installed) == "1.0"
    assert scene.slots == {}


def test_what_was_installed_runs_before_an_aborted_turn_ends():
    scene = Rollouts()
    turn = scene.come_to("b", TurnStep.INSTALL).work.turn
    scene.steer(Abort("ann"))
    scene.run(10.0)
    assert (turn, TurnStep.RESTART, 1) in scene.ghost.ended
    assert (turn, TurnStep.VERIFY, 1) not in scene.ghost.ended


def test_a_pause_lets_no_turn_begin_and_those_under_way_go_on():
    scene = Rollouts()
    scene.come_to("b", TurnStep.DRAIN)
    scene.steer(Pause("ann", "lunch"))
    scene.run(10.0)
    assert (str(scene.members["b"].installed), scene.rollout.turns) == ("2.0", ())
    assert ("rollout_paused", "") in scene.awaited()
    scene.steer(Resume("ann"))
    assert scene.ended()


def test_a_rollback_returns_every_member_to_what_it_had_the_last_one_first():
    scene = Rollouts("abcd")
    scene.come_to("d", TurnStep.VERIFY)
    scene.steer(Abort("ann", "too slow", rollback=True))
    scene.run(60.0)
    assert (scene.rollout, scene.record.rollout_end.rollback) == (None, 1)
    assert {str(one.installed) for one in scene.members.values()} == {"1.0"}
    assert all(scene.operates(name) == "1.0" for name in "abcd")
    history = scene.stage.store.state.history
    given = [e["inputs"] for e in history if e["kind"] == "turn given"]
    assert given == [*(f"{n} has 1.0" for n in "bcd"), *(f"{n} has 2.0" for n in "dcb")]
    assert scene.slots == {}


def test_while_members_return_to_what_they_had_the_acting_version_does_not_rise():
    scene = Rollouts()
    scene.operate(SetHold("ann", "not yet"))
    scene.come_to("a", TurnStep.UNDRAIN)  # the last one: every member has it
    scene.steer(Abort("ann", rollback=True))
    scene.operate(ReleaseHold("ann"))
    scene.run(60.0)
    assert (scene.acting, scene.rollout) == ("1.0", None)
    assert {str(one.installed) for one in scene.members.values()} == {"1.0"}


def test_a_floor_that_is_up_is_taken_back_for_members_that_return():
    scene = Rollouts()
    scene.come_to("a", TurnStep.UNDRAIN, without=commits("raised"))
    assert str(scene.record.floor) == "2.0"
    scene.steer(Abort("ann", rollback=True))
    scene.run(60.0)
    assert (scene.acting, str(scene.record.floor)) == ("1.0", "1.0")
    assert {str(one.installed) for one in scene.members.values()} == {"1.0"}


def test_once_the_acting_version_has_risen_nothing_returns_below_it():
    scene = Rollouts()
    scene.come_to("a", TurnStep.UNDRAIN)
    scene.run(5.0, but=[("stepped", "a")])
    assert scene.acting == "2.0"
    with pytest.raises(RefusedError) as refused:
        scene.steer(Abort("ann", rollback=True))
    assert refused.value.rule == "acting_risen"
    assert scene.ended()


def test_a_master_wakes_when_those_that_have_it_have_operated_for_long_enough():
    scene = Rollouts(strategy=Strategy(soak_ms=5000))
    scene.run(4.0)
    assert ("soaking", "") in scene.awaited()
    assert str(scene.members["c"].installed) == "1.0"
    scene.run(2.0)
    assert str(scene.members["c"].installed) == "2.0"
    scene.steer(Change({"soak_ms": 0}, "ann"))
    assert scene.ended()


def test_without_a_way_to_install_a_person_does_and_the_rollout_goes_on():
    scene = Rollouts(installs=False)
    scene.run(3.0)
    assert ("step_manual", "b") in scene.awaited()
    assert scene.operates("b") is None
    scene.in_place("b", "2.0")
    scene.run(3.0)
    assert scene.operates("b") == "1.0"
    assert ("step_manual", "c") in scene.awaited()


def test_a_dead_member_is_named_and_excluding_it_lets_the_rollout_go_on():
    scene = Scene()
    scene.stage.kill("c")
    scene.run(1.0)
    scene = started(scene)
    scene.run(10.0)
    assert [turn.node for turn in scene.rollout.turns] == ["c"]
    assert ("turn_not_begun", "c") in scene.awaited()
    scene.operate(Exclude("c", "ann", "gone", True, scene.members["c"].incarnation))
    assert scene.ended("ab")


def test_a_member_that_is_away_gets_no_turn_and_is_named():
    scene = Scene()
    scene.feed("b", Stop(leave=False))
    scene.run(1.0)
    scene = started(scene)
    scene.run(5.0)
    assert scene.rollout.turns == ()
    assert ("member_down", "b") in scene.awaited()
    assert ("budget_spent", "c") in scene.awaited()
    scene.start("b", "2.0")
    assert scene.ended()


def test_a_master_that_is_told_to_hand_over_disturbs_nothing():
    scene = Rollouts()
    scene.come_to("b", TurnStep.VERIFY)
    scene.feed("a", Resign())
    assert scene.ended()


# --- health ---------------------------------------------------------------------------------------

PROBING = Probing(interval_s=0.5, failures=2, wait_s=5.0)


def probed(names="abc", **strategy):
    return Rollouts(names, Strategy(**strategy), probing=PROBING)


def ill(scene, name, why="503"):
    scene.stage._own(name).ails = why


def test_a_rollout_of_programs_that_are_probed_ends_and_then_nobody_asks_the_store():
    scene = probed()
    assert scene.ended()
    scene.stage.take()
    scene.stage.live(10.0)
    assert [served.request for served in scene.stage.take().served] == []


def test_what_is_unhealthy_before_has_no_turn_until_it_is_mended():
    scene = Scene(probing=PROBING)
    ill(scene, "b")
    scene.run(3.0)
    scene = started(scene)
    scene.run(5.0)
    assert (scene.rollout.turns, scene.rollout.pause) == ((), None)
    assert ("unhealthy_before", "b") in scene.awaited()
    ill(scene, "b", "")
    assert scene.ended()


def test_a_turn_is_over_only_once_the_program_is_healthy():
    scene = probed()
    scene.come_to("b", TurnStep.VERIFY)
    ill(scene, "b")
    scene.run(3.0)
    assert (scene.work("b").step, scene.operates("b")) == (TurnStep.RETURN, "1.0")
    assert list(scene.slots) == ["b"]
    assert ("step_runs", "b") in scene.awaited()
    scene.run(5.0)
    assert (scene.work("b").step, scene.work("b").state) == (TurnStep.RETURN, WorkState.FAILED)
    assert ("step_failed", "b") in scene.awaited()
    ill(scene, "b", "")
    scene.steer(Retry("b", "ann"))
    assert scene.ended()


def worse(on_unhealthy, **strategy):
    """b has got 2.0, and becomes unhealthy while c waits for the soak."""
    scene = probed(on_unhealthy=on_unhealthy, soak_ms=4000, **strategy)
    comes(scene, lambda: scene.rollout.turn_ended_at_ms)
    ill(scene, "b")
    is_ill = lambda: scene.members["b"].health.state is HealthState.UNHEALTHY  # noqa: E731
    comes(scene, is_ill, but=["stepped"])
    return scene


def comes(scene, reached, but=()):
    for _ in range(100):
        scene.run(0.1, but=but)
        if reached():
            return
    raise AssertionError("it does not come")


def test_what_is_worse_for_the_version_pauses_the_rollout():
    scene = worse(OnUnhealthy.PAUSE)
    scene.run(10.0)
    assert (scene.rollout.pause.by, scene.rollout.turns) == ("b", ())
    assert ("unhealthy_after", "b") in scene.awaited()
    ill(scene, "b", "")
    scene.run(2.0)
    scene.steer(Resume("ann"))
    assert scene.ended()


def test_what_is_worse_for_the_version_returns_alone():
    scene = worse(OnUnhealthy.NODE, failures=1)
    scene.come_to("b", TurnStep.VERIFY)
    ill(scene, "b", "")
    scene.run(40.0)
    assert scene.rollout is None, scene.awaited()
    versions = {name: str(one.installed) for name, one in scene.members.items()}
    assert versions == {"a": "2.0", "b": "1.0", "c": "2.0"}
    assert scene.record.rollout_end.skipped == ("b",)
    assert all(scene.operates(name) == "1.0" for name in "abc")


@pytest.mark.parametrize("how", [OnUnhealthy.NODE, OnUnhealthy.ALL])
def test_a_release_that_never_becomes_healthy_returns_by_itself(how):
    scene = probed(on_unhealthy=how)
    scene.come_to("b", TurnStep.VERIFY)
    ill(scene, "b")
    scene.happen(Event("stepped", "b"))
    comes(scene, lambda: scene.rollout.returning or scene.rollout.rollback, but=[("stepped", "b")])
    scene.come_to("b", TurnStep.VERIFY)
    ill(scene, "b", "")
    scene.run(20.0)
    assert {str(one.installed) for one in scene.members.values()} == {"1.0"}
    assert (scene.acting, scene.slots) == ("1.0", {})
    pause = scene.rollout.pause.by if scene.rollout is not None else None
    assert pause == ("failures" if how is OnUnhealthy.NODE else None)


def test_all_return_by_themselves():
    scene = worse(OnUnhealthy.ALL)
    scene.come_to("b", TurnStep.VERIFY)
    ill(scene, "b", "")
    scene.run(20.0)
    assert {str(one.installed) for one in scene.members.values()} == {"1.0"}
    end = scene.record.rollout_end
    assert (end.rollback, end.cause) == (1, "b has got 2.0, and is unhealthy: 503")
    assert (scene.acting, scene.rollout, scene.slots) == ("1.0", None, {})


# --- out of its turn, and drained -----------------------------------------------------------------


def left_ill(scene):
    """b has got 2.0, is not healthy with it, and somebody skips it; all others get 2.0."""
    scene.come_to("b", TurnStep.VERIFY)
    ill(scene, "b")
    comes(scene, lambda: scene.work("b").state is WorkState.FAILED)
    scene.steer(Skip("b", "ann"))
    scene.run(40.0)
    return scene


def test_a_member_that_was_skipped_is_undrained_once_it_is_healthy_although_the_rollout_ended():
    scene = left_ill(probed())
    assert (scene.rollout, scene.slots) == (None, {})
    assert (scene.work("b").step, scene.work("b").state) == (TurnStep.RETURN, WorkState.DRAINED)
    assert ("drained", "b") in scene.awaited()
    ill(scene, "b", "")
    order = scene.come_to("b", TurnStep.UNDRAIN)
    assert not order.look
    scene.run(1.0)
    assert scene.work("b").state is WorkState.ENDED
    assert scene.awaited() == []


def test_a_member_that_was_skipped_stays_drained_through_a_restart():
    scene = left_ill(probed())
    scene.stage.kill("b")
    scene.start("b")
    scene.run(5.0)
    assert ("drained", "b") in scene.awaited()
    scene.stage.kill("b")
    ill(scene, "b", "")
    scene.start("b")
    scene.run(5.0)
    assert scene.work("b").state is WorkState.ENDED


@pytest.mark.parametrize("again", [False, True])
def test_an_undrain_that_failed_on_a_member_that_was_left_out_keeps_others_up_until_it_is_done(
    again,
):
    scene = Rollouts(strategy=Strategy(failures=1))
    scene.come_to("b", TurnStep.UNDRAIN)
    scene.stage._own("b").step_ends = StepOutcome.FAILED
    scene.run(10.0)
    assert scene.rollout.failed == ("b",)
    assert (scene.work("b").step, scene.work("b").state) == (TurnStep.UNDRAIN, WorkState.DRAINED)
    assert (scene.rollout.turns, scene.slots) == ((), {})  # c would be down, too
    assert ("drained", "b") in scene.awaited()
    scene.stage._own("b").step_ends = StepOutcome.DONE
    scene.run(2.0)
    assert scene.work("b").state is WorkState.DRAINED  # its pause has grown
    if again:
        scene.stage.kill("b")
        scene.start("b")
        scene.run(2.0)
        assert scene.work("b").state is WorkState.ENDED
    assert scene.ended()


# --- it bakes -------------------------------------------------------------------------------------


def baking(bake_ms=6000, **strategy):
    """All have the version, and it bakes."""
    scene = probed(bake_ms=bake_ms, **strategy)
    comes(scene, lambda: {str(one.installed) for one in scene.members.values()} == {"2.0"})
    scene.run(2.0)
    assert ("baking", "") in scene.awaited()
    assert (scene.acting, scene.rollout.turns) == ("1.0", ())
    return scene


def test_the_version_rises_only_after_it_has_baked():
    scene = baking()
    scene.run(3.0)
    assert scene.acting == "1.0"
    scene.run(4.0)
    assert (scene.acting, scene.rollout) == ("2.0", None)


def test_somebody_ends_the_baking():
    scene = baking(bake_ms=3_600_000)
    scene.steer(Change({"bake_ms": 0}, "ann"))
    assert scene.ended()
    assert scene.acting == "2.0"


def test_what_turns_out_to_be_bad_as_it_bakes_returns():
    scene = baking(on_unhealthy=OnUnhealthy.ALL)
    ill(scene, "c")
    comes(scene, lambda: scene.rollout.rollback, but=["stepped"])
    ill(scene, "c", "")
    scene.run(60.0)
    assert {str(one.installed) for one in scene.members.values()} == {"1.0"}
    assert (scene.acting, scene.rollout) == ("1.0", None)
    assert scene.record.rollout_end.rollback == 1


def test_a_pause_as_it_bakes_keeps_the_version_from_rising_and_then_it_bakes_anew():
    scene = baking(on_unhealthy=OnUnhealthy.PAUSE)
    ill(scene, "c")
    comes(scene, lambda: scene.rollout.pause is not None)
    ill(scene, "c", "")
    scene.run(20.0)
    assert (scene.acting, scene.rollout.pause.by) == ("1.0", "c")
    scene.steer(Resume("ann"))
    scene.run(5.0)
    assert scene.acting == "1.0"
    assert ("baking", "") in scene.awaited()
    scene.run(3.0)
    assert scene.acting == "2.0"


def test_a_floor_that_is_up_is_taken_back_when_somebody_wants_it_to_bake():
    scene = Rollouts()
    scene.come_to("a", TurnStep.UNDRAIN, without=commits("raised"))
    assert str(scene.record.floor) == "2.0"
    scene.steer(Change({"bake_ms": 5000}, "ann"))
    scene.run(3.0)
    assert (scene.acting, str(scene.record.floor)) == ("1.0", "1.0")
    scene.run(10.0)
    assert scene.acting == "2.0"


def started(scene, without=lambda host, asked: False, but=()):
    """The same cluster, told to bring itself to 2.0."""
    scene.__class__ = Rollouts
    scene.steer(Start("2.0", "ann"))
    scene.run(0.5, without=without, but=but)
    return scene
