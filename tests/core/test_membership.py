"""One node and the store's real rules, in the orders that once went wrong."""

from dataclasses import replace

import pytest

from peerupgrade.core.effects import (
    CallStore,
    HeardOn,
    InstalledChanged,
    Memory,
    Remember,
    RememberFailed,
    SetAway,
    SetTimer,
    Start,
    Stop,
    Stopped,
    StoreReplied,
    Switch,
    Timer,
    TimerFired,
)
from peerupgrade.core.gossip.machine import GossipConfig
from peerupgrade.core.membership import NodeState
from peerupgrade.core.record import Standing
from peerupgrade.core.requests import (
    Admit,
    Attach,
    Attached,
    Claim,
    Commit,
    Conflict,
    DoubtHeard,
    Exclude,
    Failed,
    Fenced,
    Leave,
    NotMember,
    RecordHeard,
    Refused,
    Report,
    SetHold,
    Subscribed,
    Unverified,
)
from peerupgrade.core.store import LockState, StoreState
from tests.core.bench import Bench
from tests.core.builders import V, member, record


def formed(acting="1.0", **changes):
    """A store whose cluster acts at a version."""
    made = record(acting, revision=10, **changes)
    return StoreState(record=made, members={"other": member("other", "9.0")}, members_revision=1)


def commit(store, acting, **changes):
    """Somebody else's master commits a version; gives what is broadcast."""
    now = store.record
    revision = now.revision + 1
    store.record = replace(
        now,
        revision=revision,
        acting=V(acting),
        floor=V(acting),
        raised_revision=revision,
        **changes,
    )
    return RecordHeard(store.record)


def operating(installed="2.0", store=None, **config):
    bench = Bench(store or formed(), installed=installed, **config).start().settle()
    assert bench.membership.state is NodeState.OPERATING
    return bench


def test_a_node_operates_only_after_admission_disk_and_callbacks():
    bench = Bench(formed()).start()
    bench.feed(bench.ask())  # read
    bench.feed(bench.ask())  # admitted
    assert bench.operated == []
    assert bench.waiting(Switch) == []
    bench.save()
    assert bench.operated == []
    bench.switch()
    assert bench.operated == ["1.0"]


def test_gossip_calls_a_new_start_by_its_new_incarnation_from_the_first_word_on():
    earlier = Memory(incarnation=3, token="t", admitted_token="t")
    for memory in (Memory(), earlier):
        store = formed()
        store.incarnations = 7
        bench = Bench(store, memory=memory, gossiping=GossipConfig("10.0.0.1:7946")).start()
        while bench.node.gossip.me is None:
            bench.feed(bench.ask())
        said = bench.node.gossip.me
        assert said.incarnation == store.members["a"].incarnation == 8
        bench.settle()
        assert bench.node.gossip.me.incarnation == 8


def test_a_broadcast_is_remembered_before_callbacks_run():
    bench = operating()
    bench.feed(HeardOn(commit(bench.store, "2.0")))
    assert bench.waiting(Switch) == []
    assert bench.waiting(Remember)[0].memory.record.acting == V("2.0")
    bench.settle()
    assert bench.operated == ["1.0", "2.0"]
    assert bench.store.members["a"].operating == V("2.0")


def test_an_older_record_is_ignored_whatever_way_it_comes():
    bench = operating()
    old = RecordHeard(bench.store.record)
    bench.feed(HeardOn(commit(bench.store, "2.0"))).settle()
    bench.feed(HeardOn(old)).settle()
    assert bench.operated == ["1.0", "2.0"]


def test_a_newer_revision_of_an_older_mastership_is_the_ghost_of_a_lost_write():
    bench = operating()
    ghost = replace(bench.store.record, revision=50, epoch=2, acting=V("2.0"), floor=V("2.0"))
    bench.feed(HeardOn(RecordHeard(ghost))).settle()
    assert bench.operated == ["1.0"]


