"""A rollout: who is next, what the master does, what people may change."""

from dataclasses import replace

import pytest

from peerupgrade.core.acting import StepName
from peerupgrade.core.ledger import whole_ledger
from peerupgrade.core.record import (
    Hold,
    Rollout,
    Slot,
    Standing,
    Turn,
    TurnStep,
    Work,
    WorkState,
)
from peerupgrade.core.requests import Conflict, Done, Outcome, ReturnSlot, TakeSlot
from peerupgrade.core.rollout import (
    Abort,
    Change,
    Pause,
    Resume,
    Retry,
    Skip,
    Start,
    Strategy,
    hands_over,
    lacking,
    next_member,
    rollout_step,
    rollout_view,
    slot_request,
    steer,
)
from peerupgrade.core.store import StoreState, execute
from peerupgrade.errors import RefusedError
from tests.core.builders import V, member, record, snapshot

NOW_MS = 1_000_000
BY = "rollout 3.9"


def rollout(*turns, **changes):
    return replace(Rollout("3.9", "2.0", "ann", "new", 1000), turns=turns, **changes)


def turn(name="a", **changes):
    return replace(Turn("3.10", name, "2.0", 2000), **changes)


def view(*members, master="", slots=(), **changes):
    the_record = record(rollout=changes.pop("rollout", rollout()), master=master, **changes)
    given = {name: Slot(name, BY, 1, 1, away=1) for name in slots}
    return snapshot(the_record, *members, slots=given)


def at(step=TurnStep.INSTALL, state=WorkState.RUNS, **changes):
    return replace(Work("3.10", "2.0", "1.0", step, state), **changes)


def names(members):
    return [one.id for one in members]


# --- who is next ----------------------------------------------------------------------------------


def test_the_oldest_version_goes_first_zone_by_zone_and_the_master_last():
    members = [
        member("a", "1.1", zone="z1"),
        member("b", "1.0", zone="z2"),
        member("c", "1.0", zone="z1"),
        member("d", "2.0"),
        member("m", "0.9"),
    ]
    assert names(lacking(view(*members, master="m"))) == ["c", "b", "a", "m"]


def test_who_is_labelled_to_be_last_goes_after_the_master_and_when_all_turns_are_over():
    last = {"labels": {"upgrade": "last"}}
    shown = view(member("a", "0.9", **last), member("b"), member("m"), master="m")
    assert names(lacking(shown)) == ["b", "m", "a"]
    assert [part.member.id for part in rollout_view(shown).parts] == ["b", "m", "a"]
    both = [member("a", **last), member("b", standing=Standing.AWAY)]
    assert next_member(view(*both, rollout=rollout(budget=2)), NOW_MS).id == "a"
    assert next_member(view(*both, rollout=rollout(turn("b"), budget=2)), NOW_MS) is None
    other = member("a", labels={"upgrade": "first"})
    assert names(lacking(view(other, member("b")))) == ["a", "b"]


def test_only_a_member_that_is_up_is_taken_down():
    down = member("a", standing=Standing.AWAY)
    silent = member("b", operating_revision=0)
    assert next_member(view(down, silent), NOW_MS) is None
    assert next_member(view(down, silent, member("c")), NOW_MS).id == "c"


@pytest.mark.parametrize(
    "changes",
    [{"pause": Hold("ann", "lunch", 1)}, {"aborted": 1}, {"skipped": ("a", "b")}],
    ids=lambda changes: next(iter(changes)),
)
def test_nobody_is_taken_down_while_the_rollout_may_not_go_on(changes):
    assert next_member(view(member("a"), member("b"), rollout=rollout(**changes)), NOW_MS) is None


def test_nobody_is_taken_down_beyond_the_budget():
    members = [member(name) for name in "abc"]
    assert next_member(view(*members, rollout=rollout(turn("a"))), NOW_MS) is None
    assert next_member(view(*members, rollout=rollout(turn("a"), budget=2)), NOW_MS).id == "b"
    both = rollout(turn("a"), turn("b"), budget=2)
    assert next_member(view(*members, rollout=both), NOW_MS) is None


