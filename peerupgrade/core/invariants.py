"""What may never happen, as functions over one moment of the whole cluster.

The simulator and the checker of real runs call these after every event; nothing in production
depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.versions import Version


@dataclass(frozen=True, slots=True)
class Operating:
    """One node that operates at this moment."""

    id: str
    incarnation: int
    installed: Version
    lowest: Version
    version: Version


def acting_not_above_installed(
    record: ClusterRecord | None, operating: Sequence[Operating]
) -> str | None:
    """S1: acting <= installed of every operating member."""
    if record is None or record.acting is None:
        return None
    for node in operating:
        if record.acting > node.installed:
            return f"S1: the cluster acts at {record.acting}, {node.id} has {node.installed}"
    return None


def within_supported(operating: Sequence[Operating]) -> str | None:
    """S3: every operating node is within [lowest supported, installed]."""
    for node in operating:
        if not node.lowest <= node.version <= node.installed:
            return (
                f"S3: {node.id} operates at {node.version}, supports {node.lowest} to"
                f" {node.installed}"
            )
    return None


def mutually_understood(operating: Sequence[Operating]) -> str | None:
    """S7: every operating node understands every other one."""
    for one in operating:
        for other in operating:
            if not one.lowest <= other.version <= one.installed:
                return (
                    f"S7: {one.id} supports {one.lowest} to {one.installed}, {other.id} operates"
                    f" at {other.version}"
                )
    return None


def data_readable(data: Version | None, operating: Sequence[Operating]) -> str | None:
    """S6: no record is older than what every operating node can read."""
    if data is None:
        return None
    for node in operating:
        if node.lowest > data:
            return f"S6: data may be in the format of {data}, {node.id} reads {node.lowest} and up"
    return None
