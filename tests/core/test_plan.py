"""What an upgrade would do, what stands in its way, and whether a version may be deployed."""

from dataclasses import replace

import pytest

from peerupgrade.core.admission import Entry, admission
from peerupgrade.core.blockers import Blocker, Code, all_blockers
from peerupgrade.core.foresight import After
from peerupgrade.core.plan import Between, Due, Question, Zone, can_deploy, make_plan
from peerupgrade.core.record import (
    CollectionView,
    Completion,
    Health,
    HealthState,
    Hold,
    Parked,
    Phase,
    RolloutEnd,
    Slot,
    Standing,
    Upgrade,
)
from peerupgrade.core.rehearsal import Failure, Rehearsal
from peerupgrade.core.requests import Admit, Admitted, Refused
from peerupgrade.core.store.admission import admit
from peerupgrade.core.store.state import Step, StoreState
from peerupgrade.core.strategy import Strategy
from peerupgrade.core.windows import week_time
from tests.core.builders import V, member, record, snapshot

AWAY, STANDBY, SERVING = Standing.AWAY, Standing.STANDBY, Standing.SERVING


def planned(view, version="2.0", lowest=None, **known):
    known.setdefault("blockers", all_blockers(view, view.now_ms))
    return make_plan(view, Question(V(version), V(lowest) if lowest else None, **known))


def names(turns):
    return [one.member.id for one in turns]


def in_the_way(plan):
    return [(one.code, one.subject) for one in plan.in_the_way]


# --- the order ------------------------------------------------------------------------------------


def test_the_oldest_come_first_and_the_master_last_after_handing_over():
    view = snapshot(
        record(master="a"),
        member("a"),
        member("b", "1.5"),
        member("c", zone="z2"),
        member("d", zone="z1"),
        member("e", "2.0"),
        member("f", "3.0"),
    )
    plan = planned(view)
    assert names(plan.order) == ["d", "c", "b", "a"]
    assert names(plan.done) == ["e", "f"]
    assert [one.hands_over for one in plan.order] == [False, False, False, True]
    assert plan.go


def test_a_master_that_has_the_version_is_done_and_one_that_is_alone_hands_nothing_over():
    view = snapshot(record(master="a"), member("a", "2.0"), member("b"))
    assert (names(planned(view).order), names(planned(view).done)) == (["b"], ["a"])
    (alone,) = planned(snapshot(record(master="a"), member("a"))).order
    assert (alone.is_master, alone.hands_over) == (True, False)


def test_who_is_away_or_may_be_taken_down_is_marked():
    view = snapshot(
        record(), member("a", standing=AWAY), member("b"), slots={"b": Slot("b", "bob", 5, 1)}
    )
    plan = planned(view)
    assert [(one.member.standing, one.slot_by) for one in plan.order] == [
        (AWAY, ""),
        (SERVING, "bob"),
    ]
    assert in_the_way(plan) == [(Code.AWAY, "a")]


@pytest.mark.parametrize(
    ("changes", "silent", "answers"),
    [
        ({}, (), True),
        ({}, ("a",), False),
        ({"lease_ms": 10, "lease_until_ms": 1_000_001}, (), True),
        ({"lease_ms": 10, "lease_until_ms": 1_000_000}, (), False),
        ({"standing": AWAY, "lease_ms": 10, "lease_until_ms": 1}, ("a",), True),
    ],
)
@pytest.mark.parametrize("installed", ["1.0", "2.0"])
def test_who_does_not_answer_stands_in_the_way(changes, silent, answers, installed):
    view = snapshot(record(), member("a", installed, **changes), member("b"))
    plan = planned(view, silent=silent)
    (turn,) = (one for one in (*plan.order, *plan.done) if one.member.id == "a")
    assert turn.answers == answers
    assert ((Code.UNRESPONSIVE, "a") in in_the_way(plan)) == (not answers)


def test_zones_count_only_who_serves_and_answers():
    view = snapshot(
        record(),
        member("a", zone="z1"),
        member("b", zone="z1"),
        member("c", zone="z1", standing=AWAY),
        member("d", zone="z2", operating_revision=4),  # has not confirmed
        member("e", zone="z2", standing=STANDBY),
        member("f"),
    )
    plan = planned(view, silent={"b"})
    assert plan.zones == (Zone("", 1, 1, 1), Zone("z1", 3, 1, 1), Zone("z2", 2, 0, 1))
    more = planned(replace(view, record=record(master="f")), strategy=Strategy(budget=2))
    assert [one.down_max for one in more.zones] == [1, 2, 2]  # the master goes alone
    assert [one.down_max for one in planned(view, strategy=Strategy(budget=9)).zones] == [1, 3, 2]
    assert [one.down_max for one in planned(view, "1.0").zones] == [0, 0, 0]


