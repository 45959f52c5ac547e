"""What every request does to the store: the rules of the shared storage area, in memory.

Theory of operation: `execute` is one atomic step, a function of the state, the request, the time of
the store's clock and the identity of the server process. The scripts that run inside Redis do the
same (`adapters/lua`), and one contract suite compares the two, answer by answer and state by state.

No decision is made here. The store only re-checks what a decision was made from, and refuses.
Rule names (R1..R30) are explained in the README.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from peerupgrade.core.record import (
    ClusterRecord,
    Hold,
    Member,
    Snapshot,
    Standing,
    Tombstone,
    ahead,
)
from peerupgrade.core.requests import (
    Acquire,
    Admit,
    Admitted,
    All,
    Attach,
    Attached,
    Beat,
    Claim,
    Claimed,
    Commit,
    Conflict,
    Done,
    DoubtHeard,
    Exclude,
    ExcludedHeard,
    Extend,
    Fenced,
    Freed,
    Heard,
    Init,
    Leave,
    LockReply,
    LockRequest,
    MemberHeard,
    NotMember,
    Read,
    ReadAll,
    RecordHeard,
    Refused,
    Release,
    ReleaseHold,
    Reply,
    Report,
    Request,
    SetHold,
    Unverified,
    View,
)

EPOCH_STRIDE = 1000


@dataclass(slots=True)
class LockState:
    """The lock on one server, and the highest epoch that it was told."""

    token: str = ""
    until_ms: int = 0
    epoch: int = 0


@dataclass(slots=True)
class StoreState:
    """Everything under one cluster's keys."""

    record: ClusterRecord | None = None
    members: dict[str, Member] = field(default_factory=dict)
    excluded: dict[str, Tombstone] = field(default_factory=dict)
    members_revision: int = 0
    incarnations: int = 0
    master_token: str = ""
    suspect: str = ""  # the server process whose quarantine runs
    quarantine_until_ms: int = 0
    history: list[Mapping[str, str]] = field(default_factory=list)
    lock: LockState = field(default_factory=LockState)

    def copy(self) -> StoreState:
        """A state that shares nothing that changes."""
        return replace(
            self,
            members=dict(self.members),
            excluded=dict(self.excluded),
            history=list(self.history),
            lock=replace(self.lock),
        )


@dataclass(slots=True)
class _Step:
    """One execution: the state, what it is told, and what it publishes."""

    state: StoreState
    now_ms: int
    identity: str
    heard: list[Heard] = field(default_factory=list)

    @property
    def view(self) -> View:
        record, state = self.state.record, self.state
        doubted = record is not None and record.identity != self.identity
        doubt = state.quarantine_until_ms if doubted and state.suspect == self.identity else 0
        return View(record, self.identity, doubt)

    @property
    def quarantined(self) -> bool:
        """True until the quarantine of this very server process has begun and ended."""
        began = self.state.suspect == self.identity
        return not began or self.now_ms < self.state.quarantine_until_ms

    def write(self, record: ClusterRecord, kind: str, by: str, inputs: str = "") -> None:
        """Put the record, remember in the history, tell everyone."""
        before = self.state.record
        self.state.record = record
        self.note(kind, by, inputs, before)
        self.heard.append(RecordHeard(record))

    def note(self, kind: str, by: str, inputs: str, before: ClusterRecord | None) -> None:
        record = self.state.record
        assert record is not None
        self.state.history.append(
            {
                "at_ms": str(self.now_ms),
                "kind": kind,
                "by": by,
                "epoch": str(record.epoch),
                "revision": str(record.revision),
                "before": str(before.acting or "") if before else "",
                "after": str(record.acting or ""),
                "inputs": inputs,
            }
        )

    def put_member(self, member: Member) -> None:
        self.state.members[member.id] = member
        self._member_changed(member.id, member)

    def remove_member(self, node_id: str) -> None:
        del self.state.members[node_id]
        self._member_changed(node_id, None)

    def _member_changed(self, node_id: str, member: Member | None) -> None:
        self.state.members_revision += 1
        self.heard.append(MemberHeard(node_id, member, self.state.members_revision))

    def begin_quarantine(self, quarantine_ms: int) -> None:
        """R16: from here until a master has verified the store, nothing joins and nothing rises."""
        state = self.state
        assert state.record is not None
        # R30: the epochs that the store may have forgotten are never given again. Its own clock
        # leaves room for a mastership in each millisecond of the cluster's life; should that have
        # jumped back, the stride leaves some.
        age = self.now_ms - state.record.created_at_ms
        epoch = state.record.epoch + EPOCH_STRIDE if age <= state.record.epoch else age
        state.record = replace(state.record, identity="", epoch=epoch)
        state.suspect = self.identity
        # The moment also names this doubt, so it is never the same twice.
        state.quarantine_until_ms = max(state.quarantine_until_ms + 1, self.now_ms + quarantine_ms)
        self.heard.append(DoubtHeard())


