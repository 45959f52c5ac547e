"""May a node of these versions join, and would it serve: one rule for the store and for who asks.

The store's scripts say the same (`adapters/lua/admit.lua`); the contract suite holds both together.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerupgrade.core.record import ClusterRecord, Standing
from peerupgrade.core.versions import Version

# What they wait for comes by itself: even a newcomer stands by, and serves without a restart.
WAITING_RULES = ("forming", "downgrade_unconfirmed")


@dataclass(frozen=True, slots=True)
class Entry:
    """What becomes of a node that asks for admission.

    Attributes:
        rule: that keeps it from serving; "" if none does.
        standing: that it would get; None: it is not admitted.
    """

    rule: str
    standing: Standing | None


def admission(
    record: ClusterRecord | None, installed: Version, lowest: Version, *, is_member: bool
) -> Entry:
    """Decide by the versions alone.

    Args:
        record: of the cluster; None: the first node makes it.
        installed: the version installed on the node.
        lowest: the lowest version that it supports.
        is_member: it is registered already, and asks with other versions.
    """
    rule = _rule(record, installed, lowest)
    if not rule:
        return Entry(rule, Standing.SERVING)
    if rule == "installed_below_acting":  # it could never serve again: nothing goes back
        return Entry(rule, None)
    stands_by = is_member or rule in WAITING_RULES  # R25
    return Entry(rule, Standing.STANDBY if stands_by else None)


def _rule(record: ClusterRecord | None, installed: Version, lowest: Version) -> str:
    if record is None or record.acting is None:
        return "forming"
    assert record.floor is not None
    assert record.data is not None
    if installed < record.acting:
        return "installed_below_acting"
    if installed < record.floor:
        return "installed_below_floor"
    if lowest > record.acting:
        return "lowest_above_acting"
    if lowest > record.data:
        return "lowest_above_data"  # R14
    if record.downgraded_from is not None and installed < record.downgraded_from:
        return "downgrade_unconfirmed"  # R13
    return ""
