"""What operators and masters write: holds, rollouts, mastership, the record."""

from __future__ import annotations

from dataclasses import replace

from peerupgrade.core.record import ClusterRecord, Hold
from peerupgrade.core.requests import (
    Claim,
    Claimed,
    Commit,
    Conflict,
    Done,
    Fenced,
    Refused,
    ReleaseHold,
    Reply,
    SetDowngrade,
    SetHold,
    SetRollout,
    Unverified,
)
from peerupgrade.core.store.state import Step


def hold(step: Step, request: SetHold | ReleaseHold) -> Reply:
    """Set or end a hold, of the acting version or of the conversion."""
    record = step.state.record
    if record is None or record.identity != step.identity:
        return Unverified(step.view)
    pauses = request.what == "pause"
    if isinstance(request, ReleaseHold):
        if (record.pause if pauses else record.hold) is None:
            return Refused(f"no_{request.what}", step.view)
        hold, kind = None, "resumed" if pauses else "released"
    else:
        hold = Hold(request.by, request.reason, step.now_ms, request.until_ms)
        kind = "paused" if pauses else "held"
    new = replace(record, pause=hold) if pauses else replace(record, hold=hold)
    step.write(replace(new, revision=record.revision + 1), kind, request.by, request.reason)
    return Done(step.view)


def steer(step: Step, request: SetRollout | SetDowngrade) -> Reply:
    """Write what somebody wants of a rollout, or a downgrade, if nothing has moved since."""
    record = step.state.record
    if record is None or record.identity != step.identity:
        return Unverified(step.view)
    if request.revision != record.revision:  # R2
        return Conflict(step.view)
    if isinstance(request, SetRollout):
        new = replace(record, rollout=request.rollout)
    else:
        new = replace(record, downgrade=request.downgrade)
    new = replace(new, revision=record.revision + 1)
    step.write(new, request.kind, request.by, request.reason)
    return Done(step.view)


def claim(step: Step, request: Claim) -> Reply:
    """Give the next epoch to whoever holds the lock."""
    state, record = step.state, step.state.record
    if record is None or (step.identity not in (record.identity, state.suspect)):
        return Unverified(step.view)  # R30: the store may have forgotten the newest epochs
    if state.lock.token != request.token or step.now_ms >= state.lock.until_ms:
        return Refused("not_held", step.view)
    if state.master_token != request.token:
        state.master_token = request.token
        epoch = max(record.epoch, request.epoch_floor) + 1
        step.write(replace(record, epoch=epoch, master=request.id), "master", request.id)
        record = state.record
        assert record is not None
    return Claimed(record.epoch, step.view)


def commit(step: Step, request: Commit) -> Reply:
    """Write what a master decided, if nothing has moved since."""
    state, record = step.state, step.state.record
    if record is None or record.generation != request.record.generation:
        return Unverified(step.view)
    if step.is_fenced(request.epoch, request.token):  # R1
        return Fenced(step.view)
    if request.repair:
        if step.quarantined:  # R16
            return Unverified(step.view)
    elif record.identity != step.identity:
        return Unverified(step.view)
    # R2: nothing moved that the decision was made from.
    if (request.revision, request.members_revision) != (record.revision, state.members_revision):
        return Conflict(step.view)
    new = request.record
    rule = _forbids(step, record, new)
    if rule:
        return Refused(rule, step.view)
    revision = record.revision + 1
    doubt = state.quarantine_until_ms if request.repair else record.doubt
    new = replace(new, revision=revision, epoch=record.epoch, identity=step.identity, doubt=doubt)
    if new.acting != record.acting:
        new = replace(new, raised_revision=revision, raised_at_ms=step.now_ms)
    if new.floor != record.floor:
        new = replace(new, floor_revision=revision, floor_at_ms=step.now_ms)
    step.write(new, request.step, record.master, request.inputs)
    return Done(step.view)


def _forbids(step: Step, record: ClusterRecord, new: ClusterRecord) -> str:
    """The rule that forbids this change of the acting version; "" if none does."""
    goes_back = new.downgrades != record.downgrades
    if new.reached < record.reached:  # R3
        return "acting_lower"
    if goes_back and not _as_asked(record, new):
        return "no_downgrade"
    rises = record.acting is not None and new.acting != record.acting and not goes_back
    if rises and record.hold is not None:  # R22
        return "held"
    if rises and record.stays:
        return "rollout_stays"
    allowed = record.formats_allowed if goes_back else new.formats_allowed
    if allowed is not None and not _only_in(step, allowed):
        return "newer_records"
    return ""


def _as_asked(record: ClusterRecord, new: ClusterRecord) -> bool:
    """A downgrade goes where it was asked for, once, from where nothing newer can be written."""
    asked = record.downgrade
    if asked is None or not asked.barred or new.downgrade is not None:
        return False
    if record.acting is None or new.acting is None or new.downgrades != record.downgrades + 1:
        return False
    return new.acting.text == asked.version and new.acting < record.acting


def _only_in(step: Step, formats: tuple[str, ...]) -> bool:
    """There is no record in any other format."""
    collections = step.state.collections.values()
    return all(format_ in formats for one in collections for format_ in one.counts)
