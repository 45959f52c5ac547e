"""How news gets around: straight away by whoever has it first, and then from mouth to mouth.

Theory of operation: whoever changes tells everyone at once, in a large cluster through relays that
each take care of a part. Some of those packets are lost. So whoever heard something new also hands
it on a few times to nodes drawn at random, and stops: the cost is a constant for each change and
node. What is missed even so shows in the digests of the next pings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from peerupgrade.core.record import ClusterRecord

COPIES = 9  # of one piece of news, by each node that heard it
NEWS_MAX = 12  # so many heartbeats fit into a datagram
DIRECT_MAX = 64  # as many are told directly, more of them through relays
_RELAYS = 8


@dataclass(slots=True)
class Queue:
    """What is still to be handed on. A newer heartbeat of a node replaces the older one."""

    _copies: dict[str, int] = field(default_factory=dict)  # id -> how often its heartbeat still is
    _record: ClusterRecord | None = None
    _record_copies: int = 0

    def __bool__(self) -> bool:
        """True while there is something."""
        return bool(self._copies) or self._record_copies > 0

    def clone(self) -> Queue:
        """A queue that changes by itself."""
        return Queue(dict(self._copies), self._record, self._record_copies)

    def add(self, node_id: str) -> None:
        """The heartbeat of this node is news."""
        self._copies[node_id] = COPIES

    def add_record(self, record: ClusterRecord) -> None:
        """The record is news."""
        self._record, self._record_copies = record, COPIES

    def take(self, times: int) -> tuple[list[str], ClusterRecord | None]:
        """What goes into the next packet, which is sent `times`: what was told least comes first.

        Returns:
            The nodes whose heartbeats go, and the record if that goes, too.
        """
        first = sorted(self._copies, key=self._copies.__getitem__, reverse=True)[:NEWS_MAX]
        self.told(first, times)
        record = self._record if self._record_copies > 0 else None
        self._record_copies -= times
        return first, record

    def told(self, node_ids: Sequence[str], times: int = 1) -> None:
        """So often less."""
        for node_id in node_ids:
            left = self._copies.get(node_id, 0) - times
            if left > 0:
                self._copies[node_id] = left
            else:
                self._copies.pop(node_id, None)

    def first(self) -> list[str]:
        """The nodes whose heartbeats ride on a packet that goes anyway."""
        if len(self._copies) <= NEWS_MAX:
            return list(self._copies)
        return sorted(self._copies, key=self._copies.__getitem__, reverse=True)[:NEWS_MAX]


def relays(ids: Sequence[str]) -> list[tuple[str, str]]:
    """Divide nodes among a few of them: the first of each part, and the last that it must tell."""
    if not ids:
        return []
    size, more = divmod(len(ids), _RELAYS)
    parts, at = [], 0
    for number in range(min(_RELAYS, len(ids))):
        end = at + size + (number < more)
        parts.append((ids[at], ids[end - 1]))
        at = end
    return parts
