"""A master, its copy of the store, and what it commits."""

from dataclasses import replace
from random import Random

import pytest

from peerupgrade.core.effects import (
    CallStore,
    Memory,
    PacketHeard,
    SetTimer,
    Timer,
    TimerFired,
    WatchMembers,
)
from peerupgrade.core.gossip.machine import GossipConfig
from peerupgrade.core.gossip.packets import Condition, Digest, Heartbeat, Table
from peerupgrade.core.master import Master
from peerupgrade.core.membership import NodeConfig
from peerupgrade.core.node import MastershipConfig, Node
from peerupgrade.core.record import (
    CollectionView,
    Hold,
    Rollout,
    Slot,
    Standing,
    TurnStep,
    Upgrade,
    Work,
    WorkState,
)
from peerupgrade.core.requests import (
    All,
    Audit,
    Audited,
    Beat,
    Commit,
    Conflict,
    Done,
    Failed,
    Fenced,
    MemberHeard,
    ReadAll,
    Unverified,
    View,
)
from peerupgrade.core.strategy import OnUnhealthy, Strategy
from peerupgrade.core.timers import Timers
from tests.core.builders import V, member, record, snapshot


def began(view, **settings):
    """A master that has just read the store."""
    master = Master(Timers(), **settings)
    assert isinstance(master.begin(0.0, 4, "token", True)[0], WatchMembers)
    (read,) = master.watching(0.0)
    assert isinstance(read.request, ReadAll)
    return master, master.replied(0.0, read.call, All(view))


def requested(effects):
    return [effect.request for effect in effects if isinstance(effect, CallStore)]


def test_it_listens_before_it_reads_and_reads_before_it_decides():
    master = Master(Timers())
    master.begin(0.0, 4, "token", True)
    assert requested(master.decide(0.0)) == []


def test_without_the_members_channel_it_reads_now_and_then_and_decides_all_the_same():
    master = Master(Timers())
    master.begin(0.0, 4, "token", True)
    (read,) = master.decide(1.0)
    (commit,) = requested(
        master.replied(1.0, read.call, All(snapshot(record(), member("a", "2.0"))))
    )
    assert commit.step == "upgrade began"
    idle = Master(Timers())
    idle.begin(0.0, 4, "token", True)
    (read,) = idle.decide(1.0)
    assert requested(idle.replied(1.0, read.call, All(snapshot(record(), member("a"))))) == []
    assert requested(idle.decide(1.5)) == []
    assert requested(idle.decide(2.0)) == [ReadAll()]


def test_a_commit_carries_everything_that_it_was_decided_from():
    _, effects = began(snapshot(record(), member("a", "2.0")))
    (commit,) = requested(effects)
    assert isinstance(commit, Commit)
    assert (commit.token, commit.epoch) == ("token", 4)
    assert (commit.revision, commit.members_revision) == (10, 7)


def test_a_slot_has_seen_its_member_away_once_the_member_says_so():
    view = snapshot(record(), member("a"), slots={"a": Slot("a", "bob", 1, 1)})
    master, _ = began(view)
    master.heard_member(1.0, MemberHeard("a", member("a", standing=Standing.AWAY), 8))
    assert master.snapshot.slots["a"].away == 1


def test_a_missed_change_of_a_member_is_read_again():
    master, _ = began(snapshot(record(), member("a", "1.0")))
    assert requested(master.heard_member(1.0, MemberHeard("b", member("b"), 8))) == []
    assert requested(master.heard_member(1.0, MemberHeard("c", member("c"), 10))) == [ReadAll()]


def test_a_missed_change_shows_in_the_beat():
    for beat in (Beat(4, 4, 10, 8, 3000), Beat(4, 4, 11, 7, 3000)):
        master, _ = began(snapshot(record(), member("a", "1.0")))
        assert requested(master.heard_beat(1.0, beat)) == [ReadAll()]
    master, _ = began(snapshot(record(), member("a", "1.0")))
    assert master.heard_beat(1.0, Beat(4, 4, 10, 7, 3000)) == []


def test_its_copy_does_not_go_back_behind_a_hold_that_it_has_heard_of():
    view = snapshot(record(), member("a", "2.0"))
    master, (asked,) = began(view)
    written = replace(asked.request.record, revision=11)
    held = replace(written, revision=12, hold=Hold("ann", "friday", 1))
    master.heard_record(1.0, held)
    effects = master.replied(1.0, asked.call, Done(View(written, "server")))
    assert master.snapshot.record == held
    assert requested(effects) == []


