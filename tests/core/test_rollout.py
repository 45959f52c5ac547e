"""A rollout: who is next, what the master does, what people may change."""

from dataclasses import asdict, replace

import pytest

from peerupgrade.core.acting import StepName
from peerupgrade.core.blockers import Code, raise_blockers
from peerupgrade.core.invariants import rollout_keeps
from peerupgrade.core.ledger import whole_ledger
from peerupgrade.core.record import (
    Health,
    HealthState,
    Hold,
    Rollout,
    Slot,
    Standing,
    Turn,
    TurnStep,
    Work,
    WorkState,
)
from peerupgrade.core.requests import Commit, Conflict, Done, Outcome, ReturnSlot, TakeSlot
from peerupgrade.core.rollout import (
    hands_over,
    lacking,
    next_member,
    rollout_step,
    rollout_view,
    slot_request,
)
from peerupgrade.core.steering import Abort, Change, Pause, Resume, Retry, Skip, Start, steer
from peerupgrade.core.store import StoreState, execute
from peerupgrade.core.strategy import OnUnhealthy, Strategy
from peerupgrade.errors import RefusedError
from tests.core.builders import V, member, record, snapshot

NOW_MS = 1_000_000
BY = "rollout 3.9"


def rollout(*turns, **changes):
    how = {name: changes.pop(name) for name in asdict(Strategy()) if name in changes}
    began = Rollout("3.9", "2.0", "ann", "new", 1000, Strategy(**how))
    return replace(began, turns=turns, **changes)


def turn(name="a", **changes):
    return replace(Turn("3.10", name, "2.0", 2000), **changes)


def view(*members, master="", slots=(), **changes):
    the_record = record(rollout=changes.pop("rollout", rollout()), master=master, **changes)
    given = {name: Slot(name, BY, 1, 1, away=1) for name in slots}
    return snapshot(the_record, *members, slots=given)


def at(step=TurnStep.INSTALL, state=WorkState.RUNS, **changes):
    return replace(Work("3.10", "2.0", "1.0", step, state), **changes)


def health(state=HealthState.UNHEALTHY, note="503"):
    return Health(state, note if state is HealthState.UNHEALTHY else "")


HEALTHY, UNKNOWN = health(HealthState.HEALTHY), health(HealthState.UNKNOWN)


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


def remedy_for(shown, name, silent=()):
    (remedy,) = [one.remedy for one in whole_ledger(shown, NOW_MS, silent) if one.subject == name]
    return remedy


def told(shown, silent):
    """What keeps the rollout: code, subject and evidence."""
    found = whole_ledger(shown, NOW_MS, silent)
    return [(str(one.code), one.subject, one.evidence) for one in found if one.subject]


def test_a_member_that_waits_and_does_not_answer_gossip_is_named():
    silence = "does not answer gossip: its turn comes once it does"
    shown = view(member("a", "2.0"), member("b", "2.0"), member("c"))
    assert told(shown, {"c"}) == [("member_down", "c", f"c has 1.0, and {silence}")]
    remedy = remedy_for(shown, "c", {"c"})
    assert all(words in remedy for words in ("start c again", "upgrade skip c", "exclude it"))
    assert told(view(*(member(name) for name in "abc")), {"a"}) == [
        ("member_down", "a", f"a has 1.0, and {silence}"),
        ("budget_spent", "b", "b is next, and not more than 1 may be down: a does not answer"),
    ]


def test_who_does_not_answer_gossip_keeps_a_canary_back_and_is_named():
    members = [member("a"), member("b"), member("c", "2.0")]
    shown = view(*members, rollout=rollout(budget=2, canary=1))
    assert next_member(shown, NOW_MS, {"c"}) is None
    assert told(shown, {"c"}) == [
        ("budget_spent", "a", "a is next, and not more than 1 may be down: c does not answer")
    ]
    assert told(shown, ()) == []
    assert told(view(*members, rollout=rollout(budget=2)), {"c"}) == []


