"""Small worlds are searched to their end, and what is wrong is found by the shortest way."""

import pytest

from peerupgrade.sim import ghost
from peerupgrade.sim.explore import explore, story
from peerupgrade.sim.small import Config, Faults

WORLDS = {
    "two nodes, a crash and lost writes": Config(nodes=2, faults=Faults(crashes=1, losses=1)),
    "two nodes, a pause and lost writes": Config(nodes=2, faults=Faults(losses=1, pauses=1)),
    "three nodes, a crash": Config(nodes=3, faults=Faults(crashes=1)),
}


@pytest.mark.parametrize("name", WORLDS)
def test_every_way_through_a_small_world_holds(name):
    found = explore(WORLDS[name])
    assert found.problem == "", "\n".join(story(WORLDS[name], found.path))
    assert found.missing == []
    assert found.recovered > 0


def test_what_is_wrong_is_found_by_the_shortest_way(monkeypatch):
    broken = lambda *_: "S2: broken"  # noqa: E731
    monkeypatch.setattr(ghost, "acting_not_back", broken)
    config = Config(nodes=2, faults=Faults())
    found = explore(config)
    assert found.problem == "S2: broken"
    assert len(story(config, found.path)) == len(found.path)
    # One node is replaced: with that begins what the master commits.
    assert [move.kind for move in found.path] == ["replace", "start"]
