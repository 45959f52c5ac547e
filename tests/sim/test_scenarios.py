"""The orders of events that break a protocol with one rule less, each told on the real core.

Every event is judged by the invariants, so a scenario also fails where it asserts nothing.
"""

from dataclasses import replace

from peerupgrade.core.effects import HeardOn, Resign, Stop, StoreReplied, Timer, TimerFired
from peerupgrade.core.record import Standing
from peerupgrade.core.requests import (
    Admit,
    Attach,
    Commit,
    Conflict,
    Done,
    Exclude,
    Failed,
    Fenced,
    NotMember,
    RecordHeard,
    Refused,
    ReleaseHold,
    Report,
    SetHold,
    Subscribed,
    Unverified,
)
from peerupgrade.sim.ghost import forgot
from peerupgrade.sim.stage import Event
from tests.sim.scene import Scene, V, asks, commits

RAISED = commits("raised")


NOTHING = commits("nothing")


def upgraded(names="abc", last=NOTHING, **config):
    """Every node has 2.0 installed, and the cluster goes on until a request is held back."""
    scene = Scene(names, **config)
    for name in names[1:] + names[0]:
        scene.in_place(name, "2.0")
        scene.run(without=last)
    return scene


# --- deciding and committing ----------------------------------------------------------------------


def test_every_node_switches_and_the_upgrade_ends_by_itself():
    scene = upgraded()
    assert [scene.operates(name) for name in "abc"] == ["2.0"] * 3
    assert (scene.acting, str(scene.record.data), scene.record.upgrade) == ("2.0", "2.0", None)


def test_a_node_put_back_to_1_0_between_the_masters_reading_and_its_commit_stops_the_raise():
    scene = upgraded(last=RAISED)
    scene.feed("c", Stop(leave=False))
    scene.run(without=RAISED)
    scene.start("c", "1.0")
    scene.run(without=RAISED)
    assert isinstance(scene.let(RAISED), Conflict)
    scene.run()
    assert scene.acting == "1.0"
    assert scene.operates("c") == "1.0"


def test_a_floor_that_is_pending_is_taken_back_when_a_member_goes_back():
    scene = upgraded(last=RAISED)
    assert str(scene.record.floor) == "2.0"
    scene.in_place("c", "1.0")
    scene.run(without=RAISED)
    assert scene.members["c"].standing is Standing.STANDBY
    scene.run()
    assert str(scene.record.floor) == "1.0"
    assert scene.operates("c") == "1.0"


def test_a_zombie_masters_commit_is_refused_because_another_mastership_has_begun():
    scene = upgraded(last=RAISED)
    scene.stage.pause("a")
    scene.run(5.0, without=RAISED)
    masters = [name for name in "bc" if scene.node(name).mastership.holding]
    assert len(masters) == 1
    assert isinstance(
        scene.let(lambda host, asked: host.name == "a" and RAISED(host, asked)), Fenced
    )


def test_a_master_that_slept_beyond_its_validity_steps_down_before_it_does_anything():
    scene = Scene()
    scene.stage.pause("a")
    scene.stage.pass_time(10.0)
    scene.slow("heard")
    scene.stage.resume("a")
    scene.feed("a", HeardOn(Subscribed()))
    assert not scene.node("a").mastership.holding


def test_a_node_that_read_1_0_and_registers_after_the_raise_is_refused():
    """Joining is one step in the store; what was read before does not count."""
    scene = upgraded(last=RAISED)
    scene.stage.kill("c")
    scene.start("c", "1.0")
    late = asks("c", Admit)
    assert isinstance(scene.let(RAISED), Done)
    scene.run(without=late)
    assert scene.let(late).rule == "installed_below_acting"
    scene.run()
    assert scene.operates("c") is None
    assert ("not_confirmed", "c") in scene.awaited()


def test_a_node_below_the_floor_does_not_join_between_the_floor_and_the_raise():
    scene = upgraded(last=RAISED)
    scene.start("d", "1.0")
    scene.run(without=RAISED)
    assert scene.node("d").membership.refusal.rule == "installed_below_floor"
    scene.run()
    assert scene.acting == "2.0"


