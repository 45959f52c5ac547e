"""What the core needs from the world, as protocols.

Every port has one implementation for real servers and one in memory; `tests/contract` holds them to
the same answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from peerupgrade.core.effects import Memory
from peerupgrade.core.gossip.packets import Packet
from peerupgrade.core.requests import Heard, LockReply, LockRequest, Reply, Request
from peerupgrade.errors import FrameFault


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


class SendFault(StrEnum):
    """Why a packet was not sent."""

    NO_ADDRESS = "no_address"  # where it should go is no `host:port` with an IP address
    NO_ROUTE = "no_route"  # the machine knows no way there
    FULL = "full"  # the machine takes no more datagrams just now
    BUSY = "busy"  # too many streams are being sent
    NO_STREAM = "no_stream"  # no connection, or it broke
    UNENCODABLE = "unencodable"  # it is too large even for a stream, or holds what is no text


@dataclass(slots=True)
class Traffic:
    """What a transport has done since it began; the numbers only grow."""

    sent: int = 0
    sent_bytes: int = 0  # of frames; what lies around them on the wire comes on top
    heard: int = 0
    unsent: Counter[SendFault] = field(default_factory=Counter)
    refused: Counter[FrameFault] = field(default_factory=Counter)


class Transport(Protocol):
    """Packets from node to node; any of them may be lost, come twice, late or out of order."""

    @property
    def address(self) -> str:
        """`host:port` by which others reach it."""
        ...

    @property
    def traffic(self) -> Traffic:
        """What it has done; read it whenever you like."""
        ...

    async def start(self, hear: Callable[[Packet, str], None]) -> None:
        """Hear from now on; again: let another one hear.

        Args:
            hear: called for each packet, with the `host:port` that it came from, which need not be
                one that hears.
        """
        ...

    def send(self, to: str, packet: Packet) -> None:
        """Send without waiting; what cannot be sent is counted.

        Args:
            to: `host:port` with an IP address.
            packet: news that are too many for one packet are left out, from the end on.
        """
        ...

    async def aclose(self) -> None:
        """Hear and send nothing more."""
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
