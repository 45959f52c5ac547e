"""A rollout: which member is next, when its turn is over, and what somebody may change of it.

Theory of operation: a rollout is part of the cluster record, so every node hears of it as it hears
of a raise. The master takes a slot for a member, under its epoch, and then commits the member's
turn; the member walks through the steps (`turn`) and says in its reports how far it is. Once it has
confirmed that it operates again the master gives the slot back, and then ends the turn. Each of
these is in the store before the next begins, so that the next master goes on from there.

    slot taken -> turn given -> (the member works) -> slot returned -> turn ended

What a person wants is decided by `steer` and written if the record has not moved since.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from peerupgrade.core.acting import Step, StepName
from peerupgrade.core.admission import admission
from peerupgrade.core.record import (
    ClusterRecord,
    Hold,
    Member,
    Rollout,
    RolloutEnd,
    Slot,
    Snapshot,
    Turn,
    TurnStep,
    Work,
    WorkState,
    is_down,
)
from peerupgrade.core.refusals import version_words
from peerupgrade.core.requests import Outcome, ReturnSlot, SetRollout, TakeSlot
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import RefusedError

_BY = "rollout "
_CANARY = "canary"
_LABEL, _LAST = "upgrade", "last"
_STOPPED = (WorkState.FAILED, WorkState.UNKNOWN)


# --- what is --------------------------------------------------------------------------------------


def turn_order(member: Member, master: str) -> tuple[bool, bool, Version, str, str]:
    """The oldest version first, zone by zone, the master late, and last who is labelled so.

    A label outranks mastership: that can be handed over to a member that has had its turn.
    """
    return (_is_last(member), member.id == master, member.installed, member.zone, member.id)


def _is_last(member: Member) -> bool:
    return member.labels.get(_LABEL) == _LAST


def lacking(snapshot: Snapshot) -> list[Member]:
    """The members that have still to be taken down, in order; without those whose turn it is."""
    record = snapshot.record
    if record is None or record.rollout is None:
        return []
    rollout, master = record.rollout, record.master
    found = [
        member
        for member in snapshot.members.values()
        if _lacks(rollout, member)
        and member.id not in rollout.skipped
        and rollout.turn_of(member.id) is None
    ]
    if rollout.rollback:  # who came last returns first
        return sorted(found, key=lambda one: (one.id == master, _came(rollout, one)))
    return sorted(found, key=lambda one: turn_order(one, master))


def _lacks(rollout: Rollout, member: Member) -> bool:
    if rollout.rollback:
        return bool(_came(rollout, member)) and member.installed >= parse_version(rollout.version)
    return member.installed < parse_version(rollout.version)


def _came(rollout: Rollout, member: Member) -> tuple[int, ...]:
    """When the member got the version in this rollout, later ones first; (): it did not."""
    work = member.work
    if work is None or work.version != rollout.version or _number(work.turn) <= _number(rollout.id):
        return ()
    if parse_version(work.before) >= parse_version(work.version):
        return ()
    return tuple(-number for number in _number(work.turn))


def _number(id_: str) -> tuple[int, ...]:
    """Epoch and revision, as numbers."""
    return tuple(int(part) for part in id_.split("."))


def _gets(rollout: Rollout, member: Member) -> str:
    """The version that the member has at the end of its turn."""
    if not rollout.rollback:
        return rollout.version
    assert member.work is not None
    return member.work.before


def next_member(snapshot: Snapshot, now_ms: int, silent: Collection[str] = ()) -> Member | None:
    """Who is to be taken down next: one that is up.

    The master and who is labelled to be last only when all turns are over.

    Args:
        snapshot: of the store.
        now_ms: the store's clock, now.
        silent: who does not answer gossip. The store may take them for up: they count as down.
    """
    record = snapshot.record
    if record is None or record.rollout is None or now_ms < soaks_until_ms(snapshot):
        return None
    rollout = record.rollout
    if rollout.aborted or rollout.pause is not None:
        return None
    missing = {node_id for node_id in silent if node_id in snapshot.members}
    up = [one for one in lacking(snapshot) if not is_down(record, one) and one.id not in missing]
    up = [one for one in up if _zone_fits(snapshot, rollout, one)]
    if not up or (rollout.turns and (up[0].id == record.master or _is_last(up[0]))):
        return None
    taken = {turn.node for turn in rollout.turns}
    return up[0] if len(missing | taken) < _budget(snapshot, rollout) else None


def _budget(snapshot: Snapshot, rollout: Rollout) -> int:
    """Before the canaries have it nobody else is taken down."""
    if not rollout.canary or rollout.rollback:
        return rollout.budget
    return min(rollout.budget, max(0, rollout.canary - len(_brought(snapshot, rollout))))


def _brought(snapshot: Snapshot, rollout: Rollout) -> list[Member]:
    """The members that got the version in this rollout, and whose turn is over."""
    members = snapshot.members.values()
    return [one for one in members if _came(rollout, one) and not rollout.turn_of(one.id)]


def _zone_fits(snapshot: Snapshot, rollout: Rollout, member: Member) -> bool:
    down = (snapshot.members.get(turn.node) for turn in rollout.turns)
    return not rollout.one_zone or all(one is None or one.zone == member.zone for one in down)


def soaks_until_ms(snapshot: Snapshot) -> int:
    """When those that have the version will have operated for long enough, by the store's clock.

    One that starts again begins anew: a release that falls over does not get further.
    """
    record = snapshot.record
    if record is None or record.rollout is None or not record.rollout.soak_ms:
        return 0
    rollout = record.rollout
    began = [one.joined_at_ms for one in _brought(snapshot, rollout)]
    began_ms = max([rollout.turn_ended_at_ms, *began])
    return began_ms + rollout.soak_ms if began_ms else 0


def hands_over(snapshot: Snapshot, now_ms: int, silent: Collection[str] = ()) -> bool:
    """The master is next, and somebody else can decide meanwhile."""
    record, member = snapshot.record, next_member(snapshot, now_ms, silent)
    if record is None or member is None or not snapshot.verified:
        return False
    others = [one for one in snapshot.members.values() if one.id != member.id]
    return member.id == record.master and any(not is_down(record, one) for one in others)


def work_on(member: Member | None, turn: Turn) -> Work | None:
    """What the member says of this very turn."""
    work = member.work if member is not None else None
    return work if work is not None and work.turn == turn.id else None


def has_stopped(work: Work | None, turn: Turn) -> bool:
    """Its step failed, or cannot be known, and nobody has decided what is to be done."""
    if work is None or work.state not in _STOPPED:
        return False
    return work.attempt >= turn.attempt and not turn.given_up


def _is_over(member: Member | None, turn: Turn) -> bool:
    """The member has done all that it was to do, or is no member any more."""
    work = work_on(member, turn)
    return member is None or (work is not None and work.state is WorkState.ENDED)


def _goes_down(member: Member | None, turn: Turn) -> bool:
    """It is down, or may still go; once it comes back its standing says what it is."""
    work = work_on(member, turn)
    return member is not None and (
        work is None or work.step not in (TurnStep.RETURN, TurnStep.UNDRAIN)
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What a member does in a rollout.

    `state`: "done", "skipped", "waits" for its turn, or "turn"; `work`: of its turn, once begun.
    """

    member: Member
    state: str
    work: Work | None


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as people see it. `remaining_s`: estimated; None while nothing can be said."""

    rollout: Rollout
    parts: tuple[Part, ...]
    done: int
    remaining_s: float | None


def rollout_view(snapshot: Snapshot) -> RolloutView | None:
    """The rollout that is under way; None: there is none."""
    record = snapshot.record
    if record is None or record.rollout is None:
        return None
    rollout = record.rollout
    members = sorted(snapshot.members.values(), key=lambda one: turn_order(one, record.master))
    waiting = frozenset(member.id for member in lacking(snapshot))
    parts = tuple(_part(rollout, member, waiting) for member in members)
    done = sum(part.state == "done" for part in parts)
    brought = [part for part in parts if part.state == "done" and part.work is not None]
    left = sum(part.state in ("waits", "turn") for part in parts)
    took_s = (snapshot.now_ms - rollout.started_at_ms) / 1000
    remaining_s = left * took_s / len(brought) if brought else None
    return RolloutView(rollout, parts, done, remaining_s)


def _part(rollout: Rollout, member: Member, waiting: Collection[str]) -> Part:
    turn, work = rollout.turn_of(member.id), member.work
    if turn is not None:
        return Part(member, "turn", work_on(member, turn))
    if member.id in waiting:
        return Part(member, "waits", None)
    if _lacks(rollout, member):
        return Part(member, "skipped", None)
    ours = work is not None and _number(work.turn) > _number(rollout.id)
    return Part(member, "done", work if ours else None)


# --- what the master does -------------------------------------------------------------------------


def rollout_step(
    snapshot: Snapshot, now_ms: int, sure: Collection[str], silent: Collection[str] = ()
) -> Step | None:
    """The next change of the record, if there is one.

    Args:
        snapshot: of the store.
        now_ms: the store's clock, now.
        sure: the members for which this mastership was acknowledged a slot: no failover forgets it.
        silent: as for `next_member`.
    """
    record = snapshot.record
    if record is None or record.rollout is None or not snapshot.verified:
        return None
    rollout = record.rollout
    for turn in rollout.turns:
        member = snapshot.members.get(turn.node)
        if _is_over(member, turn) and not _has_slot(snapshot, turn.node):
            rest = tuple(one for one in rollout.turns if one is not turn)
            ended = replace(rollout, turns=rest, turn_ended_at_ms=now_ms)
            return _step(StepName.TURN_ENDED, record, ended, _said(turn, member))
        if has_stopped(work_on(member, turn), turn) and rollout.pause is None:
            why = _said(turn, member)
            paused = replace(rollout, pause=Hold(turn.node, why, now_ms))
            return _step(StepName.ROLLOUT_PAUSED, record, paused, why)
    if not rollout.turns and (rollout.aborted or not lacking(snapshot)):
        return _end(record, rollout, now_ms)
    if rollout.canary and not rollout.turns and not _budget(snapshot, rollout):
        why = f"{rollout.canary} members have {rollout.version}: look at them, then resume"
        paused = replace(rollout, canary=0, pause=Hold(_CANARY, why, now_ms))
        return _step(StepName.ROLLOUT_PAUSED, record, paused, why)
    member = next_member(snapshot, now_ms, silent)
    # R29: first the slot, acknowledged, then the turn.
    if member is None or member.id not in sure or not _has_slot(snapshot, member.id):
        return None
    id_ = f"{record.epoch}.{record.revision + 1}"
    turn = Turn(id_, member.id, _gets(rollout, member), now_ms)
    given = replace(rollout, turns=(*rollout.turns, turn))
    return _step(StepName.TURN_GIVEN, record, given, f"{member.id} has {member.installed}")


def _step(name: StepName, record: ClusterRecord, rollout: Rollout, inputs: str) -> Step:
    return Step(name, replace(record, rollout=rollout), inputs)


def _end(record: ClusterRecord, rollout: Rollout, now_ms: int) -> Step:
    end = RolloutEnd(
        rollout.id,
        rollout.version,
        rollout.started_at_ms,
        now_ms,
        rollout.aborted,
        rollout.skipped,
        rollout.rollback,
    )
    skipped = f", without {', '.join(rollout.skipped)}" if rollout.skipped else ""
    how = f"{rollout.version}{skipped}, {outcome(end)}"
    return Step(StepName.ROLLOUT_ENDED, replace(record, rollout=None, rollout_end=end), how)


def outcome(end: RolloutEnd) -> str:
    """How it ended, in a word or two."""
    if end.aborted:
        return "aborted"
    return "rolled back" if end.rollback else "done"


def _said(turn: Turn, member: Member | None) -> str:
    work = work_on(member, turn)
    if work is None:
        return f"{turn.node}: no member any more"
    note = f": {work.note}" if work.note else ""
    return f"{turn.node}: {work.step} {work.state}{note}"


def slot_request(
    snapshot: Snapshot, now_ms: int, sure: Collection[str], silent: Collection[str] = ()
) -> TakeSlot | ReturnSlot | None:
    """The next slot to take or to give back, if there is one; arguments as for `rollout_step`."""
    record = snapshot.record
    if record is None or not snapshot.verified:
        return None
    rollout, member = record.rollout, next_member(snapshot, now_ms, silent)
    if member is not None and hands_over(snapshot, now_ms, silent):
        member = None
    turns = rollout.turns if rollout is not None else ()
    for slot in snapshot.slots.values():
        request = None if member and slot.id == member.id else _returned(snapshot, turns, slot)
        if request is not None:
            return request
    if rollout is None:
        return None
    missing = [
        turn.node
        for turn in turns  # the store forgot
        if not _has_slot(snapshot, turn.node) and _goes_down(snapshot.members.get(turn.node), turn)
    ]
    if member is not None and not (member.id in sure and _has_slot(snapshot, member.id)):
        missing.append(member.id)
    if not missing:
        return None
    return TakeSlot(missing[0], _BY + rollout.id, rollout.budget, revision=record.revision)


def _returned(snapshot: Snapshot, turns: Collection[Turn], slot: Slot) -> ReturnSlot | None:
    if not slot.by.startswith(_BY):
        return None  # somebody else's
    member = snapshot.members.get(slot.id)
    turn = next((one for one in turns if one.node == slot.id), None)
    if turn is not None and not _is_over(member, turn):
        return None
    if member is None:
        return ReturnSlot(slot.id, slot.by, Outcome.GONE)
    # One that was taken anew, because the store forgot it, may never have seen the member down.
    seen_down = slot.away == 1 or slot.incarnation != member.incarnation
    return ReturnSlot(slot.id, slot.by, Outcome.UP if turn and seen_down else Outcome.UNUSED)


def _has_slot(snapshot: Snapshot, node_id: str) -> bool:
    slot = snapshot.slots.get(node_id)
    return slot is not None and slot.by.startswith(_BY)


def slots_after(snapshot: Snapshot, request: TakeSlot | ReturnSlot, now_ms: int) -> Snapshot:
    """The copy of the store once the request was done: nobody tells of slots."""
    slots = dict(snapshot.slots)
    slots.pop(request.id, None)
    member = snapshot.members.get(request.id)
    if isinstance(request, TakeSlot) and member is not None:
        slots[request.id] = Slot(request.id, request.by, now_ms, member.incarnation)
    return replace(snapshot, slots=slots)


# --- what people do -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a rollout goes on; None: as it is. See `Rollout`."""

    budget: int | None = None
    canary: int | None = None
    soak_ms: int | None = None
    one_zone: bool | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Bring every member to a version, but for those in `skip`.

    `lowest`: the lowest version that it supports; "": as members say that have it.
    """

    version: str
    by: str
    reason: str = ""
    strategy: Strategy = Strategy()
    skip: tuple[str, ...] = ()
    lowest: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Let it go on in another way."""

    strategy: Strategy
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """No further turn begins."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Turns begin again."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Let the step run again that failed on a member; the rollout goes on."""

    node: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """A member keeps what it has; if it is down, it comes back with that. The rollout goes on."""

    node: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Abort:
    """No further turn begins, and the members whose turn it is come back with what they have.

    `rollback`: then all that got the version return to what they had, the last one first.
    """

    by: str
    reason: str = ""
    rollback: bool = False