def test_two_raises_in_a_row_wait_for_the_slow_node():
    scene = upgraded(last=RAISED)
    scene.stage.pause("c")
    scene.run()
    assert scene.acting == "2.0"
    assert scene.operates("c") == "1.0"
    scene.start("d", "3.0")  # supports 2.0 and newer: it would not understand c
    scene.run(30.0)
    assert scene.operates("d") is None
    assert not scene.record.settled
    assert ("not_confirmed", "c") in scene.awaited()
    scene.stage.resume("c")
    scene.run(2.0)
    scene.upgrade("d", "3.0")
    scene.run(2.0)
    assert [scene.operates(name) for name in "abcd"] == ["2.0"] * 4


def test_a_node_joins_only_if_it_can_read_the_oldest_data():
    scene = upgraded(last=commits("converted"))
    scene.start("d", "3.0")
    scene.run(without=commits("converted"))
    assert scene.node("d").membership.refusal.rule == "lowest_above_data"
    assert scene.operates("d") is None


def test_a_raise_is_confirmed_only_when_older_operations_have_ended():
    scene = upgraded(last=RAISED)
    scene.slow("drained")
    scene.run(but=[("drained", "c")])
    assert scene.operates("c") == "2.0"
    assert not scene.record.settled
    scene.run()
    assert scene.record.settled


def test_a_node_that_is_silent_and_registered_stops_the_raise():
    scene = upgraded(last=commits("floor"))
    scene.stage.pause("c")
    scene.run(30.0)
    assert scene.acting == "1.0"
    assert ("unresponsive", "c") in scene.awaited()


def test_a_registration_does_not_end_by_silence():
    scene = Scene()
    scene.stage.kill("c")
    for name in "ba":
        scene.in_place(name, "2.0")
    scene.run(60.0)
    scene.stage.pass_time(30 * 24 * 3600.0)
    scene.run(5.0)
    assert scene.acting == "1.0"
    assert ("older_version", "c") in scene.awaited()


def test_a_node_that_is_away_for_other_software_stops_the_raise_although_it_knew_of_the_floor():
    scene = upgraded(last=RAISED)
    scene.feed("c", Stop(leave=False))
    scene.run(without=RAISED)
    scene.run(5.0)
    assert scene.acting == "1.0"
    assert ("away", "c") in scene.awaited()
    scene.start("c", "1.0")
    scene.run()
    assert scene.operates("c") == "1.0"


def test_an_upgrade_is_complete_only_when_a_member_that_came_back_has_confirmed():
    scene = upgraded(last=commits("completed"))
    scene.upgrade("c", "2.0")
    scene.run(but=[("switched", "c")], without=commits("completed"))
    scene.run(but=[("switched", "c")])
    assert scene.record.upgrade is not None
    scene.run()
    assert scene.record.upgrade is None


# --- one node -------------------------------------------------------------------------------------


def test_a_node_that_boots_offline_does_not_operate():
    scene = Scene()
    scene.stage.kill("c")
    scene.slow("read")
    scene.start("c")
    scene.run(without=lambda host, asked: host.name == "c", but=["switched"])
    assert scene.stage.hosts["c"].switching is None
    assert scene.operates("c") is None


def test_a_restart_does_not_take_a_node_back():
    scene = upgraded(last=RAISED)
    scene.run(but=[("saved", "c")])
    assert scene.operates("c") == "1.0"  # it is not on its disk yet
    scene.run()
    scene.upgrade("c", "2.0")
    scene.run()
    assert scene.operates("c") == "2.0"


def test_a_broadcast_that_comes_late_is_not_remembered_again():
    scene = upgraded(last=commits("settled"))
    old = scene.record
    scene.run()
    newest = scene.stage.hosts["c"].disk.record
    assert newest == scene.record != old
    scene.feed("c", HeardOn(RecordHeard(old)))
    assert scene.node("c").membership.memory.record == newest


def test_other_software_below_the_acting_version_suspends_the_node_at_once():
    scene = upgraded()
    scene.in_place("c", "1.0")
    assert scene.operates("c") is None
    scene.run()
    assert scene.node("c").membership.refusal.rule == "installed_below_acting"