def test_a_slot_is_not_used_while_somebody_does_not_answer_gossip_and_that_is_named():
    shown = view(member("a"), member("b", "2.0"), slots=["a"])
    assert next_member(shown, NOW_MS, {"b"}) is None
    assert told(shown, {"b"}) == [
        ("budget_spent", "a", "a is next, and not more than 1 may be down: b does not answer")
    ]
    assert told(shown, ()) == []


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
    assert (paused.strategy.canary, paused.pause.by) == (0, "canary")
    resumed = steer(view(*members, rollout=paused), Resume("ann")).rollout
    assert next_member(view(*members, rollout=resumed), NOW_MS).id == "c"
    others = [member("x", "2.0"), member("y", "2.0"), member("c")]  # by hand, before it began
    assert next_member(view(*others, rollout=canaries), NOW_MS).id == "c"


def test_all_that_are_down_at_once_are_of_one_zone():
    members = [member("a", zone="east"), member("b", zone="west"), member("c", zone="east")]
    down = rollout(turn("a"), budget=3, one_zone=1)
    assert next_member(view(*members, rollout=down), NOW_MS).id == "c"
    assert next_member(view(*members[:2], rollout=down), NOW_MS) is None
    assert next_member(view(*members[:2], rollout=rollout(turn("a"), budget=3)), NOW_MS).id == "b"


def test_how_it_goes_on_can_be_changed_while_it_runs():
    asked = Change({"budget": 2, "soak_ms": 1000}, "ann", "it is night")
    request = steer(view(member("a"), rollout=rollout(canary=3)), asked)
    assert request.kind == "rollout changed"
    assert request.rollout == rollout(canary=3, budget=2, soak_ms=1000)


def test_the_master_hands_over_when_it_is_next_and_somebody_else_is_up():
    master, other = member("a"), member("b", "2.0")
    assert hands_over(view(master, other, master="a"), NOW_MS)
    assert not hands_over(view(master, replace(other, standing=Standing.AWAY), master="a"), NOW_MS)
    assert not hands_over(view(master, member("b"), master="a"), NOW_MS)  # b is next
    assert not hands_over(view(master, other, master="b"), NOW_MS)


def test_the_master_does_not_hand_over_to_who_does_not_answer_gossip():
    shown = view(member("a"), member("b", "2.0"), master="a", rollout=rollout(budget=2))
    assert not hands_over(shown, NOW_MS, {"b"})
    assert slot_request(shown, NOW_MS, (), {"b"}).id == "a"
    assert told(shown, {"b"}) == []
    alone = view(*shown.members.values(), master="a")
    assert slot_request(alone, NOW_MS, (), {"b"}) is None
    assert told(alone, {"b"}) == [
        ("budget_spent", "a", "a is next, and not more than 1 may be down: b does not answer")
    ]


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
    ("changes", "gone", "counted"),
    [
        ({}, False, (3, 5000 + NOW_MS - 2000)),
        ({"given_up": 1}, False, (2, 5000)),
        ({}, True, (2, 5000)),
    ],
    ids=["done", "given up", "gone"],
)
def test_how_long_turns_took_is_remembered_to_the_end_of_the_rollout(changes, gone, counted):
    back = member("a", "2.0", work=at(TurnStep.UNDRAIN, WorkState.ENDED))
    known = rollout(turn(**changes), turns_done=2, turns_took_ms=5000)
    shown = view(member("b", "2.0") if gone else back, rollout=known)
    step = rollout_step(shown, NOW_MS, ())
    assert step.name is StepName.TURN_ENDED
    assert (step.record.rollout.turns_done, step.record.rollout.turns_took_ms) == counted
    end = rollout_step(replace(shown, record=step.record), NOW_MS, ()).record.rollout_end
    assert (end.turns_done, end.turns_took_ms) == counted


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
    assert request.rollout == Rollout("3.11", "2.0", "ann", "new", NOW_MS, Strategy(2))
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


# --- pace -----------------------------------------------------------------------------------------


def test_a_budget_can_be_a_part_of_the_members_and_is_one_at_least():
    members = [member(name) for name in "abcdefgh"]
    quarter = rollout(turn("a"), budget_percent=25)
    assert next_member(view(*members, rollout=quarter), NOW_MS).id == "b"
    assert next_member(view(*members[:7], rollout=quarter), NOW_MS) is None
    alone = rollout(budget_percent=25)
    assert slot_request(view(*members[:3], rollout=alone), NOW_MS, ()) == (
        TakeSlot("a", BY, 1, revision=10)
    )
    assert slot_request(view(*members, rollout=alone), NOW_MS, ()).budget == 2


