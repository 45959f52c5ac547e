"""What every benchmark is: a sentence, its goals as data, and a function that measures.

A benchmark is a module of this package with

    ABOUT   what it measures, one sentence
    LASTS   how long that takes at the default size, for people
    TAKES   which of `--nodes`, `--trials`, `--processes`, `--store` mean something to it
    GOALS   the bars, each about one figure
    run     `async def run(run: Run) -> Figures`
    plot    `def plot(figures: Figures, axes: Axes) -> None`, if it draws something of its own

Samples that a benchmark gives to `Run.note` are kept, and drawn: how they are distributed, and how
they grow with the number of nodes.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Figures: TypeAlias = Mapping[str, float]

_OPTIONS = ("nodes", "trials", "processes", "store")


@dataclass(frozen=True, slots=True)
class Goal:
    """A bar for one figure; exactly one of the two is given."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None

    def met(self, figures: Figures) -> bool:
        """Whether a run has reached it; what was not measured was not reached."""
        value = figures.get(self.figure)
        if value is None:
            return False
        if self.at_most is not None:
            return value <= self.at_most
        assert self.at_least is not None
        return value >= self.at_least

    def verdict(self, figures: Figures) -> str:
        """`reached`, `missed` or `unmeasured`."""
        if self.figure not in figures:
            return "unmeasured"
        return "reached" if self.met(figures) else "missed"

    def __str__(self) -> str:
        if self.at_most is not None:
            return f"{self.figure} <= {self.at_most:g}"
        return f"{self.figure} >= {self.at_least:g}"


@dataclass(frozen=True, slots=True)
class Options:
    """What whoever starts a benchmark wants otherwise; empty or 0: as the benchmark has it.

    Attributes:
        scale: of the number of trials and of lengths, 1.0 is what is meant.
        nodes: the sizes of the cluster, one after the other.
        trials: of each thing that is measured.
        processes: that share the nodes.
        store: URL of a store that is measured instead of a server of the benchmark's own.
    """

    scale: float = 1.0
    nodes: tuple[int, ...] = ()
    trials: int = 0
    processes: int = 0
    store: str = ""


@dataclass(slots=True)
class Run:
    """One run of one benchmark.

    Attributes:
        samples: name, with its unit -> every single value, in order.
    """

    options: Options = field(default_factory=Options)
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """Of lengths."""
        return self.options.scale

    @property
    def store(self) -> str:
        """URL of the store to measure; "": a server of the benchmark's own."""
        return self.options.store

    def nodes(self, usual: Sequence[int]) -> tuple[int, ...]:
        """The sizes of the cluster."""
        return self.options.nodes or tuple(usual)

    def trials(self, usual: int) -> int:
        """How often one thing is measured."""
        return self.options.trials or max(2, round(usual * self.scale))

    def processes(self, usual: int) -> int:
        """How many processes share the nodes."""
        return self.options.processes or usual

    def each(self, count: int, what: str) -> Iterator[int]:
        """The numbers from 0, with a bar that shows how far it is."""
        console = Console(stderr=True)
        yield from track(
            range(count), what, console=console, transient=True, disable=not console.is_terminal
        )

    def note(self, name: str, samples: Sequence[float], unit: str = "ms") -> Figures:
        """Keep samples; gives their median, 99th percentile and largest as figures.

        `NAME_N` with the number of nodes at its end is also drawn against that number.
        """
        if not samples:
            return {}
        self.samples.setdefault(f"{name}_{unit}", []).extend(samples)
        kept = self.samples[f"{name}_{unit}"]
        return {
            f"{name}_{label}_{unit}": percentile(kept, share)
            for label, share in (("median", 0.5), ("p99", 0.99), ("max", 1.0))
        }


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One module."""

    name: str
    about: str
    goals: Sequence[Goal]
    run: Callable[[Run], Awaitable[Figures]]
    plot: Callable[[Figures, Axes], None] | None = None
    lasts: str = ""
    takes: Sequence[str] = ()

    def refused(self, options: Options) -> list[str]:
        """The options that are given and mean nothing to it."""
        return [one for one in _OPTIONS if getattr(options, one) and one not in self.takes]


def benchmarks() -> dict[str, Benchmark]:
    """All of them, by name."""
    import benchmarks as package

    names = sorted(module.name for module in iter_modules(package.__path__))
    modules = {name: import_module(f"benchmarks.{name}") for name in names if name != "__main__"}
    return {
        name: Benchmark(
            name,
            module.ABOUT,
            module.GOALS,
            module.run,
            getattr(module, "plot", None),
            module.LASTS,
            module.TAKES,
        )
        for name, module in modules.items()
        if hasattr(module, "ABOUT")
    }


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which `share` of them lie."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def tell(sentence: str) -> None:
    """Say something to people beside the bar: nobody reads it by program."""
    print(sentence, file=sys.stderr)
