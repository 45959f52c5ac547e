"""The orders of events that break a downgrade with one guard less, each told on the real core.

Every event is judged by the invariants, so a scenario also fails where it asserts nothing.
"""

from dataclasses import replace

import pytest

from peerupgrade.core.downgrade import GoBack, ask_downgrade, lowered
from peerupgrade.core.record import Downgrade
from peerupgrade.core.requests import (
    Commit,
    Delete,
    Done,
    Put,
    Refused,
    ReleaseHold,
    Stale,
    Write,
    Written,
)
from peerupgrade.core.store import snapshot
from peerupgrade.errors import RefusedError
from tests.sim.scene import Scene, V, commits


class Downgrades(Scene):
    """A cluster that has been brought to 2.0, and does not like it."""

    def __init__(self, names="abc", **config):
        super().__init__(names, installed="2.0", **config)
        self.run(20.0)
        assert (self.acting, str(self.record.data), self.record.upgrade) == ("2.0", "2.0", None)

    def ask(self, version="1.0"):
        store = self.stage.store
        seen = snapshot(store.state, self.stage.store_now_ms, store.identity)
        request = ask_downgrade(seen, GoBack(version, "ann", "slow"))
        assert isinstance(self.operate(request), Done)

    def put(self, name, format_, origin=None):
        origin = origin or self.node(name).membership.origin
        return self.operate(Write(origin, "notes", (Put("k", format_, b"x"),)))

    def remove(self, name):
        origin = self.node(name).membership.origin
        assert isinstance(self.operate(Write(origin, "notes", (Delete("k"),))), Written)

    def all_operate(self, version, names="abc"):
        assert {self.operates(name) for name in names} == {version}


def test_goes_back_is_held_and_rises_again_once_released():
    scene = Downgrades()
    scene.ask()
    scene.run(10.0)
    scene.all_operate("1.0")
    record = scene.record
    assert (record.settled, str(record.data), record.downgrades) == (True, "1.0", 1)
    assert scene.awaited() == [("hold", "")]
    assert isinstance(scene.operate(ReleaseHold("ann")), Done)
    scene.run(20.0)
    scene.all_operate("2.0")
    assert scene.record.completion.before == "1.0"


def test_then_the_older_software_may_be_installed():
    scene = Downgrades()
    scene.ask()
    scene.run(10.0)
    for name in "abc":
        scene.upgrade(name, "1.0")
        scene.run(5.0)
    scene.all_operate("1.0")
    assert scene.record.upgrade is None


def test_does_not_go_back_while_there_are_newer_records():
    scene = Downgrades()
    assert isinstance(scene.put("a", "2.0"), Written)
    with pytest.raises(RefusedError) as refused:
        scene.ask()
    assert refused.value.rule == "newer_records"
    scene.remove("a")
    scene.ask()
    assert isinstance(scene.put("a", "2.0"), Written)  # before the master has begun
    scene.run(10.0)
    assert (scene.acting, scene.record.downgrade) == ("2.0", None)


def test_a_newer_record_that_comes_just_before_the_commit_ends_it():
    scene = Downgrades()
    scene.ask()
    scene.run(without=commits("newer formats barred"))
    assert scene.waits(commits("newer formats barred"))
    assert isinstance(scene.put("b", "2.0"), Written)
    reply = scene.let(commits("newer formats barred"))
    assert isinstance(reply, Refused)
    assert reply.rule == "newer_records"
    scene.run(10.0)
    assert (scene.acting, scene.record.downgrade) == ("2.0", None)


def test_nothing_newer_is_written_between_the_two_commits():
    scene = Downgrades()
    scene.ask()
    scene.run(without=commits("downgraded"))
    assert scene.waits(commits("downgraded"))
    assert scene.put("b", "2.0") == Stale("acting")
    scene.run(10.0)
    scene.all_operate("1.0")


def test_a_newer_record_that_is_on_its_way_does_not_land_afterwards():
    scene = Downgrades()
    origin = scene.node("b").membership.origin
    scene.ask()
    scene.run(10.0)
    assert scene.put("b", "2.0", origin) == Stale("acting")
    scene.run(1.0)
    scene.all_operate("1.0")