MONDAY_MS = 1_764_547_200_000  # 2025-12-01 00:00 UTC
HOUR_MS = 3_600_000


def test_outside_of_all_windows_no_turn_begins():
    closed = rollout(windows=("mon 22:00-23:00", "wed 00:00-24:00"), started_at_ms=MONDAY_MS)
    now_ms = MONDAY_MS + 12 * HOUR_MS
    shown = replace(view(member("a"), member("b"), rollout=closed), now_ms=now_ms)
    assert next_member(shown, now_ms) is None
    assert slot_request(shown, now_ms, ()) is None
    assert rollout_step(replace(shown, slots={"a": Slot("a", BY, 1, 1)}), now_ms, {"a"}) is None
    (_, told) = whole_ledger(shown, now_ms)
    assert (told.code, told.since_ms) == (Code.WINDOW_CLOSED, MONDAY_MS)
    assert "mon 22:00-23:00, wed 00:00-24:00" in told.evidence
    assert "mon 22:00 UTC, in 10.0 h" in told.remedy
    assert next_member(shown, MONDAY_MS + 22 * HOUR_MS).id == "a"
    assert next_member(shown, MONDAY_MS + 50 * HOUR_MS).id == "a"


def test_a_slot_that_was_taken_as_the_window_closed_is_returned_unused():
    closed = rollout(windows=("mon 22:00-23:00",))
    shown = view(member("a"), slots=["a"], rollout=closed)
    assert slot_request(shown, MONDAY_MS, {"a"}) == ReturnSlot("a", BY, Outcome.UNUSED)


def test_who_returns_does_not_wait_for_a_window():
    back = rollout(windows=("mon 22:00-23:00",), rollback=1)
    assert next_member(view(brought("a"), rollout=back), MONDAY_MS).id == "a"


def test_so_many_turns_may_fail_before_the_rollout_pauses():
    stopped = member("a", standing=Standing.AWAY, work=at(state=WorkState.FAILED, note="no room"))
    may_fail = rollout(turn(), failures=1)
    step = rollout_step(view(stopped, member("b"), rollout=may_fail), NOW_MS, ())
    assert (step.name, step.inputs) == (
        StepName.ROLLOUT_RETREATS,
        "a: install failed: no room; a is left out",
    )
    left = step.record.rollout
    assert (left.turns[0].given_up, left.skipped, left.failed) == (1, ("a",), ("a",))
    assert left.pause is None
    spent = replace(may_fail, failed=("z",))
    paused = rollout_step(view(stopped, member("b"), rollout=spent), NOW_MS, ()).record.rollout
    assert (paused.pause.by, paused.failed, paused.turns) == ("a", ("z",), (turn(),))
    back = replace(may_fail, rollback=1)
    assert rollout_step(view(stopped, rollout=back), NOW_MS, ()).name is StepName.ROLLOUT_PAUSED


def test_whoever_resumes_lets_as_many_fail_again():
    paused = rollout(failures=1, failed=("z",), pause=Hold("ann", "looking", 1))
    assert steer(view(member("a"), rollout=paused), Resume("ann")).rollout.failed == ()


# --- health ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [health(), UNKNOWN], ids=["unhealthy", "unknown"])
def test_what_is_not_healthy_is_not_given_another_version_and_counts_as_down(before):
    ill = member("a", health=before)
    members = [ill, member("b", health=HEALTHY), member("c")]
    assert next_member(view(*members), NOW_MS) is None
    assert codes(view(*members)) == [("rollout", ""), ("unhealthy_before", "a")]
    assert next_member(view(*members, rollout=rollout(budget=2)), NOW_MS).id == "b"
    left_out = rollout(skipped=("a",))
    assert next_member(view(*members, rollout=left_out), NOW_MS).id == "b"
    assert codes(view(*members, rollout=left_out)) == [("rollout", "")]


@pytest.mark.parametrize("step", [TurnStep.RETURN, TurnStep.UNDRAIN])
def test_whoever_stayed_drained_is_named_with_or_without_a_rollout(step):
    left = member("a", "2.0", work=at(step, WorkState.DRAINED, note="503"))
    for rolls in (None, rollout()):
        (told,) = [
            one
            for one in whole_ledger(view(left, member("b"), rollout=rolls), NOW_MS)
            if one.code is Code.DRAINED
        ]
        assert (told.subject, "503" in told.evidence) == ("a", True)
        again = "tried again by itself" in told.remedy
        assert again == (step is TurnStep.UNDRAIN)
    in_turn = rollout(turn(given_up=1))
    assert Code.DRAINED not in codes(view(left, rollout=in_turn))