def test_a_report_of_an_earlier_start_says_nothing_of_the_one_that_runs():
    scene = upgraded(last=RAISED)
    late = asks("c", Report)
    scene.run(without=late)
    scene.stage.kill("c")
    scene.start("c")
    scene.run(but=[("switched", "c")], without=late)
    assert isinstance(scene.let(late), NotMember)
    assert scene.members["c"].operating is None


def test_a_request_that_arrives_late_does_not_undo_what_was_said_since():
    scene = upgraded(last=commits("floor"))
    late = asks("c", Report)
    scene.run(without=lambda host, asked: late(host, asked) or RAISED(host, asked))
    call = scene.stage.hosts["c"].asked[0].call
    scene.feed("c", StoreReplied(call.part, call.call, Failed("no answer"), scene.stage.clock_s))
    old = scene.stage.hosts["c"].asked
    scene.stage.hosts["c"].asked = ()
    scene.run(1.0)
    confirmed = scene.members["c"]
    assert confirmed.operating == V("2.0")
    scene.stage.hosts["c"].asked = old
    assert isinstance(scene.let(late), Conflict)
    assert scene.members["c"] == confirmed


# --- leases and exclusion -------------------------------------------------------------------------

LEASE_S = 4.0


def exclude(scene, name, *, confirm_stopped=False):
    incarnation = scene.members[name].incarnation
    return scene.operate(Exclude(name, "ann", "gone", confirm_stopped, incarnation))


def test_exclusion_waits_for_the_stores_side_of_the_lease():
    scene = Scene(lease_s=LEASE_S)
    scene.stage.pause("c")
    scene.run(scene.node("c").membership.lease_deadline_s - scene.stage.clock_s + 0.1)
    assert scene.operates("c") == "1.0"  # it sleeps; no guarded operation would begin
    assert exclude(scene, "c").rule == "lease_runs"
    scene.run(2.0)
    assert "c" not in scene.members


def test_a_node_whose_lease_has_ended_suspends_itself_before_it_does_anything():
    scene = Scene(lease_s=LEASE_S)
    scene.stage.pause("c")
    scene.run(LEASE_S + 2.0)
    for name in "ba":
        scene.in_place(name, "2.0")
    scene.run(2.0)
    assert scene.acting == "2.0"
    assert scene.operates("c") == "1.0"
    scene.slow("heard", "read", "reply")
    scene.stage.resume("c")
    scene.feed("c", HeardOn(Subscribed()))
    assert scene.operates("c") is None


def test_a_member_that_is_dead_and_had_a_lease_is_removed_by_the_master_and_the_upgrade_ends():
    scene = Scene(lease_s=LEASE_S)
    excluded = scene.members["c"].incarnation
    scene.stage.kill("c")
    for name in "ba":
        scene.in_place(name, "2.0")
    scene.run(LEASE_S)
    assert scene.acting == "1.0"
    scene.run(LEASE_S)
    assert scene.acting == "2.0"
    (entry,) = [one for one in scene.stage.store.state.history if one["kind"] == "excluded"]
    assert (entry["by"], entry["inputs"].partition(":")[0]) == ("a", "c")
    scene.start("c", "2.0")
    scene.run()
    assert scene.operates("c") == "2.0"
    assert scene.members["c"].incarnation > excluded


def test_after_a_long_outage_of_the_store_nobody_is_removed_who_comes_back():
    scene = Scene(lease_s=LEASE_S, lock_servers=3)
    scene.slow("read")
    scene.run(2 * LEASE_S, but=["store", "lock"])
    assert [scene.operates(name) for name in "abc"] == [None] * 3
    scene.run(4 * LEASE_S)
    assert [scene.operates(name) for name in "abc"] == ["1.0"] * 3
    assert [one for one in scene.stage.store.state.history if one["kind"] == "excluded"] == []


def test_a_node_that_stands_by_renews_its_lease_and_stays_the_same():
    scene = Scene(lease_s=LEASE_S)
    scene.stage.kill("c")
    scene.stage.install("c", V("3.0"), V("2.0"))
    scene.start("c")
    scene.run()
    assert scene.members["c"].standing is Standing.STANDBY
    incarnation = scene.members["c"].incarnation
    scene.run(4 * LEASE_S)
    assert scene.members["c"].incarnation == incarnation