def test_the_word_of_another_verification_is_only_a_reason_to_look():
    bench = operating()
    other = replace(bench.store.record, revision=50, doubt=7, acting=V("2.0"), floor=V("2.0"))
    bench.feed(HeardOn(RecordHeard(other))).settle()
    assert bench.operated == ["1.0"]


def test_a_node_confirms_only_when_older_operations_have_ended():
    bench = operating()
    bench.feed(HeardOn(commit(bench.store, "2.0"))).save().switch()
    assert bench.operated[-1] == "2.0"
    assert bench.waiting(CallStore) == []
    bench.settle()
    assert bench.store.members["a"].operating == V("2.0")


def test_callbacks_for_a_version_that_the_cluster_has_left_change_nothing():
    bench = Bench(formed(), installed="2.0").start()
    bench.feed(bench.ask()).feed(bench.ask()).save()
    stale = bench.take(Switch)
    bench.feed(HeardOn(commit(bench.store, "2.0"))).save()
    bench.effects.append(stale)
    bench.settle()
    assert bench.operated == ["2.0"]


def test_nothing_is_switched_to_while_something_newer_is_on_its_way_to_the_disk():
    bench = operating()
    bench.feed(SetAway(True)).settle()
    commit(bench.store, "2.0")
    bench.feed(SetAway(False)).settle()
    assert bench.operated == ["1.0", None, "2.0"]


def test_other_software_that_cannot_act_as_the_cluster_does_stops_at_once():
    bench = operating(installed="1.0")
    bench.feed(InstalledChanged(V("3.0"), V("2.0")))
    assert bench.operated == ["1.0", None]
    bench.settle()
    assert bench.store.members["a"].standing is Standing.STANDBY


@pytest.mark.parametrize("lowest", ["0.5", "2.0"])
def test_callbacks_under_way_do_not_end_in_a_version_for_other_software(lowest):
    bench = Bench(formed(), installed="1.0").start()
    bench.feed(bench.ask()).feed(bench.ask()).save()
    bench.feed(InstalledChanged(V("3.0"), V(lowest)))
    bench.switch()
    assert bench.operated == []
    bench.settle()
    assert bench.operated == (["1.0"] if lowest == "0.5" else [])


def test_software_that_supports_less_does_not_begin_by_a_broadcast_before_the_store_has_answered():
    bench = operating()
    bench.feed(InstalledChanged(V("3.0"), V("0.5")))
    bench.feed(HeardOn(commit(bench.store, "2.0"))).save()
    assert bench.waiting(Switch) == []
    bench.settle()
    assert bench.operated == ["1.0", None, "2.0"]


def test_an_admission_with_older_versions_does_not_answer_for_newer_ones():
    bench = operating(installed="1.0")
    bench.feed(InstalledChanged(V("1.5"), V("0")))
    answer = bench.ask()
    bench.feed(InstalledChanged(V("2.0"), V("0")))
    bench.feed(answer).settle()
    assert bench.store.members["a"].installed == V("2.0")


def test_a_node_leaves_although_the_word_that_it_is_away_is_still_under_way():
    bench = operating()
    bench.feed(SetAway(True))
    answer = bench.ask()
    bench.feed(Stop(leave=True))
    bench.feed(answer)
    assert bench.waiting(Stopped) == []
    assert isinstance(bench.waiting(CallStore)[0].request, Leave)
    bench.settle()
    assert "a" not in bench.store.members


def test_a_report_that_arrives_late_is_refused():
    bench = operating()
    known = bench.store.members["a"]
    late = Report(
        "a", known.incarnation, "g", known.number - 1, Standing.SERVING, 0, None, 0, "old news"
    )
    assert isinstance(bench.do(late), Conflict)
    assert bench.store.members["a"] == known


def test_a_second_node_of_the_name_is_refused_and_the_first_one_goes_on():
    bench = operating()
    second = Bench(bench.store).start()
    second.settle()
    assert second.membership.state is NodeState.REFUSED
    assert second.membership.refusal.rule == "name_taken"
    assert bench.settle().membership.state is NodeState.OPERATING


