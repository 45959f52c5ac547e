"""The folder that a run leaves, and what two of them say side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import erfc, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.frame import Benchmark, Figures, percentile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Samples = Mapping[str, Sequence[float]]

_OF_NODES = re.compile(r"(?P<what>.+)_(?P<nodes>\d+)_(?P<unit>[a-z]+)")
_CHANCE = 0.01  # rarer than this is no chance
_NOTABLE = 0.05  # a smaller change of the median is not worth a word


# --- keeping --------------------------------------------------------------------------------------


def keep(benchmark: Benchmark, figures: Figures, samples: Samples, folder: Path) -> None:
    """Leave figures and raw samples as JSON, a table, and pictures of what can be drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    goals = {str(goal): goal.verdict(figures) for goal in benchmark.goals}
    said = {"benchmark": benchmark.name, "figures": dict(figures), "goals": goals}
    (folder / "figures.json").write_text(json.dumps(said, indent=2) + "\n")
    (folder / "samples.json").write_text(json.dumps({k: list(v) for k, v in samples.items()}))
    (folder / "table.md").write_text(_table(benchmark, figures))
    if benchmark.plot is not None:
        with _picture(folder / "plot.png") as axes:
            benchmark.plot(figures, axes)
    if samples:
        with _picture(folder / "distribution.png") as axes:
            _draw_distribution(samples, axes)
    growing = _growing(samples)
    if growing:
        with _picture(folder / "growth.png") as axes:
            _draw_growth(growing, axes)


def _table(benchmark: Benchmark, figures: Figures) -> str:
    rows = [f"| {name} | {value:,.3f} |" for name, value in figures.items()]
    goals = [f"- {goal.verdict(figures)}: {goal}" for goal in benchmark.goals]
    lines = [f"# {benchmark.name}", "", benchmark.about, "", "| figure | value |", "|---|---:|"]
    return "\n".join([*lines, *rows, "", *goals, ""])


@contextmanager
def _picture(path: Path) -> Iterator[Axes]:
    """Axes of a picture that is written at the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    yield figure.subplots()
    figure.savefig(path, dpi=120)


def _draw_distribution(samples: Samples, axes: Axes) -> None:
    """For each series the share of samples up to a value."""
    for name, values in samples.items():
        ordered = sorted(values)
        shares = [(at + 1) / len(ordered) for at in range(len(ordered))]
        axes.step(ordered, shares, where="post", label=f"{name} (n={len(ordered)})")
    if all(value > 0 for values in samples.values() for value in values):
        axes.set_xscale("log")
    axes.set_xlabel("value, in the unit of its name")
    axes.set_ylabel("share of samples up to it")
    axes.legend(fontsize="xx-small")


def _growing(samples: Samples) -> dict[str, dict[int, Sequence[float]]]:
    """What was measured with more than one number of nodes."""
    found: dict[str, dict[int, Sequence[float]]] = {}
    for name, values in samples.items():
        match = _OF_NODES.fullmatch(name)
        if match is not None:
            series = found.setdefault(f"{match['what']} ({match['unit']})", {})
            series[int(match["nodes"])] = values
    return {name: series for name, series in found.items() if len(series) > 1}


def _draw_growth(growing: Mapping[str, Mapping[int, Sequence[float]]], axes: Axes) -> None:
    """The median against the number of nodes, and up to the 99th percentile as a band."""
    for name, series in growing.items():
        nodes = sorted(series)
        medians = [percentile(series[one], 0.5) for one in nodes]
        axes.plot(nodes, medians, marker="o", label=name)
        axes.fill_between(nodes, medians, [percentile(series[n], 0.99) for n in nodes], alpha=0.15)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("nodes")
    axes.set_ylabel("median, up to the 99th percentile")
    axes.legend(fontsize="x-small")


# --- comparing ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """One series, or one figure without samples, in two folders.

    `verdict`: `same`, `lower` or `higher`; "": there are no samples to judge by.
    """

    name: str
    before: float
    after: float
    verdict: str

    def __str__(self) -> str:
        ratio = f"x {self.after / self.before:.2f}" if self.before else ""
        return f"{self.name:<44}{self.before:>14,.3f}{self.after:>14,.3f}  {ratio:<9}{self.verdict}"


def compare(before: Path, after: Path) -> tuple[list[Change], list[str]]:
    """Judge two folders of the same benchmark.

    Returns:
        What changed, and the goals that `before` had reached and `after` has not.

    Raises:
        ValueError: they are of different benchmarks, or one is no folder of a run.
    """
    (old, old_samples), (new, new_samples) = _read(before), _read(after)
    if old["benchmark"] != new["benchmark"]:
        raise ValueError(
            f"{before} is of {old['benchmark']}, {after} of {new['benchmark']}: nothing to compare"
        )
    changes = list(_changes_of_samples(old_samples, new_samples))
    for name, value in old["figures"].items():
        if name in new["figures"] and not _of_samples(name, old_samples):
            changes.append(Change(name, value, new["figures"][name], ""))
    lost = [
        goal
        for goal, verdict in old["goals"].items()
        if verdict == "reached" and new["goals"].get(goal) != "reached"
    ]
    return changes, lost


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, list[float]]]:
    try:
        figures = json.loads((folder / "figures.json").read_text())
        return figures, json.loads((folder / "samples.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is not what a benchmark left: {error}") from error


def _of_samples(figure: str, samples: Samples) -> bool:
    return any(figure.replace(f"_{label}_", "_") in samples for label in ("median", "p99", "max"))


def _changes_of_samples(old: Samples, new: Samples) -> Iterator[Change]:
    for name, before in old.items():
        if name in new:
            medians = percentile(before, 0.5), percentile(new[name], 0.5)
            yield Change(name, *medians, _verdict(before, new[name]))


def _verdict(before: Sequence[float], after: Sequence[float]) -> str:
    """`lower` or `higher` if chance alone would rarely do that and it is worth a word."""
    old, new = percentile(before, 0.5), percentile(after, 0.5)
    if abs(new - old) < _NOTABLE * abs(old) or chance(before, after) >= _CHANCE:
        return "same"
    return "lower" if new < old else "higher"


def chance(one: Sequence[float], other: Sequence[float]) -> float:
    """How likely so different ranks are if both are drawn from the same (Mann-Whitney, normal)."""
    wins = sum((a > b) + 0.5 * (a == b) for a in one for b in other)
    pairs = len(one) * len(other)
    spread = sqrt(pairs * (len(one) + len(other) + 1) / 12)
    return erfc(abs(wins - pairs / 2) / spread / sqrt(2))
