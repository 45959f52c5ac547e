"""Members whose lease has ended: when the master removes them by itself.

Theory of operation: a member that cannot confirm its membership in time has suspended itself (R6),
and the store's side of its lease is longer (R7); so whoever is removed after that does not operate.
The store checks the lease again when it removes the member, because renewals are told to nobody:
what the master knows of them is old, and a refusal brings it up to date. It must also still be the
lease that the master saw: its clock may have jumped since, which ends no lease.

Two kinds of members are left alone. One that said that it is away wants to come back, and its
software may be half installed. It does not operate, so the acting version could pass it; but its
slot would be free (R29), as after somebody's word that it is gone, and a release that kills agents
would then be brought to one member after another, each of them down (S15). So a person decides,
and is told that the lease has ended. And nobody is removed before this mastership has lasted as
long as the member's lease: after an outage of the store, or a jump of its clock, all leases have
ended, and each must have had its time to be renewed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from peerupgrade.core.blockers import MEMBER_CODES, Blocker, Code
from peerupgrade.core.record import Member, Snapshot, Standing
from peerupgrade.core.requests import Exclude

_STOPPED = (Code.STEP_MANUAL, Code.STEP_FAILED, Code.STEP_UNKNOWN)


def lapsed(snapshot: Snapshot, now_ms: int, since_ms: int) -> Exclude | None:
    """The next member to remove, if the store agrees.

    Args:
        snapshot: of the store.
        now_ms: the store's clock, now.
        since_ms: when this mastership first read the store, or its clock had jumped, by that clock.
    """
    record = snapshot.record
    if record is None or not snapshot.verified:  # R16
        return None
    for member, due_ms in _due(snapshot, since_ms):
        if due_ms <= now_ms:
            late_s = (now_ms - member.lease_until_ms) / 1000
            reason = f"its lease ended {late_s:.1f} s ago"
            return Exclude(
                id=member.id,
                by=record.master,
                reason=reason,
                confirm_stopped=False,
                incarnation=member.incarnation,
                lease_until_ms=member.lease_until_ms,
            )
    return None


def lapse_moments(snapshot: Snapshot, since_ms: int) -> list[int]:
    """When leases end, as far as it is known here."""
    return [due_ms for _, due_ms in _due(snapshot, since_ms)] if snapshot.verified else []


def _due(snapshot: Snapshot, since_ms: int) -> Iterator[tuple[Member, int]]:
    master = snapshot.record.master if snapshot.record is not None else ""
    for member in snapshot.members.values():
        if member.lease_ms and member.standing is not Standing.AWAY and member.id != master:
            yield member, max(member.lease_until_ms, since_ms + member.lease_ms)


def renewed(snapshot: Snapshot, name: str, lease_until_ms: int) -> Snapshot:
    """The store has said how long a member's lease lasts by now."""
    members, known = dict(snapshot.members), snapshot.members.get(name)
    if known is not None:
        members[name] = replace(known, lease_until_ms=lease_until_ms)
    return replace(snapshot, members=members)


def with_leases(blockers: Iterable[Blocker], snapshot: Snapshot, now_ms: int) -> list[Blocker]:
    """The same reasons; those about a member that does not renew its lease say what comes of it."""
    shown = []
    for blocker in blockers:
        about = blocker.code in MEMBER_CODES or blocker.code in _STOPPED
        member = snapshot.members.get(blocker.subject) if about else None
        if member is not None and member.standing is Standing.AWAY and member.lease_ended(now_ms):
            shown.append(_gone(blocker, member, now_ms))
        elif member is not None and blocker.code in MEMBER_CODES and _is_late(member, now_ms):
            shown.append(_late(blocker, member, now_ms))
        else:
            shown.append(blocker)
    return shown


def _gone(blocker: Blocker, member: Member, now_ms: int) -> Blocker:
    """It was away when its lease ended: whatever else would help, it must run first."""
    ended_s = (now_ms - member.lease_until_ms) / 1000
    evidence = f"its lease ended {ended_s:.0f} s ago, and nobody removes it while it is away"
    name = member.id
    return replace(
        blocker,
        evidence=f"{blocker.evidence}; {evidence}",
        remedy=f"start {name} again; or if it is gone for good: peerupgrade exclude {name}"
        " --confirm-stopped --reason gone",
    )


def _late(blocker: Blocker, member: Member, now_ms: int) -> Blocker:
    left_s = (member.lease_until_ms - now_ms) / 1000
    ends = f"ends in {left_s:.0f} s" if left_s > 0 else f"ended {-left_s:.0f} s ago"
    return replace(
        blocker,
        evidence=f"{blocker.evidence}; it does not renew its lease, which {ends}",
        remedy=f"{blocker.remedy}; or wait: the master removes it once that has ended",
    )


def _is_late(member: Member, now_ms: int) -> bool:
    """It is renewed when a third of it is over."""
    left_ms = member.lease_until_ms - now_ms
    return (
        member.lease_ms > 0
        and member.standing is not Standing.AWAY
        and (left_ms < member.lease_ms / 2)
    )