def test_a_commit_without_an_answer_counts_as_not_durable():
    floor = record(floor=V("2.0"), floor_revision=10, upgrade=Upgrade("1.0", 1))
    view = snapshot(record(upgrade=Upgrade("1.0", 1)), member("a", "2.0"))
    master, (asked,) = began(view)
    assert asked.request.step == "floor"
    master.replied(1.0, asked.call, Failed("no answer"))
    (read,) = master.decide(2.0)
    (again,) = requested(master.replied(2.0, read.call, All(snapshot(floor, member("a", "2.0")))))
    assert again.step == "floor"


def test_a_lost_race_is_read_again_at_once():
    master, (asked,) = began(snapshot(record(), member("a", "2.0")))
    effects = master.replied(1.0, asked.call, Conflict(View(record(), "server")))
    assert requested(effects) == [ReadAll()]


def test_a_fenced_master_writes_nothing_more():
    master, (asked,) = began(snapshot(record(), member("a", "2.0")))
    assert master.replied(1.0, asked.call, Fenced(View(record(), "server"))) == []
    assert master.fenced
    assert master.read_again(2.0) == []


def test_a_doubt_lasts_as_long_by_the_masters_own_clock():
    doubted = record(identity="")
    view = snapshot(doubted, member("a", attached=500), quarantine_until_ms=500)
    master, effects = began(view, quarantine_s=5.0)
    assert requested(effects) == []
    (commit,) = requested(master.decide(5.1))
    assert commit.repair


def with_notes(counts, **changes):
    settled = record("2.0", data=V("1.0"), **changes)
    one = member("a", "2.0", collections={"notes": ("1.0", "2.0")})
    return snapshot(settled, one, collections={"notes": CollectionView(counts=counts)})


def read(master, effects, view, now=1.0):
    """Let it read everything; what it does then."""
    (asked,) = (effect for effect in effects if isinstance(effect, CallStore))
    assert asked.request == ReadAll()
    return master.replied(now, asked.call, All(view))


def audited(master, effects, *answers):
    """Answer its scan; what it does at last."""
    for answer in answers:
        (asked,) = (effect for effect in effects if isinstance(effect, CallStore))
        assert isinstance(asked.request, Audit)
        effects = master.replied(1.0, asked.call, answer)
    return effects


def test_without_shared_data_the_data_version_rises_at_once():
    view = snapshot(record("2.0", data=V("1.0")), member("a", "2.0"))
    _, effects = began(view)
    assert requested(effects)[0].step == "converted"


def test_the_counters_are_read_again_once_all_have_settled():
    view = snapshot(record("2.0", data=V("1.0"), settled_revision=4), member("a", "2.0"))
    master, (asked,) = began(view)
    assert asked.request.step == "settled"
    written = replace(asked.request.record, revision=11)
    effects = master.replied(1.0, asked.call, Done(View(written, "server")))
    late = with_notes({"1.0": 1}, revision=11)
    (timer,) = read(master, effects, late)
    assert isinstance(timer, SetTimer)


def test_it_scans_from_end_to_end_before_the_data_version_rises():
    master, effects = began(with_notes({"2.0": 5000}))
    assert requested(effects) == [Audit("token", 4, "notes", "2.0", 1000)]
    effects = audited(master, effects, Audited(False, 0))
    assert isinstance(requested(effects)[0], Audit)
    effects = audited(master, effects, Audited(True, 0))
    again = requested(effects)[0]
    assert again.step == "audited"  # the replicas shall have what was converted
    for durable, step in ((False, "audited"), (True, "converted")):
        written = Done(
            View(replace(again.record, revision=master.snapshot.record.revision + 1), "server"),
            durable,
        )
        master.replied(1.0, effects[-1].call, written)
        effects = master.decide(9.0)
        assert requested(effects)[0].step == step


def test_the_first_word_that_all_have_settled_proves_nothing_of_the_data():
    """It is heard before it is answered, so the record looks settled when the answer comes."""
    settling = replace(with_notes({"2.0": 5}).record, settled_revision=0)
    master, effects = began(replace(with_notes({"2.0": 5}), record=settling))
    (ask,) = requested(effects)
    assert ask.step == "settled"
    settled = replace(ask.record, revision=settling.revision + 1)
    master.heard_record(1.0, settled)
    effects = master.replied(1.0, effects[-1].call, Done(View(settled, "server")))
    effects = read(master, effects, replace(with_notes({"2.0": 5}), record=settled))
    effects = audited(master, effects, Audited(True, 0))
    assert requested(effects)[0].step == "audited"


