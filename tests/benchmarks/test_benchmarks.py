"""The frame of the benchmarks, and that each of them runs."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.frame import Goal, benchmarks, percentile


def test_the_list_names_each_with_its_goals(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    for name, one in benchmarks().items():
        assert f"{name:<14}{one.about}" in out
        assert all(f"goal: {goal}" in out for goal in one.goals)


@pytest.mark.parametrize(
    ("name", "scale"), [("collections", "0.02"), ("gossip_packets", "0.01"), ("migration", "0.002")]
)
def test_each_runs_and_measures_what_its_goals_are_about(capsys, name, scale):
    assert main([name, "--scale", scale, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["benchmark"] == name
    assert set(said["goals"]) == {str(goal) for goal in benchmarks()[name].goals}
    assert all(goal.figure in said["figures"] for goal in benchmarks()[name].goals)


def test_a_goal_that_was_missed_fails_the_check(capsys, monkeypatch):
    one = benchmarks()["collections"]

    async def run(scale):
        return {"get_ratio_median": 1.2, "put_ratio_median": 1.6 * scale}

    changed = type(one)(one.name, one.about, one.goals, run)
    monkeypatch.setattr("benchmarks.__main__.benchmarks", lambda: {"collections": changed})
    assert main(["collections", "--check"]) == 1
    assert "missed   put_ratio_median <= 1.5" in capsys.readouterr().out
    assert main(["collections", "--check", "--scale", "0.5"]) == 0


def test_goals_and_percentiles():
    assert Goal("x", at_most=2).met({"x": 2})
    assert not Goal("x", at_most=2).met({"x": 2.1})
    assert not Goal("x", at_least=2).met({"x": 1.9})
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([1, 2], 0.99) == 2