def test_whoever_does_not_answer_gossip_counts_as_down_although_the_store_knows_nothing_of_it():
    members = [member(name) for name in "abc"]
    assert next_member(view(*members), NOW_MS, silent={"c"}) is None
    assert next_member(view(*members, rollout=rollout(budget=2)), NOW_MS, silent={"c"}).id == "a"
    assert next_member(view(*members, rollout=rollout(budget=2)), NOW_MS, silent={"a"}).id == "b"
    assert next_member(view(*members), NOW_MS, silent={"gone"}).id == "a"
    shown = view(*members)
    assert slot_request(shown, NOW_MS, (), {"c"}) is None
    assert rollout_step(replace(shown, slots={"a": Slot("a", BY, 1, 1)}), 1, {"a"}, {"c"}) is None
    named = [(str(one.code), one.subject) for one in whole_ledger(shown, NOW_MS, {"c"})]
    assert ("budget_spent", "a") in named


def brought(name, turn="3.10", **changes):
    """A member that got the version in this rollout."""
    work = at(TurnStep.UNDRAIN, WorkState.ENDED, turn=turn)
    return member(name, "2.0", work=work, **changes)


def test_before_another_one_is_taken_down_those_that_have_it_must_have_operated_for_a_while():
    soaking = rollout(soak_ms=500, turn_ended_at_ms=NOW_MS - 400)
    shown = view(brought("a"), member("b"), rollout=soaking)
    assert next_member(shown, NOW_MS) is None
    assert slot_request(shown, NOW_MS, ()) is None
    assert codes(shown) == [("rollout", ""), ("soaking", "")]
    assert next_member(shown, NOW_MS + 100).id == "b"
    fell_over = view(brought("a", joined_at_ms=NOW_MS + 50), member("b"), rollout=soaking)
    assert next_member(fell_over, NOW_MS + 100) is None
    first = view(member("a"), member("b"), rollout=rollout(soak_ms=500))
    assert next_member(first, NOW_MS).id == "a"


def test_it_pauses_once_the_canaries_have_it_and_then_goes_on():
    canaries = rollout(canary=2, budget=5)
    members = [brought("a"), *(member(name) for name in "bcd")]
    assert next_member(view(*members, rollout=canaries), NOW_MS).id == "b"
    one_down = replace(canaries, turns=(turn("b"),))
    assert next_member(view(*members, rollout=one_down), NOW_MS) is None
    members[1] = brought("b", "3.11")
    step = rollout_step(view(*members, rollout=canaries), NOW_MS, ())
    assert step.name is StepName.ROLLOUT_PAUSED
    paused = step.record.rollout
    assert (paused.canary, paused.pause.by) == (0, "canary")
    resumed = steer(view(*members, rollout=paused), Resume("ann")).rollout
    assert next_member(view(*members, rollout=resumed), NOW_MS).id == "c"
    others = [member("x", "2.0"), member("y", "2.0"), member("c")]  # by hand, before it began
    assert next_member(view(*others, rollout=canaries), NOW_MS).id == "c"


def test_all_that_are_down_at_once_are_of_one_zone():
    members = [member("a", zone="east"), member("b", zone="west"), member("c", zone="east")]
    down = rollout(turn("a"), budget=3, one_zone=1)
    assert next_member(view(*members, rollout=down), NOW_MS).id == "c"
    assert next_member(view(*members[:2], rollout=down), NOW_MS) is None
    assert next_member(view(*members[:2], rollout=replace(down, one_zone=0)), NOW_MS).id == "b"


def test_how_it_goes_on_can_be_changed_while_it_runs():
    asked = Change(Strategy(budget=2, soak_ms=1000), "ann", "it is night")
    request = steer(view(member("a"), rollout=rollout(canary=3)), asked)
    assert request.kind == "rollout changed"
    assert request.rollout == rollout(canary=3, budget=2, soak_ms=1000)


