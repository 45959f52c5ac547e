"""The simulator's own checker: what it must not hold against a store that was told to forget."""

from dataclasses import replace
from random import Random

import pytest

from peerupgrade.core.acting import StepName
from peerupgrade.core.record import Hold, Standing
from peerupgrade.core.requests import Admit, Attach, Attached, Claim, Claimed, Init, Refused, View
from peerupgrade.sim.checker import Checker
from peerupgrade.sim.observed import Stored
from peerupgrade.sim.world import World, WorldConfig
from tests.core.builders import V, member, record


@pytest.fixture
def checker():
    checker = Checker()
    checker.members = {"a": 1, "b": 2}
    return checker


@pytest.fixture
def world(checker):
    made = World(WorldConfig(), Random(1), checker.observe)
    made.store.state.record = record()
    for name in "ab":
        made.start(made.add(name, 0))
    return made


def told(checker, world, request, reply):
    checker._stored(world, Stored(world.store, request, reply, world.store.state.record))


def view(world):
    return View(world.store.state.record, world.store.identity)


def test_a_cluster_that_begins_anew_has_forgotten_its_members(checker, world):
    told(checker, world, Init("g", 1, 0), view(world))
    assert set(checker.forgotten) == {("a", 1), ("b", 2)}


def test_a_memory_that_takes_the_place_of_all_that_was_there_makes_others_forgotten(checker, world):
    node = member("a", standing=Standing.SERVING)
    world.store.state.members = {"a": node}
    told(checker, world, Attach(node, record(), 0), Attached(1, view(world)))
    assert set(checker.forgotten) == {("b", 2)}


def test_a_node_that_attached_and_is_no_member_stays_forgotten(checker, world):
    checker.forgotten = {("a", 1): 0}
    told(checker, world, Attach(member("a"), record(), 0), Attached(1, view(world)))
    assert ("a", 1) in checker.forgotten


@pytest.mark.parametrize(("operating", "stays"), [("1.0", True), ("1.1", False)])
def test_a_node_that_the_cluster_settled_without_is_forgotten_until_it_is_told(
    checker, world, operating, stays
):
    checker.forgotten = {("a", 1): 0}
    node = member("a", standing=Standing.SERVING, operating=operating)
    world.store.state.members = {"a": node}
    world.store.state.record = record(acting="1.1", data="1.1")
    told(checker, world, Attach(node, record(), 0), Attached(1, view(world)))
    assert (("a", 1) in checker.forgotten) is stays


@pytest.mark.parametrize(("losses", "is_late"), [(1, False), (2, True)])
def test_who_comes_back_after_a_later_loss_is_told_only_by_a_verified_store(
    checker, world, losses, is_late
):
    checker.forgotten, checker.losses = {("a", 1): 1}, losses
    node = member("a", standing=Standing.SERVING, operating=V("1.0"))
    world.store.state.members = {"a": node}
    told(checker, world, Attach(node, record(), 0), Attached(1, view(world)))
    assert checker.forgotten == {("b", 2): losses}
    assert (("a", 1) in checker.late) is is_late
    stored = Stored(world.store, Init("g", 1, 0), view(world), record())
    checker._stepped(world, stored, record(), StepName.VERIFIED)
    assert all(until_s < 10 for until_s in checker.late.values())


def test_an_epoch_of_an_old_primary_that_was_given_up_is_not_the_newest(checker, world):
    claim = Claim("a", "token", 0)
    told(checker, world, claim, Claimed(9, view(world)))
    old = world.store.clone()
    checker._stored(world, Stored(old, claim, Claimed(7, view(world)), old.state.record))
    assert checker.newest_epoch == 9


def test_whom_an_admission_removed_is_no_member(checker, world):
    request = Admit("a", "a1", (), 1, "g", 1, V("1.0"), V("1.0"))
    told(checker, world, request, Refused("installed_below_acting", view(world)))
    assert checker.members == {"b": 2}


@pytest.mark.parametrize(("paused", "kept"), [(False, True), (True, False)])
def test_a_hold_counts_while_somebody_remembers_it_who_can_say_so(checker, world, paused, kept):
    hold = checker.held = Hold("ann", "look", 1)
    world.machines["a"].disk = replace(world.machines["a"].disk, record=record(hold=hold))
    if paused:
        world.pause(world.machines["a"], 10.0)
    stored = Stored(world.store, Init("g", 1, 0), view(world), record())
    checker._stepped(world, stored, record(), StepName.VERIFIED)
    assert (checker.held == hold) is kept
