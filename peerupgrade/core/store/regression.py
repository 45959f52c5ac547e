"""A store that may have forgotten, and members that remember."""

from __future__ import annotations

from dataclasses import replace

from peerupgrade.core.record import (
    ClusterRecord,
    Member,
    Standing,
    Tombstone,
    ahead,
)
from peerupgrade.core.requests import (
    Attach,
    Attached,
    Conflict,
    Refused,
    Reply,
    Unverified,
)
from peerupgrade.core.store.state import Step


def attach(step: Step, request: Attach) -> Reply:
    """Compare the store with what a node remembers."""
    state, record, memory = step.state, step.state.record, request.memory
    known = state.members.get(request.member.id)
    if memory is not None and (record is None or _unformed(record, memory)):
        _bring_back(step, memory, request)
        known = None
    elif record is None:
        return Unverified(step.view)
    elif memory is not None and record.generation != memory.generation:
        return Refused("other_generation", step.view)
    else:
        if record.identity == step.identity:
            if memory is None or not ahead(memory, record):
                return Attached(request.member.incarnation, step.view)  # nothing was lost
            if memory.acting and any(m.installed < memory.acting for m in state.members.values()):
                return Refused("left_behind", step.view)
        _doubt(step, record, request)
        refusal = _attach_refusal(step, request.member, known)
        if refusal is not None:
            return refusal
        if memory is not None:
            _merge(step, memory, request.member.id)
    attached = _attached_member(step, request.member, known)
    step.put_member(attached)
    return Attached(attached.incarnation, step.view)


def _unformed(record: ClusterRecord, memory: ClusterRecord) -> bool:
    """Somebody began a new cluster on the wiped store, and it does not act yet."""
    return record.generation != memory.generation and record.acting is None


def _attach_refusal(step: Step, member: Member, known: Member | None) -> Reply | None:
    tombstone = step.state.excluded.get(member.id)
    if known is not None and known.token == member.token:
        if member.number <= known.number:
            return Conflict(step.view)
    elif known is not None and known.incarnation > member.incarnation:
        return Refused("name_taken", step.view, other=known)
    if tombstone is not None and _is_excluded(member, tombstone):  # S8
        return Refused("excluded", step.view, tombstone=tombstone)
    return None


def _is_excluded(member: Member, tombstone: Tombstone) -> bool:
    """The very process that was excluded, not a later start."""
    operates = member.operating is not None and member.incarnation <= tombstone.incarnation
    return operates or member.token == tombstone.token


def _attached_member(step: Step, member: Member, known: Member | None) -> Member:
    state = step.state
    state.incarnations = max(state.incarnations, member.incarnation)
    incarnation, joined_at_ms = member.incarnation, step.now_ms
    health_since_ms = step.now_ms
    if known is not None and known.token == member.token:
        incarnation, joined_at_ms = known.incarnation, known.joined_at_ms
        health_since_ms = step.health_since_ms(known, member.health)
    elif member.standing is Standing.STANDBY:
        state.incarnations += 1
        incarnation = state.incarnations
    return replace(
        member,
        incarnation=incarnation,
        attached=state.quarantine_until_ms,
        lease_until_ms=step.now_ms + member.lease_ms if member.lease_ms else 0,
        joined_at_ms=joined_at_ms,
        changed_at_ms=step.now_ms,
        health_since_ms=health_since_ms,
    )


def _bring_back(step: Step, memory: ClusterRecord, request: Attach) -> None:
    """The store is empty, or somebody has just begun a new cluster on it: R17."""
    state = step.state
    step.remove_all_members()
    state.record = replace(memory, master="")
    state.master_token = ""
    step.begin_quarantine(request.quarantine_ms)
    step.note("brought back", request.member.id, "the store had no record of this cluster", None)


def _doubt(step: Step, record: ClusterRecord, request: Attach) -> None:
    """Begin the quarantine of this server process, once."""
    if step.state.suspect != step.identity or record.identity == step.identity:
        step.begin_quarantine(request.quarantine_ms)
        step.note("doubted", request.member.id, "the store's identity changed", record)


def _merge(step: Step, memory: ClusterRecord, node_id: str) -> None:
    """Take in what the node remembers, forward only: R17."""
    record = step.state.record
    assert record is not None
    if not ahead(memory, record) and memory.epoch <= record.epoch:
        return
    newest, other = record, memory
    if (memory.downgrades, memory.revision) > (record.downgrades, record.revision):
        newest, other = memory, record
    acting, floor = newest.acting, newest.floor
    if newest.downgrades == other.downgrades:  # else what the other one had is over
        acting = max(filter(None, (memory.acting, record.acting)), default=None)
        floor = max(filter(None, (memory.floor, record.floor)), default=None)
    elif newest.revision < other.revision:  # everybody confirms anew: it may follow the other one
        revision = other.revision + 1
        versions = filter(None, (newest.downgraded_from, other.acting))
        newest = replace(
            newest,
            revision=revision,
            raised_revision=revision,
            downgraded_from=max(versions, default=None),
        )
    # What the store lost of the shared data it lost together with the record.
    data = record.data if record.data is not None else memory.data
    step.state.record = replace(
        newest,
        acting=acting,
        floor=floor,
        data=min(filter(None, (data, acting)), default=None),
        epoch=max(memory.epoch, record.epoch),
        master=record.master,
        identity="",
    )
    step.note("brought forward", node_id, f"remembers {memory.revision}", record)
