"""What nodes tell each other without the store.

Theory of operation: a `Heartbeat` is everything that is known of one node. Only the node itself
makes new ones, each with a higher `number`; others may only change the condition of the one they
have, to `suspect` or `failed`. So two heartbeats of one node are always ordered, whatever way and
in whatever sequence they came, and hearing one twice changes nothing.

Every packet carries a `Digest`: two nodes whose digests are equal know the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from peerupgrade.core.record import ClusterRecord, Standing
from peerupgrade.core.versions import Version


class Condition(StrEnum):
    """Whether a node answers."""

    ALIVE = "alive"
    SUSPECT = "suspect"  # it did not answer; it may still say that it lives
    FAILED = "failed"  # it said nothing for the whole time that it had
    LEFT = "left"  # it said so itself


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What is known of one node.

    Attributes:
        id: of the node.
        incarnation: by which the store admitted it.
        number: grows with everything that the node says of itself.
        installed: installed version.
        lowest: lowest supported version.
        address: `host:port` of its gossip.
        condition: as the sender of the packet sees it.
        operating: the version that it behaves as; None: it does not operate.
        standing: what it may do.
        by: who suspects it, or gave it up; "" for what it says itself.
        zone, labels: as the node was set up.
    """

    id: str
    incarnation: int
    number: int
    installed: Version
    lowest: Version
    address: str
    condition: Condition = Condition.ALIVE
    operating: Version | None = None
    standing: Standing = Standing.SERVING
    by: str = ""
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Digest:
    """Which record the sender has, and which heartbeats.

    Attributes:
        generation, revision, epoch: of the newest record that it has applied; "" and 0: none.
        table: 64 bits that depend on every heartbeat it knows, in no order.
    """

    generation: str = ""
    revision: int = 0
    epoch: int = 0
    table: int = 0


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? `target`: the id that should be; another one does not answer."""

    sender: str
    digest: Digest
    sequence: int
    target: str
    address: str  # where the answer is to go
    news: tuple[Heartbeat, ...] = ()


@dataclass(frozen=True, slots=True)
class PingFor:
    """Please ping `target` at `target_address` for me, and tell me at `address` if it answers."""

    sender: str
    digest: Digest
    sequence: int
    target: str
    target_address: str
    address: str
    news: tuple[Heartbeat, ...] = ()


@dataclass(frozen=True, slots=True)
class Ack:
    """`target` is there: the answer to `Ping` and `PingFor`."""

    sender: str
    digest: Digest
    sequence: int
    target: str
    news: tuple[Heartbeat, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """News. `until`: tell all others whose ids follow yours, up to this one; "": nobody.

    `record`: the newest record of the sender, if it may be new to the receiver.
    """

    sender: str
    digest: Digest
    news: tuple[Heartbeat, ...] = ()
    record: ClusterRecord | None = None
    until: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that the sender knows. `answer`: where its receiver sends its own; "": nowhere."""

    sender: str
    digest: Digest
    heartbeats: tuple[Heartbeat, ...] = ()
    record: ClusterRecord | None = None
    answer: str = ""


Packet: TypeAlias = Ping | PingFor | Ack | Spread | Table
