"""What the HTTP interface needs of a node, as a protocol.

The runtime's node has this form; the tests have a small one of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

from peerupgrade.core.blockers import Blocker
from peerupgrade.core.gossip.view import GossipView
from peerupgrade.core.record import ClusterRecord, Snapshot
from peerupgrade.core.rehearsal import Rehearsal
from peerupgrade.core.requests import OperatorRequest, Reply, Resolve
from peerupgrade.core.status import NodeStatus
from peerupgrade.core.steering import Steering
from peerupgrade.ports import Traffic


@dataclass(frozen=True, slots=True)
class Ledger:
    """Why the upgrade has not finished.

    Attributes:
        blockers: every reason; empty if nothing is unfinished.
        live: the store has answered; False: this is what was known at `as_of_ms`.
        as_of_ms: unix time.
        note: "" or a sentence that says why it is not live.
        snapshot: what the reasons were read from; None if the store has never answered.
    """

    blockers: tuple[Blocker, ...]
    live: bool
    as_of_ms: int
    note: str
    snapshot: Snapshot | None


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One thing that happened. `revision` is of the record that the node knew then."""

    at_ms: int
    node: str
    event: str
    detail: str
    revision: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined, and what to do about it."""

    level: Literal["ok", "warning", "error"]
    subject: str
    text: str
    hint: str = ""


class NodeView(Protocol):
    """A node as the HTTP interface sees it."""

    def status(self) -> NodeStatus:
        """What the node can say at once, from its memory."""
        ...

    def live(self) -> bool:
        """True while the event loop and the driver are alive."""
        ...

    async def ledger(self) -> Ledger:
        """Ask the store, for a short while; without an answer, what was known last."""
        ...

    def gossip(self) -> GossipView | None:
        """What its gossip knows; None: the node does not gossip."""
        ...

    def traffic(self) -> Traffic | None:
        """What its gossip has sent and heard; None: the node does not gossip."""
        ...

    async def history(self, count: int) -> list[dict[str, str]]:
        """The newest `count` entries of the history, newest first.

        Raises:
            UnavailableError: the store does not answer.
        """
        ...

    async def change(self, request: OperatorRequest | Resolve) -> Reply:
        """Ask the store for a change.

        Returns:
            `Done`, or `Resolved`; any other reply is raised.

        Raises:
            KeyError: there is no member of this name.
            RefusedError: a rule forbids it.
            UnavailableError: the store does not answer; it may or may not have been done.
        """
        ...

    async def steer(self, asked: Steering) -> Reply:
        """Start a rollout, or say how it goes on.

        Raises:
            KeyError: there is no member of this name.
            RefusedError: it cannot be done as things are.
            UnavailableError: the store does not answer; it may or may not have been done.
            VersionError: the version cannot be read.
        """
        ...

    async def exclude(self, name: str, by: str, reason: str, confirm_stopped: bool) -> None:
        """Remove the member of this name.

        Raises:
            KeyError: there is no such member.
            RefusedError, UnavailableError: as for `change`.
        """
        ...

    async def resign(self) -> bool:
        """Give mastership to another node; False: this node is not master."""
        ...

    async def set_away(self, away: bool) -> None:
        """Stop serving, or serve again."""
        ...

    async def wait_newer(self, revision: int, timeout_s: float) -> ClusterRecord | None:
        """The newest record once it is newer than `revision`, or whatever is known by then."""
        ...

    def events(self) -> AsyncIterator[NodeEvent]:
        """Everything that happens from now on."""
        ...

    async def rehearse(self, version: str, sample: int) -> list[Rehearsal]:
        """Convert some records of each collection to the format of `version`, into nothing.

        Raises:
            RefusedError: this node has no codecs for it.
            UnavailableError: the store does not answer.
            VersionError: the version cannot be read.
        """
        ...

    async def doctor(self) -> list[Finding]:
        """Examine what this node depends on."""
        ...