@pytest.mark.parametrize("state", [WorkState.DRAINED, WorkState.RUNS, WorkState.FAILED])
def test_whoever_stayed_drained_counts_as_down_unless_somebody_left_it_out(state):
    left = member("a", "1.0", work=at(TurnStep.UNDRAIN, state))
    members = (left, member("b"), member("c"))
    by_itself = rollout(skipped=("a",), failed=("a",), failures=1)
    assert next_member(view(*members, rollout=by_itself), NOW_MS) is None
    assert next_member(view(*members, rollout=rollout(skipped=("a",))), NOW_MS).id == "b"


def test_a_turn_is_over_although_the_member_stays_drained():
    left = member("a", "2.0", work=at(TurnStep.RETURN, WorkState.DRAINED))
    step = rollout_step(view(left, member("b"), rollout=rollout(turn(given_up=1))), NOW_MS, ())
    assert step.name is StepName.TURN_ENDED


@pytest.mark.parametrize("how", OnUnhealthy)
def test_what_was_unhealthy_before_is_not_the_fault_of_the_version(how):
    by_hand = member("b", "2.0", health=health())  # somebody else has installed it
    shown = view(member("a", health=health()), by_hand, rollout=rollout(on_unhealthy=how))
    assert rollout_step(shown, NOW_MS, ()) is None
    assert codes(shown)[1:] == [("unhealthy_before", "a"), ("unhealthy_before", "b")]


WORSE = "a has got 2.0, and is unhealthy: 503"


def after(on_unhealthy, ill=None, **changes):
    """One member is worse for the version, one is well with it, one waits."""
    members = [brought("a", health=ill or health()), brought("b", "3.11"), member("c")]
    slots, turns = changes.pop("slots", ()), changes.pop("turns", ())
    the_rollout = rollout(*turns, on_unhealthy=on_unhealthy, **changes)
    return view(*members, rollout=the_rollout, slots=slots)


def test_a_member_that_is_worse_for_the_version_pauses_the_rollout():
    shown = after(OnUnhealthy.PAUSE, slots=["c"])
    step = rollout_step(shown, NOW_MS, {"c"})
    assert step.name is StepName.ROLLOUT_PAUSED
    assert step.inputs == WORSE
    paused = step.record.rollout
    assert (paused.pause.by, paused.pause.reason) == ("a", step.inputs)
    told = view(*shown.members.values(), rollout=paused)
    assert rollout_step(told, NOW_MS, {"c"}) is None
    assert codes(told) == [("rollout", ""), ("unhealthy_after", "a")]
    assert "mend it, then: peerupgrade upgrade resume; or" in remedy_for(told, "a")
    assert "upgrade resume" not in remedy_for(shown, "a")
    assert refused(told, Resume("ann")) == "unhealthy"
    left = steer(told, Skip("a", "ann")).rollout
    assert (left.pause, left.skipped) == (None, ("a",))
    assert next_member(view(*shown.members.values(), rollout=left), NOW_MS).id == "c"
    healed = view(brought("a", health=HEALTHY), member("c"), rollout=paused)
    assert next_member(healed, NOW_MS) is None
    assert codes(healed) == [("rollout", ""), ("rollout_paused", "")]
    assert steer(healed, Resume("ann")).rollout.pause is None


def test_what_is_not_known_yet_is_nobodys_fault_but_waited_for():
    shown = after(OnUnhealthy.ALL, UNKNOWN, slots=["c"])
    assert rollout_step(shown, NOW_MS, {"c"}) is None
    assert codes(shown)[1:] == [("unhealthy_after", "a")]


