"""What a master would commit next."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerupgrade.core.acting import Progress, StepName, awaited, may_bring_step, next_step
from peerupgrade.core.blockers import Code, all_blockers, raise_blockers
from peerupgrade.core.record import Hold, Job, Phase, Standing, Upgrade
from tests.core.builders import V, member, record, snapshot

UPGRADE = Upgrade("1.0", 900_000)


def decide(view, **progress):
    return next_step(view, view.now_ms, Progress(**progress))


def codes(view):
    return [(blocker.code, blocker.subject) for blocker in all_blockers(view, view.now_ms)]


def test_a_raise_in_its_order():
    members = [member("a", "2.0"), member("b", "2.0")]
    now = record()
    names = []
    for _ in range(10):
        step = decide(snapshot(now, *members))
        if step is None:
            break
        names.append(step.name)
        revision = now.revision + 1
        raised = step.record.acting != now.acting
        floored = step.record.floor != now.floor
        now = replace(
            step.record,
            revision=revision,
            raised_revision=revision if raised else now.raised_revision,
            floor_revision=revision if floored else now.floor_revision,
        )
    assert names == [
        StepName.BEGAN,
        StepName.FLOOR,
        StepName.RAISED,
        StepName.SETTLED,
        StepName.CONVERTED,
        StepName.COMPLETED,
    ]
    assert now.completion.before == "1.0"
    assert now.completion.version == "2.0"


def test_the_acting_version_follows_the_lowest_installed_one():
    view = snapshot(record(upgrade=UPGRADE), member("a", "3.0"), member("b", "2.0"))
    assert decide(view).record.floor == V("2.0")


def test_one_old_member_is_enough_to_wait_for():
    view = snapshot(record(upgrade=UPGRADE), member("a", "2.0"), member("b", "1.0"))
    assert decide(view) is None
    assert codes(view) == [(Code.OLDER_VERSION, "b")]


@pytest.mark.parametrize(
    ("changes", "members", "code"),
    [
        ({"hold": Hold("ann", "friday", 1)}, [member("a", "2.0")], Code.HOLD),
        ({}, [member("a", "2.0", standing=Standing.AWAY)], Code.AWAY),
        ({}, [member("a", "2.0"), member("b", "3.0", lowest="2.5")], Code.LOWEST_SUPPORTED),
        ({"settled_revision": 4}, [member("a", "2.0", operating_revision=1)], Code.NOT_CONFIRMED),
        ({"data": V("0.9")}, [member("a", "2.0")], Code.CONVERTING),
    ],
)
def test_what_keeps_a_raise_from_beginning(changes, members, code):
    view = snapshot(record(upgrade=UPGRADE, **changes), *members)
    assert code in [blocker.code for blocker in raise_blockers(view, view.now_ms)]
    step = decide(view)
    assert step is None or step.name not in (StepName.FLOOR, StepName.RAISED)


def test_nothing_rises_where_nobody_serves_who_could_convert_afterwards():
    """Both would stand by for ever: they can read nothing older than what nobody would convert."""
    members = [
        member(name, "3.0", lowest="2.0", standing=Standing.STANDBY, operating_revision=0)
        for name in ("a", "b")
    ]
    view = snapshot(record(upgrade=UPGRADE), *members)
    assert decide(view) is None
    assert (Code.NOBODY_SERVES, "") in codes(view)
    assert decide(snapshot(record(upgrade=UPGRADE), *members, member("c", "3.0"))) is not None


def test_a_member_that_has_not_heard_of_the_floor_keeps_the_version_from_rising():
    raising = record(floor=V("2.0"), floor_revision=10, upgrade=UPGRADE)
    view = snapshot(raising, member("a", "2.0"), member("b", "2.0", seen=9))
    assert decide(view) is None
    assert (Code.UNRESPONSIVE, "b") in codes(view)


def test_the_floor_is_taken_back_when_a_member_goes_back_or_a_hold_is_set():
    raising = record(floor=V("2.0"), floor_revision=10, upgrade=UPGRADE)
    back = snapshot(raising, member("a", "2.0"), member("b", "1.0"))
    held = snapshot(replace(raising, hold=Hold("ann", "wait", 1)), member("a", "2.0"))
    for view in (back, held):
        step = decide(view)
        assert step.name is StepName.FLOOR_WITHDRAWN
        assert step.record.floor == V("1.0")


def test_the_version_rises_only_once_the_replicas_have_the_floor():
    raising = record(floor=V("2.0"), floor_revision=10, upgrade=UPGRADE)
    view = snapshot(raising, member("a", "2.0"))
    assert decide(view, durable=False).name is StepName.FLOOR
    assert decide(view, durable=True).name is StepName.RAISED


def test_before_steps_come_between_the_floor_and_the_version():
    raising = record(floor=V("2.0"), floor_revision=10, upgrade=UPGRADE)
    view = snapshot(raising, member("a", "2.0"))
    assert decide(view, steps=True) is None
    done = decide(view, steps=True, steps_done=Job(Phase.BEFORE, V("1.0"), V("2.0")))
    assert done.name is StepName.BEFORE
    committed = snapshot(done.record, member("a", "2.0"))
    assert decide(committed).name is StepName.RAISED


def test_an_upgrade_that_everybody_rolled_back_is_withdrawn():
    view = snapshot(record(upgrade=UPGRADE), member("a", "1.0"))
    assert decide(view).name is StepName.WITHDRAWN


def test_a_hold_that_named_its_end_ends():
    held = record(hold=Hold("ann", "until noon", 1, until_ms=999_999), upgrade=UPGRADE)
    assert decide(snapshot(held, member("a", "2.0"))).name is StepName.HOLD_ENDED


def test_a_store_in_doubt_waits_for_the_quarantine_and_for_every_serving_member():
    doubted = record(identity="")
    heard = member("a", attached=500)
    silent = member("b", attached=0)
    early = snapshot(doubted, heard, quarantine_until_ms=1_000_500)
    assert decide(early) is None
    incomplete = snapshot(doubted, heard, silent, quarantine_until_ms=500)
    assert decide(incomplete) is None
    assert codes(incomplete) == [(Code.NOT_ATTACHED, "b")]
    asleep = replace(silent, standing=Standing.STANDBY)
    complete = snapshot(doubted, heard, asleep, quarantine_until_ms=500)
    assert decide(complete).name is StepName.VERIFIED


def test_a_cluster_forms_at_the_lowest_version_once_enough_nodes_are_there():
    forming = record("", bootstrap_expect=2, settled_revision=0, raised_revision=0)
    one = member("a", "2.0", standing=Standing.STANDBY)
    two = member("b", "1.0", standing=Standing.STANDBY)
    assert decide(snapshot(forming, one)) is None
    formed = decide(snapshot(forming, one, two))
    assert formed.name is StepName.FORMED
    assert formed.record.acting == formed.record.data == V("1.0")


def test_an_upgrade_is_not_complete_while_a_new_member_has_not_confirmed():
    done = record("2.0", upgrade=UPGRADE)
    fresh = member("b", "2.0", operating_revision=0)
    assert decide(snapshot(done, member("a", "2.0"), fresh)) is None
    assert decide(snapshot(done, member("a", "2.0"))).name is StepName.COMPLETED


# --- what can bring the next step -----------------------------------------------------------------

VERSIONS = st.sampled_from([V("1.0"), V("2.0"), V("3.0")])
MEMBERS = st.builds(
    lambda name, installed, standing, seen, confirmed: replace(
        member(name, standing=standing),
        installed=installed,
        seen=seen,
        operating_revision=confirmed,
    ),
    st.sampled_from("abcd"),
    VERSIONS,
    st.sampled_from(Standing),
    st.sampled_from([0, 6, 9]),
    st.sampled_from([0, 6, 9]),
)


@st.composite
def records(draw):
    acting = draw(VERSIONS)
    return record(
        str(acting),
        floor=draw(VERSIONS.filter(lambda floor: floor >= acting)),
        data=draw(VERSIONS.filter(lambda data: data <= acting)),
        raised_revision=6,
        settled_revision=draw(st.sampled_from([5, 6])),
        floor_revision=draw(st.sampled_from([6, 9])),
        upgrade=draw(st.sampled_from([None, Upgrade("1.0", 0), Upgrade(str(acting), 0)])),
    )


@settings(max_examples=1500)
@given(records(), st.lists(MEMBERS, max_size=4), st.lists(MEMBERS, min_size=1, max_size=6))
def test_a_change_that_was_not_awaited_brings_no_step(the_record, members, changes):
    now = snapshot(the_record, *members)
    waits_for = None
    for changed in changes:
        if next_step(now, 0, Progress()) is not None:
            return
        if waits_for is None:
            waits_for = awaited(now)
        may = may_bring_step(now, waits_for, changed.id, changed)
        now = replace(now, members={**now.members, changed.id: changed})
        if may:
            waits_for = None
        else:
            assert next_step(now, 0, Progress()) is None


def test_of_all_that_report_only_the_awaited_one_can_bring_the_next_step():
    unsettled = record("2.0", raised_revision=9, upgrade=Upgrade("1.0", 0))
    silent = [member(name, "2.0", operating_revision=5) for name in "abc"]
    now = snapshot(unsettled, *silent)
    assert awaited(now) == "a"
    assert not may_bring_step(now, "a", "c", member("c", "2.0", operating_revision=9))
    assert may_bring_step(now, "a", "a", member("a", "2.0", operating_revision=9))
    assert may_bring_step(now, "a", "c", None)


@pytest.mark.parametrize("order", [list, reversed])
def test_in_whatever_order_they_report_few_of_them_are_the_awaited_one(order):
    unsettled = record("2.0", raised_revision=9, upgrade=Upgrade("1.0", 0))
    ids = [f"n{number:03}" for number in range(400)]
    silent = [member(name, "2.0", operating_revision=5) for name in ids]
    now, hits = snapshot(unsettled, *silent), 0
    waits_for = awaited(now)
    for name in order(ids):
        spoken = member(name, "2.0", operating_revision=9)
        now = replace(now, members={**now.members, name: spoken})
        if name == waits_for:
            waits_for, hits = awaited(now), hits + 1
    assert waits_for is None
    assert hits < 40


def test_with_nothing_under_way_newer_software_is_what_matters():
    now = snapshot(record("2.0"), member("a", "2.0"))
    assert awaited(now) == ""
    assert not may_bring_step(now, "", "b", member("b", "2.0"))
    assert may_bring_step(now, "", "b", member("b", "3.0"))


def test_during_a_rollout_it_waits_for_one_that_is_old():
    now = snapshot(record("1.0", upgrade=Upgrade("1.0", 0)), member("a", "2.0"), member("b", "1.0"))
    assert awaited(now) == "b"
    assert not may_bring_step(now, "b", "a", member("a", "3.0"))
    assert may_bring_step(now, "b", "a", member("a", "1.0"))
