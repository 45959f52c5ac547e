"""A raise that gossip alone carries: the store stops in the very moment of the commit.

Nodes gossip, in a few processes. From right before the raise they hear nothing on pub/sub, and
whoever committed it stops the server (SIGSTOP) as soon as that has answered. The clock begins when
the master asks for the commit, and ends with the last callback. Beside it, a user event of Serf
from one of as many agents to the last of all.
"""

from __future__ import annotations

import asyncio
import os
import signal

from benchmarks.convergence import last_mark
from benchmarks.crowd import Crowd, StorePlace, form, gathered, store_place
from benchmarks.frame import Figures, Goal, Run, percentile, tell
from benchmarks.peers.serf import HOW_TO_GET, is_installed, user_events

ABOUT = "convergence --without-store: gossip alone carries a raise; beside a user event of Serf"
LASTS = "about 4 min"
TAKES = ("nodes", "trials", "processes")
GOALS = (Goal("gossip_50_of_serf", at_most=1 / 20),)
_NODES = (5, 20, 50)
_TRIALS = 10
_PROCESSES = 8


async def run(run: Run) -> Figures:
    figures: dict[str, float] = {}
    if not is_installed():
        tell(f"no figures of Serf: {HOW_TO_GET}")
    for nodes in run.nodes(_NODES):
        trials = run.trials(_TRIALS)
        ours = await _ours(run, nodes, trials)
        figures |= run.note(f"gossip_{nodes}", ours)
        if is_installed():
            theirs = await user_events(nodes, run.each(trials, f"{nodes} agents of Serf"))
            figures |= run.note(f"serf_{nodes}", theirs)
            ratio = percentile(ours, 0.5) / percentile(theirs, 0.5)
            figures[f"gossip_{nodes}_of_serf"] = ratio
    return figures


async def _ours(run: Run, nodes: int, trials: int) -> list[float]:
    async with (
        store_place("") as place,
        gathered(place, nodes, run.processes(_PROCESSES), whole=True) as crowd,
    ):
        await form(crowd, whole=True)
        await asyncio.sleep(3.0)  # until all know each other
        return [
            await _carried_ms(crowd, place, f"1.{trial + 1}")
            for trial in run.each(trials, f"{nodes} nodes without a store")
        ]


async def _carried_ms(crowd: Crowd, place: StorePlace, version: str) -> float:
    assert place.server is not None
    *others, last = crowd.names
    await crowd.install(others, version)

    async def admitted() -> bool:
        marks = await crowd.marks(version)
        return all("admitted" in marks[name] for name in others)

    async def called() -> bool:
        return all("called" in one for one in (await crowd.marks(version)).values())

    await crowd.until(admitted, f"were admitted with {version}")
    await crowd.ask("after", step="raised", kill="SIGSTOP", pid=place.server.pid)
    await crowd.ask("deafen_to", version=version)
    await crowd.install([last], version)
    try:
        await asyncio.sleep(0.5)  # nobody is asked while it matters
        await crowd.until(called, f"ran their callbacks for {version}")
    finally:
        os.kill(place.server.pid, signal.SIGCONT)
    marks = (await crowd.marks(version)).values()
    took_s = last_mark(marks, "called") - last_mark(marks, "asks for raised")
    await crowd.ask("deafen_to", version="")
    await crowd.complete(version)
    await crowd.ask("forget")
    return took_s * 1000
