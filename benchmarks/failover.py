"""How long a cluster is without a master, and how long a raise takes whose master dies in it.

Five nodes, each a process of its own. The master is killed, paused (SIGSTOP) or told to stop in
order (SIGTERM), right before the last old node is upgraded, or by its own hand in the very moment
in which a step of the raise was committed; and it is told to hand over. No raise passes a member
that is silent or away; so the one that has ended begins again at once, as a supervisor would have
it, and the one that was paused goes on once another is master. The raise is done when all five have
run their callbacks. Beside it, the election of etcd's client with the same ttl, whose leader is
killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from benchmarks.crowd import Crowd, begin, form, gathered, store_place
from benchmarks.frame import Figures, Goal, Run, tell
from benchmarks.nodes import ended_file
from benchmarks.peers import etcd
from benchmarks.workers import WorkerProcess

ABOUT = "the master dies, stops or hands over: until the next one, and until a raise is done"
LASTS = "about 6 min"
TAKES = ("trials", "store")
_TTL_S = 3.0
_BARS_MS = (_TTL_S + 0.3) * 1000
GOALS = (
    Goal("raise_idle_sigkill_median_ms", at_most=_BARS_MS),
    Goal("raise_at_floor_sigkill_median_ms", at_most=_BARS_MS),
    Goal("raise_at_raised_sigkill_median_ms", at_most=_BARS_MS),
    Goal("epoch_graceful_median_ms", at_most=50.0),
)
_NODES = 5
_TRIALS = 5
_POLL_S = 0.02
_TIMEOUT_S = 60.0
_STEPS = ("idle", "floor", "raised", "settled")
_KILLS = ("SIGKILL", "SIGSTOP", "SIGTERM")


@dataclass(slots=True)
class Rig:
    """The cluster, and how its nodes are begun again."""

    crowd: Crowd
    cluster: str
    version: int = 0

    async def master(self) -> tuple[WorkerProcess, float]:
        """Whoever became master last, and when."""
        found: list[tuple[float, WorkerProcess]] = []
        for worker in self.living:
            masters = await worker.ask("masters")
            found += [(at, worker) for at in masters.values()]
        at, worker = max(found, key=lambda one: one[0])
        return worker, at

    @property
    def living(self) -> list[WorkerProcess]:
        """The processes that answer."""
        return [one for one in self.crowd.workers if one.answers]

    async def next_version(self, last: WorkerProcess) -> str:
        """All but the last one are upgraded."""
        self.version += 1
        version = f"1.{self.version}"
        others = [one for one in self.crowd.names if one not in last.names]
        await self.crowd.install(others, version)

        async def admitted() -> bool:
            marks = await self.crowd.marks(version)
            return all("admitted" in marks[name] for name in others)

        await self.crowd.until(admitted, f"were admitted with {version}")
        return version

    async def called(self, version: str) -> float:
        """When the last node has run its callback."""
        async with asyncio.timeout(_TIMEOUT_S):
            while True:
                marks = [
                    m for w in self.living for m in (await w.ask("marks", version=version)).values()
                ]
                if all("called" in one for one in marks):
                    return max(one["called"] for one in marks)
                await asyncio.sleep(_POLL_S)

    async def claimed_after(self, moment_s: float) -> float:
        """When somebody became master after that."""
        async with asyncio.timeout(_TIMEOUT_S):
            while (found := (await self.master())[1]) <= moment_s:
                await asyncio.sleep(_POLL_S)
        return found

    async def bring_back(
        self, worker: WorkerProcess, kill: str, died_s: float, version: str
    ) -> None:
        """The one that was killed begins again at once, the stopped one once it is replaced."""
        if kill != "SIGSTOP":
            await worker.process.wait()
            await worker.start()
            settings = {"whole": True, "lock_ttl_s": _TTL_S, "installed": version}
            await begin(self.crowd, worker, worker.names, self.cluster, **settings)
        else:
            await self.claimed_after(died_s)
            worker.signal(signal.SIGCONT)
        worker.answers = True


async def run(run: Run) -> Figures:
    figures: dict[str, float] = {}
    trials = run.trials(_TRIALS)
    async with (
        store_place(run.store) as place,
        gathered(place, _NODES, whole=True) as crowd,
    ):
        cluster = await form(crowd, whole=True, lock_ttl_s=_TTL_S)
        rig = Rig(crowd, cluster)
        for kill in _KILLS:
            for step in _STEPS:
                raises, epochs = [], []
                for _ in run.each(trials, f"{kill} at {step}"):
                    epoch_s, raise_s = await _dies(rig, kill, step)
                    epochs.append(epoch_s * 1000)
                    raises.append(raise_s * 1000)
                name = step if step == "idle" else f"at_{step}"
                figures |= run.note(f"epoch_{name}_{kill.lower()}", epochs)
                figures |= run.note(f"raise_{name}_{kill.lower()}", raises)
        graceful = [await _hands_over(rig) * 1000 for _ in run.each(2 * trials, "handing over")]
        figures |= run.note("epoch_graceful", graceful)
    return {**figures, **await _election(run, trials)}


async def _dies(rig: Rig, kill: str, step: str) -> tuple[float, float]:
    """Seconds from the end of the master to the next one, and until the raise is done."""
    master, _ = await rig.master()
    last = next(one for one in rig.crowd.workers if one is not master)
    version = await rig.next_version(last)
    await asyncio.sleep(os.urandom(1)[0] / 256 * _TTL_S / 3)  # anywhere between two extensions
    if step == "idle":
        died_s = time.monotonic()
        master.signal(signal.Signals[kill])
        master.answers = False
        await _install(last, version)
    else:
        await master.ask("after", step=step, kill=kill, pid=master.process.pid)
        began_s = await _install(last, version)
        died_s = await _ended(master, began_s)
    pid = master.process.pid
    await rig.bring_back(master, kill, died_s, version)
    if kill == "SIGTERM":
        died_s = _told(pid)
    done_s, epoch_s = await rig.called(version), await rig.claimed_after(died_s)
    await rig.crowd.complete(version)
    await rig.crowd.ask("forget")
    return epoch_s - died_s, max(0.0, done_s - died_s)


async def _install(last: WorkerProcess, version: str) -> float:
    moment: float = await last.ask("install", names=last.names, version=version)
    return moment


async def _ended(master: WorkerProcess, began_s: float) -> float:
    """When it died or was stopped, seen from outside; about a millisecond late."""
    master.answers = False
    async with asyncio.timeout(_TIMEOUT_S):
        while _state(master.process.pid) not in "TZX":
            await asyncio.sleep(0.001)
    return max(began_s, time.monotonic())


def _told(pid: int) -> float:
    """When a process that has ended in order was told to."""
    file = ended_file(pid)
    moment_s = float(file.read_text())
    file.unlink()
    return moment_s


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


async def _hands_over(rig: Rig) -> float:
    """Seconds until another one is master."""
    master, _ = await rig.master()
    began_s = await master.ask("resign")
    return await rig.claimed_after(began_s) - began_s


async def _election(run: Run, trials: int) -> Figures:
    without = etcd.missing()
    if without:
        tell(f"no figures of etcd: {without}")
        return {}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(etcd.etcd())
        took_s: Sequence[float] = [
            await etcd.election(server, round(_TTL_S), token_hex(4))
            for _ in run.each(trials, "etcd's election")
        ]
    return run.note("etcd_election_sigkill", [one * 1000 for one in took_s])
