"""What every benchmark is: a sentence, its goals as data, and a function that measures.

A benchmark is a module of this package with

    ABOUT   what it measures, one sentence
    GOALS   the bars, each about one figure
    run     `async def run(scale: float) -> Figures`; 1.0 is the size meant
    plot    `def plot(figures: Figures, axes: Axes) -> None`, if there is something to draw
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Figures: TypeAlias = Mapping[str, float]

_FRAME = ("frame", "__main__", "agents", "cluster", "gossip_worker", "serf")


@dataclass(frozen=True, slots=True)
class Goal:
    """A bar for one figure; exactly one of the two is given."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None

    def met(self, figures: Figures) -> bool:
        """Whether a run has reached it."""
        value = figures[self.figure]
        if self.at_most is not None:
            return value <= self.at_most
        assert self.at_least is not None
        return value >= self.at_least

    def __str__(self) -> str:
        if self.at_most is not None:
            return f"{self.figure} <= {self.at_most:g}"
        return f"{self.figure} >= {self.at_least:g}"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One module."""

    name: str
    about: str
    goals: Sequence[Goal]
    run: Callable[[float], Awaitable[Figures]]
    plot: Callable[[Figures, Axes], None] | None = None

    def keep(self, figures: Figures, folder: Path) -> None:
        """Leave the figures in a folder: JSON, a table, and a picture if there is one to draw."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "figures.json").write_text(json.dumps(dict(figures), indent=2) + "\n")
        rows = [f"| {name} | {value:,.3f} |" for name, value in figures.items()]
        goals = [f"- {'reached' if goal.met(figures) else 'missed'}: {goal}" for goal in self.goals]
        lines = [f"# {self.name}", "", self.about, "", "| figure | value |", "|---|---:|", *rows]
        (folder / "table.md").write_text("\n".join([*lines, "", *goals, ""]))
        if self.plot is not None:
            _draw(self.plot, figures, folder / "plot.png")


def _draw(plot: Callable[[Figures, Axes], None], figures: Figures, path: Path) -> None:
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8, 5), layout="constrained")
    plot(figures, picture.subplots())
    picture.savefig(path, dpi=120)


def benchmarks() -> dict[str, Benchmark]:
    """All of them, by name."""
    import benchmarks as package

    names = sorted(module.name for module in iter_modules(package.__path__))
    return {name: _load(name) for name in names if name not in _FRAME}


def _load(name: str) -> Benchmark:
    module = import_module(f"benchmarks.{name}")
    plot = getattr(module, "plot", None)
    return Benchmark(name, module.ABOUT, module.GOALS, module.run, plot)


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which `share` of them lie."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
