"""Whether the acting version may go back, and how the master does it."""

from dataclasses import replace

import pytest

from peerupgrade.core.acting import Progress, StepName, next_step
from peerupgrade.core.downgrade import GoBack, ask_downgrade, obstacles
from peerupgrade.core.record import (
    CollectionView,
    Downgrade,
    Hold,
    Phase,
    Rollout,
    StepState,
    Upgrade,
    ahead,
)
from peerupgrade.errors import RefusedError
from tests.core.builders import V, member, record, snapshot

ASKED = Downgrade("1.0", "ann", "it is slow", 1)
MEMBER = member("a", "2.0", collections={"notes": ("1.0", "2.0")})


def view(*members, counts=(("1.0", 3),), steps=(), **changes):
    notes = CollectionView(counts=dict(counts))
    known = {one.key: one for one in steps}
    now = replace(record("2.0"), **changes)
    made = snapshot(now, *(members or (MEMBER,)), collections={"notes": notes})
    return replace(made, steps=known)


def rules(found):
    return [one.rule for one in found]


@pytest.mark.parametrize(
    ("now", "rule"),
    [
        (view(acting=None), "forming"),
        (view(identity="another server"), "unverified"),
        (view(acting=V("1.0")), "not_lower"),
        (view(rollout=Rollout("1", "2.0", "ann", "", 1)), "rollout_under_way"),
        (view(upgrade=Upgrade("2.0", 1)), "upgrade_under_way"),
        (view(floor=V("3.0")), "upgrade_under_way"),
        (view(data=V("1.0")), "upgrade_under_way"),
        (view(raised_revision=6), "not_settled"),
        (view(member("a", "2.0", operating_revision=4)), "not_settled"),
        (view(member("a", "2.0", lowest="1.5")), "lowest_above_target"),
        (view(member("a", "0.9")), "installed_below_target"),
        (view(counts=[("1.0", 1), ("2.0", 1)]), "newer_records"),
        (view(counts=[("what is this", 1)]), "newer_records"),
        (view(member("a", "2.0", steps=("migration 2.0",))), "step_has_run"),
        (view(steps=[StepState(Phase.BEFORE, V("2.0"), "widen")]), "step_has_run"),
    ],
)
def test_what_forbids_it(now, rule):
    found = obstacles(now, V("1.0"))
    assert rules(found) == [rule]
    assert found[0].evidence
    assert found[0].remedy
    with pytest.raises(RefusedError) as refused:
        ask_downgrade(now, GoBack("1.0", "ann"))
    assert refused.value.rule == rule


def test_steps_of_other_versions_and_records_that_it_reads_do_not():
    steps = [StepState(Phase.BEFORE, V("1.0"), "widen")]
    assert obstacles(view(steps=steps, counts=[("0.9", 1), ("1.0", 1)]), V("1.0")) == []


def test_two_are_not_asked_for_at_once():
    with pytest.raises(RefusedError) as refused:
        ask_downgrade(view(downgrade=ASKED), GoBack("1.0", "bob"))
    assert refused.value.rule == "downgrade_under_way"


def decide(now, **progress):
    return next_step(now, now.now_ms, Progress(**progress))


def test_it_bars_then_lowers_and_holds():
    asked = ask_downgrade(view(), GoBack("1.0", "ann", "it is slow"))
    now = view(downgrade=asked.downgrade)
    step = decide(now)
    assert step.name is StepName.BARRED
    assert step.record.downgrade.formats == ("1.0",)
    assert step.record.acting == V("2.0")
    step = decide(replace(now, record=step.record))
    assert step.name is StepName.LOWERED
    lowered = step.record
    assert (lowered.acting, lowered.floor, lowered.data) == (V("1.0"),) * 3
    assert (lowered.downgrades, lowered.downgrade) == (1, None)
    assert lowered.downgraded_from == V("2.0")
    assert lowered.hold == Hold("ann", "downgraded from 2.0: it is slow", now.now_ms)
    assert ahead(lowered, now.record)
    assert not ahead(now.record, lowered)


def test_it_is_not_raised_again_before_it_is_released():
    back = record("1.0", hold=Hold("ann", "downgraded", 1), upgrade=Upgrade("1.0", 1), downgrades=1)
    assert decide(snapshot(back, MEMBER)) is None
    assert decide(snapshot(replace(back, hold=None), MEMBER)).name is StepName.FLOOR


def test_what_came_in_between_ends_it():
    came = member("b", "3.0", lowest="2.0")
    step = decide(view(MEMBER, came, downgrade=replace(ASKED, barred=1)))
    assert step.name is StepName.DOWNGRADE_REFUSED
    assert "b supports 2.0 and newer, not 1.0" in step.inputs
    assert step.record.downgrade is None
    assert step.record.acting == V("2.0")


def test_nothing_goes_back_that_a_failover_could_forget():
    step = decide(view(downgrade=replace(ASKED, formats=("1.0",), barred=1)), durable=False)
    assert step.name is StepName.DOWNGRADE_REFUSED
    assert step.record.downgrade is None


def test_a_store_that_may_have_lost_a_removal_is_looked_through_again():
    doubtful = view(MEMBER, downgrade=replace(ASKED, barred=1), identity="another server")
    settled = replace(doubtful, quarantine_until_ms=1, members={})
    step = decide(settled)
    assert step.name is StepName.VERIFIED
    assert step.record.downgrade == ASKED