# --- how it would go ------------------------------------------------------------------------------


def test_the_order_is_that_of_the_batches_and_without_who_is_left_out():
    zones = {"a": "z2", "b": "z1", "c": "z2", "d": "z1"}
    members = [member(name, zone=zone) for name, zone in zones.items()]
    view = snapshot(record(master="b"), *members, member("e", "1.5", zone="z1"))
    strategy = Strategy(budget=2, one_zone=True, canary=1)
    plan = planned(view, strategy=strategy, skip=("c",))
    assert [(one.members, one.after) for one in plan.batches] == [
        (("d",), After.PLACE),
        (("e",), After.RESUME),
        (("a",), After.ALL),
        (("b",), After.ALL),
    ]
    assert names(plan.order) == ["d", "e", "a", "b"]
    assert (plan.skipped, plan.strategy, plan.done) == (("c",), strategy, ())
    with pytest.raises(KeyError):
        planned(view, skip=("z",))


def test_a_window_says_when_the_first_batch_may_begin():
    view = snapshot(record(), member("a"), member("b"))
    assert planned(view).opens_at_ms == view.now_ms
    closed = planned(view, strategy=Strategy(windows=("sun 02:00-04:00",)))
    assert week_time(closed.opens_at_ms) == "sun 02:00"
    assert (closed.go, closed.lasts_s) == (True, 0.0)


def test_how_long_it_lasts_is_known_from_the_last_rollout_and_the_strategy():
    strategy = Strategy(soak_ms=60_000, bake_ms=600_000)
    view = snapshot(record(), member("a"), member("b"))
    plan = planned(view, strategy=strategy)
    assert (plan.turn_s, plan.lasts_s) == (None, 660.0)
    for end, turn_s in ((RolloutEnd("1", "1.0", 1, 2), None), (ENDED, 2.0)):
        shown = replace(view, record=replace(view.record, rollout_end=end))
        plan = planned(shown, strategy=strategy)
        assert (plan.turn_s, plan.lasts_s) == (turn_s, 660.0 + 2 * (turn_s or 0))


ENDED = RolloutEnd("1.1", "1.0", 1, 2, turns_done=3, turns_took_ms=6000)


def test_where_nobody_lacks_the_version_or_there_is_no_cluster_there_are_no_batches():
    for view in (snapshot(record(), member("a", "2.0")), snapshot(record(None), member("a"))):
        plan = planned(view)
        assert (plan.batches, plan.opens_at_ms, plan.lasts_s) == ((), None, None)
    assert names(plan.order) == ["a"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"health": Health(HealthState.UNHEALTHY, "503")}, [(Code.UNHEALTHY_BEFORE, "a")]),
        ({"health": Health(HealthState.HEALTHY)}, []),
        ({"standing": STANDBY}, [(Code.MEMBER_DOWN, "a")]),
        ({"standing": AWAY}, [(Code.AWAY, "a")]),
    ],
)
def test_whoever_would_get_no_turn_stands_in_the_way(changes, found):
    view = snapshot(record(), member("a", **changes), member("b"))
    assert in_the_way(planned(view)) == found


def test_a_slot_that_somebody_else_has_stands_in_the_way():
    view = snapshot(record(), member("a"), member("b"), slots={"b": Slot("b", "bob", 5, 1)})
    (blocker,) = planned(view).in_the_way
    assert (blocker.code, "b has a slot by bob" in blocker.evidence) == (Code.BUDGET_SPENT, True)
    assert planned(view, strategy=Strategy(budget=2)).go


# --- versions -------------------------------------------------------------------------------------


def test_a_version_in_between_is_demanded_by_the_lowest_supported_one():
    plan = planned(snapshot(record(), member("a")), "3.0", "2.0")
    assert plan.between == Between(V("2.0"), V("3.0"), V("1.0"))
    (blocker,) = plan.in_the_way
    assert (blocker.code, plan.go) == (Code.LOWEST_SUPPORTED, False)
    assert "it supports 2.0 to 3.0, the cluster acts at 1.0" in blocker.evidence
    assert blocker.remedy == (
        "first bring the cluster to 2.0 or newer, below 3.0, that still supports 1.0"
    )


