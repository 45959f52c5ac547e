"""The next step of the cluster: what a master commits, decided from one snapshot.

Theory of operation, the order of one raise (each step is committed before the next begins, so that
the next master goes on where the last one died):

    floor    admission floor := target; from here nothing older joins, and every member says
             that it has heard of it
    before   the `before` steps of the target have succeeded
    raised   acting := target; everybody switches
    settled  every serving member has confirmed
    audited  the replicas have all that was converted
    converted  no record in an older format is left, the migrations have succeeded: data version
             := target
    completed  acting == highest installed and nothing is left to do

    barred, lowered  a downgrade that somebody asked for, see `downgrade`; then settled as above

A step is proposed, never done, here. The store refuses it if anything moved meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from peerupgrade.core.blockers import (
    Code,
    conversion_blockers,
    forming_blockers,
    highest_installed,
    hold_ended,
    next_acting,
    raise_blockers,
    settle_blockers,
    verify_blockers,
)
from peerupgrade.core.downgrade import barred, lowered, obstacles
from peerupgrade.core.record import ClusterRecord, Completion, Job, Member, Snapshot, Upgrade
from peerupgrade.core.versions import parse_version


class StepName(StrEnum):
    """What a commit does."""

    VERIFIED = "verified"
    FORMED = "formed"
    HOLD_ENDED = "hold ended"
    BEGAN = "upgrade began"
    WITHDRAWN = "upgrade withdrawn"
    FLOOR = "floor"
    FLOOR_WITHDRAWN = "floor withdrawn"
    BEFORE = "before"
    RAISED = "raised"
    SETTLED = "settled"
    AUDITED = "audited"
    CONVERTED = "converted"
    COMPLETED = "completed"
    BARRED = "newer formats barred"
    LOWERED = "downgraded"
    DOWNGRADE_REFUSED = "downgrade refused"
    TURN_GIVEN = "turn given"
    ROLLOUT_RETREATS = "rollout retreats"
    TURN_ENDED = "turn ended"
    ROLLOUT_PAUSED = "rollout paused"
    ROLLOUT_ENDED = "rollout ended"


@dataclass(frozen=True, slots=True)
class Step:
    """A record to commit, and why."""

    name: StepName
    record: ClusterRecord
    inputs: str = ""
    proves_data: bool = False  # once it is durable, the replicas have all that was converted


@dataclass(frozen=True, slots=True)
class Progress:
    """What the master knows beyond the store.

    Attributes:
        durable: the replicas have everything that was written so far.
        steps: the application has steps of its own that must succeed first.
        steps_done: those that have succeeded in this mastership.
        data_read: the snapshot's collections were read after all had settled.
        audited: the collections in which a scan has found nothing in an older format since then.
        data_durable: the replicas have all that was written up to the end of these scans.
    """

    durable: bool = True
    steps: bool = False
    steps_done: Job | None = None
    data_read: bool = True
    audited: frozenset[str] = frozenset()
    data_durable: bool = False


def next_step(snapshot: Snapshot, now_ms: int, progress: Progress) -> Step | None:
    """Decide.

    Args:
        snapshot: of the store.
        now_ms: the store's clock, now.
        progress: of this mastership.

    Returns:
        The one next step, or None: then `blockers` says what is awaited.
    """
    record = snapshot.record
    if record is None:
        return None
    if not snapshot.verified:
        if verify_blockers(snapshot, now_ms):
            return None
        return Step(StepName.VERIFIED, _unbarred(record), _inputs(snapshot))
    if hold_ended(record, now_ms):
        return Step(StepName.HOLD_ENDED, replace(record, hold=None))
    if record.acting is None:
        return _form(snapshot, record, now_ms)
    if record.downgrade is not None:
        return _go_back(snapshot, record, now_ms, progress)
    return (
        _upgrade_noticed(snapshot, record, now_ms)
        or (_raise_on(snapshot, record, now_ms, progress) if record.raising else None)
        or _after_raise(snapshot, record, now_ms, progress)
        or _begin_raise(snapshot, record, now_ms)
    )


# --- what can bring the next step -----------------------------------------------------------------
#
# Every member says something for each raise, and looking at all of them each time would cost the
# square of their number. So whoever waits remembers one member that must say something first.

_OWN_WORD = (Code.AWAY, Code.UNRESPONSIVE, Code.NOT_CONFIRMED, Code.CALLBACK_FAILED)


def awaited(snapshot: Snapshot) -> str | None:
    """One member without whose word no step follows, while `next_step` has none.

    Returns:
        Its id; "": nobody's in particular, because no upgrade is under way. None: it is not that
        simple, and any change may bring a step.
    """
    record, members = snapshot.record, snapshot.members.values()
    if record is None or record.acting is None or not snapshot.verified:
        return None
    if record.rollout is not None or record.downgrade is not None:
        return None
    if record.raising and not record.settled:
        return None
    if record.raising or not record.settled:
        found = raise_blockers(snapshot, 0) if record.raising else settle_blockers(snapshot)
        silent = [blocker.subject for blocker in found if blocker.code in _OWN_WORD]
        return _any_of(silent)
    if record.data != record.acting:
        return None
    if record.upgrade is None:
        return ""
    if all(member.installed <= record.acting for member in members):
        return None
    old = [member.id for member in members if member.installed == record.acting]
    return _any_of(old)


def _any_of(ids: Sequence[str]) -> str | None:
    """One of them; not the first or last in order, because members often speak in that order."""
    return min(ids, key=lambda one: one[::-1], default=None)


def may_bring_step(
    snapshot: Snapshot, waits_for: str | None, name: str, changed: Member | None
) -> bool:
    """Whether a step may follow from a change of one member.

    Args:
        snapshot: before the change; `next_step` had none for it.
        waits_for: what `awaited` said of it, or of one before it with the same record.
        name: of the member.
        changed: as it is now; None: it was removed.
    """
    record = snapshot.record
    if waits_for is None or changed is None or name == waits_for or record is None:
        return True
    assert record.acting is not None
    assert record.floor is not None
    known = snapshot.members.get(name)
    least = record.floor if known is None else known.installed
    if changed.installed < least:
        return True
    return record.upgrade is None and changed.installed > record.acting


def _form(snapshot: Snapshot, record: ClusterRecord, now_ms: int) -> Step | None:
    first = next_acting(snapshot.members.values())
    if first is None or forming_blockers(snapshot, now_ms):
        return None
    formed = replace(record, acting=first, floor=first, before=first, data=first)
    return Step(StepName.FORMED, _with_lowest(formed, snapshot), _inputs(snapshot))


def _go_back(snapshot: Snapshot, record: ClusterRecord, now_ms: int, progress: Progress) -> Step:
    """What somebody asked for: begin it, do it, or say what forbids it."""
    assert record.downgrade is not None
    target = parse_version(record.downgrade.version)
    refused = replace(record, downgrade=None)
    found = obstacles(snapshot, target)
    if found:
        why = "; ".join(one.evidence for one in found)
        return Step(StepName.DOWNGRADE_REFUSED, refused, why)
    if not record.downgrade.barred:
        return Step(StepName.BARRED, barred(snapshot, record, target), _inputs(snapshot))
    if not progress.durable:
        why = "the replicas have not confirmed that newer formats are barred"
        return Step(StepName.DOWNGRADE_REFUSED, refused, why)
    return Step(StepName.LOWERED, lowered(record, target, now_ms), _inputs(snapshot))


def _unbarred(record: ClusterRecord) -> ClusterRecord:
    """What the store has lost may have been the removal of a newer record: look again."""
    asked = record.downgrade
    return record if asked is None else replace(record, downgrade=replace(asked, barred=0))


def _upgrade_noticed(snapshot: Snapshot, record: ClusterRecord, now_ms: int) -> Step | None:
    highest = highest_installed(snapshot.members.values())
    assert record.acting is not None
    if highest is None:
        return None
    if record.upgrade is None and highest > record.acting:
        upgrade = Upgrade(str(record.acting), now_ms)
        return Step(StepName.BEGAN, replace(record, upgrade=upgrade), _inputs(snapshot))
    gone = record.upgrade is not None and record.upgrade.before == str(record.acting)
    if gone and highest <= record.acting and not record.raising:
        return Step(StepName.WITHDRAWN, replace(record, upgrade=None), _inputs(snapshot))
    return None


def _begin_raise(snapshot: Snapshot, record: ClusterRecord, now_ms: int) -> Step | None:
    target = next_acting(snapshot.members.values())
    assert record.acting is not None
    if record.raising or target is None or target <= record.acting:
        return None
    if raise_blockers(snapshot, now_ms):
        return None
    return Step(StepName.FLOOR, replace(record, floor=target), _inputs(snapshot))


def _raise_on(
    snapshot: Snapshot, record: ClusterRecord, now_ms: int, progress: Progress
) -> Step | None:
    """The floor is up: bring it to its end, or take it back."""
    target, lowest_installed = record.floor, next_acting(snapshot.members.values())
    assert target is not None
    stays = record.stays or record.hold is not None
    if lowest_installed is None or lowest_installed < target or stays:
        lowered = replace(record, floor=record.acting)
        return Step(StepName.FLOOR_WITHDRAWN, lowered, _inputs(snapshot))
    if raise_blockers(snapshot, now_ms):
        return None
    if not progress.durable:  # R27: no raise before the replicas have the floor
        return Step(StepName.FLOOR, record, "again: the replicas have not confirmed the floor")
    if record.job is not None and progress.steps:
        if progress.steps_done != record.job:
            return None
        return Step(StepName.BEFORE, replace(record, before=target))
    raised = _with_lowest(replace(record, acting=target, before=target), snapshot)
    return Step(StepName.RAISED, raised, _inputs(snapshot))


def _after_raise(
    snapshot: Snapshot, record: ClusterRecord, now_ms: int, progress: Progress
) -> Step | None:
    if not record.settled:
        if settle_blockers(snapshot):
            return None
        settled = replace(record, settled_revision=record.raised_revision, downgraded_from=None)
        return Step(StepName.SETTLED, settled)
    if record.data != record.acting:
        # No need to check this again in the commit (R2): older records only get fewer now (R8).
        if not progress.data_read or conversion_blockers(snapshot, now_ms, progress.audited):
            return None
        if progress.steps and progress.steps_done != record.job:
            return None
        if not progress.durable or (snapshot.collections and not progress.data_durable):
            # R18: first the replicas have all that was converted, then it counts for admission.
            why = "nothing older is left; first the replicas confirm it"
            return Step(StepName.AUDITED, record, why, proves_data=True)
        return Step(StepName.CONVERTED, replace(record, data=record.acting))
    if record.upgrade is not None and not record.raising and not settle_blockers(snapshot):
        # One that stands by may be older: it joined while the store had forgotten the version.
        members = snapshot.members.values()
        if members and all(member.installed == record.acting for member in members):
            return Step(StepName.COMPLETED, _completed(record, now_ms), _inputs(snapshot))
    return None


def _completed(record: ClusterRecord, now_ms: int) -> ClusterRecord:
    assert record.upgrade is not None
    completion = Completion(
        before=record.upgrade.before,
        version=str(record.acting),
        started_at_ms=record.upgrade.started_at_ms,
        ended_at_ms=now_ms,
    )
    return replace(record, upgrade=None, completion=completion)


def _with_lowest(record: ClusterRecord, snapshot: Snapshot) -> ClusterRecord:
    lowest = max((m.lowest for m in snapshot.members.values()), default=None)
    return replace(record, lowest=lowest)


def _inputs(snapshot: Snapshot) -> str:
    """What the decision was made from, for the history: version, and who has it."""
    by_version: dict[str, list[str]] = {}
    for member in sorted(snapshot.members.values(), key=lambda m: (m.installed, m.id)):
        by_version.setdefault(str(member.installed), []).append(member.id)
    return "; ".join(f"{version}: {', '.join(ids)}" for version, ids in by_version.items())
