"""What operators and masters write: holds, rollouts, mastership, the record."""

from __future__ import annotations

from dataclasses import replace

from peerupgrade.core.record import (
    Hold,
)
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


def set_rollout(step: Step, request: SetRollout) -> Reply:
    """Write what somebody wants of a rollout, if nothing has moved since."""
    record = step.state.record
    if record is None or record.identity != step.identity:
        return Unverified(step.view)
    if request.revision != record.revision:  # R2
        return Conflict(step.view)
    new = replace(record, rollout=request.rollout, revision=record.revision + 1)
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
    if record.acting is not None and (new.acting is None or new.acting < record.acting):  # R3
        return Refused("acting_lower", step.view)
    rises = record.acting is not None and new.acting != record.acting
    if rises and record.hold is not None:  # R22
        return Refused("held", step.view)
    if rises and record.stays:
        return Refused("rollout_stays", step.view)
    revision = record.revision + 1
    doubt = state.quarantine_until_ms if request.repair else record.doubt
    new = replace(new, revision=revision, epoch=record.epoch, identity=step.identity, doubt=doubt)
    if new.acting != record.acting:
        new = replace(new, raised_revision=revision, raised_at_ms=step.now_ms)
    if new.floor != record.floor:
        new = replace(new, floor_revision=revision, floor_at_ms=step.now_ms)
    step.write(new, request.step, record.master, request.inputs)
    return Done(step.view)
