"""How much faster than real time the simulator is, with five nodes, in one process.

Twice: nodes that start, are upgraded one after the other and switch, with nothing going wrong; and
the same with every kind of fault that a seed draws, where there are several times as many events.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.frame import Figures, Goal, Run
from peerupgrade.sim.plan import draw_plan
from peerupgrade.sim.run import Outcome, run_seed

ABOUT = (
    "virtual seconds in one real second: five nodes through an upgrade, calm and with all faults"
)
LASTS = "about 1 min"
TAKES = ()
GOALS = (Goal("calm_times_real_time", at_least=1_000),)
_SEEDS = 60
_NODES = 5


async def run(run: Run) -> Figures:
    seeds = range(max(2, round(_SEEDS * run.scale)))
    calm, calm_events = _speed(seeds, _calm)
    faults, fault_events = _speed(seeds, run_seed)
    return {
        "calm_times_real_time": calm,
        "calm_events_per_virtual_s": calm_events,
        "with_faults_times_real_time": faults,
        "with_faults_events_per_virtual_s": fault_events,
    }


def _calm(seed: int) -> Outcome:
    kept = [one.number for one in draw_plan(seed, _NODES) if not one.is_fault]
    return run_seed(seed, _NODES, keep=frozenset(kept))


def _speed(seeds: range, one: Callable[[int], Outcome]) -> tuple[float, float]:
    began_s = time.perf_counter()
    outcomes = [one(seed) for seed in seeds]
    took_s = time.perf_counter() - began_s
    problems = [outcome.problem for outcome in outcomes if outcome.problem]
    if problems:
        raise RuntimeError(f"a seed failed, so this is no measurement: {problems[0]}")
    simulated_s = sum(outcome.simulated_s for outcome in outcomes)
    return simulated_s / took_s, sum(outcome.events for outcome in outcomes) / simulated_s
