"""Members whose lease has ended, and when the master removes them."""

from dataclasses import replace

import pytest

from peerupgrade.core.blockers import Code, all_blockers
from peerupgrade.core.effects import SetTimer
from peerupgrade.core.leases import lapse_moments, lapsed, with_leases
from peerupgrade.core.ledger import whole_ledger
from peerupgrade.core.record import Rollout, Standing, Turn, TurnStep, Work, WorkState
from peerupgrade.core.requests import (
    All,
    Done,
    Exclude,
    Fenced,
    ReadAll,
    Refused,
    Unverified,
    View,
)
from peerupgrade.core.store import StoreState, execute
from tests.core.builders import member, record, snapshot
from tests.core.test_master import began, requested

NOW_MS = 1_000_000
LONG_AGO_MS = 0


def leased(name="b", *, until_ms=NOW_MS - 1, lease_ms=30_000, **changes):
    return member(name, lease_ms=lease_ms, lease_until_ms=until_ms, **changes)


def view(*members, **changes):
    return snapshot(record(master="a"), member("a"), *members, now_ms=NOW_MS, **changes)


def test_a_member_is_removed_once_its_lease_has_ended_and_not_before():
    found = lapsed(view(leased()), NOW_MS, LONG_AGO_MS)
    reason = "its lease ended 0.0 s ago"
    assert found == Exclude("b", "a", reason, False, 1, lease_until_ms=NOW_MS - 1)
    assert lapsed(view(leased(until_ms=NOW_MS + 1)), NOW_MS, LONG_AGO_MS) is None


def test_a_member_without_a_lease_is_never_removed():
    assert lapsed(view(leased(lease_ms=0)), NOW_MS, LONG_AGO_MS) is None


def test_after_an_outage_every_member_has_a_whole_lease_to_come_back():
    began_ms = NOW_MS - 29_999
    assert lapsed(view(leased()), NOW_MS, began_ms) is None
    assert lapse_moments(view(leased()), began_ms) == [NOW_MS + 1]
    assert lapsed(view(leased()), NOW_MS + 1, began_ms) is not None


def test_one_that_said_that_it_is_away_is_not_removed():
    assert lapsed(view(leased(standing=Standing.AWAY)), NOW_MS, LONG_AGO_MS) is None


def test_the_master_does_not_remove_itself():
    assert lapsed(view(leased("a")), NOW_MS, LONG_AGO_MS) is None


def test_nobody_is_removed_while_the_store_is_in_doubt():
    doubted = view(leased(), quarantine_until_ms=1)
    doubted = replace(doubted, record=replace(doubted.record, identity="another"))
    assert lapsed(doubted, NOW_MS, LONG_AGO_MS) is None
    assert lapse_moments(doubted, LONG_AGO_MS) == []


def timer(effects):
    (found,) = [effect for effect in effects if isinstance(effect, SetTimer)]
    return found.at_s


def test_the_master_asks_at_the_end_of_the_lease_and_learns_that_it_was_renewed():
    master, effects = began(view(leased(until_ms=NOW_MS + 40_000)))
    assert round(timer(effects)) == 40
    (asked,) = master.decide(40.1)
    assert isinstance(asked.request, Exclude)
    renewed = leased(until_ms=NOW_MS + 70_000)
    effects = master.replied(40.1, asked.call, Refused("lease_runs", View(None, ""), other=renewed))
    assert requested(effects) == []
    assert round(timer(effects)) == 70


def test_once_it_is_removed_the_master_reads_what_there_is():
    master, _ = began(view(leased(until_ms=NOW_MS + 40_000)))
    (asked,) = master.decide(40.1)
    assert requested(master.replied(40.1, asked.call, Done(View(None, "")))) == [ReadAll()]


def test_a_new_mastership_gives_every_member_its_time_again():
    master, _ = began(view(leased()))
    master.end()
    master.begin(100.0, 5, "token", True)
    (read,) = master.watching(100.0)
    later = replace(view(leased()), now_ms=NOW_MS + 100_000)
    assert requested(master.replied(100.0, read.call, All(later))) == []