def test_a_restart_with_its_disk_is_a_new_incarnation_of_the_same_name():
    first = operating()
    again = Bench(first.store, installed="2.0", memory=first.membership.memory).start().settle()
    assert again.membership.state is NodeState.OPERATING
    assert again.membership.incarnation > first.membership.incarnation


def test_an_admission_whose_answer_was_lost_in_a_crash_is_taken_up_again():
    first = Bench(formed()).start()
    first.feed(first.ask())
    first.ask()  # registered, and nobody hears of it
    again = Bench(first.store, memory=first.membership.memory)
    again.start().settle()
    assert again.membership.state is NodeState.OPERATING


def test_an_excluded_incarnation_never_operates_again_not_even_by_attaching():
    bench = operating()
    incarnation = bench.membership.incarnation
    bench.do(Exclude("a", "ann", "gone", True, incarnation))
    bench.identity = "another server"
    bench.feed(HeardOn(DoubtHeard())).settle()
    assert bench.membership.state is NodeState.EXCLUDED
    assert bench.operated == ["1.0", None]


def test_an_exclusion_that_was_not_heard_is_found_out_after_resubscribing():
    bench = operating()
    bench.do(Exclude("a", "ann", "gone", True, bench.membership.incarnation))
    bench.feed(HeardOn(Subscribed())).settle()
    assert bench.membership.state is NodeState.EXCLUDED
    assert bench.operated == ["1.0", None]


def test_a_store_that_does_not_answer_does_not_keep_a_node_from_leaving_later():
    bench = operating()
    bench.feed(Stop(leave=True))
    call = bench.take(CallStore)
    bench.feed(StoreReplied(call.part, call.call, Failed("no answer"), bench.now_s))
    assert bench.waiting(Stopped) == []
    (retry,) = [t for t in bench.waiting(SetTimer) if t.timer is Timer.RETRY_STORE][-1:]
    bench.now_s = retry.at_s
    bench.feed(TimerFired(retry.timer, retry.token)).settle()
    assert bench.waiting(Stopped) != []
    assert "a" not in bench.store.members


def test_a_node_whose_lease_ends_while_it_stops_has_nothing_left_to_say():
    bench = operating(lease_s=5.0)
    bench.feed(HeardOn(Subscribed()))
    call = bench.take(CallStore)
    bench.feed(Stop(leave=False))
    bench.now_s += 5.1
    bench.feed(StoreReplied(call.part, call.call, Failed("no answer"), bench.now_s)).settle()
    assert bench.waiting(Stopped) != []


def test_a_disk_that_was_mended_is_not_complained_of_any_more():
    bench = operating()
    bench.feed(HeardOn(commit(bench.store, "2.0")))
    bench.effects.clear()
    bench.feed(RememberFailed("no space left"))
    assert "no space left" in bench.membership.failure
    (retry,) = [t for t in bench.waiting(SetTimer) if t.timer is Timer.RETRY_SWITCH]
    bench.feed(TimerFired(retry.timer, retry.token)).settle()
    assert bench.membership.failure == ""
    assert bench.operated == ["1.0", "2.0"]


def test_an_exclusion_leaves_an_incarnation_alone_that_came_back_meanwhile():
    bench = operating()
    judged = bench.membership.incarnation - 1
    assert isinstance(bench.do(Exclude("a", "ann", "gone", True, judged)), Conflict)


def test_a_store_that_forgot_is_brought_forward():
    bench = operating()
    before = bench.store.copy()
    bench.feed(HeardOn(commit(bench.store, "2.0"))).settle()
    bench.store = before
    bench.identity = "another server"
    bench.feed(HeardOn(Subscribed()))
    bench.feed(bench.ask())
    assert isinstance(bench.waiting(CallStore)[0].request, Attach)
    bench.feed(bench.ask())
    assert bench.store.record.acting == V("2.0")
    assert bench.store.record.identity == ""
    assert bench.operated == ["1.0", "2.0"]


