"""Who is a member: joining, reporting, leaving, exclusion."""

from __future__ import annotations

from dataclasses import replace

from peerupgrade.core.admission import admission
from peerupgrade.core.record import (
    ClusterRecord,
    Member,
    Standing,
    Tombstone,
)
from peerupgrade.core.requests import (
    Admit,
    Admitted,
    Conflict,
    Done,
    Exclude,
    ExcludedHeard,
    Init,
    Leave,
    NotMember,
    Refused,
    Reply,
    Report,
    Seeds,
    SeedsFound,
    Unverified,
)
from peerupgrade.core.store.state import Step

TOMBSTONE_MS = 30 * 24 * 3600 * 1000  # far beyond any lease, any outage and any holiday
_SEEDS = 6  # a few of them may be dead


def seeds(step: Step, request: Seeds) -> Reply:
    """Name a few members to begin with."""
    members = list(step.state.members.values())
    at = request.draw % len(members) if members else 0
    drawn = (members[at:] + members[:at])[:_SEEDS]
    return SeedsFound(tuple(one.gossip for one in drawn if one.gossip and one.id != request.id))


def init(step: Step, request: Init) -> Reply:
    """Make the record where there is none."""
    state, record = step.state, step.state.record
    # A cluster that has not formed yet has nothing to lose: on another server it begins anew.
    unformed = record is not None and record.acting is None and record.identity != step.identity
    if record is None or unformed:
        created = ClusterRecord(
            generation=request.generation,
            revision=1,
            bootstrap_expect=request.bootstrap_expect,
            created_at_ms=step.now_ms,
            hold=record.hold if record is not None else None,
            identity=step.identity,
        )
        # An empty store may be a wiped one: whoever remembers more has this long to say so.
        step.remove_all_members()
        state.members_revision += 1
        if record is not None:
            state.incarnations = step.beyond(state.incarnations, record)
        state.master_token = ""
        state.suspect = step.identity
        state.quarantine_until_ms = step.now_ms + request.quarantine_ms
        step.write(created, "created", "")
    return step.view


def admit(step: Step, request: Admit) -> Reply:
    """R4: check, register and answer with the record."""
    state, record = step.state, step.state.record
    if record is None or record.identity != step.identity:
        return Unverified(step.view)
    if request.generation not in ("", record.generation):
        return Refused("other_generation", step.view)
    known = state.members.get(request.id)
    if known is not None and known.token not in (request.token, *request.earlier):
        return Refused("name_taken", step.view, other=known)
    if known is not None and known.token == request.token and request.number <= known.number:
        return Conflict(step.view)
    tombstone = state.excluded.get(request.id)
    if tombstone is not None and tombstone.token == request.token:
        return Refused("excluded", step.view, tombstone=tombstone)
    entry = admission(record, request.installed, request.lowest, is_member=known is not None)
    if entry.standing is None:
        if known is not None and known.standing is Standing.STANDBY:
            step.remove_member(request.id)  # it stood by while nobody knew better
        return Refused(entry.rule, step.view)
    member = _admitted_member(step, request, known, entry.standing)
    state.excluded.pop(request.id, None)  # a later incarnation has taken the name
    step.put_member(member)
    return Admitted(member.incarnation, member.standing, entry.rule, step.view)


def _admitted_member(
    step: Step, request: Admit, known: Member | None, standing: Standing
) -> Member:
    state = step.state
    assert state.record is not None
    again = known is not None and known.token == request.token
    if again:
        assert known is not None
        incarnation = known.incarnation
    else:
        state.incarnations = max(state.incarnations, request.incarnation) + 1
        incarnation = state.incarnations
    keeps = again and known is not None and known.standing is standing is Standing.SERVING
    return Member(
        id=request.id,
        incarnation=incarnation,
        token=request.token,
        installed=request.installed,
        lowest=request.lowest,
        standing=standing,
        seen=state.record.revision,
        operating=known.operating if keeps and known else None,
        operating_revision=known.operating_revision if keeps and known else 0,
        failure=known.failure if keeps and known else "",
        work=known.work if known else None,
        health=known.health if keeps and known else None,
        number=request.number,
        lease_ms=request.lease_ms,
        lease_until_ms=step.now_ms + request.lease_ms if request.lease_ms else 0,
        address=request.address,
        gossip=request.gossip,
        zone=request.zone,
        labels=request.labels,
        collections=request.collections,
        steps=request.steps,
        joined_at_ms=known.joined_at_ms if again and known else step.now_ms,
        changed_at_ms=step.now_ms,
        health_since_ms=known.health_since_ms if keeps and known else step.now_ms,
    )