def test_a_member_that_does_not_answer_any_more_is_worse_too():
    shown = after(OnUnhealthy.PAUSE, HEALTHY)
    assert rollout_step(shown, NOW_MS, (), {"a"}) is None  # it may yet answer
    step = rollout_step(shown, NOW_MS, (), {"a", "c"}, {"a", "c"})
    assert step.inputs == "a has got 2.0, and does not answer any more"
    paused = replace(shown, record=step.record)
    assert told(paused, {"a"}) == [("unhealthy_after", "a", step.inputs)]
    assert "rollout_paused" not in {str(one.code) for one in whole_ledger(paused, NOW_MS, {"a"})}
    remedy = remedy_for(paused, "a", {"a"})
    ways = "start a again, then", "upgrade skip a", "upgrade abort --rollback", "exclude it"
    assert all(words in remedy for words in ways)
    assert codes(paused) == [("rollout", ""), ("rollout_paused", "")]  # it answers again
    for ends in ({"rollback": 1}, {"aborted": 1}):  # then it is not judged, and a person paused it
        by_a = after(OnUnhealthy.PAUSE, HEALTHY, pause=Hold("a", "lunch", 1), **ends)
        assert "rollout_paused" in {str(one.code) for one in whole_ledger(by_a, NOW_MS, {"a"})}
    by_ann = after(OnUnhealthy.PAUSE, HEALTHY, pause=Hold("ann", "lunch", 1))
    assert [str(one.code) for one in whole_ledger(by_ann, NOW_MS, {"a"})] == [
        "rollout",
        "rollout_paused",
    ]


def reason(shown, code, silent=()):
    (found,) = [one for one in whole_ledger(shown, NOW_MS, silent) if one.code == code]
    return found


def test_what_is_said_of_a_programs_health_is_of_the_newest_probe_and_since_when():
    paused = replace(
        after(OnUnhealthy.PAUSE), record=rollout_step(after(OnUnhealthy.PAUSE), 1, ()).record
    )

    def now(health, **changes):
        changed = replace(paused.members["a"], health=health, changed_at_ms=900, **changes)
        return replace(paused, members={**paused.members, "a": changed})

    ill = reason(now(health(note="refused"), health_since_ms=700), Code.UNHEALTHY_AFTER)
    assert (ill.since_ms, ill.evidence) == (700, "a has got 2.0, and is unhealthy: refused")
    begins = now(Health(HealthState.UNKNOWN, "refused"))
    assert reason(begins, Code.UNHEALTHY_AFTER).evidence.endswith("its probes fail so far: refused")
    assert reason(begins, Code.UNHEALTHY_AFTER).since_ms == 900
    well = reason(now(HEALTHY), Code.ROLLOUT_PAUSED).evidence
    assert well == f"a paused the rollout: {WORSE}; by now a is well"
    silent = reason(now(HEALTHY), Code.UNHEALTHY_AFTER, {"a"})
    assert silent.evidence == "a has got 2.0, and does not answer any more"


def test_a_turn_that_failed_because_of_probes_says_what_they_say_now():
    work = at(
        TurnStep.RETURN, WorkState.FAILED, note="not healthy within 9 s, its probes fail: 503"
    )
    for found, words in (
        (HEALTHY, "is healthy"),
        (health(note="refused"), "is unhealthy: refused"),
    ):
        shown = view(member("a", "2.0", work=work, health=found), rollout=rollout(turn()))
        evidence = reason(shown, Code.STEP_FAILED).evidence
        assert evidence.endswith(f"its probes fail: 503; by the newest probe it {words}")
    other = at(TurnStep.VERIFY, WorkState.FAILED)
    shown = view(member("a", work=other, health=HEALTHY), rollout=rollout(turn()))
    assert "probe" not in reason(shown, Code.STEP_FAILED).evidence


def test_a_member_in_its_turn_is_not_judged_before_that_is_over():
    ill = brought("a", health=health())
    shown = view(ill, member("c"), slots=["a"], rollout=rollout(turn(), on_unhealthy="all"))
    step = rollout_step(shown, NOW_MS, {"a"})
    assert step is None


def test_all_return_to_what_they_had_if_one_is_worse():
    shown = after(OnUnhealthy.ALL, turns=(turn("c"),), pause=Hold("ann", "lunch", 1))
    step = rollout_step(shown, NOW_MS, ())
    assert (step.name, step.inputs) == (
        StepName.ROLLOUT_RETREATS,
        f"{WORSE}; all return",
    )
    back = step.record.rollout
    assert (back.rollback, back.cause, back.pause) == (1, WORSE, None)
    assert back.turns[0].given_up == 1
    alone = view(*shown.members.values(), rollout=replace(back, turns=()))
    assert names(lacking(alone)) == ["b", "a"]
    assert rollout_step(alone, NOW_MS, ()) is None
    assert next_member(alone, NOW_MS).id == "b"  # the unhealthy one does not spend the budget
    ended = view(member("a"), rollout=replace(back, turns=()))
    assert rollout_step(ended, NOW_MS, ()).record.rollout_end.cause == WORSE