def test_nobody_joins_a_store_that_is_not_verified():
    bench = operating()
    bench.identity = "another server"
    bench.feed(HeardOn(Subscribed())).feed(bench.ask()).feed(bench.ask())
    old = Bench(bench.store, name="old").start()
    old.identity = bench.identity
    old.feed(old.ask()).feed(old.ask())
    assert old.store.members["old"].standing is Standing.STANDBY
    assert old.operated == []


def test_a_node_that_remembers_nothing_stands_by_so_that_there_is_a_master():
    store = formed()
    bench = Bench(store)
    bench.identity = "another server"
    bench.start()
    bench.feed(bench.ask())
    reply = bench.ask()
    assert isinstance(reply.reply, Attached)
    bench.feed(reply)
    assert bench.membership.registered
    assert store.record.identity == ""


def test_who_slept_through_a_wipe_is_told_that_it_is_no_member_any_more():
    bench = operating()
    bench.store.members.pop("a")
    bench.store.record = replace(bench.store.record, doubt=7, revision=20)
    bench.feed(HeardOn(Subscribed()))
    bench.feed(bench.ask())
    bench.feed(bench.ask())
    assert bench.operated == ["1.0", None]
    bench.settle()
    assert bench.operated == ["1.0", None, "1.0"]


def test_epochs_are_never_given_twice_although_two_doubts_were_lost():
    bench = operating()
    given = set()
    untouched = bench.store.copy()
    for process in ("second", "third"):
        bench.now_s += 1.0
        bench.store, bench.identity = untouched.copy(), process
        bench.feed(HeardOn(Subscribed())).feed(bench.ask()).feed(bench.ask())
        given.add(bench.store.record.epoch)
    assert len(given) == 2


def test_a_lease_that_was_not_confirmed_in_time_suspends_the_node():
    bench = operating(lease_s=5.0)
    bench.now_s += 5.1
    bench.feed(HeardOn(Subscribed()))
    assert bench.operated == ["1.0", None]
    was = bench.membership.incarnation
    bench.settle()
    assert bench.operated == ["1.0", None, "1.0"]
    assert bench.membership.incarnation > was


def full(bench, seconds):
    """The disk refuses everything for so long; gives what the node asks of the store meanwhile."""
    asked, until_s, tries = [], bench.now_s + seconds, 0
    while bench.now_s < until_s:
        if bench.waiting(CallStore):
            asked.append(bench.waiting(CallStore)[0].request)
            bench.feed(bench.ask())
        elif bench.waiting(Remember):
            bench.take(Remember)
            tries += 1
            bench.feed(RememberFailed("no space left"))
        else:
            retry = next(one for one in reversed(bench.effects) if is_retry(one))
            assert bench.now_s < retry.at_s  # what fails is tried again only after a pause
            bench.now_s = retry.at_s
            bench.feed(TimerFired(retry.timer, retry.token))
        assert len(asked) + tries < 10 * seconds
    return asked


def is_retry(effect):
    return isinstance(effect, SetTimer) and effect.timer is Timer.RETRY_SWITCH


def test_with_a_full_disk_nobody_asks_for_admission_and_the_disk_is_tried_with_pauses():
    bench = operating(lease_s=5.0)
    bench.now_s += 5.1
    bench.feed(HeardOn(Subscribed()))
    assert [one for one in full(bench, 60.0) if isinstance(one, Admit)] == []
    assert bench.membership.failure == "cannot remember on disk: no space left"
    bench.settle()
    assert bench.operated == ["1.0", None, "1.0"]
    assert bench.membership.failure == ""


def test_a_start_on_a_full_disk_asks_for_no_admission():
    memory = operating().membership.memory
    again = Bench(formed(), installed="2.0", memory=memory)
    again.feed(Start()).feed(HeardOn(Subscribed()))
    assert [one for one in full(again, 60.0) if isinstance(one, Admit)] == []
    again.settle()
    assert again.operated == ["1.0"]


