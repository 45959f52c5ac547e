"""Every node that gossip knows of, each by its newest heartbeat."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import overload

from peerupgrade.core.gossip.packets import Condition, Heartbeat

_RANK = {condition: rank for rank, condition in enumerate(Condition)}
_ABSENT = (Condition.FAILED, Condition.LEFT)


def supersedes(new: Heartbeat, known: Heartbeat) -> bool:
    """True if `new` says more than `known`; both of one node.

    A later incarnation or number is newer. At the same number somebody else has judged: the worse
    condition counts, until the node itself contradicts with a higher number.
    """
    return _order(new) > _order(known)


def _order(heartbeat: Heartbeat) -> tuple[int, int, int]:
    return (heartbeat.incarnation, heartbeat.number, _RANK[heartbeat.condition])


def is_present(heartbeat: Heartbeat) -> bool:
    """True while the node is there, as far as is known."""
    return heartbeat.condition not in _ABSENT


@dataclass(frozen=True, slots=True)
class Others(Sequence[str]):
    """All but one of those who are there, beginning behind it; nothing is copied for that.

    Attributes:
        present: all of them, in order.
        begin: where in it the first one is.
        size: so many are meant.
    """

    present: tuple[str, ...]
    begin: int
    size: int

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[str, ...]: ...
    def __getitem__(self, at: int | slice) -> str | tuple[str, ...]:
        if isinstance(at, slice):
            return tuple(self)[at]
        if not 0 <= at < self.size:
            raise IndexError(at)
        return self.present[(self.begin + at) % len(self.present)]

    def __contains__(self, node_id: object) -> bool:
        if not isinstance(node_id, str):
            return False
        at = bisect_left(self.present, node_id)
        found = at < len(self.present) and self.present[at] == node_id
        return found and (self.size == len(self.present) or at != self.begin - 1)


@dataclass(slots=True)
class Roster:
    """The newest heartbeat of each node.

    Attributes:
        heartbeats: by id.
        present: the ids of those that are there, in order.
        digest: depends on every present node's incarnation and number, whatever the order in which
            they were heard of; equal on two nodes that know the same.
    """

    heartbeats: MutableMapping[str, Heartbeat] = field(default_factory=dict)
    present: tuple[str, ...] = ()
    digest: int = 0

    def clone(self) -> Roster:
        """A roster that changes by itself."""
        return Roster(dict(self.heartbeats), self.present, self.digest)

    def hear(self, heartbeat: Heartbeat) -> bool:
        """Take a heartbeat in; False if it says nothing new.

        Of a node that is unknown nothing is kept that says it has gone: that would come back for
        ever from whoever has not yet forgotten it.
        """
        known = self.heartbeats.get(heartbeat.id)
        if known is None and not is_present(heartbeat):
            return False
        if known is not None and not supersedes(heartbeat, known):
            return False
        self._replace(heartbeat.id, known, heartbeat)
        return True

    def forget(self, node_id: str) -> None:
        """Drop a node."""
        self._replace(node_id, self.heartbeats.get(node_id), None)

    def after(self, node_id: str, until: str) -> tuple[str, ...]:
        """The ids that follow `node_id` up to `until`, in order; after the last comes the first."""
        first, last = bisect_right(self.present, node_id), bisect_right(self.present, until)
        if first <= last and node_id < until:
            return self.present[first:last]
        return self.present[first:] + self.present[:last]

    def others(self, node_id: str) -> Others:
        """Everybody else who is there, beginning with the next id."""
        at = bisect_left(self.present, node_id)
        here = at < len(self.present) and self.present[at] == node_id
        return Others(self.present, at + here, len(self.present) - here)

    def _replace(self, node_id: str, known: Heartbeat | None, new: Heartbeat | None) -> None:
        was = known is not None and is_present(known)
        now = new is not None and is_present(new)
        if known is not None and was:
            self.digest ^= _mark(known)
        if new is not None and now:
            self.digest ^= _mark(new)
        if new is None:
            self.heartbeats.pop(node_id, None)
        else:
            self.heartbeats[node_id] = new
        if was != now:
            at = bisect_left(self.present, node_id)
            rest = self.present[at + was :]
            self.present = self.present[:at] + ((node_id,) if now else ()) + rest


def _mark(heartbeat: Heartbeat) -> int:
    text = f"{heartbeat.id} {heartbeat.incarnation} {heartbeat.number}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
