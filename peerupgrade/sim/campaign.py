"""Many seeds on all cores, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from random import Random

from peerupgrade.sim.checker import INVARIANTS
from peerupgrade.sim.faults import Faults
from peerupgrade.sim.run import Outcome, run_seed
from peerupgrade.sim.world import World, WorldConfig

_CHUNK = 8


@dataclass(slots=True)
class Campaign:
    """The sum of many outcomes."""

    seeds: int = 0
    events: int = 0
    raises: int = 0
    simulated_s: float = 0.0
    fired: Counter[str] = field(default_factory=Counter)
    exercised: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one seed."""
        self.seeds += 1
        self.events += outcome.events
        self.raises += outcome.raises
        self.simulated_s += outcome.simulated_s
        self.fired += outcome.fired
        self.exercised += outcome.exercised
        if outcome.problem:
            self.failed.append(outcome)

    @property
    def never_fired(self) -> list[str]:
        """Kinds of faults that never struck."""
        return sorted(set(fault_kinds()) - set(self.fired))

    @property
    def never_exercised(self) -> list[str]:
        """Invariants whose danger never arose: nothing is known of them."""
        return sorted(set(INVARIANTS) - set(self.exercised))


def fault_kinds() -> Sequence[str]:
    """Every kind of fault, sorted."""
    world = World(WorldConfig(), Random(0), lambda *_: None)
    return sorted(Faults(world, Random(0)).kinds)


def run_seeds(seeds: range, nodes: int, processes: int) -> Iterator[Outcome]:
    """Run seeds in processes of their own, in order; an interruption ends them all."""
    if processes == 1:
        yield from map(partial(run_seed, nodes=nodes), seeds)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(partial(run_seed, nodes=nodes), seeds, chunksize=_CHUNK)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