def test_one_returns_to_what_it_had_and_then_somebody_looks():
    shown = after(OnUnhealthy.NODE)
    step = rollout_step(shown, NOW_MS, ())
    assert (step.name, step.inputs) == (
        StepName.ROLLOUT_RETREATS,
        f"{WORSE}; it returns",
    )
    left = step.record.rollout
    assert (left.skipped, left.failed, left.returning) == (("a",), ("a",), ("a",))
    returns = view(*shown.members.values(), slots=["a"], rollout=left)
    assert next_member(returns, NOW_MS).id == "a"
    given = rollout_step(returns, NOW_MS, {"a"}).record.rollout.turns
    assert [(one.node, one.version) for one in given] == [("a", "1.0")]
    work = Work("3.12", "1.0", "2.0", TurnStep.UNDRAIN, WorkState.ENDED)
    members = [member("a", work=work), brought("b"), member("c")]
    over = view(*members, rollout=left)
    assert next_member(over, NOW_MS) is None
    paused = rollout_step(over, NOW_MS, ()).record.rollout
    assert (paused.pause.by, paused.pause.reason) == ("failures", "a failed, and 0 may")
    resumed = steer(view(*members, rollout=paused), Resume("ann")).rollout
    assert next_member(view(*members, rollout=resumed), NOW_MS).id == "c"
    more = replace(left, strategy=replace(left.strategy, failures=1))
    assert next_member(view(*members, rollout=more), NOW_MS).id == "c"


def test_one_that_was_to_return_and_is_skipped_keeps_what_it_has():
    left = {"skipped": ("a", "b"), "failed": ("a",), "returning": ("a", "b")}
    shown = after(OnUnhealthy.NODE, **left)
    assert names(lacking(shown)) == ["a", "b", "c"]
    kept = steer(shown, Skip("a", "ann")).rollout
    assert (kept.returning, kept.skipped) == (("b",), ("a", "b"))
    assert names(lacking(view(*shown.members.values(), rollout=kept))) == ["b", "c"]
    in_turn = after(OnUnhealthy.NODE, turns=(turn("a", version="1.0"),), **left)
    came_back = steer(in_turn, Skip("a", "ann")).rollout
    assert (came_back.returning, came_back.turns[0].given_up) == (("b",), 1)


def test_one_that_returns_waits_for_no_pause_no_window_and_no_soak():
    waits = after(OnUnhealthy.NODE, soak_ms=10_000, turn_ended_at_ms=NOW_MS, returning=("a",))
    assert next_member(waits, NOW_MS).id == "a"
    rollout_ = replace(waits.record.rollout, skipped=("a",), pause=Hold("canary", "look", 1))
    closed = replace(rollout_.strategy, windows=("mon 22:00-23:00",))
    shown = view(*waits.members.values(), rollout=replace(rollout_, strategy=closed))
    assert next_member(shown, MONDAY_MS).id == "a"


@pytest.mark.parametrize("how", [OnUnhealthy.NODE, OnUnhealthy.ALL])
def test_nothing_returns_below_what_the_cluster_acts_at(how):
    shown = after(how)
    risen = replace(shown, record=replace(shown.record, acting=V("2.0")))
    step = rollout_step(risen, NOW_MS, ())
    assert step.name is StepName.ROLLOUT_PAUSED
    assert step.inputs.endswith("it does not return, because the cluster acts at 2.0 by now")