def test_a_lease_that_ends_while_the_admission_is_on_its_way_to_the_disk_costs_no_name():
    bench = Bench(formed(), installed="2.0", lease_s=5.0).start()
    bench.feed(bench.ask())  # read
    bench.feed(bench.ask())  # admitted; what that brings is not on the disk yet
    bench.now_s += 5.1
    bench.feed(HeardOn(Subscribed())).settle()
    assert bench.membership.refusal is None
    assert bench.operated == ["1.0"]


def test_an_admission_that_is_answered_after_its_start_was_given_up_costs_no_name():
    bench = Bench(formed(), installed="2.0", lease_s=5.0).start()
    bench.feed(bench.ask())  # read
    bench.feed(bench.ask()).settle()
    bench.feed(InstalledChanged(V("2.1"), V("0")))
    late = bench.ask()  # admitted again, as the same start
    bench.now_s += 5.1
    bench.feed(HeardOn(Subscribed())).save()  # the lease has ended, another start is on the disk
    bench.now_s += 5.1
    bench.feed(late).settle()
    assert bench.membership.refusal is None
    assert bench.operated[-1] == "1.0"


def test_a_failover_to_before_the_last_admissions_costs_no_name():
    """The store knows an older start of this node than the last one that it had accepted."""
    bench = operating()
    before = replace(bench.store.members["a"])
    memory = bench.membership.memory
    for _ in range(3):
        again = Bench(bench.store, installed="2.0", memory=memory).start().settle()
        memory = again.membership.memory
    bench.store.members["a"] = before
    last = Bench(bench.store, installed="2.0", memory=memory).start().settle()
    assert last.membership.refusal is None
    assert last.operated == ["1.0"]


def test_a_member_that_went_back_below_the_floor_stands_by_and_counts():
    bench = operating()
    bench.store.record = replace(bench.store.record, floor=V("2.0"), revision=11)
    bench.feed(InstalledChanged(V("1.0"), V("0"))).settle()
    known = bench.store.members["a"]
    assert (known.standing, known.installed) == (Standing.STANDBY, V("1.0"))


def test_a_stranger_below_the_floor_is_refused():
    store = formed()
    store.record = replace(store.record, floor=V("2.0"))
    bench = Bench(store).start().settle()
    assert bench.membership.refusal.rule == "installed_below_floor"
    assert "a" not in store.members


def test_a_stranger_that_cannot_read_the_oldest_data_is_refused():
    store = formed("2.0")
    store.record = replace(store.record, data=V("1.0"))
    admit = Admit("a", "t", (), 0, "", 1, V("3.0"), V("2.0"))
    reply = Bench(store).do(admit)
    assert isinstance(reply, Refused)
    assert reply.rule == "lowest_above_data"


# --- what the store refuses -----------------------------------------------------------------------


def mastered(**changes):
    """A store, and a commit of its master that raises to 2.0."""
    store = formed(**changes)
    store.lock = LockState(token="m1", until_ms=10**9)
    bench = Bench(store)
    claimed = bench.do(Claim("m", "m1", 0))
    raised = replace(store.record, acting=V("2.0"), floor=V("2.0"))
    return bench, Commit("m1", claimed.epoch, 10, 1, raised, "raised", "")


def test_an_older_mastership_writes_nothing():
    bench, commit_ = mastered()
    bench.store.lock = LockState(token="n1", until_ms=10**9)
    bench.do(Claim("n", "n1", 0))
    assert isinstance(bench.do(commit_), Fenced)
    assert bench.store.record.acting == V("1.0")


def test_another_token_of_the_same_epoch_writes_nothing():
    bench, commit_ = mastered()
    assert isinstance(bench.do(replace(commit_, token="n1")), Fenced)


def test_a_commit_is_refused_when_a_member_has_joined_since_it_was_decided():
    bench, commit_ = mastered()
    bench.do(Admit("b", "t", (), 0, "", 1, V("1.0"), V("0")))
    assert isinstance(bench.do(commit_), Conflict)
    assert bench.store.record.acting == V("1.0")


