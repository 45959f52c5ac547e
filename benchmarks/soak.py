"""An hour of upgrades, one after the other: nothing grows.

Twenty nodes in two processes go from version to version, and now and then one of them leaves and
comes back. What grows is judged by comparing the last quarter of the time with the second one: the
first is for what is only made once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.convergence import one_raise
from benchmarks.crowd import PROCESSES, Crowd, begin, form, gathered, store_place
from benchmarks.frame import Figures, Goal, Run, percentile

ABOUT = "one hour of upgrades round and round: memory, files and tasks do not grow"
LASTS = "1 h; --scale 0.1 takes 6 min"
TAKES = ("nodes", "processes", "store")
GOALS = (
    Goal("memory_growth_mib", at_most=5.0),
    Goal("files_growth", at_most=0.0),
    Goal("tasks_growth", at_most=0.0),
)
_NODES = (20,)
_LENGTH_S = 3600.0
_QUIET_S = 0.1
_RESTART_EVERY = 10


async def run(run: Run) -> Figures:
    figures: dict[str, float] = {}
    length_s = max(10.0, _LENGTH_S * run.scale)
    for nodes in run.nodes(_NODES):
        async with (
            store_place(run.store) as place,
            gathered(place, nodes, run.processes(PROCESSES)) as crowd,
        ):
            cluster = await form(crowd)
            seen, raises_ms = await _rounds(run, crowd, cluster, length_s)
        for name in ("memory_mib", "files", "tasks"):
            figures |= run.note(f"{name}_{nodes}", [one[name] for one in seen], "now")
            grown = _growth([one[name] for one in seen])
            figures["memory_growth_mib" if name == "memory_mib" else f"{name}_growth"] = grown
        figures |= run.note(f"raise_{nodes}", raises_ms)
        figures["upgrades"] = float(len(raises_ms))
    return figures


async def _rounds(
    run: Run, crowd: Crowd, cluster: str, length_s: float
) -> tuple[list[Counter[str]], list[float]]:
    """What all processes had after each round, and what each raise took."""
    seen, raises_ms, end_s = [], [], time.monotonic() + length_s
    for second in run.each(round(length_s), "round and round"):
        while time.monotonic() < end_s - length_s + second:
            version = f"1.{len(raises_ms) + 1}"
            took = await one_raise(crowd, version, _QUIET_S)
            raises_ms.append(took["raise"] * 1000)
            if len(raises_ms) % _RESTART_EVERY == 0:
                await _restart(crowd, cluster, version)
            await asyncio.sleep(_QUIET_S)
            total: Counter[str] = Counter()
            for one in await crowd.ask("vitals"):
                total.update(one)
            seen.append(total)
    return seen, raises_ms


async def _restart(crowd: Crowd, cluster: str, version: str) -> None:
    """One node leaves and comes back."""
    worker, name = crowd.workers[0], crowd.names[0]
    await worker.ask("stop", name=name)
    await begin(crowd, worker, [name], cluster, installed=version)
    await crowd.all_operate(version)


def _growth(values: Sequence[float]) -> float:
    """From the second quarter of the time to the last."""
    quarter = len(values) // 4
    if not quarter:
        raise RuntimeError("fewer than four upgrades in this time: give a larger --scale")
    return percentile(values[-quarter:], 0.5) - percentile(values[quarter : 2 * quarter], 0.5)