Steering: TypeAlias = Start | Change | Pause | Resume | Retry | Skip | Abort


def steer(snapshot: Snapshot, asked: Steering) -> SetRollout:
    """What is to be written.

    Args:
        snapshot: of the store, verified.
        asked: what somebody wants.

    Raises:
        RefusedError: it cannot be done as things are.
        KeyError: there is no member of this name.
        VersionError: the version cannot be read.
    """
    record = snapshot.record
    if record is None or record.acting is None:
        raise RefusedError(
            "the cluster has not formed yet", rule="forming", hint="peerupgrade why says why"
        )
    if isinstance(asked, Start):
        rollout, kind = _started(snapshot, record, asked), f"rollout to {asked.version}"
    elif record.rollout is None:
        raise RefusedError(
            "no rollout is under way", rule="no_rollout", hint="peerupgrade upgrade start VERSION"
        )
    else:
        rollout, kind = _changed(snapshot, record.rollout, asked)
    return SetRollout(record.revision, rollout, kind, asked.by, asked.reason)


def _started(snapshot: Snapshot, record: ClusterRecord, asked: Start) -> Rollout:
    version = parse_version(asked.version)
    if record.rollout is not None:
        raise RefusedError(
            f"a rollout to {record.rollout.version} is under way",
            rule="rollout_under_way",
            hint="peerupgrade upgrade status shows it; upgrade abort ends it",
        )
    assert record.acting is not None
    assert record.floor is not None
    if version < record.floor:
        raise RefusedError(
            f"the cluster acts at {record.floor}, which is newer than {version}",
            rule="installed_below_acting",
            hint=f"give {record.floor} or newer",
        )
    if all(member.installed >= version for member in snapshot.members.values()):
        raise RefusedError(
            f"every member has {version} or newer",
            rule="nothing_to_do",
            hint="peerupgrade members lists what they have",
        )
    _check_supported(snapshot, record, version, asked.lowest)
    id_ = f"{record.epoch}.{record.revision + 1}"
    rollout = Rollout(id_, str(version), asked.by, asked.reason, snapshot.now_ms)
    for name in asked.skip:
        rollout = _skipped(snapshot, rollout, name)
    return _by(rollout, asked.strategy)


