"""Everything that a node needs from the world, in memory: for tests and for trying things out.

Theory of operation: one `MemoryCluster` is a store, its lock servers and its pub/sub for any number
of nodes in one event loop. The rules are those of `core.store`, so it answers as a real server
does; its methods do to it what happens to real servers.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import time
from collections.abc import Callable
from itertools import count, islice

from peerupgrade.core.effects import Memory
from peerupgrade.core.gossip.packets import Packet
from peerupgrade.core.requests import (
    Failed,
    Heard,
    LockReply,
    LockRequest,
    MemberHeard,
    Reply,
    Request,
    Subscribed,
)
from peerupgrade.core.store import LockState, StoreState, execute, execute_lock
from peerupgrade.errors import UnavailableError
from peerupgrade.ports import SendFault, Traffic

Hear = Callable[[Heard], None]


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryCluster:
    """A store, lock servers and pub/sub.

    Attributes:
        state: what the store holds; the lock of server 0 is in it.
        identity: of the server process.
        down: nothing that this server does answers; its pub/sub is silent.
        locks_down: numbers of the other lock servers that do not answer.
    """

    def __init__(self, now_ms: Callable[[], int] = _wall_ms) -> None:
        self.state = StoreState()
        self.identity = secrets.token_hex(20)
        self.down = False
        self.locks_down: set[int] = set()
        self._now_ms = now_ms
        self._locks: dict[int, LockState] = {}
        self._listeners: list[tuple[Hear, bool]] = []

    def store(self) -> MemoryStore:
        """A connection to the store."""
        return MemoryStore(self)

    def lock_server(self, index: int) -> MemoryLockServer:
        """A connection to one lock server; number 0 is the store."""
        return MemoryLockServer(self, index)

    def bus(self) -> MemoryBus:
        """A connection to the pub/sub."""
        return MemoryBus(self)

    # --- faults -----------------------------------------------------------------------------------

    def restart(self) -> None:
        """Another server process answers from now on; every connection is made anew."""
        self.identity = secrets.token_hex(20)
        self.down = False
        for hear, _ in self._listeners:
            self._tell(hear, Subscribed())

    def fail_over(self, replica: StoreState) -> None:
        """A replica takes over that has only what `state.copy()` had; the rest is lost."""
        self.state = replica.copy()
        self.restart()

    def wipe(self) -> None:
        """Somebody deletes every key; the server process stays."""
        self.state = StoreState()

    # --- what the connections do ------------------------------------------------------------------

    def execute(self, request: Request) -> Reply:
        """One request to the store."""
        if self.down:
            return Failed("the store is down")
        reply, heard = execute(self.state, request, self._now_ms(), self.identity)
        self._publish(heard)
        return reply

    def execute_lock(self, index: int, request: LockRequest) -> LockReply:
        """One request to a lock server."""
        if self.down if index == 0 else index in self.locks_down:
            return LockReply(False, answered=False)
        if index == 0:
            reply, heard = execute_lock(self.state.lock, request, self._now_ms(), self.state)
            self._publish(heard)
            return reply
        lock = self._locks.setdefault(index, LockState())
        reply, _ = execute_lock(lock, request, self._now_ms())
        return reply

    def subscribe(self, hear: Hear, *, members: bool) -> Callable[[], None]:
        """Listen; the answer ends it."""
        listener = (hear, members)
        self._listeners.append(listener)
        self._tell(hear, Subscribed())
        return lambda: self._listeners.remove(listener)

    def _publish(self, messages: list[Heard]) -> None:
        for message in messages:
            for hear, members in self._listeners:
                if isinstance(message, MemberHeard) is members:
                    self._tell(hear, message)

    def _tell(self, hear: Hear, message: Heard) -> None:
        # Later, as from a real server: never within the request that caused it.
        asyncio.get_running_loop().call_soon(hear, message)


class MemoryStore:
    """`ports.Store` of a `MemoryCluster`."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def call(self, request: Request) -> Reply:
        """Do one request."""
        return self._cluster.execute(request)

    async def history(self, count: int) -> list[dict[str, str]]:
        """The newest `count` entries of the history, newest first; each with its `id`.

        Raises:
            UnavailableError: the store is down.
        """
        if self._cluster.down:
            raise UnavailableError("cannot read the history: the store is down")
        numbered = reversed(list(enumerate(self._cluster.state.history, 1)))
        return [{"id": f"{number}-0", **entry} for number, entry in islice(numbered, count)]

    async def aclose(self) -> None:
        """Nothing is open."""


