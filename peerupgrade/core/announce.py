"""What a new record means, in words: told by every node that applies it."""

from __future__ import annotations

from peerupgrade.core.effects import Emit
from peerupgrade.core.record import ClusterRecord


def announcements(before: ClusterRecord | None, after: ClusterRecord | None) -> list[Emit]:
    """The events between two records that a node has applied one after the other."""
    if after is None or before is None or after.order <= before.order:
        return []
    told = []
    if after.master != before.master:
        told.append(Emit("new master", f"{after.master}, epoch {after.epoch}"))
    if after.upgrade is not None and before.upgrade is None:
        told.append(Emit("upgrade began", f"from {after.upgrade.before}"))
    if after.hold != before.hold:
        hold = after.hold
        told.append(Emit("held", f"by {hold.by}: {hold.reason}") if hold else Emit("released", ""))
    if after.floor != before.floor and after.raising:
        told.append(Emit("floor", f"{after.floor}: nothing older joins from here on"))
    if after.acting != before.acting:
        told.append(Emit("acting", f"{after.acting}, was {before.acting}"))
    if after.settled and not before.settled:
        told.append(Emit("settled", f"every member operates at {after.acting}"))
    if after.doubt != before.doubt:
        told.append(Emit("verified", "the store was compared with what the members remember"))
    done = after.completion
    if done is not None and done != before.completion:
        told.append(Emit("completed", f"{done.version} after {done.duration_s:.1f} s"))
    return told