def _check_supported(
    snapshot: Snapshot, record: ClusterRecord, version: Version, lowest: str
) -> None:
    """A member that came back with it would not serve: better not to take it down."""
    said = [one.lowest for one in snapshot.members.values() if one.installed == version]
    known = parse_version(lowest) if lowest else max(said, default=None)
    if known is None:
        return
    rule = admission(record, version, known, is_member=True).rule
    if rule in ("lowest_above_acting", "lowest_above_data"):
        message, hint = version_words(rule, record, f"a node with {version}", version, known)
        raise RefusedError(message, rule=rule, hint=hint)


def _by(rollout: Rollout, strategy: Strategy) -> Rollout:
    def chosen(asked: int | None, known: int) -> int:
        return known if asked is None else int(asked)

    return replace(
        rollout,
        budget=chosen(strategy.budget, rollout.budget),
        canary=chosen(strategy.canary, rollout.canary),
        soak_ms=chosen(strategy.soak_ms, rollout.soak_ms),
        one_zone=chosen(strategy.one_zone, rollout.one_zone),
    )


def _changed(
    snapshot: Snapshot, rollout: Rollout, asked: Change | Pause | Resume | Retry | Skip | Abort
) -> tuple[Rollout, str]:
    match asked:
        case Change():
            return _by(rollout, asked.strategy), "rollout changed"
        case Pause():
            pause = Hold(asked.by, asked.reason, snapshot.now_ms)
            return replace(rollout, pause=pause), "rollout paused"
        case Resume():
            return _resumed(snapshot, rollout), "rollout resumed"
        case Retry():
            return _retried(snapshot, rollout, asked.node), f"retry of {asked.node}"
        case Skip():
            return _skipped(snapshot, rollout, asked.node), f"{asked.node} skipped"
        case Abort():
            return _aborted(snapshot, rollout, asked)
        case _:
            assert_never(asked)