def test_the_acting_version_never_goes_back():
    bench, commit_ = mastered()
    lower = replace(commit_.record, acting=V("0.9"))
    reply = bench.do(replace(commit_, record=lower))
    assert isinstance(reply, Refused)
    assert reply.rule == "acting_lower"


def test_a_hold_that_came_between_keeps_the_version_from_rising():
    bench, commit_ = mastered()
    bench.do(SetHold("ann", "friday"))
    assert isinstance(bench.do(commit_), Conflict)
    reply = bench.do(replace(commit_, revision=11))
    assert isinstance(reply, Refused)
    assert reply.rule == "held"


def test_an_old_node_is_not_admitted():
    bench = Bench(formed("2.0"), installed="1.4").start().settle()
    assert bench.membership.refusal.rule == "installed_below_acting"
    assert bench.operated == []
    assert "a" not in bench.store.members


def test_who_stood_by_on_a_wiped_store_is_refused_once_the_store_was_brought_back():
    bench = Bench(StoreState(), quarantine_s=60.0).start().settle()
    assert bench.membership.state is NodeState.STANDBY
    bench.store.record = record("2.0", revision=20, doubt=7)
    bench.store.members.clear()
    bench.feed(HeardOn(DoubtHeard())).settle()
    assert bench.membership.state is NodeState.REFUSED
    assert bench.membership.refusal.rule == "installed_below_acting"


def test_a_node_may_be_excluded_only_after_the_end_of_its_lease():
    bench = operating(lease_s=5.0)
    exclude = Exclude("a", "master", "silent", False, bench.membership.incarnation)
    assert bench.do(exclude).rule == "lease_runs"
    bench.now_s += 5.1  # the node's side has ended, the store's has not
    assert bench.do(exclude).rule == "lease_runs"
    bench.now_s += 2.0
    bench.do(exclude)
    assert "a" not in bench.store.members


def test_a_report_of_another_incarnation_is_refused():
    bench = operating()
    other = Report("a", 99, "g", 1000, Standing.SERVING, 0, None, 0, "")
    assert isinstance(bench.do(other), NotMember)


def test_a_node_that_comes_back_from_its_disk_does_not_operate_before_admission():
    first = operating()
    again = Bench(first.store, installed="2.0", memory=first.membership.memory).start()
    again.feed(again.ask())
    assert again.waiting(Switch) == []
    again.settle()
    assert again.operated == ["1.0"]


def test_a_record_beyond_the_installed_version_suspends_the_node():
    bench = operating(installed="1.5")
    bench.feed(HeardOn(commit(bench.store, "2.0"))).save()
    assert bench.operated == ["1.0", None]
    assert bench.waiting(Switch) == []


def test_a_store_in_doubt_admits_nobody_and_excludes_nobody():
    bench = operating()
    bench.identity = "another server"
    admit = Admit("old", "t", (), 0, "", 1, V("1.0"), V("0"))
    assert isinstance(bench.do(admit), Unverified)
    exclude = Exclude("a", "ann", "gone", True, bench.membership.incarnation)
    assert isinstance(bench.do(exclude), Unverified)


def test_a_store_in_doubt_is_not_verified_before_its_quarantine_has_ended():
    bench = operating(quarantine_s=60.0)
    bench.identity = "another server"
    bench.feed(HeardOn(Subscribed())).feed(bench.ask()).feed(bench.ask())
    store = bench.store
    store.lock = LockState(token="m1", until_ms=10**9)
    claimed = bench.do(Claim("m", "m1", 0))
    repair = Commit(
        *("m1", claimed.epoch, store.record.revision, store.members_revision),
        *(store.record, "verified", "", True),
    )
    assert isinstance(bench.do(repair), Unverified)
    bench.now_s += 61.0
    bench.do(repair)
    assert store.record.identity == "another server"