def test_a_node_that_was_removed_after_its_lease_had_ended_comes_back_without_a_restart():
    scene = Scene(lease_s=LEASE_S)
    scene.slow("read")
    scene.run(2 * LEASE_S, but=[("store", "c"), ("reply", "c")])
    assert "c" not in scene.members
    scene.run(2 * LEASE_S)
    assert scene.operates("c") == "1.0"


def test_a_node_that_may_be_alive_is_excluded_only_by_the_word_that_it_is_stopped():
    scene = Scene()
    scene.stage.kill("c")
    assert exclude(scene, "c").rule == "may_be_alive"
    assert isinstance(exclude(scene, "c", confirm_stopped=True), Done)


def test_an_exclusion_leaves_the_node_alone_that_came_back_since_it_was_judged():
    scene = Scene()
    judged = scene.members["c"].incarnation
    scene.stage.kill("c")
    scene.start("c")
    scene.run()
    assert isinstance(scene.operate(Exclude("c", "ann", "gone", True, judged)), Conflict)
    assert scene.operates("c") == "1.0"


def test_a_start_that_is_excluded_before_its_admission_is_on_its_disk_does_not_operate():
    scene = Scene()
    scene.stage.kill("c")
    scene.slow("saved", "read")
    scene.start("c")
    scene.run(but=[("saved", "c")], without=asks("c", Admit))
    scene.happen(Event("saved", "c"))
    scene.run(but=[("saved", "c")])
    exclude(scene, "c", confirm_stopped=True)
    scene.run(1.0, but=[("saved", "c")])
    scene.run(without=lambda host, asked: host.name == "c")
    assert scene.operates("c") is None


def test_what_an_excluded_node_said_before_it_ended_does_not_bring_it_back():
    scene = Scene()
    late = asks("c", Attach)
    scene.forget()
    scene.run(without=late)
    scene.stage.kill("c")
    scene.run(6.0, without=late)
    exclude(scene, "c", confirm_stopped=True)
    scene.stage.replicate()
    scene.run(1.0, without=late)
    scene.forget()
    scene.run(without=late)
    assert isinstance(scene.let(late), Refused)
    assert "c" not in scene.members


# --- holds ----------------------------------------------------------------------------------------


def test_a_hold_that_comes_between_deciding_and_committing_stops_the_raise():
    scene = upgraded(last=RAISED)
    scene.operate(SetHold("ann", "friday"))
    assert isinstance(scene.let(RAISED), Conflict)
    scene.run(5.0)
    assert scene.acting == "1.0"
    assert ("hold", "") in scene.awaited()
    scene.operate(ReleaseHold("ann"))
    scene.run(1.0)
    assert scene.acting == "2.0"


def test_the_store_itself_refuses_a_raise_while_a_hold_stands():
    """Even to a master that read the hold and does not care."""
    scene = upgraded(last=RAISED)
    scene.operate(SetHold("ann", "friday"))
    (asked,) = [one for one in scene.stage.hosts["a"].asked if isinstance(one.call.request, Commit)]
    careless = replace(asked.call.request, revision=scene.record.revision)
    assert scene.operate(careless).rule == "held"


def test_the_store_itself_refuses_to_go_back():
    """Even a master of today that has read everything."""
    scene = upgraded(last=commits("settled"))
    (asked,) = [one for one in scene.stage.hosts["a"].asked if isinstance(one.call.request, Commit)]
    confused = replace(asked.call.request, record=replace(scene.record, acting=V("1.0")))
    assert scene.operate(confused).rule == "acting_lower"


def test_a_hold_is_acknowledged_only_when_a_failover_cannot_lose_it():
    scene = Scene(with_replica=True)
    scene.stage.cut_replica()
    assert isinstance(scene.operate(SetHold("ann", "friday")), Failed)
    scene.stage.mend_replica()
    assert isinstance(scene.operate(SetHold("ann", "friday")), Done)
    scene.forget()
    for name in "bca":
        scene.in_place(name, "2.0")
    scene.run(30.0)
    assert scene.acting == "1.0"