def _aborted(snapshot: Snapshot, rollout: Rollout, asked: Abort) -> tuple[Rollout, str]:
    turns = tuple(replace(turn, given_up=1) for turn in rollout.turns)
    rollout = replace(rollout, turns=turns, pause=None)
    if not asked.rollback:
        return replace(rollout, aborted=1), "rollout aborted"
    record = snapshot.record
    assert record is not None
    assert record.acting is not None
    for member in snapshot.members.values():
        work = member.work
        if work and _came(rollout, member) and parse_version(work.before) < record.acting:
            raise RefusedError(
                f"{member.id} had {work.before}, and the cluster acts at {record.acting} by now",
                rule="acting_risen",
                hint="what others have written since, the older version may not understand: roll"
                " out a newer version instead; upgrade abort leaves every node as it is",
            )
    return replace(rollout, rollback=1), "rollout rolled back"


def _resumed(snapshot: Snapshot, rollout: Rollout) -> Rollout:
    if rollout.pause is None:
        raise RefusedError(
            "the rollout is not paused", rule="no_pause", hint="peerupgrade why says what it awaits"
        )
    for turn in rollout.turns:
        if has_stopped(work_on(snapshot.members.get(turn.node), turn), turn):
            raise RefusedError(
                f"{turn.node} has not got through: {_said(turn, snapshot.members[turn.node])}",
                rule="turn_stopped",
                hint=f"peerupgrade upgrade retry {turn.node}, or upgrade skip {turn.node}",
            )
    return replace(rollout, pause=None)