def test_who_missed_it_does_not_settle_it_and_follows_later():
    scene = Downgrades()
    scene.ask()
    scene.slow("heard", "reply", "read")
    scene.run(10.0, but=[("heard", "c"), ("reply", "c"), ("read", "c")])
    assert (scene.operates("a"), scene.operates("c")) == ("1.0", "2.0")
    assert not scene.record.settled
    scene.run(10.0)
    scene.all_operate("1.0")
    assert scene.record.settled


UNHEARD = [("heard", "c"), ("reply", "c"), ("read", "c")]


def went_back_but_for_c():
    """c has not heard of it, and operates at 2.0."""
    scene = Downgrades()
    scene.ask()
    scene.slow("heard", "reply", "read")
    scene.run(10.0, but=UNHEARD)
    assert [scene.operates(name) for name in "abc"] == ["1.0", "1.0", "2.0"]
    return scene


def test_the_older_software_stands_by_until_all_have_confirmed():
    scene = went_back_but_for_c()
    scene.upgrade("b", "1.0")
    scene.start("d", "1.0")
    scene.run(5.0, but=UNHEARD)
    assert [scene.operates(name) for name in "abcd"] == ["1.0", None, "2.0", None]
    assert scene.node("d").membership.reason == "downgrade_unconfirmed"
    scene.run(10.0)
    assert scene.record.downgraded_from is None
    scene.all_operate("1.0", "abcd")


def test_the_older_software_in_place_stands_by_until_all_have_confirmed():
    scene = went_back_but_for_c()
    scene.in_place("b", "1.0")
    assert scene.operates("b") is None
    scene.run(5.0, but=UNHEARD)
    assert scene.operates("b") is None
    scene.run(10.0)
    scene.all_operate("1.0")


def test_the_older_software_everywhere_before_all_have_confirmed_ends_the_wait():
    scene = went_back_but_for_c()
    for name in "abc":
        scene.upgrade(name, "1.0")
    scene.run(30.0)
    scene.all_operate("1.0")
    assert scene.record.settled


def test_a_late_record_of_before_takes_nobody_back():
    scene = Downgrades()
    before = scene.record
    scene.ask()
    scene.run(10.0)
    node = scene.node("c")
    node.membership.heard_record(scene.stage.clock_s, before)
    scene.run(2.0)
    scene.all_operate("1.0")


def test_a_store_that_forgot_it_is_told_by_who_operates():
    scene = Downgrades()
    scene.stage.replicate()
    scene.ask()
    scene.run(10.0)
    scene.all_operate("1.0")
    scene.forget()
    assert scene.acting == "2.0"
    scene.run(30.0)
    scene.all_operate("1.0")
    assert scene.record.reached[0] == 1


def test_nobody_stops_because_the_store_forgot_it():
    scene = Downgrades()
    scene.stage.replicate()
    scene.ask()
    scene.run(10.0)
    scene.forget()
    for _ in range(100):
        scene.run(0.1)
        scene.all_operate("1.0")


def test_the_store_itself_refuses_one_that_nobody_asked_for():
    scene = Downgrades()
    state = scene.stage.store.state
    back = lowered(replace(scene.record, downgrade=Downgrade("1.0", "m", "", 1)), V("1.0"), 1)
    record, members = scene.record, state.members_revision
    request = Commit(state.master_token, record.epoch, record.revision, members, back, "", "")
    assert scene.operate(request).rule == "no_downgrade"


def test_software_that_supports_less_waits_for_the_store_as_the_cluster_may_have_gone_back():
    scene = Downgrades()
    scene.slow("heard", "reply", "read")
    scene.ask()
    unheard = [("heard", "c"), ("reply", "c"), ("read", "c")]
    scene.run(5.0, but=unheard)
    assert (scene.operates("a"), scene.operates("c")) == ("1.0", "2.0")
    scene.in_place("c", "3.0")  # which supports 2.0 and newer
    assert scene.operates("c") is None
