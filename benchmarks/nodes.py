"""Several real nodes in one process, each with its own connections and memory: see `workers`.

A node is `peerupgrade.Node`, as in any program. What it asks of the world goes through ports that
note the moment, and that can be told to fail. `whole` nodes also gossip and serve HTTP, as an agent
does; the others do neither, so that a thousand fit on a machine.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

import peerupgrade
from benchmarks.agents import memory_mib
from benchmarks.workers import obey
from peerupgrade.adapters.redis_link import RedisLink
from peerupgrade.core.effects import Memory
from peerupgrade.core.requests import (
    Admit,
    Admitted,
    Claimed,
    Commit,
    Done,
    Heard,
    MemberHeard,
    RecordHeard,
    Reply,
    Report,
    Request,
)
from peerupgrade.core.versions import Version
from peerupgrade.ports import Bus, Disk, Store
from peerupgrade.runtime import node as runtime_node
from peerupgrade.runtime.driver import Ports
from peerupgrade.runtime.world import connected
from peerupgrade.settings import Settings

_PORTION = 50  # of the nodes of one process
_BETWEEN_S = 0.01


class Notes:
    """What happened to one node, and when.

    Attributes:
        marks: version -> what happened at it -> the first moment of that.
        claimed_s: when it became master, last.
        calls: of the store, by their kind.
    """

    def __init__(self) -> None:
        self.marks: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self.claimed_s = 0.0
        self.admitted_s = 0.0
        self.calls: Counter[str] = Counter()
        self.deaf_to = ""  # the records of this version, when they come by pub/sub
        self.after: dict[str, Callable[[], None]] = {}  # committed step -> what to do then

    def mark(self, version: Version | str | None, what: str) -> None:
        """It is now."""
        self.marks[str(version)].setdefault(what, time.monotonic())


class NotedStore:
    """A store that notes."""

    def __init__(self, store: Store, notes: Notes) -> None:
        self._store, self._notes = store, notes
        self.history, self.aclose = store.history, store.aclose

    async def call(self, request: Request) -> Reply:
        """As the port."""
        notes = self._notes
        notes.calls[type(request).__name__] += 1
        match request:
            case Admit(installed=installed):
                notes.mark(installed, "asked")
                reply = await self._store.call(request)
                if isinstance(reply, Admitted):
                    notes.mark(installed, "admitted")
                    notes.admitted_s = time.monotonic()
            case Commit(record=record, step=step):
                notes.mark(record.floor, f"asks for {step}")
                reply = await self._store.call(request)
                if isinstance(reply, Done):
                    notes.mark(record.floor, f"committed {step}")
                    notes.after.pop(step, _nothing)()
            case Report(operating=operating):
                reply = await self._store.call(request)
                notes.mark(operating, "confirmed")
            case _:
                reply = await self._store.call(request)
                if isinstance(reply, Claimed):
                    notes.claimed_s = time.monotonic()
        return reply


def _nothing() -> None:
    """No order was given."""


class NotedBus:
    """A bus that notes, and that can be deaf to some records."""

    def __init__(self, bus: Bus, notes: Notes) -> None:
        self._bus, self._notes = bus, notes

    async def listen(self, hear: Callable[[Heard], None], *, members: bool) -> None:
        """As the port."""
        await self._bus.listen(partial(self._heard, hear), members=members)

    def _heard(self, hear: Callable[[Heard], None], heard: Heard) -> None:
        match heard:
            case RecordHeard(record):
                if str(record.acting) == self._notes.deaf_to:
                    return
                self._notes.mark(record.acting, "settled" if record.settled else "heard")
            case MemberHeard(id=name, member=member) if member is not None:
                self._notes.mark(member.installed, f"saw {name}")
        hear(heard)


class NotedDisk:
    """A disk that notes."""

    def __init__(self, disk: Disk, notes: Notes) -> None:
        self._disk, self._notes = disk, notes
        self.load = disk.load

    def save(self, memory: Memory) -> None:
        """As the port."""
        self._disk.save(memory)
        if memory.record is not None:
            self._notes.mark(memory.record.acting, "remembered")


def ended_file(pid: int) -> Path:
    """Where a process that was told to end says when that was; whoever reads it removes it."""
    return Path(tempfile.gettempdir(), f"peerupgrade-bench-ended-{pid}")


_notes: defaultdict[str, Notes] = defaultdict(Notes)


@asynccontextmanager
async def _noted(settings: Settings) -> AsyncIterator[tuple[Ports, list[RedisLink]]]:
    async with connected(settings) as (ports, links):
        notes = _notes[settings.name]
        store, disk = NotedStore(ports.store, notes), NotedDisk(ports.disk, notes)
        yield replace(ports, store=store, bus=NotedBus(ports.bus, notes), disk=disk), links


class Worker:
    """What the lines ask for."""

    def __init__(self) -> None:
        runtime_node.connected = _noted  # type: ignore[assignment]
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._told_to_end)
        self._ending: asyncio.Task[None] | None = None
        self._nodes: dict[str, peerupgrade.Node] = {}
        self._bare: list[asyncio.Task[None]] = []
        self._heard_s: list[float] = []

    # --- nodes ------------------------------------------------------------------------------------

    async def make(
        self,
        names: list[str],
        home: str,
        installed: str,
        whole: bool,
        at_once: bool,
        **settings: Any,
    ) -> int:
        """Nodes that begin, all at once or some after the others; see `operating`."""
        if not whole:
            settings |= {"gossip": "", "listen": ""}
        for name in names:
            node = peerupgrade.Node(
                Settings(
                    name=name,
                    installed=installed,
                    state_dir=str(Path(home, name)),
                    quarantine_s=0.0,
                    **settings,
                )
            )
            node.on_acting(partial(_called, _notes[name]))
            self._nodes[name] = node
        portion = len(names) if at_once else _PORTION
        for at in range(0, len(names), portion):
            some = names[at : at + portion]
            await asyncio.gather(*(self._begin(self._nodes[name], whole) for name in some))
            if not at_once:
                await _until_all(lambda notes: bool(notes.admitted_s), some)
        if not gc.get_freeze_count():  # once, as an agent does: what has ended since is garbage
            gc.freeze()
        return os.getpid()

    def _told_to_end(self) -> None:
        """SIGTERM: all nodes here stop as members that are away, then this process ends."""
        began_s = time.monotonic()
        self._ending = asyncio.create_task(self._end(began_s))

    async def _end(self, began_s: float) -> None:
        await asyncio.gather(*(node.stop(leave=False) for node in self._nodes.values()))
        ended_file(os.getpid()).write_text(str(began_s))
        os._exit(0)

    async def _begin(self, node: peerupgrade.Node, whole: bool) -> None:
        await node.start()
        if whole:
            await node.serve()

    async def stop(self, name: str) -> int:
        """One of them leaves."""
        await self._nodes.pop(name).stop(leave=True)
        return 0

    async def operating(self) -> list[str | None]:
        """At what each operates."""
        return [node.operating for node in self._nodes.values()]

    async def complete(self, version: str) -> bool:
        """All here know that the upgrade to this version is over."""
        records = [node.status().record for node in self._nodes.values()]
        return all(
            one is not None and str(one.data) == version and one.upgrade is None for one in records
        )

    async def install(self, names: list[str], version: str) -> float:
        """Other software on these, some after the others; gives the moment of the last ones.

        Many on one machine would else wait for each other so long that the store seems dead.
        """
        for at in range(0, len(names), _PORTION):
            some = names[at : at + _PORTION]
            if at:
                await asyncio.sleep(_BETWEEN_S)
            began_s = time.monotonic()
            for name in some:
                self._nodes[name].installed_changed(version)
            if len(names) > _PORTION:
                await _until_all(lambda notes: "admitted" in notes.marks[version], some)
        return began_s

    async def marks(self, version: str) -> dict[str, dict[str, float]]:
        """Of each node, what happened at a version."""
        return {name: _notes[name].marks[version] for name in self._nodes}

    async def forget(self) -> int:
        """Drop the marks of earlier versions."""
        for notes in _notes.values():
            notes.marks.clear()
        return 0

    async def masters(self) -> dict[str, float]:
        """When each node here became master, last; 0: never."""
        return {name: _notes[name].claimed_s for name in self._nodes}

    async def admitted(self) -> list[float]:
        """When each node here was admitted, last; 0: not yet."""
        return [_notes[name].admitted_s for name in self._nodes]

    async def calls(self) -> dict[str, int]:
        """What all nodes here have asked of the store."""
        return dict(sum((notes.calls for notes in _notes.values()), Counter()))

    async def vitals(self) -> dict[str, float]:
        """Of this process."""
        traffic = [one for node in self._nodes.values() if (one := node.traffic()) is not None]
        return {
            "cpu_s": time.process_time(),
            "memory_mib": memory_mib([os.getpid()]),
            "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - pathlib opens one more
            "tasks": len(asyncio.all_tasks()),
            "packets": sum(one.sent for one in traffic),
            "bytes": sum(one.sent_bytes for one in traffic),
        }

    # --- faults -----------------------------------------------------------------------------------

    async def deafen_to(self, version: str) -> int:
        """No node here hears records of this version on pub/sub; "": all are heard again."""
        for notes in _notes.values():
            notes.deaf_to = version
        return 0

    async def after(self, step: str, kill: str, pid: int) -> int:
        """Once a step is committed from here, send a signal to a process, at once."""
        number = signal.Signals[kill]
        for notes in _notes.values():
            notes.after = {step: partial(os.kill, pid, number)}
        return 0

    async def resign(self) -> float:
        """Whoever is master here hands over; gives the moment."""
        began_s = time.monotonic()
        await asyncio.gather(*(node.resign() for node in self._nodes.values()))
        return began_s

    # --- bare subscribers of the library ----------------------------------------------------------

    async def subscribe(self, store: str, channel: str, count: int) -> int:
        """So many, as anybody would write them."""
        ready = [asyncio.Event() for _ in range(count)]
        self._bare = [asyncio.create_task(self._listen(store, channel, one)) for one in ready]
        await asyncio.gather(*(one.wait() for one in ready))
        return count

    async def _listen(self, store: str, channel: str, ready: asyncio.Event) -> None:
        async with Redis.from_url(store, protocol=2) as client, client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    self._heard_s.append(time.monotonic())
                else:
                    ready.set()

    async def heard(self) -> list[float]:
        """When they heard something; they begin anew."""
        heard_s, self._heard_s = self._heard_s, []
        return heard_s


async def _until_all(reached: Callable[[Notes], bool], names: list[str]) -> None:
    while not all(reached(_notes[name]) for name in names):
        await asyncio.sleep(_BETWEEN_S)


def _called(notes: Notes, version: str, _previous: str | None) -> None:
    notes.mark(version, "called")


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.getLogger("peerupgrade").setLevel(logging.ERROR)  # a thousand would say the same
    obey(Worker)