def execute(
    state: StoreState, request: Request, now_ms: int, identity: str
) -> tuple[Reply, list[Heard]]:
    """Do one request.

    Args:
        state: changed in place.
        request: what to do.
        now_ms: the store's clock.
        identity: of the server process and its replication history.

    Returns:
        The answer, and what is published, in order.
    """
    step = _Step(state, now_ms, identity)
    reply = _reply(step, request)
    return reply, step.heard


def _reply(step: _Step, request: Request) -> Reply:
    match request:
        case Read():
            return step.view
        case ReadAll():
            return All(snapshot(step.state, step.now_ms, step.identity))
        case Init():
            return _init(step, request)
        case Admit():
            return _admit(step, request)
        case Report():
            return _report(step, request)
        case Leave():
            return _leave(step, request)
        case Exclude():
            return _exclude(step, request)
        case SetHold() | ReleaseHold():
            return _hold(step, request)
        case Claim():
            return _claim(step, request)
        case Commit():
            return _commit(step, request)
        case Attach():
            return _attach(step, request)
        case _:
            assert_never(request)


def snapshot(state: StoreState, now_ms: int, identity: str) -> Snapshot:
    """The whole state as one value."""
    return Snapshot(
        record=state.record,
        members=dict(state.members),
        members_revision=state.members_revision,
        now_ms=now_ms,
        identity=identity,
        quarantine_until_ms=state.quarantine_until_ms,
        excluded=dict(state.excluded),
    )


def _init(step: _Step, request: Init) -> Reply:
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
        state.members.clear()
        state.members_revision += 1
        state.master_token = ""
        state.suspect = step.identity
        state.quarantine_until_ms = step.now_ms + request.quarantine_ms
        step.write(created, "created", "")
    return step.view


def _admit(step: _Step, request: Admit) -> Reply:
    state, record = step.state, step.state.record
    if record is None or record.identity != step.identity:
        return Unverified(step.view)
    if request.generation not in ("", record.generation):
        return Refused("other_generation", step.view)
    known = state.members.get(request.id)
    if known is not None and known.token not in (request.token, request.previous_token):
        return Refused("name_taken", step.view, other=known)
    if known is not None and known.token == request.token and request.number <= known.number:
        return Conflict(step.view)
    tombstone = state.excluded.get(request.id)
    if tombstone is not None and tombstone.token == request.token:
        return Refused("excluded", step.view, tombstone=tombstone)
    if record.acting is not None and request.installed < record.acting:
        if known is not None and known.standing is Standing.STANDBY:
            step.remove_member(request.id)  # it stood by while nobody knew better
        return Refused("installed_below_acting", step.view)
    rule = _standby_rule(record, request)
    if rule not in ("", "forming") and known is None:
        return Refused(rule, step.view)
    member = _admitted_member(step, request, known, Standing.STANDBY if rule else Standing.SERVING)
    step.put_member(member)
    return Admitted(member.incarnation, member.standing, rule, step.view)


def _standby_rule(record: ClusterRecord, request: Admit) -> str:
    """Why a node may not operate yet, "" if it may."""
    if record.acting is None:
        return "forming"
    assert record.floor is not None
    assert record.data is not None
    if request.installed < record.floor:
        return "installed_below_floor"
    if request.lowest > record.acting:
        return "lowest_above_acting"
    if request.lowest > record.data:
        return "lowest_above_data"  # R14
    return ""


def _admitted_member(
    step: _Step, request: Admit, known: Member | None, standing: Standing
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
        number=request.number,
        lease_ms=request.lease_ms,
        lease_until_ms=step.now_ms + request.lease_ms if request.lease_ms else 0,
        address=request.address,
        zone=request.zone,
        labels=request.labels,
        joined_at_ms=known.joined_at_ms if again and known else step.now_ms,
        changed_at_ms=step.now_ms,
    )


def _report(step: _Step, request: Report) -> Reply:
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
        lease_until_ms=step.now_ms + known.lease_ms if known.lease_ms else 0,
    )
    if _said(member) == _said(known):
        step.state.members[request.id] = member  # only the lease: nothing that a decision reads
    else:
        step.put_member(replace(member, changed_at_ms=step.now_ms))
    return Done(step.view)


def _said(member: Member) -> Member:
    """The member without what changes even when it says nothing new."""
    return replace(member, lease_until_ms=0, number=0)


def _leave(step: _Step, request: Leave) -> Reply:
    record = step.state.record
    if record is None or request.generation != record.generation:
        return Unverified(step.view)
    known = step.state.members.get(request.id)
    if known is None or known.incarnation != request.incarnation:
        return NotMember(step.view)
    step.remove_member(request.id)
    step.note("left", request.id, f"installed {known.installed}", record)
    return Done(step.view)


def _exclude(step: _Step, request: Exclude) -> Reply:
    state, record = step.state, step.state.record
    if record is None:
        return Unverified(step.view)
    if record.identity != step.identity and step.quarantined:  # R16
        return Unverified(step.view)
    known = state.members.get(request.id)
    if known is None:
        return NotMember(step.view, state.excluded.get(request.id))
    if known.incarnation != request.incarnation:  # R2: it came back meanwhile
        return Conflict(step.view)
    if not request.confirm_stopped:
        if known.lease_ms == 0:
            return Refused("may_be_alive", step.view, other=known)
        if step.now_ms < known.lease_until_ms:  # R7
            return Refused("lease_runs", step.view, other=known)
    step.remove_member(request.id)
    state.excluded[request.id] = Tombstone(
        request.id, known.incarnation, known.token, request.by, request.reason, step.now_ms
    )
    step.heard.append(ExcludedHeard(request.id, known.incarnation))
    step.note("excluded", request.by, f"{request.id}: {request.reason}", record)
    return Done(step.view)