def test_the_master_hands_over_when_it_is_next_and_somebody_else_is_up():
    master, other = member("a"), member("b", "2.0")
    assert hands_over(view(master, other, master="a"), NOW_MS)
    assert not hands_over(view(master, replace(other, standing=Standing.AWAY), master="a"), NOW_MS)
    assert not hands_over(view(master, member("b"), master="a"), NOW_MS)  # b is next
    assert not hands_over(view(master, other, master="b"), NOW_MS)


# --- what the master does -------------------------------------------------------------------------


def test_first_the_slot_then_the_turn():
    shown = view(member("a"), member("b"))
    assert slot_request(shown, NOW_MS, ()) == TakeSlot("a", BY, 1, revision=10)
    assert rollout_step(shown, NOW_MS, ()) is None
    given = view(member("a"), member("b"), slots=["a"])
    assert rollout_step(given, NOW_MS, ()) is None  # by another mastership: ask again
    assert slot_request(given, NOW_MS, ()) == TakeSlot("a", BY, 1, revision=10)
    step = rollout_step(given, NOW_MS, {"a"})
    assert (step.name, step.inputs) == (StepName.TURN_GIVEN, "a has 1.0")
    assert step.record.rollout.turns == (Turn("3.11", "a", "2.0", NOW_MS),)
    assert slot_request(given, NOW_MS, {"a"}) is None


def test_first_the_slot_is_returned_then_the_turn_ends():
    back = member("a", "2.0", work=at(TurnStep.UNDRAIN, WorkState.ENDED))
    shown = view(back, member("b"), slots=["a"], rollout=rollout(turn()))
    assert rollout_step(shown, NOW_MS, {"a"}) is None
    assert slot_request(shown, NOW_MS, {"a"}) == ReturnSlot("a", BY, Outcome.UP)
    step = rollout_step(replace(shown, slots={}), NOW_MS, ())
    assert (step.name, step.record.rollout.turns) == (StepName.TURN_ENDED, ())


@pytest.mark.parametrize(
    ("slot", "outcome"),
    [
        (Slot("a", BY, 1, 1, away=1), Outcome.UP),
        (Slot("a", BY, 1, 0), Outcome.UP),
        (Slot("a", BY, 1, 1), Outcome.UNUSED),
    ],
    ids=["it was away", "it was started anew", "neither"],
)
def test_a_slot_that_has_not_seen_its_member_down_is_returned_unused(slot, outcome):
    back = member("a", work=at(TurnStep.UNDRAIN, WorkState.ENDED))
    shown = replace(view(back, rollout=rollout(turn())), slots={"a": slot})
    assert slot_request(shown, NOW_MS, ()) == ReturnSlot("a", BY, outcome)


def test_the_slot_of_a_member_that_is_gone_is_returned_and_its_turn_ends():
    shown = view(member("b"), slots=["a"], rollout=rollout(turn()))
    assert slot_request(shown, NOW_MS, ()) == ReturnSlot("a", BY, Outcome.GONE)
    assert rollout_step(replace(shown, slots={}), NOW_MS, ()).name is StepName.TURN_ENDED


def test_what_another_turn_said_says_nothing_of_this_one():
    old = at(TurnStep.UNDRAIN, WorkState.ENDED, turn="3.8")
    shown = view(member("a", work=old), slots=["a"], rollout=rollout(turn()))
    assert slot_request(shown, NOW_MS, ()) is None
    assert rollout_step(shown, NOW_MS, ()) is None


def test_a_slot_that_the_store_forgot_is_taken_again_while_the_member_may_be_down():
    shown = view(member("a", work=at()), rollout=rollout(turn()))
    assert slot_request(shown, NOW_MS, ()) == TakeSlot("a", BY, 1, revision=10)
    back = view(member("a", work=at(TurnStep.RETURN)), rollout=rollout(turn()))
    assert slot_request(back, NOW_MS, ()) is None


