"""Refusals in words: which rule, whose versions, and what would let the node in."""

from __future__ import annotations

from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.requests import Refused
from peerupgrade.core.versions import Version
from peerupgrade.errors import RefusedError

VERSION_RULES = (
    "installed_below_acting",
    "installed_below_floor",
    "lowest_above_acting",
    "lowest_above_data",
    "downgrade_unconfirmed",
)


def explain(refused: Refused, node_id: str, installed: Version, lowest: Version) -> RefusedError:
    """The error to show to whoever tried.

    Args:
        refused: the store's answer.
        node_id: who asked.
        installed: the version installed there.
        lowest: the lowest version that it supports.
    """
    message, hint = _words(refused, node_id, installed, lowest)
    return RefusedError(message, rule=refused.rule, hint=hint)


def unverified() -> RefusedError:
    """The store is in doubt: nothing is decided by it."""
    return RefusedError(
        "the store has restarted, failed over or was wiped, and is not verified yet",
        rule="unverified",
        hint="try again in a few seconds; peerupgrade why shows what is awaited",
    )


def _words(refused: Refused, node_id: str, installed: Version, lowest: Version) -> tuple[str, str]:
    record, other = refused.view.record, refused.other
    acting = record.acting if record else None
    match refused.rule:
        case rule if rule in VERSION_RULES:
            return version_words(rule, record, f"node {node_id!r}", installed, lowest)
        case "name_taken":
            where = f" at {other.address}" if other and other.address else ""
            number = other.incarnation if other else 0
            return (
                f"the name {node_id!r} belongs to another node (incarnation {number}{where})",
                "choose another name; if that node is gone for good and its state directory"
                f" with it: peerupgrade exclude {node_id} --confirm-stopped",
            )
        case "excluded":
            stone = refused.tombstone
            who = f" by {stone.by}: {stone.reason}" if stone else ""
            return (
                f"node {node_id!r} was excluded{who}",
                "start it again to be admitted anew",
            )
        case "other_generation":
            generation = record.generation if record else "?"
            return (
                f"node {node_id!r} remembers another cluster than the one in the store"
                f" (generation {generation})",
                "point it at its own store; or, if the cluster was set up anew on purpose,"
                " remove its state directory",
            )
        case "left_behind":
            return (
                f"node {node_id!r} has operated at a newer version than {acting}, at which the"
                " cluster now acts with members that have nothing newer",
                "install the newer version on all members, or remove this node's state directory",
            )
        case "may_be_alive" | "lease_runs":
            return _exclusion_words(refused.rule, node_id)
        case "budget_spent" | "slot_taken" | "slot_in_use" | "no_slot":
            return _slot_words(refused.rule, node_id)
        case "no_hold" | "no_pause":
            what = refused.rule.removeprefix("no_")
            return (f"no {what} is set", "peerupgrade status shows the cluster")
        case rule:
            return (f"the store refused: {rule}", "peerupgrade why shows what stands in the way")


def version_words(
    rule: str, record: ClusterRecord | None, who: str, installed: Version, lowest: Version
) -> tuple[str, str]:
    """What is wrong with a node's versions, and what would let it in.

    Args:
        rule: one of `VERSION_RULES`.
        record: that it was applied to.
        who: the node, in words.
        installed: the version installed there.
        lowest: the lowest version that it supports.
    """
    acting = record.acting if record else None
    floor = record.floor if record else None
    data = record.data if record else None
    match rule:
        case "installed_below_acting":
            return (
                f"{who} is not admitted: installed {installed}, the cluster acts at {acting}",
                f"install {acting} or newer",
            )
        case "installed_below_floor":
            return (
                f"{who} is not admitted: installed {installed}, the cluster is about"
                f" to act at {floor}",
                f"install {floor} or newer, or try again should that upgrade be withdrawn",
            )
        case "lowest_above_acting":
            return (
                f"{who} is not admitted: it supports {lowest} to {installed}, the"
                f" cluster acts at {acting}",
                f"install a version that still supports {acting}, or bring the cluster to"
                f" {lowest} first",
            )
        case "downgrade_unconfirmed":
            newest = record.downgraded_from if record else None
            return (
                f"{who} stands by: installed {installed}, and some members may still operate at"
                f" {newest}, from which the cluster went back to {acting}",
                "wait until all have confirmed (peerupgrade why names who has not): it then serves"
                " by itself",
            )
        case _:
            return (
                f"{who} is not admitted: it supports {lowest} to {installed}, shared"
                f" data may still be in the format of {data}",
                f"install a version that still supports {data}, or wait until the data is"
                f" converted to {lowest}",
            )


def _exclusion_words(rule: str, node_id: str) -> tuple[str, str]:
    match rule:
        case "may_be_alive":
            return (
                f"node {node_id!r} goes on through outages and may be alive",
                "make sure that its process is stopped, then: --confirm-stopped",
            )
        case _:
            return (
                f"node {node_id!r} may still operate: its lease has not ended",
                "wait for its end, or stop it and say --confirm-stopped",
            )


def _slot_words(rule: str, node_id: str) -> tuple[str, str]:
    match rule:
        case "budget_spent":
            return (
                f"{node_id!r} must not be taken down: enough others are down already, or are about"
                " to be",
                "wait until they operate again; peerupgrade members names them",
            )
        case "slot_taken":
            return (
                f"somebody else has the permission to take {node_id!r} down",
                "peerupgrade members says who",
            )
        case "slot_in_use":
            return (
                f"{node_id!r} has not been down and up again since its slot was taken",
                f"start {node_id}; or say that it was not taken down (--unused), or, when it is no"
                " member any more, that it does not come back (--gone)",
            )
        case _:
            return (
                f"nobody has the permission to take {node_id!r} down",
                "peerupgrade members shows who has one",
            )
