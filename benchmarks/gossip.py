"""Gossip beside Serf: how fast a change spreads, how fast a dead node is noticed, what rest costs.

Ours and theirs take turns on the same machine, with the same number of nodes. Of ours up to twenty
nodes are processes of their own; more share eight processes, each with its own socket. Serf's
agents are always processes.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.agents import agents, cpu_share, memory_mib
from benchmarks.frame import Figures, Goal, Run, percentile, tell
from benchmarks.peers.serf import HOW_TO_GET, is_installed, serf_cluster, to_last_agent
from benchmarks.workers import WorkerProcess, ask_all, shared, workers

ABOUT = "gossip: spread of a change and detection of a dead node beside Serf, and the cost of rest"
LASTS = "about 22 min"
TAKES = ("trials",)
GOALS = (
    Goal("spread_20_share_of_serf", at_most=1 / 50),
    Goal("spread_100_share_of_serf", at_most=1 / 20),
    Goal("spread_100_loss_5_p95_share_of_serf_p95", at_most=1 / 10),
    Goal("detection_5_share_of_serf", at_most=1 / 3),
    Goal("detection_20_share_of_serf", at_most=1 / 3),
    Goal("detection_50_share_of_serf", at_most=1 / 3),
    Goal("false_accusations", at_most=0),
    Goal("false_accusations_of_a_stopped_node", at_most=0),
    Goal("rest_packets_growth", at_most=1.1),
    Goal("rest_bytes_growth", at_most=1.1),
    Goal("agent_cpu_share_20", at_most=0.01),
)
_PROCESSES = 8
_ALONE_MAX = 20
_REST = (5, 20, 50, 100, 200)
_INTERVAL_S = 0.5
_SUSPICION_S = 0.8  # of a small cluster, with default settings


@asynccontextmanager
async def our_cluster(
    count: int, *, loss: float = 0.0, alone_max: int = _ALONE_MAX
) -> AsyncIterator[list[WorkerProcess]]:
    """Nodes that know each other; the first is always alone in its process."""
    names = [f"n{number:03}" for number in range(count)]
    processes = count - 1 if count <= alone_max else _PROCESSES
    shares = [names[:1], *shared(names[1:], processes)]
    async with workers("benchmarks.gossip_nodes", shares) as made:
        answers = [
            worker.ask("make", names=worker.names, loss=loss, interval_s=_INTERVAL_S)
            for worker in made
        ]
        addresses = {k: v for one in await asyncio.gather(*answers) for k, v in one.items()}
        await ask_all(made, "meet", addresses=addresses)
        await asyncio.sleep(1.5)
        yield made


async def run(run: Run) -> Figures:
    figures: dict[str, float] = {}
    scale = run.scale
    with_serf = is_installed()
    if not with_serf:
        tell(f"without Serf there is nothing to compare with: {HOW_TO_GET}")
    trials = run.trials(25)
    for count in (20, 100):
        await _spread(figures, count, trials, with_serf)
    for count in (5, 20, 50):
        await _detection(figures, count, max(1, round(9 * scale)), with_serf)
    await _accusations(figures, max(2.0, 600 * scale))
    await _rest(figures, max(2.0, 20 * scale))
    await _agents_at_rest(figures, max(2.0, 30 * scale), with_serf)
    return figures


# --- how fast a change spreads --------------------------------------------------------------------


async def _spread(figures: dict[str, float], count: int, trials: int, with_serf: bool) -> None:
    lossy: list[float] = []
    async with our_cluster(count) as workers:
        ours = await _our_changes(workers, trials)
    if count == 100:
        async with our_cluster(count, loss=0.05) as workers:
            lossy = await _our_changes(workers, trials)
        _note(figures, f"spread_{count}_loss_5", lossy)
    _note(figures, f"spread_{count}", ours)
    if not with_serf:
        return
    theirs = []
    async with serf_cluster(count) as agents:
        for trial in range(trials):
            value = f"v{trial}"
            began_s = agents[0].set_tag(value)
            key = ("member-update", f"s0 {value}")
            theirs.append(await to_last_agent(agents[1:], key, began_s))
    _note(figures, f"serf_spread_{count}", theirs)
    figures[f"spread_{count}_share_of_serf"] = percentile(ours, 0.5) / percentile(theirs, 0.5)
    if lossy:
        share = percentile(lossy, 0.95) / percentile(theirs, 0.95)
        figures[f"spread_{count}_loss_5_p95_share_of_serf_p95"] = share


async def _our_changes(workers: list[WorkerProcess], trials: int) -> list[float]:
    return [await _our_change(workers, f"1.{trial + 1}") for trial in range(trials)]


async def _our_change(workers: list[WorkerProcess], version: str) -> float:
    name = workers[0].names[0]
    began_s = await workers[0].ask("install", name=name, version=version)
    while True:
        await asyncio.sleep(0.3)  # nobody is asked while it matters
        seen = [at for one in workers for at in await one.ask("seen", name=name, version=version)]
        if None not in seen:
            return float(max(seen)) - float(began_s)


# --- how fast a dead node is noticed --------------------------------------------------------------


async def _detection(figures: dict[str, float], count: int, trials: int, with_serf: bool) -> None:
    ours, theirs = [], []
    for _ in range(trials):
        async with our_cluster(count) as workers:
            dead, *others = workers
            began_s = time.monotonic()
            dead.process.send_signal(signal.SIGKILL)
            ours.append(await _all_failed(others, dead.names[0]) - began_s)
        if with_serf:
            async with serf_cluster(count) as agents:
                began_s = time.monotonic()
                agents[0].process.send_signal(signal.SIGKILL)
                key = ("member-failed", "s0")
                while any(key not in agent.seen_s for agent in agents[1:]):
                    await asyncio.sleep(0.05)
                theirs.append(max(agent.seen_s[key] for agent in agents[1:]) - began_s)
    _note(figures, f"detection_{count}", ours)
    if theirs:
        _note(figures, f"serf_detection_{count}", theirs)
        share = percentile(ours, 0.5) / percentile(theirs, 0.5)
        figures[f"detection_{count}_share_of_serf"] = share


async def _all_failed(workers: list[WorkerProcess], name: str) -> float:
    while True:
        await asyncio.sleep(0.2)
        failed = [at for one in workers for at in await one.ask("failed", name=name)]
        if None not in failed:
            return float(max(failed))


# --- nobody is accused who lives ------------------------------------------------------------------


async def _accusations(figures: dict[str, float], length_s: float) -> None:
    async with our_cluster(50, loss=0.05) as workers:
        await asyncio.sleep(length_s)
        counts = await _counts(workers)
    figures["lossy_s"] = length_s
    figures["suspicions"] = counts["suspected"]
    figures["false_accusations"] = counts["failed"]
    async with our_cluster(5) as workers:
        stopped, *others = workers
        for _ in range(max(1, min(10, round(length_s / 5)))):
            stopped.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(_SUSPICION_S / 2)
            stopped.process.send_signal(signal.SIGCONT)
            await asyncio.sleep(2.0)
        figures["false_accusations_of_a_stopped_node"] = (await _counts(others))["failed"]


# --- what rest costs ------------------------------------------------------------------------------


async def _rest(figures: dict[str, float], length_s: float) -> None:
    for count in _REST:
        async with our_cluster(count) as workers:
            before = await _counts(workers)
            began_s = time.monotonic()
            await asyncio.sleep(length_s)
            after = await _counts(workers)
            per_node_s = count * (time.monotonic() - began_s)
        for what in ("packets", "bytes"):
            figures[f"rest_{what}_per_node_s_{count}"] = (after[what] - before[what]) / per_node_s
        share = (after["cpu_s"] - before["cpu_s"]) / per_node_s
        figures[f"rest_cpu_share_per_node_{count}"] = share
    for what in ("packets", "bytes"):
        least, most = (figures[f"rest_{what}_per_node_s_{n}"] for n in (_REST[0], _REST[-1]))
        figures[f"rest_{what}_growth"] = most / least


async def _agents_at_rest(figures: dict[str, float], length_s: float, with_serf: bool) -> None:
    async with agents(_ALONE_MAX) as pids:
        await asyncio.sleep(3.0)
        figures["agent_cpu_share_20"] = await cpu_share(pids, length_s)
        figures["agent_memory_mib"] = memory_mib(pids)
    if with_serf:
        async with serf_cluster(_ALONE_MAX) as others:
            pids = [other.process.pid for other in others]
            figures["serf_cpu_share_20"] = await cpu_share(pids, length_s)


async def _counts(workers: list[WorkerProcess]) -> dict[str, float]:
    found = await asyncio.gather(*(worker.ask("counts") for worker in workers))
    return {name: sum(one[name] for one in found) for name in found[0]}


def _note(figures: dict[str, float], name: str, samples_s: list[float]) -> None:
    for label, share in (("median", 0.5), ("p95", 0.95), ("max", 1.0)):
        figures[f"{name}_{label}_ms"] = percentile(samples_s, share) * 1000