def test_a_jump_of_the_stores_clock_gives_every_member_its_time_again():
    master, _ = began(view(leased(until_ms=NOW_MS + 40_000)))
    (read,) = master.read_again(1.0)
    jumped = replace(view(leased(until_ms=NOW_MS + 40_000)), now_ms=NOW_MS + 3_600_000)
    effects = master.replied(1.0, read.call, All(jumped))
    assert requested(effects) == []
    assert round(timer(effects)) == 31


def asked_of_the_store(*, token="m", until_ms=NOW_MS - 1, identity="server"):
    state = StoreState(record=record(), master_token="m", suspect=identity)
    state.members["b"] = leased()
    asked = Exclude("b", "a", "silent", False, 1, token, 3, until_ms)
    reply, _ = execute(state, asked, NOW_MS, identity)
    assert ("b" not in state.members) == isinstance(reply, Done) == ("b" in state.excluded)
    return reply.rule if isinstance(reply, Refused) else type(reply)


def test_the_store_removes_for_the_newest_mastership_whose_lease_is_the_one_that_it_saw():
    assert asked_of_the_store() is Done
    assert asked_of_the_store(token="an older one") is Fenced  # R1
    assert asked_of_the_store(until_ms=NOW_MS - 2) == "lease_runs"  # R2: renewed, and over again


def test_the_store_removes_nobody_for_a_master_that_has_not_verified_it():
    """R16: the quarantine is over, and that is all."""
    assert asked_of_the_store(identity="another") is Unverified


def test_why_says_what_comes_of_a_lease_that_is_not_renewed():
    silent = leased(until_ms=NOW_MS + 10_000)
    looked = view(silent, member("c", "2.0"))
    (blocker,) = [
        one
        for one in with_leases(all_blockers(looked, NOW_MS), looked, NOW_MS)
        if one.subject == "b"
    ]
    assert "does not renew its lease, which ends in 10 s" in blocker.evidence
    assert "the master removes it" in blocker.remedy
    renewing = view(leased(until_ms=NOW_MS + 25_000), member("c", "2.0"))
    assert with_leases(all_blockers(renewing, NOW_MS), renewing, NOW_MS) == all_blockers(
        renewing, NOW_MS
    )


IN_ITS_TURN = Rollout("3.9", "2.0", "ann", "", 1, turns=(Turn("3.10", "b", "2.0", 2),))


def told_of(work, **changes):
    """What `why` says of a member in its turn."""
    away = leased(standing=Standing.AWAY, work=work, **changes)
    looked = snapshot(
        record(master="a", rollout=IN_ITS_TURN), member("a"), away, member("c"), now_ms=NOW_MS
    )
    found = with_leases(whole_ledger(looked, NOW_MS), looked, NOW_MS)
    (blocker,) = [one for one in found if one.subject == "b"]
    return blocker


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (WorkState.RUNS, Code.STEP_RUNS),
        (WorkState.WAITS, Code.STEP_MANUAL),
        (WorkState.FAILED, Code.STEP_FAILED),
        (WorkState.UNKNOWN, Code.STEP_UNKNOWN),
    ],
)
def test_why_says_of_a_member_in_its_turn_that_its_lease_has_ended_and_what_helps(state, code):
    work = Work("3.10", "2.0", "1.0", TurnStep.INSTALL, state)
    blocker = told_of(work, until_ms=NOW_MS - 12_000)
    assert blocker.code is code
    assert "its lease ended 12 s ago, and nobody removes it" in blocker.evidence
    assert "start b again" in blocker.remedy
    assert "peerupgrade exclude b --confirm-stopped --reason gone" in blocker.remedy
    assert "lease" not in told_of(work, until_ms=NOW_MS + 1).evidence
    assert "lease" not in told_of(work, lease_ms=0).evidence