@pytest.mark.parametrize("how", OnUnhealthy)
def test_a_member_that_does_not_become_healthy_after_its_turn_is_worse_too(how):
    stopped = at(TurnStep.RETURN, WorkState.FAILED, note="not healthy within 60 s")
    ill = member("a", "2.0", work=stopped, health=health())
    shown = view(ill, member("b"), slots=["a"], rollout=rollout(turn(), on_unhealthy=how))
    step = rollout_step(shown, NOW_MS, {"a"})
    after_it = step.record.rollout
    why = "a: return failed: not healthy within 60 s"
    if how is OnUnhealthy.PAUSE:
        assert (step.inputs, after_it.pause.by) == (why, "a")
    else:
        assert after_it.turns[0].given_up == 1
        assert (after_it.rollback, after_it.returning) == (
            (1, ()) if how is OnUnhealthy.ALL else (0, ("a",))
        )
    ended = replace(stopped, state=WorkState.ENDED)
    over = view(replace(ill, work=ended), member("b"), rollout=replace(after_it, turns=()))
    if how is not OnUnhealthy.PAUSE:
        assert next_member(over, NOW_MS).id == "a"
    back = view(ill, rollout=rollout(turn(version="1.0"), on_unhealthy=how, rollback=1))
    assert rollout_step(back, NOW_MS, ()).name is StepName.ROLLOUT_PAUSED


# --- it bakes -------------------------------------------------------------------------------------


def test_once_all_have_the_version_it_bakes_and_then_the_rollout_ends():
    bakes = rollout(bake_ms=500, turn_ended_at_ms=NOW_MS - 400)
    shown = view(brought("a"), brought("b", "3.11"), rollout=bakes)
    assert rollout_step(shown, NOW_MS, ()) is None
    assert codes(shown) == [("rollout", ""), ("baking", "")]
    (_, told) = whole_ledger(shown, NOW_MS)
    assert (told.since_ms, told.remedy.split("; or: ")[1]) == (
        NOW_MS - 400,
        "peerupgrade upgrade change --bake 0s",
    )
    assert rollout_step(shown, NOW_MS + 100, ()).name is StepName.ROLLOUT_ENDED
    again = view(brought("a", joined_at_ms=NOW_MS), rollout=bakes)
    assert rollout_step(again, NOW_MS + 100, ()) is None
    for changes in ({"pause": Hold("ann", "looking", 1)}, {"bake_ms": 0}):
        other = rollout(**{"bake_ms": 500, "turn_ended_at_ms": NOW_MS - 400, **changes})
        ends = rollout_step(view(brought("a"), rollout=other), NOW_MS + 100, ()) is not None
        assert ends == ("bake_ms" in changes)


@pytest.mark.parametrize("state", [HealthState.UNKNOWN, HealthState.UNHEALTHY])
def test_what_is_not_well_keeps_it_baking_although_it_is_not_the_versions_fault(state):
    by_hand = member("b", "2.0", health=health(state))
    bakes = rollout(bake_ms=500, turn_ended_at_ms=NOW_MS - 600)
    shown = view(brought("a"), by_hand, rollout=bakes)
    assert rollout_step(shown, NOW_MS, ()) is None
    assert codes(shown) == [("rollout", ""), ("unhealthy_before", "b")]
    left = steer(shown, Skip("b", "ann")).rollout
    step = rollout_step(view(brought("a"), by_hand, rollout=left), NOW_MS, ())
    assert step.name is StepName.ROLLOUT_ENDED


def test_an_abort_and_a_rollback_do_not_bake():
    for changes in ({"aborted": 1}, {"rollback": 1}):
        over = rollout(bake_ms=500, turn_ended_at_ms=NOW_MS, **changes)
        assert rollout_step(view(member("a"), rollout=over), NOW_MS, ()).record.rollout is None


def test_the_version_does_not_rise_before_a_rollout_has_baked():
    shown = view(brought("a"), brought("b"), rollout=rollout(bake_ms=500))
    assert [one.code for one in raise_blockers(shown, NOW_MS)] == [Code.BAKING]
    waits = view(brought("a"), member("b"), rollout=rollout(bake_ms=500))
    assert ("baking", "") not in codes(waits)  # the rollout itself is named


def test_the_version_does_not_rise_while_a_member_returns():
    shown = view(brought("a"), brought("b"), rollout=rollout(returning=("b",), skipped=("b",)))
    (found,) = raise_blockers(shown, NOW_MS)
    assert (found.code, found.remedy.endswith("skip b")) == (Code.ROLLBACK, True)
    assert "b shall have what was there before" in found.evidence


