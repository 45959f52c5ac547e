"""What one node's gossip knows, for people. All that is decided from it is to wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from peerupgrade.core.gossip.machine import Gossip
from peerupgrade.core.gossip.packets import Condition, Heartbeat

_SILENT = (Condition.SUSPECT, Condition.FAILED)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is known of one node.

    Attributes:
        heartbeat: the newest.
        heard_s: since a packet of it came; None: none ever came, others told of it.
        rtt_s: how long its answers take; None: not measured yet.
    """

    heartbeat: Heartbeat
    heard_s: float | None = None
    rtt_s: float | None = None


@dataclass(frozen=True, slots=True)
class GossipView:
    """Everybody that one node's gossip knows of, itself included once it was admitted.

    Attributes:
        asked: its id.
        address: `host:port` of its gossip.
        sightings: by id.
    """

    asked: str
    address: str
    sightings: Mapping[str, Sighting]

    @property
    def silent(self) -> frozenset[str]:
        """The ids of those that do not answer."""
        return _silent(one.heartbeat for one in self.sightings.values())

    def evidence(self, node_id: str) -> str:
        """What is known of another node, in words; "" of the asked node itself."""
        if node_id == self.asked:
            return ""
        known = self.sightings.get(node_id)
        if known is None:
            return f"{self.asked} has not heard of it by gossip"
        condition = known.heartbeat.condition
        by = known.heartbeat.by
        said = f"{condition}, says {by}" if by and condition is not Condition.LEFT else condition
        heard = "never heard" if known.heard_s is None else f"last heard {known.heard_s:.0f} s ago"
        return f"gossip of {self.asked}: {said}, {heard}"


def silent(gossip: Gossip) -> frozenset[str]:
    """The ids of those that do not answer."""
    return _silent(gossip.roster.heartbeats.values())


def failed(gossip: Gossip) -> frozenset[str]:
    """The ids of those of them that have not answered for so long that they count as failed."""
    heartbeats = gossip.roster.heartbeats.values()
    return frozenset(one.id for one in heartbeats if one.condition is Condition.FAILED)


def _silent(heartbeats: Iterable[Heartbeat]) -> frozenset[str]:
    return frozenset(one.id for one in heartbeats if one.condition in _SILENT)


def look(asked: str, gossip: Gossip, now: float) -> GossipView:
    """Look at a node's gossip; `now` by its own clock."""
    contacts = gossip.detector.contacts
    sightings = {}
    for node_id, heartbeat in gossip.roster.heartbeats.items():
        contact = contacts.get(node_id)
        sightings[node_id] = (
            Sighting(heartbeat, max(0.0, now - contact.heard_s), contact.rtt_s)
            if contact is not None
            else Sighting(heartbeat)
        )
    return GossipView(asked, gossip.config.address, sightings)
