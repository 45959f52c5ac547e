"""R29: who may be taken down.

Whoever takes a member down asks first, and gives the slot back afterwards. It is taken back only
once the member has been away or was started anew, and has confirmed that it operates: what it said
before it was taken down proves nothing. So neither a second orchestrator nor the successor of one
that died can take down another member meanwhile. A slot has no time-out: that time has passed does
not bring the member up.
"""

from __future__ import annotations

from peerupgrade.core.record import Member, Slot, Standing, is_down
from peerupgrade.core.requests import (
    Conflict,
    Done,
    NotMember,
    Outcome,
    Refused,
    Reply,
    ReturnSlot,
    TakeSlot,
)
from peerupgrade.core.store.state import Step


def take_slot(step: Step, request: TakeSlot) -> Reply:
    """Give the permission if that leaves no more members down than the budget says."""
    untrusted = step.untrusted(request)
    if untrusted is not None:
        return untrusted
    state, record = step.state, step.state.record
    assert record is not None
    if request.token and request.revision != record.revision:  # R2
        return Conflict(step.view)
    member, held = state.members.get(request.id), state.slots.get(request.id)
    if held is not None:
        if held.by != request.by:
            return Refused("slot_taken", step.view, other=member)
        # A script asks again: whatever came before proves nothing from here on. A rollout goes by
        # what the member says of its turn.
        if member is not None and not request.token:
            state.slots[request.id] = _slot(step, request, member)
        return Done(step.view)
    if member is None:
        return NotMember(step.view)
    if len(_down(step) - {request.id}) >= request.budget:
        return Refused("budget_spent", step.view, other=member)
    state.slots[request.id] = _slot(step, request, member)
    step.note("slot taken", request.by, request.id, record)
    return Done(step.view)


def _slot(step: Step, request: TakeSlot, member: Member) -> Slot:
    away = int(member.standing is Standing.AWAY)
    return Slot(request.id, request.by, step.now_ms, member.incarnation, away)


def return_slot(step: Step, request: ReturnSlot) -> Reply:
    """Take the permission back, from whoever says so, once the member is up."""
    untrusted = step.untrusted(request)
    if untrusted is not None:
        return untrusted
    state, record = step.state, step.state.record
    slot, member = state.slots.get(request.id), state.members.get(request.id)
    if slot is None:
        return Refused("no_slot", step.view)
    if not _may_be_returned(step, slot, member, request.outcome):
        return Refused("slot_in_use", step.view, other=member)
    del state.slots[request.id]
    step.note("slot returned", request.by, f"{request.id}: {request.outcome}", record)
    return Done(step.view)


def _may_be_returned(step: Step, slot: Slot, member: Member | None, outcome: Outcome) -> bool:
    if member is None:
        return outcome is Outcome.GONE
    assert step.state.record is not None
    was_down = slot.away == 1 or member.incarnation != slot.incarnation
    return not is_down(step.state.record, member) and (was_down or outcome is Outcome.UNUSED)


def _down(step: Step) -> set[str]:
    """The members that are down, or may be taken down at any moment."""
    record, members = step.state.record, step.state.members.values()
    assert record is not None
    return set(step.state.slots) | {one.id for one in members if is_down(record, one)}