def test_no_version_can_come_in_between_of_one_that_supports_only_itself():
    plan = planned(snapshot(record(), member("a")), "2.0", "2.0")
    assert not plan.between.exists
    (blocker,) = plan.in_the_way
    assert blocker.remedy == ("no version can come in between: make 2.0 support 1.0 or newer, too")


def test_where_everybody_has_the_version_nothing_needs_to_come_in_between():
    plan = planned(snapshot(record(), member("a", "3.0")), "3.0", "2.0")
    assert (plan.between, plan.in_the_way) == (None, ())


def test_while_the_data_is_older_waiting_is_enough():
    view = snapshot(record("2.0", data=V("1.0")), member("a", "2.0"))
    plan = planned(view, "3.0", "2.0")
    assert plan.between is None
    assert in_the_way(plan) == [(Code.LOWEST_SUPPORTED, ""), (Code.CONVERTING, "")]
    assert "wait until the data is converted to 2.0" in plan.in_the_way[0].remedy
    assert planned(view, "3.0", "1.0").in_the_way[0].code is Code.CONVERTING


def test_what_comes_in_between_supports_the_oldest_data_too():
    view = snapshot(record("2.0", data=V("1.0")), member("a", "2.0"))
    assert planned(view, "4.0", "3.0").between.must_support == V("1.0")


def test_who_has_the_version_says_what_it_supports():
    view = snapshot(record(), member("a"), member("b", "3.0", lowest="2.0", standing=STANDBY))
    plan = planned(view, "3.0")
    assert plan.lowest == V("2.0")
    assert plan.between == Between(V("2.0"), V("3.0"), V("1.0"))
    assert planned(view, "3.0", "1.0").lowest == V("1.0")
    assert planned(view, "2.0").lowest is None


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (record("2.0"), "a node with 1.5 is not admitted: installed 1.5, the cluster acts at 2.0"),
        (record(floor=V("2.0")), "the cluster is about to act at 2.0"),
    ],
)
def test_nothing_goes_back(now, said):
    plan = planned(snapshot(now, member("a", "2.0")), "1.5")
    (blocker, *_) = plan.in_the_way
    assert (blocker.code, plan.order) == (Code.OLDER_VERSION, ())
    assert said in blocker.evidence


# --- what stands in the way -----------------------------------------------------------------------


def test_what_the_plan_itself_removes_does_not_stand_in_its_way():
    view = snapshot(
        record(upgrade=Upgrade("1.0", 5)),
        member("a"),
        member("b", "2.0"),
        member("c", "2.0", lowest="1.5", standing=STANDBY),
    )
    today = {one.code for one in all_blockers(view, view.now_ms)}
    assert today == {Code.OLDER_VERSION, Code.TOO_NEW}
    plan = planned(view, lowest="1.0", strategy=Strategy(budget=2))
    assert (plan.in_the_way, len(plan.blockers)) == ((), 2)
    # The one that stands by counts as down: one more needs a budget of two.
    (blocker,) = planned(view, lowest="1.0").in_the_way
    assert (blocker.code, blocker.subject) == (Code.BUDGET_SPENT, "a")
    assert "c is down" in blocker.evidence
    assert "give a larger --budget" in blocker.remedy
    newer = replace(view.members["c"], installed=V("3.0"), lowest=V("3.0"))
    plan = planned(snapshot(view.record, view.members["a"], newer), lowest="1.0")
    assert in_the_way(plan) == [(Code.TOO_NEW, "c")]


def test_a_hold_stands_in_the_way_until_it_has_ended():
    hold = Hold("ann", "closing", 5)
    view = snapshot(record(hold=hold), member("a"))
    assert (planned(view).hold, in_the_way(planned(view))) == (hold, [(Code.HOLD, "")])
    over = replace(hold, until_ms=view.now_ms)
    plan = planned(snapshot(record(hold=over), member("a")))
    assert (plan.hold, plan.go) == (None, True)


def test_a_raise_that_has_not_settled_and_a_node_s_own_trouble_stand_in_the_way():
    view = snapshot(record(settled_revision=4), member("a"), member("b", operating_revision=4))
    local = Blocker(Code.NO_MASTER, "", 0, "no master", "wait")
    plan = planned(view, blockers=[*all_blockers(view, view.now_ms), local])
    assert in_the_way(plan) == [(Code.NOT_CONFIRMED, "b"), (Code.NO_MASTER, "")]


