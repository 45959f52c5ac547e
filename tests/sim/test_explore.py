"""Small worlds, gone through to their end."""

import pytest

from peerupgrade.sim.explore import Result, explore, story
from peerupgrade.sim.small import Config, Faults, formed
from peerupgrade.sim.stage import Event
from tests.sim.mutants import explored

WORLDS = {
    "no fault": Config(),
    "a crash": Config(faults=Faults(crashes=1)),
    "a pause": Config(faults=Faults(pauses=1), swift=True),
    "a failover": Config(faults=Faults(losses=1), swift=True, lost_writes=1),
    "a restart that lost writes": Config(
        nodes=2, faults=Faults(losses=1), with_replica=False, swift=True
    ),
    "hanging subscriptions": Config(nodes=2, faults=Faults(stalls=1)),
    "a node put back": Config(nodes=2, faults=Faults(put_backs=1)),
    "in place": Config(faults=Faults(crashes=1), in_place=True),
}


@pytest.mark.parametrize("config", WORLDS.values(), ids=WORLDS)
def test_no_order_of_events_breaks_an_invariant_or_ends_nowhere(config):
    result = explore(config, sample=50)
    assert (result.problem, result.missing, dict(result.named)) == ("", [], {})
    assert result.recovered > 0


def moved(world, *moves):
    for kind, host in moves:
        (move,) = [one for one in world.moves() if (one.kind, one.host) == (kind, host)]
        world, _ = world.after(move)
    return world


def test_worlds_that_differ_only_in_who_is_who_are_one():
    world = formed(Config())
    assert world.stage.hosts["n1"].node.mastership.holding
    second, third = moved(world, ("replace", "n2")), moved(world, ("replace", "n3"))
    assert second.key == third.key != moved(world, ("replace", "n1")).key


def test_worlds_that_were_reached_in_another_order_are_one():
    world = formed(Config(nodes=3))
    one = moved(world, ("replace", "n2"), ("start", "n2"), ("replace", "n3"))
    other = moved(world, ("replace", "n3"), ("replace", "n2"), ("start", "n2"))
    assert one.key == other.key


def test_a_world_with_more_behind_it_is_the_same_if_nothing_of_it_is_left():
    world = formed(Config(faults=Faults(crashes=1)))
    again = moved(world, ("crash", "n2"), ("start", "n2"))
    assert again.key == world.key
    assert world.faults.cover(again.faults)
    assert not again.faults.cover(world.faults)


def test_a_node_that_could_operate_at_another_version_makes_another_world():
    world = formed(Config(begins_before="raised"))
    before, (after, _) = world, world.after(world.moves()[0])
    keys = {before.key, after.key, moved(after, ("saved", "n2")).key}
    assert len(keys) == 3


def test_a_clone_goes_its_own_way():
    world = formed(Config())
    key = world.key
    moved(world, ("replace", "n2"), ("start", "n2"))
    assert world.key == key


def test_what_was_never_reached_is_named():
    result = Result(Config(faults=Faults(losses=1)))
    result.reached.update(("raised", "settled", "converted", "completed", "floor"))
    assert result.missing == ["upgrade began", "verified", "lose"]


def test_a_path_is_told_line_by_line():
    config = Config(begins_before="raised")
    lines = story(config, [Event("store", "n1"), Event("saved", "n2"), Event("switched", "n2")])
    assert lines == [
        "  1  n1's Commit reaches the store; commits 'raised': acting 2.0, floor 2.0, data 1.0"
        " (revision 6, epoch 1)",
        "  2  n2's disk has it",
        "  3  n2's callbacks have run; n2 operates at 2.0",
    ]


# The rule that is taken away, the world that notices, what breaks there, after how many moves.
TEETH = [
    ("R2", "put back", "S14", 9),
    ("R11", "put back", "S5", 9),
    ("R13", "put back", "S16", 11),
    ("R17", "lost raise", "L1", 9),
    ("R26", "put back", "S14", 10),
]


@pytest.mark.parametrize(("rule", "world", "invariant", "moves"), TEETH)
def test_a_guard_that_is_missing_is_found_by_the_shortest_path(rule, world, invariant, moves):
    assert explored(rule, world) == (invariant, moves)