# --- a store that forgets -------------------------------------------------------------------------


def lost_raise():
    """2.0 was committed, only b has heard of it, the store has forgotten it, and a is gone."""
    scene = upgraded(last=RAISED)
    scene.stage.replicate()
    scene.stage.pause("a")
    scene.stage.pause("c")
    scene.let(RAISED)
    scene.run()
    scene.stage.kill("a")
    assert scene.operates("b") == "2.0"
    return scene


def test_a_failover_that_loses_a_raise_is_brought_forward_by_who_operates_at_it():
    scene = lost_raise()
    scene.stage.resume("c")
    scene.forget()
    assert scene.acting == "1.0"
    scene.start("a")
    scene.run(8.0)
    assert scene.acting == "2.0"
    assert [scene.operates(name) for name in "abc"] == ["2.0"] * 3


def test_the_master_waits_for_what_a_silent_member_remembers():
    scene = lost_raise()
    scene.stage.pause("b")
    scene.stage.resume("c")
    scene.forget()
    scene.start("a")
    scene.start("d", "1.0")
    scene.run(30.0)
    assert ("not_attached", "b") in scene.awaited()
    assert scene.operates("d") is None
    scene.stage.resume("b")
    scene.run(8.0)
    assert scene.acting == "2.0"
    assert scene.node("d").membership.refusal.rule == "installed_below_acting"


def test_a_node_that_asked_to_join_before_the_failover_does_not_join_a_store_in_doubt():
    scene = Scene()
    scene.start("d", "1.0")
    late = asks("d", Admit)
    scene.run(without=late)
    scene.forget()
    scene.run(without=late)
    assert isinstance(scene.let(late), Unverified)
    scene.run(without=lambda host, asked: host.name == "d")
    assert scene.operates("d") is None
    scene.run(8.0)
    assert scene.operates("d") == "1.0"


def test_a_registration_that_a_failover_lost_is_renewed_before_anything_rises():
    scene = Scene("ab")
    scene.start("d", "1.0")
    scene.run()
    assert scene.operates("d") == "1.0"
    for name in "ba":
        scene.in_place(name, "2.0")
    scene.forget()
    assert "d" not in scene.members
    slow = asks("d", Attach)
    scene.run(4.0, without=slow)
    assert scene.acting == "1.0"
    scene.run(8.0)
    assert scene.acting == "1.0"
    assert ("older_version", "d") in scene.awaited()


def test_a_node_that_the_store_forgot_obeys_nothing_before_it_is_a_member_again():
    scene = Scene("ab")
    scene.start("d", "1.0")
    scene.run()
    scene.in_place("d", "2.0")
    scene.run()
    scene.stage.pause("d")
    scene.forget()
    for name in "ba":
        scene.in_place(name, "2.0")
    scene.run(10.0, without=commits("settled"))
    assert scene.acting == "2.0"  # nothing can know of d
    scene.stage.resume("d")
    scene.run(without=lambda host, asked: host.name == "d" or commits("settled")(host, asked))
    assert scene.stage.hosts["d"].disk.record.acting == V("1.0")
    assert scene.operates("d") != "2.0"
    scene.run(1.0)
    assert scene.operates("d") == "2.0"


def test_nobody_is_excluded_by_a_store_that_may_have_lost_his_word():
    scene = Scene()
    scene.stage.kill("c")
    scene.forget()
    scene.run()
    assert isinstance(exclude(scene, "c", confirm_stopped=True), Unverified)


def test_the_ghost_of_a_lost_raise_is_not_obeyed():
    scene = upgraded(last=RAISED)
    scene.stage.replicate()
    scene.stage.pause("a")
    scene.stage.stall("b")
    scene.stage.stall("c")
    scene.let(RAISED)
    ghost = scene.stage.hosts["b"].news[-1]
    assert ghost.record.acting == V("2.0")
    scene.stage.kill("a")
    scene.forget()
    for name in "bc":
        scene.stage.reconnect(name)
        scene.stage.unstall(name)
    scene.start("a")
    scene.in_place("c", "1.0")
    scene.run(8.0)
    assert (scene.acting, scene.operates("c")) == ("1.0", "1.0")
    scene.feed("b", HeardOn(ghost))
    scene.run(2.0)
    assert scene.operates("b") == "1.0"