def _retried(snapshot: Snapshot, rollout: Rollout, node: str) -> Rollout:
    turn = rollout.turn_of(node)
    if turn is None or not has_stopped(work_on(snapshot.members.get(node), turn), turn):
        _check_member(snapshot, rollout, node)
        raise RefusedError(
            f"no step has failed on {node}",
            rule="nothing_to_retry",
            hint="peerupgrade upgrade status shows what each member does",
        )
    return _with_turn(_without_its_pause(rollout, node), replace(turn, attempt=turn.attempt + 1))


def _skipped(snapshot: Snapshot, rollout: Rollout, node: str) -> Rollout:
    _check_member(snapshot, rollout, node)
    turn, skipped = rollout.turn_of(node), tuple(sorted({*rollout.skipped, node}))
    rollout = replace(_without_its_pause(rollout, node), skipped=skipped)
    return rollout if turn is None else _with_turn(rollout, replace(turn, given_up=1))


def _without_its_pause(rollout: Rollout, node: str) -> Rollout:
    """The pause that began because a step failed on that member is over; a person's is not."""
    its = rollout.pause is not None and rollout.pause.by == node
    return replace(rollout, pause=None) if its else rollout


def _check_member(snapshot: Snapshot, rollout: Rollout, node: str) -> None:
    if node not in snapshot.members and rollout.turn_of(node) is None:
        raise KeyError(node)


def _with_turn(rollout: Rollout, turn: Turn) -> Rollout:
    turns = tuple(turn if one.node == turn.node else one for one in rollout.turns)
    return replace(rollout, turns=turns)