class MemoryLockServer:
    """`ports.LockServer` of a `MemoryCluster`."""

    def __init__(self, cluster: MemoryCluster, index: int) -> None:
        self._cluster = cluster
        self._index = index

    async def call(self, request: LockRequest) -> LockReply:
        """Do one request."""
        return self._cluster.execute_lock(self._index, request)

    async def aclose(self) -> None:
        """Nothing is open."""


class MemoryBus:
    """`ports.Bus` of a `MemoryCluster`."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def listen(self, hear: Hear, *, members: bool) -> None:
        """Listen until cancelled."""
        unsubscribe = self._cluster.subscribe(hear, members=members)
        try:
            await asyncio.get_running_loop().create_future()  # for ever
        finally:
            unsubscribe()


class MemoryNetwork:
    """Gossip between nodes in one event loop.

    Attributes:
        cut_off: addresses whose packets are lost, in both directions.
    """

    def __init__(self) -> None:
        self.cut_off: set[str] = set()
        self._hearing: dict[str, MemoryTransport] = {}
        self._ports = count(1)

    def transport(self) -> MemoryTransport:
        """One more node's."""
        return MemoryTransport(self, f"127.0.0.1:{next(self._ports)}")

    def attach(self, transport: MemoryTransport) -> None:
        """It hears from now on."""
        self._hearing[transport.address] = transport

    def detach(self, transport: MemoryTransport) -> None:
        """It hears nothing any more."""
        self._hearing.pop(transport.address, None)

    def carry(self, source: str, to: str, packet: Packet) -> None:
        """Later, as from a real network: never within what sent it."""
        asyncio.get_running_loop().call_soon(self._deliver, source, to, packet)

    def _deliver(self, source: str, to: str, packet: Packet) -> None:
        receiver = self._hearing.get(to)
        if receiver is not None and self.cut_off.isdisjoint((source, to)):
            receiver.deliver(packet, source)


class MemoryTransport:
    """`ports.Transport` of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self._traffic = Traffic()
        self._hear: Callable[[Packet, str], None] | None = None
        self._closed = False

    @property
    def address(self) -> str:
        """`host:port` by which others reach it."""
        return self._address

    @property
    def traffic(self) -> Traffic:
        """What it has done."""
        return self._traffic

    async def start(self, hear: Callable[[Packet, str], None]) -> None:
        """Hear from now on."""
        self._hear = hear
        self._network.attach(self)

    def send(self, to: str, packet: Packet) -> None:
        """Send without waiting; packets have no limit here."""
        if self._closed:
            return
        host, _, port = to.rpartition(":")
        if not host or not port.isdigit():
            self._traffic.unsent[SendFault.NO_ADDRESS] += 1
            return
        self._traffic.sent += 1
        self._network.carry(self._address, to, packet)

    def deliver(self, packet: Packet, source: str) -> None:
        """A packet has come."""
        assert self._hear is not None
        self._traffic.heard += 1
        self._hear(packet, source)

    async def aclose(self) -> None:
        """Hear and send nothing more."""
        self._closed = True
        self._network.detach(self)


class MemoryDisk:
    """`ports.Disk` that survives a restart of the node, but not of the process.

    Attributes:
        memory: what was saved last.
        full: nothing more can be written.
    """

    def __init__(self) -> None:
        self.memory = Memory()
        self.full = False

    def load(self) -> Memory:
        """What was saved last; an empty memory if nothing was."""
        return self.memory

    def save(self, memory: Memory) -> None:
        """Keep it.

        Raises:
            OSError: the disk is full.
        """
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.memory = memory