def _hold(step: _Step, request: SetHold | ReleaseHold) -> Reply:
    record = step.state.record
    if record is None or record.identity != step.identity:
        return Unverified(step.view)
    if isinstance(request, ReleaseHold):
        if record.hold is None:
            return Refused("no_hold", step.view)
        hold, kind = None, "released"
    else:
        hold, kind = Hold(request.by, request.reason, step.now_ms, request.until_ms), "held"
    step.write(
        replace(record, revision=record.revision + 1, hold=hold), kind, request.by, request.reason
    )
    return Done(step.view)


def _claim(step: _Step, request: Claim) -> Reply:
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


def _commit(step: _Step, request: Commit) -> Reply:
    state, record = step.state, step.state.record
    if record is None or record.generation != request.record.generation:
        return Unverified(step.view)
    if request.epoch != record.epoch or request.token != state.master_token:  # R1
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
    revision = record.revision + 1
    doubt = state.quarantine_until_ms if request.repair else record.doubt
    new = replace(new, revision=revision, epoch=record.epoch, identity=step.identity, doubt=doubt)
    if new.acting != record.acting:
        new = replace(new, raised_revision=revision, raised_at_ms=step.now_ms)
    if new.floor != record.floor:
        new = replace(new, floor_revision=revision, floor_at_ms=step.now_ms)
    step.write(new, request.step, record.master, request.inputs)
    return Done(step.view)


def _attach(step: _Step, request: Attach) -> Reply:
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


def _attach_refusal(step: _Step, member: Member, known: Member | None) -> Reply | None:
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


def _attached_member(step: _Step, member: Member, known: Member | None) -> Member:
    state = step.state
    state.incarnations = max(state.incarnations, member.incarnation)
    incarnation, joined_at_ms = member.incarnation, step.now_ms
    if known is not None and known.token == member.token:
        incarnation, joined_at_ms = known.incarnation, known.joined_at_ms
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
    )


def _bring_back(step: _Step, memory: ClusterRecord, request: Attach) -> None:
    """The store is empty, or somebody has just begun a new cluster on it: R17."""
    state = step.state
    state.members.clear()
    state.record = replace(memory, master="")
    state.master_token = ""
    step.begin_quarantine(request.quarantine_ms)
    step.note("brought back", request.member.id, "the store had no record of this cluster", None)


def _doubt(step: _Step, record: ClusterRecord, request: Attach) -> None:
    """Begin the quarantine of this server process, once."""
    if step.state.suspect != step.identity or record.identity == step.identity:
        step.begin_quarantine(request.quarantine_ms)
        step.note("doubted", request.member.id, "the store's identity changed", record)


def _merge(step: _Step, memory: ClusterRecord, node_id: str) -> None:
    """Take in what the node remembers, forward only: R17."""
    record = step.state.record
    assert record is not None
    if not ahead(memory, record) and memory.epoch <= record.epoch:
        return
    newest = memory if memory.revision > record.revision else record
    step.state.record = replace(
        newest,
        acting=max(filter(None, (memory.acting, record.acting)), default=None),
        floor=max(filter(None, (memory.floor, record.floor)), default=None),
        # What the store lost of the shared data it lost together with the record.
        data=record.data if record.data is not None else memory.data,
        epoch=max(memory.epoch, record.epoch),
        master=record.master,
        identity="",
    )
    step.note("brought forward", node_id, f"remembers {memory.revision}", record)


def execute_lock(
    lock: LockState, request: LockRequest, now_ms: int, store: StoreState | None = None
) -> tuple[LockReply, list[Heard]]:
    """Do one request of a lock server; `store` if it is the store itself, whose beat is heard."""
    held = bool(lock.token) and now_ms < lock.until_ms
    match request:
        case Acquire(token, ttl_ms):
            if held and lock.token != token:
                return LockReply(False, lock.until_ms - now_ms, lock.epoch), []
            lock.token, lock.until_ms = token, now_ms + ttl_ms
            return LockReply(True, 0, lock.epoch), []
        case Extend(token, ttl_ms, epoch):
            if not held or lock.token != token:
                return LockReply(False, 0, lock.epoch), []
            lock.until_ms = now_ms + ttl_ms
            lock.epoch = max(lock.epoch, epoch)
            revision = store.record.revision if store and store.record else 0
            members_revision = store.members_revision if store else 0
            beat = Beat(epoch, revision, members_revision, ttl_ms)
            return LockReply(True, 0, lock.epoch), [beat]
        case Release(token):
            if not held or lock.token != token:
                return LockReply(False, 0, lock.epoch), []
            lock.token, lock.until_ms = "", 0
            return LockReply(True, 0, lock.epoch), [Freed()]
        case _:
            assert_never(request)