def test_a_scan_that_finds_something_older_begins_again():
    master, effects = began(with_notes({"2.0": 5}))
    effects = audited(master, effects, Audited(False, 0), Audited(False, 1))
    effects = read(master, effects, with_notes({"1.0": 1, "2.0": 4}))
    assert requested(effects) == []
    effects = read(master, master.decide(2.0), with_notes({"2.0": 5}))
    assert isinstance(requested(effects)[0], Audit)


def test_a_scan_on_another_server_process_begins_again():
    master, effects = began(with_notes({"2.0": 5}))
    effects = audited(master, effects, Audited(False, 0))
    elsewhere = replace(with_notes({"2.0": 5}, identity="other"), identity="other")
    master.replied(1.0, effects[0].call, Unverified(View(record(), "other")))
    effects = read(master, master.decide(2.0), elsewhere, 2.0)
    assert isinstance(requested(effects)[0], Audit)


def test_while_older_records_are_left_it_looks_now_and_then():
    master, effects = began(with_notes({"1.0": 1}))
    (timer,) = [effect for effect in effects if isinstance(effect, SetTimer)][-1:]
    assert timer.at_s - 1.0 < 1.0
    effects = read(master, master.decide(timer.at_s), with_notes({"2.0": 1}), timer.at_s)
    assert isinstance(requested(effects)[0], Audit)


# --- who does not answer gossip -------------------------------------------------------------------


def baking():
    """All have got the version, and it bakes for an hour."""
    strategy = Strategy(bake_ms=3_600_000, on_unhealthy=OnUnhealthy.ALL)
    work = Work("3.10", "2.0", "1.0", TurnStep.UNDRAIN, WorkState.ENDED)
    members = [member(name, "2.0", work=work, joined_at_ms=900_000) for name in "ab"]
    rollout = Rollout("3.9", "2.0", "ann", "new", 1000, strategy)
    return snapshot(record(rollout=rollout, upgrade=Upgrade("1.0", 1)), *members)


def wakes_s(effects):
    return [one.at_s for one in effects if isinstance(one, SetTimer) and one.timer is Timer.DECIDE]


def test_while_somebody_does_not_answer_gossip_the_master_of_a_rollout_looks_again():
    silent, failed = set(), set()
    says = {"silent": lambda: frozenset(silent), "failed": lambda: frozenset(failed)}
    silent.add("gone")
    _, effects = began(baking(), **says)
    assert wakes_s(effects)[0] > 3000
    silent.add("a")
    _, effects = began(snapshot(record(), member("a")), **says)
    assert wakes_s(effects) == []
    master, effects = began(baking(), **says)
    (wake_s,) = wakes_s(effects)
    assert wake_s < 1.0
    failed.add("a")
    assert [one.step for one in requested(master.decide(wake_s))] == ["rollout retreats"]


@pytest.mark.parametrize("how", ["it gives one up", "another one does", "nothing new"])
def test_what_gossip_finds_of_a_member_lets_the_master_of_a_rollout_decide(how):
    node = Node(
        NodeConfig("b", V("2.0"), V("0")),
        MastershipConfig(),
        Memory(),
        Random(1),
        gossiping=GossipConfig("10.0.0.2:1"),
    )
    node.gossip.says(0.0, Heartbeat("b", 1, 0, V("2.0"), V("0"), "10.0.0.2:1"))
    alive = Heartbeat("a", 1, 1, V("2.0"), V("0"), "10.0.0.1:1")
    suspect = replace(alive, condition=Condition.SUSPECT, by="c")
    for known in (alive, suspect):
        node.handle(1.0, PacketHeard(Table("c", Digest(), (known,))))
    now = 1.0
    while node.gossip.detector.next_failure_s > now:  # it probes in time, so it may judge
        now += 0.25
        node.gossip.probe(now)
    node.master.begin(now, 4, "token", True)
    (read,) = node.master.watching(now)
    assert requested(node.master.replied(now, read.call, All(baking()))) == []
    event = PacketHeard(Table("c", Digest(), (suspect,)))
    if how == "another one does":
        event = PacketHeard(Table("c", Digest(), (replace(suspect, condition=Condition.FAILED),)))
    if how == "it gives one up":
        event = TimerFired(Timer.SUSPICION, node.timers.set(Timer.SUSPICION, now).token)
    steps = [one.step for one in requested(node.handle(now, event)) if isinstance(one, Commit)]
    assert steps == ([] if how == "nothing new" else ["rollout retreats"])