def test_a_slot_that_was_left_over_is_returned_and_that_of_a_script_is_not():
    shown = view(member("a", "2.0"), slots=["a"], rollout=None)
    assert slot_request(shown, NOW_MS, ()) == ReturnSlot("a", BY, Outcome.UNUSED)
    script = replace(shown, slots={"a": Slot("a", "bob", 1, 1)})
    assert slot_request(script, NOW_MS, ()) is None


def test_a_rollout_ends_when_nobody_lacks_the_version_that_is_not_skipped():
    step = rollout_step(
        view(member("a", "2.0"), member("b"), rollout=rollout(skipped=("b",))), NOW_MS, ()
    )
    assert step.name is StepName.ROLLOUT_ENDED
    assert step.inputs == "2.0, without b, done"
    assert step.record.rollout is None
    assert step.record.rollout_end.skipped == ("b",)


def test_nothing_happens_by_a_store_in_doubt():
    shown = replace(view(member("a"), slots=["a"]), identity="another server")
    assert rollout_step(shown, NOW_MS, {"a"}) is None
    assert slot_request(shown, NOW_MS, {"a"}) is None
    assert not hands_over(
        replace(view(member("a"), member("b", "2.0"), master="a"), identity="x"), NOW_MS
    )


# --- what people do -------------------------------------------------------------------------------


def refused(shown, asked):
    with pytest.raises(RefusedError) as error:
        steer(shown, asked)
    assert error.value.hint
    return error.value.rule


def test_a_rollout_begins_once_and_only_to_what_somebody_lacks():
    shown = view(member("a"), member("b", "2.0"), rollout=None)
    request = steer(shown, Start("2.0", "ann", "new", Strategy(budget=2)))
    assert (request.revision, request.kind, request.by) == (10, "rollout to 2.0", "ann")
    assert request.rollout == Rollout("3.11", "2.0", "ann", "new", NOW_MS, budget=2)
    without = steer(shown, Start("2.0", "ann", skip=("b",)))
    assert without.rollout.skipped == ("b",)
    with pytest.raises(KeyError):
        steer(shown, Start("2.0", "ann", skip=("nobody",)))
    assert refused(shown, Start("1.0", "ann")) == "nothing_to_do"
    assert refused(shown, Start("0.9", "ann")) == "installed_below_acting"
    assert refused(view(member("a")), Start("3.0", "ann")) == "rollout_under_way"
    assert refused(snapshot(record("")), Start("2.0", "ann")) == "forming"


def test_what_would_not_serve_when_it_comes_back_is_not_begun():
    shown = view(member("a"), rollout=None)
    assert refused(shown, Start("3.0", "ann", lowest="2.0")) == "lowest_above_acting"
    assert steer(shown, Start("3.0", "ann", lowest="1.0")).rollout.version == "3.0"
    told = view(member("a"), member("b", "3.0", lowest="2.0"), rollout=None)
    assert refused(told, Start("3.0", "ann")) == "lowest_above_acting"
    behind = snapshot(record("2.0", data=V("1.0")), member("a", "2.0"))
    assert refused(behind, Start("3.0", "ann", lowest="2.0")) == "lowest_above_data"


@pytest.mark.parametrize(
    "asked", [Pause("ann", "lunch"), Resume("ann"), Retry("a", "ann"), Skip("a", "ann"), Abort("x")]
)
def test_without_a_rollout_there_is_nothing_to_change(asked):
    assert refused(view(member("a"), rollout=None), asked) == "no_rollout"


def test_what_was_not_decided_from_the_record_as_it_is_is_not_written():
    state = StoreState(record=record())
    state.members["a"] = member("a")
    request = steer(snapshot(record(), member("a")), Start("2.0", "ann"))
    late = replace(request, revision=request.revision - 1)
    assert isinstance(execute(state, late, NOW_MS, "server")[0], Conflict)
    assert isinstance(execute(state, request, NOW_MS, "server")[0], Done)
    assert state.record.rollout.version == "2.0"