def test_each_reason_is_there_once():
    view = snapshot(
        record(floor=V("2.0"), floor_revision=200, upgrade=Upgrade("1.0", 5)),
        member("a", "2.0"),
    )
    assert in_the_way(planned(view, silent={"a"})) == [(Code.UNRESPONSIVE, "a")]


@pytest.mark.parametrize(
    ("view", "code"),
    [
        (snapshot(None), Code.FORMING),
        (snapshot(record(None, data=None, bootstrap_expect=2), member("a")), Code.FORMING),
        (snapshot(record(identity="older"), member("a", attached=1)), Code.NOT_ATTACHED),
    ],
)
def test_a_cluster_that_cannot_rise_yet_says_why(view, code):
    assert {one.code for one in planned(view).in_the_way} == {code}


# --- what would run -------------------------------------------------------------------------------


def test_the_steps_that_would_run_are_those_above_what_is_done():
    steps = tuple(f"{of} {v}" for of in Phase for v in ("1.0", "1.5", "2.0", "3.0"))
    view = snapshot(
        record("1.5", data=V("1.0")), member("a", "3.0", steps=steps), member("b", "1.5")
    )
    assert planned(view).steps == (
        Due(Phase.BEFORE, V("2.0"), ("a",)),
        Due(Phase.MIGRATION, V("1.5"), ("a",)),
        Due(Phase.MIGRATION, V("2.0"), ("a",)),
    )


def test_steps_that_have_succeeded_before_a_raise_do_not_run_again():
    both = ("before 2.0", "migration 2.0")
    raising = record(floor=V("2.0"), before=V("2.0"))
    plan = planned(snapshot(raising, member("a", "2.0", steps=both)))
    assert plan.steps == (Due(Phase.MIGRATION, V("2.0"), ("a",)),)


NOTES = {"notes": ("1.0", "2.0")}


def with_notes(now, counts, **view):
    return snapshot(
        now,
        member("a"),
        member("b", "2.0", collections=NOTES),
        collections={"notes": CollectionView(counts, **view), "empty": CollectionView()},
    )


def test_records_in_an_older_format_are_counted():
    parked = {"k": Parked("1.0", "no", 1)}
    view = with_notes(record(), {"1.0": 70, "2.0": 30}, parked=parked)
    (change,) = planned(view).changes
    assert (change.progress.collection, change.progress.target) == ("notes", "2.0")
    assert (change.progress.total, change.progress.left) == (100, 69)
    assert change.estimated_s is None
    (change,) = planned(view, "1.0").changes
    assert (change.progress.target, change.progress.left) == ("1.0", 29)


def test_formats_that_nobody_has_announced_are_not_known():
    view = snapshot(record(), member("a"), collections={"notes": CollectionView({"1.0": 5})})
    (change,) = planned(view).changes
    assert (change.progress.target, change.estimated_s) == ("", None)


@pytest.mark.parametrize(
    ("completion", "estimated_s"),
    [
        (None, None),
        (Completion("0.9", "1.0", 1_000, 21_000), 40.0),
        (Completion("0.8", "0.9", 1_000, 9_000), None),  # that one was not timed
    ],
)
def test_the_time_is_that_of_the_last_conversion(completion, estimated_s):
    now = record(completion=completion)
    view = with_notes(now, {"1.0": 80}, converted=20, began_at_ms=11_000)
    (change,) = planned(view).changes
    assert change.estimated_s == estimated_s
    nothing_left = with_notes(now, {"2.0": 80}, converted=20, began_at_ms=11_000)
    (change,) = planned(nothing_left).changes
    assert change.estimated_s == 0


def test_while_records_are_converted_the_time_is_what_remains():
    old = Completion("0.9", "1.0", 1_000, 999_000)
    now = record("2.0", data=V("1.0"), completion=old)
    view = with_notes(now, {"1.0": 80}, converted=20, began_at_ms=990_000)
    (change,) = planned(view).changes
    assert change.estimated_s == 40.0


def rehearsal(**changes):
    found = Rehearsal("notes", "2.0", {"1.0": 80}, sampled=40, looked_at=40, codec_s=2.0)
    return replace(found, **changes)


