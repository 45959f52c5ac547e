"""The frame of the benchmarks, and that each of them runs."""

import json
import re
from contextlib import AsyncExitStack
from math import isfinite

import pytest
from redis.asyncio import Redis

from benchmarks.__main__ import main
from benchmarks.crowd import form, gathered, store_place
from benchmarks.frame import Benchmark, Goal, Run, benchmarks, percentile
from benchmarks.gossip import _all_failed, _counts, _our_changes, our_cluster
from benchmarks.results import chance, compare, keep
from peerupgrade.adapters.embedded import EmbeddedServer


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What a run leaves by default is left there."""
    monkeypatch.chdir(tmp_path)


def test_the_list_names_each_with_its_goals(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    for name, one in benchmarks().items():
        assert f"{name:<28}{one.about}" in out
        assert f"lasts {one.lasts}" in out
        assert all(f"goal: {goal}" in out for goal in one.goals)


SMALL = ["--nodes", "3", "--trials", "2"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convergence", ["--nodes", "3,21", "--trials", "2", "--processes", "2"]),
        ("convergence_without_store", SMALL),
        ("failover", ["--trials", "1"]),
        ("join", SMALL),
        ("rest", ["--nodes", "3", "--scale", "0.1"]),
        ("soak", ["--nodes", "3", "--scale", "0.003"]),
        ("startup", ["--trials", "2"]),
    ],
)
def test_each_of_a_cluster_measures_what_it_says_at_a_small_size(tmp_path, capsys, name, options):
    assert main([name, *options, "--out", str(tmp_path / "kept")]) == 0
    kept = json.loads((tmp_path / "kept/figures.json").read_text())["figures"]
    samples = json.loads((tmp_path / "kept/samples.json").read_text())
    for wanted in MEASURED[name]:
        found = [figure for figure in kept if re.fullmatch(wanted, figure)]
        assert found, f"{wanted}: only {sorted(kept)}"
        assert all(isfinite(kept[figure]) for figure in found)
    assert all(values for values in samples.values())
    assert "all of it is in" in capsys.readouterr().out


@pytest.mark.asyncio
async def test_in_a_store_of_somebody_else_nothing_is_left(tmp_path):
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(tmp_path / "s", tcp=True))
        client = await stack.enter_async_context(Redis.from_url(server.url))
        await client.set("theirs", 1)
        async with store_place(server.url) as place, gathered(place, 2) as crowd:
            await form(crowd)
            assert await client.dbsize() > 1
        assert await client.keys() == [b"theirs"]


MEASURED = {
    "convergence": [
        r"raise_\d+_median_ms",
        r"stage_settled_\d+_p99_ms",
        r"limit_redis_py_\d+_max_ms",
    ],
    "convergence_without_store": ["gossip_3_median_ms"],
    "failover": [
        "epoch_idle_sigkill_median_ms",
        "raise_at_floor_sigstop_max_ms",
        "epoch_graceful.*",
    ],
    "join": ["join_3_median_ms", "join_3_of_bare_loop", "store_commands_per_node_3"],
    "rest": ["store_commands_s_3", "packets_per_node_s_3", "agent_memory_mib"],
    "soak": ["memory_growth_mib", "files_growth", "tasks_growth", "upgrades"],
    "startup": ["import_of_python", "help_median_ms"],
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("collections", ["--scale", "0.02"]),
        ("gossip_packets", ["--scale", "0.01"]),
        ("migration", ["--scale", "0.002"]),
        ("scale", ["--nodes", "10,100"]),
        ("simulator", ["--scale", "0.01"]),
    ],
)
def test_each_runs_and_measures_what_its_goals_are_about(capsys, name, options):
    assert main([name, *options, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["benchmark"] == name
    assert set(said["goals"]) == {str(goal) for goal in benchmarks()[name].goals}
    assert all(goal.figure in said["figures"] for goal in benchmarks()[name].goals)


def test_the_figures_are_kept_with_a_table_and_a_picture(tmp_path, capsys):
    assert main(["scale", "--nodes", "10,100", "--out", str(tmp_path / "kept")]) == 0
    kept = json.loads((tmp_path / "kept/figures.json").read_text())
    rounds = kept["figures"]["rounds_100_loss_0"]
    table = (tmp_path / "kept/table.md").read_text().splitlines()
    assert f"| rounds_100_loss_0 | {rounds:,.3f} |" in table
    assert set(kept["goals"].values()) <= {"reached", "missed"}
    assert is_picture(tmp_path / "kept/plot.png")
    capsys.readouterr()


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_samples_are_kept_raw_and_drawn(tmp_path, capsys):
    run = Run()
    figures = {**run.note("raise_5", [2.0, 1.0, 3.0]), **run.note("raise_50", [5.0, 6.0])}
    assert figures["raise_5_median_ms"] == 2.0
    assert figures["raise_50_max_ms"] == 6.0
    keep(made({}), figures, run.samples, tmp_path)
    assert json.loads((tmp_path / "samples.json").read_text()) == run.samples
    assert is_picture(tmp_path / "distribution.png")
    assert is_picture(tmp_path / "growth.png")


def test_convergence_without_the_store_is_another_benchmark(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["scale", "--without-store"])
    assert ended.value.code == 2
    assert "--without-store is an option of convergence" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["convergence", "--without-store", "--store", "redis://127.0.0.1"])
    assert "means nothing to convergence_without_store" in capsys.readouterr().err


def test_an_option_that_means_nothing_to_it_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["collections", "--nodes", "5"])
    assert ended.value.code == 2
    assert "--nodes means nothing to collections" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["all", "--trials", "5"])
    assert "--trials means nothing to" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["scale", "--nodes", "0"], ["scale", "--trials", "-1"]])
def test_a_size_that_is_none_is_refused(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "is not at least 1" in capsys.readouterr().err


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


def made(figures):
    """A benchmark whose figures are known."""

    async def run(run):
        return {name: value * run.scale for name, value in figures.items()}

    return Benchmark("made", "nothing", (Goal("x_ms", at_most=1.5),), run)


def measured(monkeypatch, capsys, figures, *argv):
    """The exit code and the text of a run of that."""
    monkeypatch.setattr("benchmarks.__main__.benchmarks", lambda: {"made": made(figures)})
    return main(["made", *argv]), capsys.readouterr().out


def test_a_goal_that_was_missed_fails_the_check(capsys, monkeypatch):
    code, out = measured(monkeypatch, capsys, {"x_ms": 1.6}, "--check")
    assert code == 1
    assert "missed     x_ms <= 1.5" in out
    assert measured(monkeypatch, capsys, {"x_ms": 1.6}, "--check", "--scale", "0.5")[0] == 0
    assert measured(monkeypatch, capsys, {"x_ms": 1.6})[0] == 0


def test_a_goal_whose_figure_was_not_measured_fails_the_check(capsys, monkeypatch):
    code, out = measured(monkeypatch, capsys, {"y_ms": 1.0}, "--check")
    assert code == 1
    assert "unmeasured x_ms <= 1.5" in out


def left(folder, values, verdict="reached"):
    """What a run leaves."""
    folder.mkdir()
    said = {"benchmark": "made", "figures": {"y": values[0]}, "goals": {"x_ms <= 1.5": verdict}}
    (folder / "figures.json").write_text(json.dumps(said))
    (folder / "samples.json").write_text(json.dumps({"x_ms": values}))
    return folder


def test_two_folders_are_compared_by_their_samples(tmp_path, capsys):
    before = left(tmp_path / "a", [1.0 + number / 100 for number in range(20)])
    slower = left(tmp_path / "b", [1.4 + number / 100 for number in range(20)], "missed")
    assert main(["compare", str(before), str(slower), "--check"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^x_ms +1.100 +1.500 +x 1.36 +higher$", out, re.MULTILINE)
    assert re.search(r"^y +1.000 +1.400 +x 1.40 *$", out, re.MULTILINE)
    assert "not reached any more: x_ms <= 1.5" in out
    assert main(["compare", str(slower), str(before), "--check"]) == 0
    assert "lower" in capsys.readouterr().out
    assert main(["compare", str(before), str(before)]) == 0
    assert "same" in capsys.readouterr().out


def test_a_few_samples_that_differ_by_chance_are_the_same(tmp_path):
    assert chance([1.0, 1.2, 1.1], [1.15, 1.25, 1.05]) > 0.5
    changes, lost = compare(left(tmp_path / "a", [1.0, 1.3]), left(tmp_path / "b", [1.2, 1.4]))
    assert [one.verdict for one in changes] == ["same", ""]
    assert lost == []


def test_what_no_benchmark_left_is_not_compared(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(tmp_path), str(tmp_path)])
    assert ended.value.code == 2
    assert "is not what a benchmark left" in capsys.readouterr().err


def test_goals_and_percentiles():
    assert Goal("x", at_most=2).met({"x": 2})
    assert not Goal("x", at_most=2).met({"x": 2.1})
    assert not Goal("x", at_least=2).met({"x": 1.9})
    assert not Goal("x", at_least=2).met({})
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([1, 2], 0.99) == 2
