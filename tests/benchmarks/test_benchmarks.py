"""The frame of the benchmarks, and that each of them runs."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.frame import Goal, benchmarks, percentile
from benchmarks.gossip import _all_failed, _counts, _our_changes, our_cluster


def test_the_list_names_each_with_its_goals(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    for name, one in benchmarks().items():
        assert f"{name:<14}{one.about}" in out
        assert all(f"goal: {goal}" in out for goal in one.goals)


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("collections", "0.02"),
        ("gossip_packets", "0.01"),
        ("migration", "0.002"),
        ("scale", "0.01"),
        ("simulator", "0.01"),
    ],
)
def test_each_runs_and_measures_what_its_goals_are_about(capsys, name, scale):
    assert main([name, "--scale", scale, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["benchmark"] == name
    assert set(said["goals"]) == {str(goal) for goal in benchmarks()[name].goals}
    assert all(goal.figure in said["figures"] for goal in benchmarks()[name].goals)


def test_the_figures_are_kept_with_a_table_and_a_picture(tmp_path, capsys):
    assert main(["scale", "--scale", "0.01", "--out", str(tmp_path / "kept")]) == 0
    figures = json.loads((tmp_path / "kept/figures.json").read_text())
    assert (
        f"| rounds_100_loss_0 | {figures['rounds_100_loss_0']:,.3f} |"
        in (tmp_path / "kept/table.md").read_text().splitlines()
    )
    assert (tmp_path / "kept/plot.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()


@pytest.mark.asyncio
async def test_gossip_of_real_processes_is_measured_from_one_to_all_others():
    async with our_cluster(3) as workers:
        assert [len(worker.names) for worker in workers] == [1, 1, 1]
        took_s = await _our_changes(workers, 2)
        assert all(0 < one < 5 for one in took_s)
        dead, *others = workers
        dead.process.kill()
        assert await _all_failed(others, dead.names[0])
        counts = await _counts(others)
        assert counts["failed"] == 2
        assert counts["packets"] > 0


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
