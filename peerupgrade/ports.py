"""What the core needs from the world, as protocols.

Every port has one implementation for real servers and one in memory; `tests/contract` holds them to
the same answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from peerupgrade.core.effects import Memory
from peerupgrade.core.gossip.packets import Packet
from peerupgrade.core.requests import Heard, LockReply, LockRequest, Reply, Request


class Store(Protocol):
    """The shared storage area."""

    async def call(self, request: Request) -> Reply:
        """Do one request, at most once.

        Returns:
            The answer; `Failed` when none came: then it may or may not have been done.

        Raises:
            ConfigError: it will never answer as things are set, for example a wrong password.
        """
        ...

    async def history(self, count: int) -> list[dict[str, str]]:
        """The newest `count` entries of the history, newest first; each with its `id`.

        Raises:
            UnavailableError: no answer.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class LockServer(Protocol):
    """One independent server of the lock."""

    async def call(self, request: LockRequest) -> LockReply:
        """Do one request, at most once; `answered` is False when no answer came in time."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...


class Bus(Protocol):
    """Pub/sub of the store."""

    async def listen(self, hear: Callable[[Heard], None], *, members: bool) -> None:
        """Listen until cancelled, and connect again whenever that is needed.

        Args:
            hear: called for everything heard, and with `Subscribed` after each (re)subscription.
            members: listen to the members' channel instead of the record's.
        """
        ...


class Transport(Protocol):
    """Packets between nodes."""

    def send(self, to: str, packet: Packet) -> None:
        """Send a packet to `host:port`; it may not arrive, and that is not told."""
        ...


class Disk(Protocol):
    """A node's own memory."""

    def load(self) -> Memory:
        """What was saved last; an empty memory if nothing was.

        Raises:
            DataError: what is there cannot be read.
        """
        ...

    def save(self, memory: Memory) -> None:
        """Write durably; on return it survives a crash of the machine.

        Raises:
            OSError: it could not be written.
        """
        ...


class Clock(Protocol):
    """A clock that also counts while the machine sleeps."""

    def now_s(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...
