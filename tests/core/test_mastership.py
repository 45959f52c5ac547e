"""Redlock without its servers."""

from random import Random

import pytest

from peerupgrade.core.effects import CallLock, CallStore, SetTimer, Timer
from peerupgrade.core.mastership import Mastership, lock_timeout_s, quorum, validity_s
from peerupgrade.core.requests import (
    Acquire,
    Beat,
    Claimed,
    Extend,
    LockReply,
    Refused,
    Release,
    View,
)
from peerupgrade.core.timers import Timers

YES = LockReply(granted=True)
SILENCE = LockReply(granted=False, answered=False)


def made(servers=3):
    mastership = Mastership("a", servers, 3.0, Random(1), Timers())
    mastership.set_eligible(0.0, True)
    return mastership


def requests(effects, kind):
    return [e.server for e in effects if isinstance(e, CallLock) and isinstance(e.request, kind)]


def holding(servers=3):
    mastership = made(servers)
    mastership.contend(0.0)
    for server in range(quorum(servers)):
        mastership.lock_replied(0.01, server, mastership.round, YES)
    mastership.claim_replied(0.02, Claimed(7, View(None, "")))
    assert mastership.holding
    return mastership


def test_validity_counts_from_before_the_first_request_less_the_drift():
    assert validity_s(3.0, 0.5) == pytest.approx(3.0 - 0.5 - 0.032)
    assert validity_s(3.0, 3.0) < 0


@pytest.mark.parametrize(("servers", "votes"), [(1, 1), (3, 2), (5, 3)])
def test_a_majority_decides(servers, votes):
    assert quorum(servers) == votes


def contends_at_s(mastership, master, *beats_s):
    """When a node that becomes a member at 0 asks for the lock."""
    effects = mastership.set_eligible(0.0, True, master)
    for at_s in beats_s:
        effects = mastership.heard_beat(at_s, Beat(5, 5, 1, 1, 3000)) or effects
    (timer,) = (e for e in effects if isinstance(e, SetTimer) and e.timer is Timer.CONTEND)
    return timer.at_s


@pytest.mark.parametrize(
    ("master", "beats_s", "at_s"),
    [("", [], 0.0), ("a", [], 0.0), ("b", [], 1.1), ("b", [0.9], 3.9), ("b", [0.1, 1.1], 4.1)],
)
def test_who_joins_gives_a_master_the_time_of_one_beat(master, beats_s, at_s):
    mastership = Mastership("a", 1, 3.0, Random(1), Timers())
    assert contends_at_s(mastership, master, *beats_s) == pytest.approx(at_s, abs=0.021)


def test_a_hung_server_may_take_a_quarter_of_a_second_at_most():
    assert lock_timeout_s(3.0) == 0.25
    assert lock_timeout_s(1.0) == pytest.approx(0.1)


def test_all_servers_are_asked_at_once_and_the_quorum_is_enough():
    mastership = made()
    assert requests(mastership.contend(0.0), Acquire) == [0, 1, 2]
    assert mastership.lock_replied(0.01, 0, mastership.round, YES) == []
    effects = mastership.lock_replied(0.02, 2, mastership.round, YES)
    assert any(isinstance(effect, CallStore) for effect in effects)


def test_a_quorum_without_the_store_is_none():
    mastership = made()
    mastership.contend(0.0)
    mastership.lock_replied(0.01, 1, mastership.round, YES)
    mastership.lock_replied(0.01, 2, mastership.round, YES)
    effects = mastership.lock_replied(0.02, 0, mastership.round, SILENCE)
    assert requests(effects, Release) == [0, 1, 2]
    assert not mastership.holding


def test_a_lost_round_releases_everywhere_and_waits_for_the_key_that_decides():
    mastership = made()
    mastership.contend(0.0)
    taken = LockReply(granted=False, remaining_ms=2000)
    mastership.lock_replied(0.01, 1, mastership.round, taken)
    effects = mastership.lock_replied(0.01, 2, mastership.round, taken)
    assert requests(effects, Release) == [0, 1, 2]
    (timer,) = [e for e in effects if isinstance(e, SetTimer) and e.timer is Timer.CONTEND]
    assert 2.0 < timer.at_s < 2.1


def test_mastership_begins_with_the_claim_and_its_epoch():
    mastership = made(1)
    mastership.contend(0.0)
    mastership.lock_replied(0.01, 0, mastership.round, YES)
    assert not mastership.holding
    effects = mastership.claim_replied(0.02, Claimed(7, View(None, "")))
    assert mastership.epoch == 7
    assert requests(effects, Extend) == [0]


def test_a_claim_that_is_refused_is_no_mastership():
    mastership = made(1)
    mastership.contend(0.0)
    mastership.lock_replied(0.01, 0, mastership.round, YES)
    effects = mastership.claim_replied(0.02, Refused("not_held", View(None, "")))
    assert requests(effects, Release) == [0]
    assert not mastership.holding


def test_a_claim_that_is_answered_too_late_is_no_mastership():
    mastership = made(1)
    mastership.contend(0.0)
    mastership.lock_replied(0.01, 0, mastership.round, YES)
    mastership.claim_replied(2.99, Claimed(7, View(None, "")))
    assert not mastership.holding


def test_a_master_whose_key_is_gone_stops_at_once():
    mastership = holding()
    mastership.extend(1.0)
    mastership.lock_replied(1.01, 0, mastership.round, LockReply(granted=False))
    assert not mastership.holding


def test_a_master_without_a_quorum_stops_before_its_validity_ends():
    mastership = holding()
    mastership.extend(1.0)
    for server in range(3):
        mastership.lock_replied(1.25, server, mastership.round, SILENCE)
    assert mastership.holding
    assert mastership.quorum_lost_since_s == 1.25
    assert not mastership.must_step_down(2.7)
    assert mastership.must_step_down(2.9)


def test_extensions_count_from_when_they_were_sent():
    mastership = holding(1)
    mastership.extend(1.0)
    mastership.lock_replied(1.2, 0, mastership.round, YES)
    assert mastership.deadline_s == pytest.approx(1.0 + validity_s(3.0, 0.0))


def test_answers_of_an_older_round_count_for_nothing():
    mastership = made(1)
    mastership.contend(0.0)
    old = mastership.round
    mastership.round_over(0.3)
    mastership.contend(1.0)
    assert mastership.lock_replied(1.1, 0, old, YES) == []


def test_a_beat_puts_the_next_try_off_and_a_freed_lock_brings_it_forward():
    mastership = made()
    (late,) = mastership.heard_beat(0.5, Beat(7, 7, 1, 1, 3000))
    assert late.at_s > 3.5
    (soon,) = mastership.heard_freed(0.6)
    assert soon.at_s < 0.65


def test_who_hands_over_leaves_the_next_lease_to_others():
    mastership = holding(1)
    mastership.hand_over(1.0)
    assert mastership.heard_freed(1.01) == []
    assert mastership.heard_freed(4.1) != []


def test_a_follower_that_once_found_no_quorum_believes_the_beat_of_one_who_has_it():
    mastership = made()
    mastership.contend(0.0)
    mastership.round_over(1.0)
    assert mastership.quorum_lost_since_s == 1.0
    mastership.heard_beat(1.5, Beat(7, 7, 1, 1, 3000))
    assert mastership.quorum_lost_since_s is None
