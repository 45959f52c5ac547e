"""Many seeds on all cores, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context

from peerupgrade.core.crashpoints import CRASH_POINTS
from peerupgrade.sim.checker import INVARIANTS
from peerupgrade.sim.faults import FAULTS
from peerupgrade.sim.run import Outcome, run_seed

_CHUNK = 8
_LOOK_S = 0.2


@dataclass(slots=True)
class Campaign:
    """The sum of many outcomes."""

    seeds: int = 0
    events: int = 0
    raises: int = 0
    simulated_s: float = 0.0
    took_s: float = 0.0  # by the clock on the wall
    fired: Counter[str] = field(default_factory=Counter)
    sprung: Counter[str] = field(default_factory=Counter)
    exercised: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one seed."""
        self.seeds += 1
        self.events += outcome.events
        self.raises += outcome.raises
        self.simulated_s += outcome.simulated_s
        self.fired += outcome.fired
        self.sprung += outcome.sprung
        self.exercised += outcome.exercised
        if outcome.problem:
            self.failed.append(outcome)

    @property
    def speed(self) -> float:
        """Simulated seconds in one of the clock on the wall."""
        return self.simulated_s / self.took_s if self.took_s else 0.0

    @property
    def never_fired(self) -> list[str]:
        """Kinds of faults that never struck, and crash points that nobody was struck at."""
        return sorted(set(FAULTS) - set(self.fired)) + sorted(set(CRASH_POINTS) - set(self.sprung))

    @property
    def never_exercised(self) -> list[str]:
        """Invariants whose danger never arose: nothing is known of them."""
        return sorted(set(INVARIANTS) - set(self.exercised))


def run_seeds(
    seeds: range, nodes: int, processes: int, check: Callable[[], None] = lambda: None
) -> Iterator[Outcome]:
    """Run seeds in processes of their own, in order; an interruption ends them all.

    Args:
        seeds: which.
        nodes: at the start of each.
        processes: how many at a time.
        check: called now and then; what it raises ends everything.
    """
    if processes == 1:
        for seed in seeds:
            check()
            yield run_seed(seed, nodes)
        return
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            for future in [pool.submit(_run_chunk, chunk, nodes) for chunk in chunks]:
                while not wait([future], _LOOK_S).done:
                    check()
                yield from future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_chunk(seeds: range, nodes: int) -> list[Outcome]:
    return [run_seed(seed, nodes) for seed in seeds]
