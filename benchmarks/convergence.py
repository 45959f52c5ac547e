"""From the last old node's new version to the last callback, beside what a bare PUBLISH takes.

The nodes are upgraded but for one; then that one is. The clock begins when it tells the store, and
ends when the last of all nodes has operated at the new version: its callback has run. Up to twenty
nodes are whole, each a process of its own; more share processes and do not gossip.

In the same run, one after the other: a PUBLISH to as many subscribers of redis-py in the very
processes of the nodes, the same to readers in C, and a put to as many watchers of etcd; then a user
event of Serf to as many agents. All of them keep what they keep in memory (/dev/shm where there is
one): a disk would only add its own time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from benchmarks import limits
from benchmarks.crowd import ALONE_MAX, PROCESSES, Crowd, StorePlace, form, gathered, store_place
from benchmarks.frame import Figures, Goal, Run, percentile, tell
from benchmarks.peers import etcd, serf
from benchmarks.workers import WorkerProcess

ABOUT = "from the last old node's new version to the last callback, its stages, limits and peers"
LASTS = "about 12 min"
TAKES = ("nodes", "trials", "processes", "store")
GOALS = (
    Goal("raise_5_of_limit_redis_py", at_most=4.0),
    Goal("broadcast_100_of_limit_redis_py", at_most=1.0),
    Goal("broadcast_1000_of_limit_redis_py", at_most=1.0),
    Goal("broadcast_100_of_limit_c", at_most=2.0),
    Goal("broadcast_1000_of_limit_c", at_most=2.0),
    Goal("broadcast_100_p99_of_median", at_most=2.0),
    Goal("broadcast_1000_p99_of_median", at_most=2.0),
    Goal("broadcast_growth_of_linear", at_most=1.0),
    Goal("broadcast_100_of_etcd", at_most=0.5),
    Goal("broadcast_1000_of_etcd", at_most=0.5),
    Goal("etcd_cluster_version_of_raise_3", at_least=100.0),
)
_NODES = (3, 5, 20, 100, 1_000, 2_000)
_TRIALS, _TRIALS_OF_MANY = 20, 8
_MANY = 500
_LONG_TTL_S = 30.0
_ETCD_MAX = 1_000
_SERF_MAX = 100
_STEPS_OF_GROWTH = (100, 2_000)
# What happens in this order, each to the last node that it happens to.
_STAGES = (
    ("store", "admitted"),
    ("master_sees", "saw"),
    ("floor", "asks for raised"),
    ("commit", "committed raised"),
    ("broadcast", "heard"),
    ("disk", "remembered"),
    ("callback", "called"),
    ("confirm", "confirmed"),
    ("settled", "committed settled"),
)


@dataclass(slots=True)
class Trials:
    """Milliseconds of each trial with one number of nodes, by name."""

    nodes: int
    ms: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, took_s: float) -> None:
        """One more."""
        self.ms.setdefault(name, []).append(took_s * 1000)

    def note(self, run: Run) -> dict[str, float]:
        """All as figures, and our own beside each of the others."""
        figures: dict[str, float] = {}
        for name, samples in self.ms.items():
            figures |= run.note(f"{name}_{self.nodes}", samples)
        medians = {name: percentile(samples, 0.5) for name, samples in self.ms.items()}
        for ours in ("raise", "broadcast"):
            for other in ("limit_redis_py", "limit_c", "etcd", "serf"):
                if other in medians:
                    figures[f"{ours}_{self.nodes}_of_{other}"] = medians[ours] / medians[other]
            p99 = percentile(self.ms[ours], 0.99)
            figures[f"{ours}_{self.nodes}_p99_of_median"] = p99 / medians[ours]
        return figures


async def run(run: Run) -> Figures:
    figures: dict[str, float] = {}
    without = etcd.missing()
    if without:
        tell(f"no figures of etcd: {without}")
    if not serf.is_installed():
        tell(f"no figures of Serf: {serf.HOW_TO_GET}")
    if not limits.has_compiler():
        tell(f"no limit of readers in C: {limits.HOW_TO_GET}")
    for nodes in run.nodes(_NODES):
        async with store_place(run.store) as place:
            figures |= await _with(run, place, nodes, with_etcd=not without)
    least, most = (figures.get(f"broadcast_{one}_median_ms") for one in _STEPS_OF_GROWTH)
    if least and most:
        linear = _STEPS_OF_GROWTH[1] / _STEPS_OF_GROWTH[0]
        figures["broadcast_growth_of_linear"] = most / least / linear
    figures |= await _cluster_version(run, figures)
    return figures


async def _with(run: Run, place: StorePlace, nodes: int, *, with_etcd: bool) -> Figures:
    """One number of nodes; ours, the limits and etcd take turns."""
    whole = nodes <= ALONE_MAX
    count = run.trials(_TRIALS if nodes <= _MANY else _TRIALS_OF_MANY)
    processes = run.processes(PROCESSES)
    trials = Trials(nodes)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        crowd = await enter(gathered(place, nodes, processes, whole=whole))
        # A thousand nodes in one process keep it so busy that a short lease would be lost.
        lease = {} if whole else {"lock_ttl_s": _LONG_TTL_S}
        await form(crowd, whole=whole, **lease)
        await limits.subscribe(place.url, crowd.workers, nodes)
        readers = []
        if limits.has_compiler() and limits.readable(place.url):
            readers = await enter(limits.readers(place.url, nodes, processes, place.home))
        watchers: list[WorkerProcess] = []
        if with_etcd and nodes <= _ETCD_MAX:
            server = await enter(etcd.etcd())
            watchers = await enter(etcd.watchers(server, nodes, len(crowd.workers)))
        quiet_s = 0.2 + nodes / 2_000  # nobody is asked while it matters
        for trial in run.each(count, f"{nodes} nodes"):
            stages = await one_raise(crowd, f"1.{trial + 1}", quiet_s)
            for name, took_s in stages.items():
                trials.add(name, took_s)
            bare_s = await limits.to_last_subscriber(crowd.client, crowd.workers, nodes, quiet_s)
            trials.add("limit_redis_py", bare_s)
            if readers:
                trials.add("limit_c", await limits.to_last_reader(crowd.client, readers))
            if watchers:
                trials.add("etcd", await etcd.to_last_watcher(watchers, quiet_s))
    if serf.is_installed() and nodes <= _SERF_MAX:
        trials.ms["serf"] = await serf.user_events(nodes, run.each(count, f"{nodes} of Serf"))
    return trials.note(run)


async def one_raise(crowd: Crowd, version: str, quiet_s: float) -> dict[str, float]:
    """Upgrade all, the last one last; gives seconds.

    Returns:
        `raise`: from telling the store to the last callback; `broadcast`: from the master's commit
        to there; `stage_...`: what each stage added to what was before it.
    """
    *others, last = crowd.names
    await crowd.install(others, version)

    async def admitted() -> bool:
        marks = await crowd.marks(version)
        return all("admitted" in marks[name] for name in others)

    await crowd.until(admitted, f"were admitted with {version}")
    await asyncio.sleep(quiet_s)
    await crowd.install([last], version)
    await asyncio.sleep(quiet_s)
    await crowd.complete(version)
    marks = await crowd.marks(version)
    await crowd.ask("forget")
    return _stages(marks, last)


def _stages(marks: Mapping[str, Mapping[str, float]], last: str) -> dict[str, float]:
    began_s = marks[last]["asked"]
    reached_s = {
        name: last_mark(marks.values(), f"saw {last}" if what == "saw" else what)
        for name, what in _STAGES
    }
    reached_s["store"] = marks[last]["admitted"]
    committing_s = reached_s["floor"]
    done_s = reached_s["callback"]
    found = {"raise": done_s - began_s, "broadcast": done_s - committing_s}
    before_s = began_s
    for name, _ in _STAGES:
        found[f"stage_{name}"] = max(0.0, reached_s[name] - before_s)
        before_s = max(before_s, reached_s[name])
    return found


def last_mark(marks: Iterable[Mapping[str, float]], what: str) -> float:
    """When something happened to the last node that it happened to."""
    return max(one[what] for one in marks if what in one)


async def _cluster_version(run: Run, figures: Mapping[str, float]) -> Figures:
    """What etcd needs for the same decision: its own cluster version."""
    without = etcd.missing_upgrade()
    if without:
        tell(f"no figure of etcd's cluster version: {without}")
        return {}
    trials = run.trials(5)
    took_s = [
        await etcd.rise_of_cluster_version() for _ in run.each(trials, "etcd's cluster version")
    ]
    found = dict(run.note("etcd_cluster_version", [one * 1000 for one in took_s]))
    ours = figures.get("raise_3_median_ms")
    if ours:
        median = found["etcd_cluster_version_median_ms"]
        found["etcd_cluster_version_of_raise_3"] = median / ours
    return found