def test_the_floor_is_safe_from_a_failover_before_the_version_rises():
    scene = upgraded(last=commits("floor"), with_replica=True)
    scene.stage.cut_replica()
    scene.run(10.0)
    assert scene.acting == "1.0"
    scene.forget()
    scene.start("d", "1.0")
    scene.run(10.0)
    assert scene.operates("d") in (None, "1.0")
    assert scene.acting == ("2.0" if scene.operates("d") is None else "1.0")


def test_a_data_version_counts_only_when_the_replica_has_what_it_stands_for():
    scene = upgraded(last=commits("settled"), with_replica=True)
    scene.stage.cut_replica()
    scene.run(10.0)
    assert str(scene.record.data) == "1.0"
    scene.stage.mend_replica()
    scene.run(10.0)
    assert str(scene.record.data) == "2.0"


# --- epochs and locks -----------------------------------------------------------------------------


def test_an_epoch_that_the_store_and_its_lock_forgot_is_not_given_again():
    scene = Scene()
    scene.stage.pause("c")
    scene.feed("a", Resign())
    scene.run(1.0)
    assert scene.node("b").mastership.holding
    for name in "ab":
        scene.stage.kill(name)
    scene.stage.reconnect("c")  # it has heard of nothing
    scene.forget()
    scene.stage.resume("c")
    scene.run(10.0)
    assert scene.node("c").mastership.holding


def test_one_that_stands_by_tells_a_store_in_doubt_so_also_when_nothing_else_has_changed():
    scene = Scene("a")
    scene.upgrade("a", "3.0")
    scene.run(5.0)
    assert scene.operates("a") is None
    scene.stage.restart_store()
    scene.run(15.0)
    assert scene.record.identity == scene.stage.store.identity


def test_an_incarnation_that_the_store_forgot_is_not_given_again():
    scene = Scene("ab")
    scene.start("d", "1.0")
    scene.run(1.0)
    before = scene.members["d"].incarnation
    scene.stage.kill("d", lose_disk=True)
    scene.stage.flush()
    scene.ghost = forgot(scene.stage, scene.ghost)
    scene.run(15.0)
    scene.start("d")
    scene.run(1.0)
    assert scene.members["d"].incarnation > before


def test_a_lock_that_ends_early_by_a_servers_clock_gives_two_holders_and_one_master():
    scene = upgraded(last=RAISED)
    scene.slow("heard")
    scene.stage.store.skew_ms += 5000
    scene.feed("b", fired(scene, "b", Timer.CONTEND))
    scene.run(without=RAISED, but=[("heard", "a")])
    assert scene.node("a").mastership.holding
    assert scene.node("b").mastership.holding
    assert isinstance(
        scene.let(lambda host, asked: host.name == "a" and RAISED(host, asked)), Fenced
    )


def test_a_master_that_missed_that_a_second_doubt_began_gives_way():
    scene = Scene()
    scene.forget()
    scene.run(2.0)
    assert scene.node("a").mastership.holding
    scene.slow("heard")
    scene.stage.rename_store()
    scene.feed("b", HeardOn(Subscribed()))
    scene.run(but=[("heard", "a")])
    scene.stage.hosts["a"].news = ()
    scene.feed("a", HeardOn(Subscribed()))  # the subscription to the members did not break
    scene.run(15.0)
    assert scene.record.identity == scene.stage.store.identity


def test_a_doubt_that_nobody_was_told_of_shows_in_the_beat():
    scene = Scene()
    scene.slow("heard")
    scene.stage.rename_store()
    scene.feed("b", HeardOn(Subscribed()))
    scene.run(but=[("heard", "a"), ("heard", "c")])
    for name in "ac":
        scene.stage.hosts[name].news = ()
    scene.run(15.0)
    assert scene.record.identity == scene.stage.store.identity


def fired(scene, name, timer):
    planned = scene.stage.hosts[name].timers[timer]
    return TimerFired(planned.timer, planned.token)