def test_a_retry_needs_a_step_that_has_stopped_and_ends_the_pause_that_came_of_it():
    stopped = member("a", work=at(state=WorkState.FAILED))
    paused = rollout(turn(), pause=Hold("a", "a: install failed", 1))
    asked = steer(view(stopped, rollout=paused), Retry("a", "ann"))
    assert (asked.rollout.turns[0].attempt, asked.rollout.pause) == (2, None)
    by_ann = rollout(turn(), pause=Hold("ann", "lunch", 1))
    assert steer(view(stopped, rollout=by_ann), Retry("a", "ann")).rollout.pause == by_ann.pause
    assert refused(view(member("a", work=at()), rollout=paused), Retry("a", "x")) == (
        "nothing_to_retry"
    )
    with pytest.raises(KeyError):
        steer(view(stopped, rollout=paused), Retry("nobody", "ann"))


def test_a_pause_ends_only_when_there_is_one_and_no_step_waits_for_a_word():
    assert refused(view(member("a")), Resume("ann")) == "no_pause"
    stopped = member("a", work=at(state=WorkState.UNKNOWN))
    paused = rollout(turn(), pause=Hold("a", "why", 1))
    assert refused(view(stopped, rollout=paused), Resume("ann")) == "turn_stopped"


def test_whoever_is_skipped_before_its_turn_gets_none():
    request = steer(view(member("a"), member("b")), Skip("a", "ann"))
    assert (request.rollout.skipped, request.rollout.turns) == (("a",), ())
    with pytest.raises(KeyError):
        steer(view(member("a")), Skip("nobody", "ann"))


# --- what people see ------------------------------------------------------------------------------


def test_a_rollout_shows_what_each_member_does_and_how_long_it_may_take():
    members = [
        member("a", "2.0", work=at(TurnStep.UNDRAIN, WorkState.ENDED, turn="3.12")),
        member("b", work=at()),
        member("c"),
        member("d"),
    ]
    shown = view(*members, rollout=rollout(turn("b"), skipped=("d",)))
    seen = rollout_view(replace(shown, now_ms=11_000))
    assert [(one.member.id, one.state) for one in seen.parts] == [
        ("b", "turn"),
        ("c", "waits"),
        ("d", "skipped"),
        ("a", "done"),
    ]
    assert (seen.done, seen.remaining_s) == (1, 20.0)
    assert seen.parts[0].work.step is TurnStep.INSTALL


def codes(shown):
    return [(str(one.code), one.subject) for one in whole_ledger(shown, NOW_MS)]


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (None, "turn_not_begun"),
        (at(), "step_runs"),
        (at(state=WorkState.WAITS), "step_manual"),
        (at(state=WorkState.FAILED), "step_failed"),
        (at(state=WorkState.UNKNOWN), "step_unknown"),
    ],
)
def test_whoever_has_its_turn_is_named_with_what_is_awaited(work, code):
    away = member("a", standing=Standing.AWAY, work=work)
    shown = view(away, member("b"), slots=["a"], rollout=rollout(turn()))
    assert codes(shown) == [("rollout", ""), (code, "a")]


def test_members_that_wait_for_their_turn_need_no_remedy_of_their_own():
    shown = view(member("a", "2.0"), member("b"), member("c"), rollout=rollout(turn("b")))
    assert ("older_version", "b") not in codes(shown)
    assert ("older_version", "c") not in codes(shown)
    assert ("older_version", "c") in codes(view(member("a", "2.0"), member("c"), rollout=None))


def test_what_keeps_the_next_one_is_named():
    down = member("b", standing=Standing.AWAY)
    assert codes(view(member("a"), down)) == [
        ("rollout", ""),
        ("member_down", "b"),
        ("budget_spent", "a"),
    ]
    taken = replace(view(member("a")), slots={"a": Slot("a", "bob", 1, 1)})
    assert codes(taken) == [("rollout", ""), ("budget_spent", "a")]
    paused = view(member("a"), rollout=rollout(pause=Hold("ann", "lunch", 1)))
    assert codes(paused) == [("rollout", ""), ("rollout_paused", "")]
