"""Simulated Redis servers: the real rules of the store, with the ways in which Redis forgets."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TypeAlias

from peerupgrade.core.requests import (
    Claim,
    Claimed,
    Commit,
    Done,
    Exclude,
    Failed,
    Fetch,
    Heard,
    LockReply,
    LockRequest,
    Read,
    ReadAll,
    ReleaseHold,
    Reply,
    Request,
    Scan,
    SetDowngrade,
    SetHold,
    SetRollout,
    TakeSlot,
)
from peerupgrade.core.store import LockState, StoreState, execute, execute_lock

_Reads: TypeAlias = Read | ReadAll | Fetch | Scan
# Acknowledged once durable.
_Promise: TypeAlias = SetHold | ReleaseHold | SetRollout | SetDowngrade | Exclude | TakeSlot
REPLICA_LAG_S = 1.0  # how long a primary without its replica goes on (`min-replicas-max-lag`)


@dataclass(slots=True)
class SimStore:
    """The store, its lagging copy, and what it was told to forget.

    `copy` is what survives a failover or an unclean restart.
    """

    with_replica: bool
    state: StoreState = field(default_factory=StoreState)
    copy: StoreState = field(default_factory=StoreState)
    up: bool = True
    replica_up: bool = True
    full: bool = False  # out of memory: nothing can be written
    refuses_writes_from_s: float = float("inf")  # R21
    process: int = 1
    identity: str = "process1"
    skew_ms: int = 0

    def now_ms(self, now_s: float) -> int:
        """The server's clock."""
        return 1_000_000 + int(now_s * 1000) + self.skew_ms

    def execute(self, request: Request, now_s: float) -> tuple[Reply, list[Heard]]:
        """Do one request, and wait for the replica where whoever asks does."""
        if not isinstance(request, _Reads) and not self._writable(now_s):
            return Failed("the server refuses writes"), []
        reply, heard = execute(self.state, request, self.now_ms(now_s), self.identity)
        waits = isinstance(request, Commit | Claim | _Promise)
        if waits and isinstance(reply, Done | Claimed) and self.with_replica:
            reply = reply if self.replicate() else _not_durable(request, reply)
        return reply, heard

    def execute_lock(self, request: LockRequest, now_s: float) -> tuple[LockReply, list[Heard]]:
        """The store is lock server 0."""
        if not self._writable(now_s):
            return LockReply(granted=False, answered=False), []
        return execute_lock(self.state.lock, request, self.now_ms(now_s), self.state)

    def _writable(self, now_s: float) -> bool:
        return not self.full and now_s < self.refuses_writes_from_s

    def replicate(self) -> bool:
        """Bring the copy up to date; False when there is none to reach."""
        if self.with_replica and not self.replica_up:
            return False
        self.copy = self.state.copy()
        return True

    def clone(self) -> SimStore:
        """A server that shares nothing that changes."""
        store = copy(self)
        store.state, store.copy = self.state.copy(), self.copy.copy()
        return store

    def restart(self) -> None:
        """A new process that has everything."""
        self._new_process()
        self.up = True

    def rename(self) -> None:
        """Its first replica attaches: another replication id, and nothing lost."""
        self._new_process()

    def lose(self) -> None:
        """Failover to the lagging copy, or a restart that lost the last writes."""
        self._new_process()
        self.state = self.copy.copy()
        self.up = True

    def abandon(self, now_s: float) -> SimStore:
        """The replica takes over while the old primary lives on without it; gives the old one."""
        old = SimStore(
            with_replica=True,
            state=self.state,
            replica_up=False,
            refuses_writes_from_s=now_s + REPLICA_LAG_S,
            process=self.process,
            identity=self.identity,
            skew_ms=self.skew_ms,
        )
        self.lose()
        return old

    def wipe(self) -> None:
        """FLUSHALL: the same process, and nothing in it."""
        self.state = StoreState()
        self.copy = StoreState()

    def _new_process(self) -> None:
        self.process += 1
        self.identity = f"process{self.process}"


def _not_durable(request: Request, reply: Done | Claimed) -> Reply:
    if isinstance(request, _Promise):
        return Failed("the replicas have not confirmed it")
    if isinstance(reply, Claimed):
        return Claimed(reply.epoch, reply.view, durable=False)
    return Done(reply.view, durable=False)


@dataclass(slots=True)
class SimLockServer:
    """One more lock server."""

    up: bool = True
    state: LockState = field(default_factory=LockState)

    def execute_lock(self, request: LockRequest, now_s: float) -> tuple[LockReply, list[Heard]]:
        """Do one request."""
        return execute_lock(self.state, request, int(now_s * 1000))