@pytest.mark.parametrize("changes", [{"rollback": 1}, {"returning": ("a",), "skipped": ("a",)}])
def test_a_member_does_not_return_to_a_version_that_the_cluster_has_left_behind(changes):
    """Members may have brought the store up to a raise that it had forgotten."""
    back = rollout(**changes)
    assert next_member(view(brought("a"), rollout=back), NOW_MS).id == "a"
    left_behind = view(brought("a"), rollout=back, acting="2.0")
    assert next_member(left_behind, NOW_MS) is None
    assert rollout_step(left_behind, NOW_MS, ()).name is StepName.ROLLOUT_ENDED


def test_a_turn_back_to_a_version_that_the_cluster_has_left_behind_is_given_up():
    back = rollout(turn(id="3.12", version="1.0"), rollback=1)
    left_behind = view(brought("a"), rollout=back, acting="2.0")
    step = rollout_step(left_behind, NOW_MS, ())
    assert step.name is StepName.ROLLOUT_RETREATS
    assert step.record.rollout.turns[0].given_up == 1
    assert "the cluster acts at 2.0" in step.inputs


_FORBIDS_A_RAISE = [{"bake_ms": 1}, {"rollback": 1}, {"returning": ("a",), "skipped": ("a",)}]


@pytest.mark.parametrize("changes", _FORBIDS_A_RAISE)
def test_a_raise_that_a_rollout_forbids_is_a_violation(changes):
    assert rollout_keeps(record(rollout=rollout(**changes)), V("2.0")).startswith("S21")
    assert rollout_keeps(record(rollout=rollout()), V("2.0")) is None


@pytest.mark.parametrize("changes", _FORBIDS_A_RAISE)
def test_the_store_takes_no_raise_that_a_rollout_forbids(changes):
    """As it takes none against a hold, whatever the master thinks."""
    kept = record(rollout=rollout(**changes))
    state = StoreState(record=kept, master_token="t")
    raised = replace(kept, acting=V("2.0"), rollout=None)
    commit = Commit("t", 3, 10, 0, raised, "raised", "")
    reply, _ = execute(state, commit, NOW_MS, "server")
    assert (reply.rule, state.record) == ("rollout_stays", kept)
    state.record = replace(kept, rollout=rollout())
    assert isinstance(execute(state, commit, NOW_MS, "server")[0], Done)


def test_a_member_that_the_rollout_left_out_and_that_is_unhealthy_spends_the_budget():
    ill = brought("a", health=health())
    left_out = rollout(failures=1, skipped=("a",), failed=("a",))
    assert next_member(view(ill, member("b"), rollout=left_out), NOW_MS) is None
    by_somebody = replace(left_out, failed=())
    assert next_member(view(ill, member("b"), rollout=by_somebody), NOW_MS).id == "b"


def test_a_rollback_returns_the_member_that_failed_on_the_new_version_too():
    failed = rollout(failures=1, skipped=("a",), failed=("a",))
    shown = view(brought("a"), brought("b"), member("c"), rollout=failed)
    back = steer(shown, Abort("ann", "slow", rollback=True)).rollout
    left = lacking(view(*shown.members.values(), rollout=back))
    assert {one.id for one in left} == {"a", "b"}
    skipped = steer(view(*shown.members.values(), rollout=back), Skip("b", "ann")).rollout
    assert [one.id for one in lacking(view(*shown.members.values(), rollout=skipped))] == ["a"]


def test_a_canary_does_not_take_the_place_of_a_persons_pause():
    pause = Hold("ann", "freeze until Monday", 1)
    shown = view(brought("a"), member("b"), rollout=rollout(canary=1, pause=pause))
    assert rollout_step(shown, NOW_MS, ()) is None
    resumed = replace(shown.record.rollout, pause=None)
    step = rollout_step(view(*shown.members.values(), rollout=resumed), NOW_MS, ())
    assert step.record.rollout.pause.by == "canary"


def test_who_is_silent_and_who_is_down_take_the_room_of_one_each():
    members = [member("a"), member("b"), member("c", standing=Standing.AWAY)]
    shown = view(*members, rollout=rollout(budget=2))
    assert slot_request(shown, NOW_MS, (), ()).budget == 2
    assert slot_request(shown, NOW_MS, (), ("b",)).budget == 1  # "c" is down: the store refuses
    (spent,) = [one for one in whole_ledger(shown, NOW_MS, ("b",)) if one.code == "budget_spent"]
    assert "b counts as down, c is down" in spent.evidence