def test_a_rehearsal_times_better_and_what_fails_in_it_stands_in_the_way():
    completion = Completion("0.9", "1.0", 1_000, 21_000)
    view = with_notes(record(completion=completion), {"1.0": 80}, converted=20, began_at_ms=11_000)
    plan = planned(view, rehearsals=[rehearsal()])
    (change,) = plan.changes
    assert (change.estimated_s, change.rehearsal, plan.go) == (4.0, rehearsal(), True)
    failed = rehearsal(failed=3, failures=[Failure("k7", "1.0", "KeyError: 'x'")])
    plan = planned(view, rehearsals=[failed])
    (blocker,) = plan.in_the_way
    assert (blocker.code, blocker.subject, plan.go) == (Code.PARKED, "notes", False)
    assert "3 of 40 records" in blocker.evidence
    assert "k7: KeyError: 'x'" in blocker.evidence


# --- one node -------------------------------------------------------------------------------------

RAISING = record(floor=V("2.0"))
CONVERTING = record("2.0", data=V("1.0"))
WENT_BACK = record("1.0", downgraded_from=V("2.0"))
# the record, installed, lowest -> rule, a newcomer's standing, a member's
ENTRIES = [
    (None, "1.0", "0", "forming", STANDBY, STANDBY),
    (record(None, data=None), "1.0", "1.0", "forming", STANDBY, STANDBY),
    (record(), "1.0", "1.0", "", SERVING, SERVING),
    (record(), "3.0", "0", "", SERVING, SERVING),
    (record(), "0.9", "0", "installed_below_acting", None, None),
    (RAISING, "1.5", "1.0", "installed_below_floor", None, STANDBY),
    (RAISING, "0.9", "0", "installed_below_acting", None, None),
    (RAISING, "2.0", "1.0", "", SERVING, SERVING),
    (record(), "3.0", "2.0", "lowest_above_acting", None, STANDBY),
    (CONVERTING, "3.0", "2.0", "lowest_above_data", None, STANDBY),
    (CONVERTING, "3.0", "2.5", "lowest_above_acting", None, STANDBY),
    (CONVERTING, "3.0", "1.0", "", SERVING, SERVING),
    (WENT_BACK, "1.5", "1.0", "downgrade_unconfirmed", STANDBY, STANDBY),
    (WENT_BACK, "1.5", "1.5", "lowest_above_acting", None, STANDBY),
    (WENT_BACK, "2.0", "1.0", "", SERVING, SERVING),
]


@pytest.mark.parametrize(("now", "installed", "lowest", "rule", "newcomer", "old"), ENTRIES)
def test_admission_by_versions(now, installed, lowest, rule, newcomer, old):
    for is_member, standing in ((False, newcomer), (True, old)):
        entry = admission(now, V(installed), V(lowest), is_member=is_member)
        assert entry == Entry(rule, standing)
    found = can_deploy(snapshot(now), V(installed), V(lowest))
    assert (found.newcomer, found.member) == (Entry(rule, newcomer), Entry(rule, old))
    assert found.go == (newcomer is not None)
    assert (found.refusal is None) == found.go


@pytest.mark.parametrize(("now", "installed", "lowest"), [one[:3] for one in ENTRIES if one[0]])
@pytest.mark.parametrize("is_member", [False, True])
def test_what_is_foretold_is_what_the_store_does(now, installed, lowest, is_member):
    known = {"n": member("n", "2.0", token="t")} if is_member else {}
    step = Step(StoreState(record=now, members=dict(known)), 1_000_000, "server")
    reply = admit(step, Admit("n", "t", (), 1, "g", 9, V(installed), V(lowest)))
    found = can_deploy(snapshot(now, *known.values()), V(installed), V(lowest))
    entry = found.member if is_member else found.newcomer
    match reply:
        case Admitted():
            assert (reply.rule, reply.standing) == (entry.rule, entry.standing)
        case Refused():
            assert (reply.rule, entry.standing) == (entry.rule, None)
        case _:
            pytest.fail(f"unexpected: {reply}")


def test_a_store_in_doubt_admits_nobody():
    found = can_deploy(snapshot(record(identity="older")), V("1.0"), V("0"))
    assert (found.go, found.newcomer, found.member) == (
        False,
        Entry("unverified", None),
        Entry("unverified", None),
    )
    assert "not verified yet" in str(found.refusal)


def test_the_words_are_those_of_a_refusal():
    found = can_deploy(snapshot(record()), V("3.0"), V("2.0"))
    assert str(found.refusal) == (
        "a new node is not admitted: it supports 2.0 to 3.0, the cluster acts at 1.0: install a"
        " version that still supports 1.0, or bring the cluster to 2.0 first"
    )
    assert found.refusal.rule == "lowest_above_acting"