def report(step: Step, request: Report) -> Reply:
    """Take a member's word of what it does now."""
    record = step.state.record
    if record is None or record.identity != step.identity:
        return Unverified(step.view)
    if request.generation != record.generation:
        return Refused("other_generation", step.view)
    known = step.state.members.get(request.id)
    if known is None or known.incarnation != request.incarnation:  # R9
        return NotMember(step.view, step.state.excluded.get(request.id))
    if request.number <= known.number:  # it was sent long ago
        return Conflict(step.view)
    member = replace(
        known,
        number=request.number,
        standing=request.standing,
        seen=request.seen,
        operating=request.operating,
        operating_revision=request.operating_revision,
        failure=request.failure,
        work=request.work,
        health=request.health,
        health_since_ms=step.health_since_ms(known, request.health),
        lease_until_ms=step.now_ms + known.lease_ms if known.lease_ms else 0,
    )
    if _says_nothing_new(member, known):
        step.state.members[request.id] = member  # only the lease: nothing that a decision reads
    else:
        step.put_member(replace(member, changed_at_ms=step.now_ms))
    return Done(step.view)


def _says_nothing_new(member: Member, known: Member) -> bool:
    """Only its lease and the number of its request are others."""
    return member == replace(known, lease_until_ms=member.lease_until_ms, number=member.number)


def leave(step: Step, request: Leave) -> Reply:
    """Remove a member that says farewell."""
    record = step.state.record
    if record is None or request.generation != record.generation:
        return Unverified(step.view)
    known = step.state.members.get(request.id)
    if known is None or known.incarnation != request.incarnation:
        return NotMember(step.view)
    step.remove_member(request.id)
    step.note("left", request.id, f"installed {known.installed}", record)
    return Done(step.view)


def exclude(step: Step, request: Exclude) -> Reply:
    """Remove a member that does not answer."""
    state, record = step.state, step.state.record
    if record is None:
        return Unverified(step.view)
    if record.identity != step.identity and step.quarantined:  # R16
        return Unverified(step.view)
    untrusted = step.untrusted(request) if request.token else None
    if untrusted is not None:
        return untrusted
    known = state.members.get(request.id)
    if known is None:
        return NotMember(step.view, state.excluded.get(request.id))
    if known.incarnation != request.incarnation:  # R2: it came back meanwhile
        return Conflict(step.view)
    rule = "" if request.confirm_stopped else _lease_rule(step, known, request)
    if rule:
        return Refused(rule, step.view, other=known)
    step.remove_member(request.id)
    for old in [one for one in state.excluded.values() if step.now_ms - one.at_ms > TOMBSTONE_MS]:
        del state.excluded[old.id]
    state.excluded[request.id] = Tombstone(
        request.id, known.incarnation, known.token, request.by, request.reason, step.now_ms
    )
    step.heard.append(ExcludedHeard(request.id, known.incarnation))
    step.note("excluded", request.by, f"{request.id}: {request.reason}", record)
    return Done(step.view)


def _lease_rule(step: Step, known: Member, request: Exclude) -> str:
    """What keeps a member from being removed without a word that it is stopped; "": nothing."""
    if known.lease_ms == 0:
        return "may_be_alive"
    if request.token and known.lease_until_ms != request.lease_until_ms:  # R2
        return "lease_runs"
    if step.now_ms < known.lease_until_ms:  # R7
        return "lease_runs"
    return ""
