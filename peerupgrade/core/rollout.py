"""A rollout: which member is next, when its turn is over, and what the master does about it.

Theory of operation: a rollout is part of the cluster record, so every node hears of it as it hears
of a raise. The master takes a slot for a member, under its epoch, and then commits the member's
turn; the member walks through the steps (`turn`) and says in its reports how far it is. Once it has
confirmed that it operates again the master gives the slot back, and then ends the turn. Each of
these is in the store before the next begins, so that the next master goes on from there.

    slot taken -> turn given -> (the member works) -> slot returned -> turn ended

What people want of it is decided in `steering`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from peerupgrade.core.acting import Step, StepName
from peerupgrade.core.record import (
    ClusterRecord,
    HealthState,
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
    is_healthy,
)
from peerupgrade.core.requests import Outcome, ReturnSlot, TakeSlot
from peerupgrade.core.strategy import OnUnhealthy
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.core.windows import opens_at_ms

_BY = "rollout "
_CANARY, _FAILURES = "canary", "failures"
_LABEL, _LAST = "upgrade", "last"
_STOPPED = (WorkState.FAILED, WorkState.UNKNOWN)


# --- what is --------------------------------------------------------------------------------------


def turn_order(
    member: Member, master: str, *, one_zone: bool = False
) -> tuple[bool, bool, str, Version, str, str]:
    """The oldest version first, zone by zone, the master late, and last who is labelled so.

    `one_zone`: one zone is done before the next one begins, whatever they have; so the order stays
    the same however long a turn takes.

    A label outranks mastership: that can be handed over to a member that has had its turn, and
    whoever takes it over changes nothing in the order of those.
    """
    last, first = _is_last(member), member.zone if one_zone else ""
    late = member.id == master and not last
    return (last, late, first, member.installed, member.zone, member.id)


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
        if _lacks(record, rollout, member)
        and (member.id not in rollout.skipped or member.id in rollout.returning)
        and rollout.turn_of(member.id) is None
    ]
    if rollout.rollback:  # who came last returns first
        return sorted(found, key=lambda one: (one.id == master, _came(rollout, one)))
    returning, one_zone = rollout.returning, rollout.strategy.one_zone
    return sorted(
        found,
        key=lambda one: (one.id not in returning, turn_order(one, master, one_zone=one_zone)),
    )


def returns(rollout: Rollout, member: Member) -> bool:
    """Its turn, if it gets one, is one back to what it had."""
    return rollout.rollback == 1 or member.id in rollout.returning


def _lacks(record: ClusterRecord, rollout: Rollout, member: Member) -> bool:
    if returns(rollout, member):
        if risen(record, [member]) is not None:
            return False  # by what a member remembered after the store had forgotten it
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
    if not returns(rollout, member):
        return rollout.version
    assert member.work is not None
    return member.work.before


def next_member(snapshot: Snapshot, now_ms: int, silent: Collection[str] = ()) -> Member | None:
    """Who is to be taken down next: one that is up, while not too many are down.

    Args:
        snapshot: of the store.
        now_ms: the store's clock, now.
        silent: who does not answer gossip. The store may take them for up: they count as down.
    """
    member = candidate(snapshot, now_ms, silent)
    if member is None:
        return None
    down, budget = counted(snapshot, member, silent)
    return member if len(down) < budget else None


def candidate(snapshot: Snapshot, now_ms: int, silent: Collection[str] = ()) -> Member | None:
    """Who is next, however many are down; arguments as for `next_member`.

    The master and who is labelled to be last only when all turns are over.

    What is not healthy is not given another version: else who could say that it is the fault of
    that one? It counts as down, unless somebody has left it out. Who returns need not be healthy.
    """
    record = snapshot.record
    if record is None or record.rollout is None or record.rollout.aborted:
        return None
    rollout, goes_on = record.rollout, _goes_on(snapshot, now_ms)
    up = [
        one
        for one in lacking(snapshot)
        if not is_down(record, one)
        and one.id not in silent
        and _zone_fits(snapshot, rollout, one)
        and (_may_return(rollout, one) or (goes_on and is_healthy(one.health)))
    ]
    if not up or (rollout.turns and (up[0].id == record.master or _is_last(up[0]))):
        return None
    return up[0]


def counted(
    snapshot: Snapshot, member: Member, silent: Collection[str] = ()
) -> tuple[frozenset[str], int]:
    """Who counts as down before this member is taken down, and how many may be, it included.

    Who is down by the store is not among them: the store counts them before it gives a slot.
    """
    record = snapshot.record
    assert record is not None
    rollout = record.rollout
    assert rollout is not None
    down = {turn.node for turn in rollout.turns}
    down |= {node_id for node_id in silent if node_id in snapshot.members}
    budget = rollout_budget(snapshot)
    if not returns(rollout, member):
        down |= {one.id for one in unhealthy(snapshot)}
        down |= {one.id for one in drained(snapshot)}
        budget = min(budget, _canaries_left(snapshot, rollout))
    return frozenset(down), budget


def slot_budget(snapshot: Snapshot, member: Member, silent: Collection[str] = ()) -> int:
    """So many may be down by the store for this member to get a slot, it included.

    Who counts as down and is up by the store takes the room of one.
    """
    record = snapshot.record
    assert record is not None
    held = {one.id for one in snapshot.members.values() if is_down(record, one)}
    unseen = counted(snapshot, member, silent)[0] - held - set(snapshot.slots)
    return rollout_budget(snapshot) - len(unseen)


def _goes_on(snapshot: Snapshot, now_ms: int) -> bool:
    """Members may be given the version now; those that return need not wait for it."""
    record = snapshot.record
    assert record is not None
    assert record.rollout is not None
    rollout = record.rollout
    if rollout.pause is not None or is_spent(rollout):
        return False
    soaks = now_ms < soaks_until_ms(snapshot)
    return not soaks and now_ms >= window_opens_at_ms(rollout, now_ms)


def _may_return(rollout: Rollout, member: Member) -> bool:
    """A pause keeps a rollback that somebody wanted, and not a member that is unhealthy."""
    return member.id in rollout.returning or (rollout.rollback == 1 and rollout.pause is None)


def is_spent(rollout: Rollout) -> bool:
    """More members have failed than may."""
    return len(rollout.failed) > rollout.strategy.failures


def unhealthy(snapshot: Snapshot) -> list[Member]:
    """The members whose probes fail, or say nothing yet, but for those that somebody left out."""
    members, left_out = snapshot.members.values(), _left_out(snapshot)
    return [one for one in members if not is_healthy(one.health) and one.id not in left_out]


def drained(snapshot: Snapshot) -> list[Member]:
    """The members to which nothing is sent since their turn; somebody's skip lets others go on."""
    members, left_out = snapshot.members.values(), _left_out(snapshot)
    return [one for one in members if is_drained(one) and one.id not in left_out]


def is_drained(member: Member) -> bool:
    """It has not been undrained since a turn began, be that over or not."""
    return member.work is not None and member.work.state is not WorkState.ENDED


def _left_out(snapshot: Snapshot) -> set[str]:
    """By somebody, and not by the rollout itself."""
    rollout = snapshot.record.rollout if snapshot.record is not None else None
    return set(rollout.skipped) - set(rollout.failed) if rollout is not None else set()


def rollout_budget(snapshot: Snapshot) -> int:
    """So many may be down at once."""
    record = snapshot.record
    assert record is not None
    assert record.rollout is not None
    return record.rollout.strategy.budget_of(len(snapshot.members))


def _canaries_left(snapshot: Snapshot, rollout: Rollout) -> int:
    """Before the canaries have it nobody else is taken down."""
    canary = rollout.strategy.canary
    return max(0, canary - len(brought(snapshot))) if canary else len(snapshot.members)


def brought(snapshot: Snapshot) -> list[Member]:
    """The members that got the version in this rollout, and whose turn is over."""
    record = snapshot.record
    if record is None or record.rollout is None:
        return []
    rollout, version = record.rollout, parse_version(record.rollout.version)
    return [
        one
        for one in snapshot.members.values()
        if _came(rollout, one)
        and one.installed >= version
        and one.id not in rollout.skipped
        and rollout.turn_of(one.id) is None
    ]


def _zone_fits(snapshot: Snapshot, rollout: Rollout, member: Member) -> bool:
    if not rollout.strategy.one_zone:
        return True
    down = (snapshot.members.get(turn.node) for turn in rollout.turns)
    return all(one is None or one.zone == member.zone for one in down)


def window_opens_at_ms(rollout: Rollout, now_ms: int) -> int:
    """When turns may begin: `now_ms` if they may now. Who returns does not wait for a window."""
    return now_ms if rollout.rollback else opens_at_ms(rollout.strategy.windows, now_ms)


def soaks_until_ms(snapshot: Snapshot) -> int:
    """When those that have the version will have operated for long enough, by the store's clock.

    One that starts again begins anew: a release that falls over does not get further. A rollback
    does not wait for it.
    """
    record = snapshot.record
    rollout = record.rollout if record is not None else None
    if rollout is None or not rollout.strategy.soak_ms or rollout.rollback:
        return 0
    began = [one.joined_at_ms for one in brought(snapshot)]
    began_ms = max([rollout.turn_ended_at_ms, *began])
    return began_ms + rollout.strategy.soak_ms if began_ms else 0


def bakes_until_ms(snapshot: Snapshot) -> int:
    """When all will have operated for long enough with the version, once all have it.

    One that starts again begins anew, and so does whoever lets a paused one go on.
    """
    record = snapshot.record
    rollout = record.rollout if record is not None else None
    if rollout is None or not rollout.strategy.bake_ms or rollout.rollback or rollout.aborted:
        return 0
    version = parse_version(rollout.version)
    began = [
        one.joined_at_ms
        for one in snapshot.members.values()
        if one.installed >= version and one.id not in rollout.skipped
    ]
    began_ms = max(rollout.started_at_ms, rollout.turn_ended_at_ms, *began)
    return began_ms + rollout.strategy.bake_ms


def _bakes(snapshot: Snapshot, rollout: Rollout, now_ms: int) -> bool:
    """All have it, and it may yet turn out to be bad: what is not well, or paused, stays so."""
    until_ms = bakes_until_ms(snapshot)
    if not until_ms:
        return False
    return now_ms < until_ms or rollout.pause is not None or bool(unhealthy(snapshot))


def hands_over(snapshot: Snapshot, now_ms: int, silent: Collection[str] = ()) -> bool:
    """The master is next, and somebody else can decide meanwhile."""
    record, member = snapshot.record, next_member(snapshot, now_ms, silent)
    if record is None or member is None or not snapshot.verified:
        return False
    return member.id == record.master and any(
        one.id not in silent and not is_down(record, one)
        for one in snapshot.members.values()
        if one.id != member.id
    )


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
    return member is None or (work is not None and work.over)


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
    one_zone = rollout.strategy.one_zone
    members = sorted(
        snapshot.members.values(),
        key=lambda one: turn_order(one, record.master, one_zone=one_zone),
    )
    waiting = frozenset(member.id for member in lacking(snapshot))
    parts = tuple(_part(record, rollout, member, waiting) for member in members)
    done = sum(part.state == "done" for part in parts)
    brought = [part for part in parts if part.state == "done" and part.work is not None]
    left = sum(part.state in ("waits", "turn") for part in parts)
    took_s = (snapshot.now_ms - rollout.started_at_ms) / 1000
    remaining_s = left * took_s / len(brought) if brought else None
    return RolloutView(rollout, parts, done, remaining_s)


def _part(
    record: ClusterRecord, rollout: Rollout, member: Member, waiting: Collection[str]
) -> Part:
    turn, work = rollout.turn_of(member.id), member.work
    if turn is not None:
        return Part(member, "turn", work_on(member, turn))
    if member.id in waiting:
        return Part(member, "waits", None)
    if _lacks(record, rollout, member):
        return Part(member, "skipped", None)
    ours = work is not None and _number(work.turn) > _number(rollout.id)
    return Part(member, "done", work if ours else None)


# --- what the master does -------------------------------------------------------------------------


def rollout_step(
    snapshot: Snapshot,
    now_ms: int,
    sure: Collection[str],
    silent: Collection[str] = (),
    failed: Collection[str] = (),
) -> Step | None:
    """The next change of the record, if there is one.

    Args:
        snapshot: of the store.
        now_ms: the store's clock, now.
        sure: the members for which this mastership was acknowledged a slot: no failover forgets it.
        silent: as for `next_member`.
        failed: those of them that gossip has given up.
    """
    record = snapshot.record
    if record is None or record.rollout is None or not snapshot.verified:
        return None
    rollout = record.rollout
    assert record.acting is not None
    worse = _after_worse(snapshot, now_ms, failed)
    if worse is not None:
        return worse
    for turn in rollout.turns:
        member = snapshot.members.get(turn.node)
        if _is_over(member, turn) and not _has_slot(snapshot, turn.node):
            ended = _without_turn(rollout, turn, now_ms, done=member is not None)
            return _step(StepName.TURN_ENDED, record, ended, said_of(turn, member))
        if parse_version(turn.version) < record.acting and not turn.given_up:
            stays = with_turn(rollout, replace(turn, given_up=1))
            why = f"{turn.node} keeps what it has: the cluster acts at {record.acting} by now"
            return _step(StepName.ROLLOUT_RETREATS, record, stays, why)
        if has_stopped(work_on(member, turn), turn):
            step = _after_failure(snapshot, rollout, turn, now_ms)
            if step is not None:
                return step
    over = rollout.aborted or not (lacking(snapshot) or _bakes(snapshot, rollout, now_ms))
    if over and not rollout.turns:
        return _end(record, rollout, now_ms)
    if not rollout.turns and not rollout.rollback:
        paused = _paused_for_a_look(snapshot, rollout, now_ms)
        if paused is not None:
            return paused
    member = next_member(snapshot, now_ms, silent)
    # R29: first the slot, acknowledged, then the turn.
    if member is None or member.id not in sure or not _has_slot(snapshot, member.id):
        return None
    id_ = f"{record.epoch}.{record.revision + 1}"
    turn = Turn(id_, member.id, _gets(rollout, member), now_ms)
    given = replace(rollout, turns=(*rollout.turns, turn))
    return _step(StepName.TURN_GIVEN, record, given, f"{member.id} has {member.installed}")


def _without_turn(rollout: Rollout, turn: Turn, now_ms: int, *, done: bool) -> Rollout:
    """It is over; how long it took counts if it was gone through to its end."""
    rest = tuple(one for one in rollout.turns if one is not turn)
    ended = replace(rollout, turns=rest, turn_ended_at_ms=now_ms)
    if turn.given_up or not done:
        return ended
    took_ms = rollout.turns_took_ms + now_ms - turn.at_ms
    return replace(ended, turns_done=rollout.turns_done + 1, turns_took_ms=took_ms)


def _after_failure(snapshot: Snapshot, rollout: Rollout, turn: Turn, now_ms: int) -> Step | None:
    """A member's turn has failed: it is left out, if so many may fail, or the rollout pauses.

    One that came back, and is not healthy in time, is worse for the version.
    """
    record, member = snapshot.record, snapshot.members[turn.node]
    assert record is not None
    why, forward = said_of(turn, member), not returns(rollout, member)
    work = work_on(member, turn)
    if forward and work is not None and work.step is TurnStep.RETURN:
        retreat = _retreat(snapshot, rollout, member, why)
        if retreat is not None:
            return retreat
    if forward and len(rollout.failed) < rollout.strategy.failures:
        given_up = _failed(snapshot, rollout, turn.node)
        why += f"; {turn.node} is left out"
        return _step(StepName.ROLLOUT_RETREATS, record, given_up, why)
    if rollout.pause is not None:
        return None
    return _paused(record, rollout, turn.node, why, now_ms)


def worse(snapshot: Snapshot, failed: Collection[str] = ()) -> list[tuple[Member, str]]:
    """The members that are worse since they got the version in this rollout, and how so."""
    found = []
    for member in sorted(brought(snapshot), key=lambda one: one.id):
        health = member.health
        if health is not None and health.state is HealthState.UNHEALTHY:
            how = f"is unhealthy: {health.note}"
        elif member.id in failed:
            how = "does not answer any more"
        else:
            continue
        found.append((member, f"{member.id} has got {member.installed}, and {how}"))
    return found


def _after_worse(snapshot: Snapshot, now_ms: int, failed: Collection[str]) -> Step | None:
    """A member is worse for the new version: what the strategy says, as far as nothing forbids."""
    record = snapshot.record
    assert record is not None
    rollout = record.rollout
    assert rollout is not None
    found = worse(snapshot, failed)
    if not found or rollout.rollback or rollout.aborted:
        return None
    member, why = found[0]
    retreat = _retreat(snapshot, rollout, member, why)
    if retreat is not None or rollout.pause is not None:
        return retreat
    if rollout.strategy.on_unhealthy is not OnUnhealthy.PAUSE:
        why += f"; it does not return, because the cluster acts at {record.acting} by now"
    return _paused(record, rollout, member.id, why, now_ms)


def _retreat(snapshot: Snapshot, rollout: Rollout, member: Member, why: str) -> Step | None:
    """Back to what was before; None: that is not wanted, or not possible any more."""
    record, wanted = snapshot.record, rollout.strategy.on_unhealthy
    assert record is not None
    of_all = wanted is OnUnhealthy.ALL
    if risen(record, all_came(snapshot, rollout) if of_all else [member]) is not None:
        return None
    if of_all:
        back = replace(rolled_back(rollout), cause=why)
        return _step(StepName.ROLLOUT_RETREATS, record, back, f"{why}; all return")
    if wanted is OnUnhealthy.NODE:
        skipped, returning = _failed(snapshot, rollout, member.id), (*rollout.returning, member.id)
        back = replace(skipped, returning=returning)
        return _step(StepName.ROLLOUT_RETREATS, record, back, f"{why}; it returns")
    return None


def _failed(snapshot: Snapshot, rollout: Rollout, node: str) -> Rollout:
    """It is left out by the rollout itself."""
    return replace(skipped(snapshot, rollout, node), failed=(*rollout.failed, node))


def all_came(snapshot: Snapshot, rollout: Rollout) -> list[Member]:
    """The members that got the version in this rollout."""
    return [member for member in snapshot.members.values() if _came(rollout, member)]


def risen(record: ClusterRecord, members: Collection[Member]) -> Member | None:
    """One of them whose earlier version the cluster has left behind."""
    assert record.acting is not None
    for member in members:
        if member.work is not None and parse_version(member.work.before) < record.acting:
            return member
    return None


def _paused_for_a_look(snapshot: Snapshot, rollout: Rollout, now_ms: int) -> Step | None:
    record, strategy = snapshot.record, rollout.strategy
    assert record is not None
    if strategy.canary and rollout.pause is None and not _canaries_left(snapshot, rollout):
        why = f"{strategy.canary} members have {rollout.version}: look at them, then resume"
        looked = replace(rollout, strategy=replace(strategy, canary=0))
        return _paused(record, looked, _CANARY, why, now_ms)
    returning = any(returns(rollout, member) for member in lacking(snapshot))
    if is_spent(rollout) and rollout.pause is None and not returning:
        why = f"{', '.join(rollout.failed)} failed, and {strategy.failures} may"
        return _paused(record, rollout, _FAILURES, why, now_ms)
    return None


def _paused(record: ClusterRecord, rollout: Rollout, by: str, why: str, now_ms: int) -> Step:
    paused = replace(rollout, pause=Hold(by, why, now_ms))
    return _step(StepName.ROLLOUT_PAUSED, record, paused, why)


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
        rollout.cause,
        rollout.turns_done,
        rollout.turns_took_ms,
    )
    skipped = f", without {', '.join(rollout.skipped)}" if rollout.skipped else ""
    how = f"{rollout.version}{skipped}, {outcome(end)}"
    return Step(StepName.ROLLOUT_ENDED, replace(record, rollout=None, rollout_end=end), how)


def outcome(end: RolloutEnd) -> str:
    """How it ended, in a word or two."""
    if end.aborted:
        return "aborted"
    return "rolled back" if end.rollback else "done"


def said_of(turn: Turn, member: Member | None) -> str:
    """What the member of a turn says of its step, in words."""
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
    budget = rollout_budget(snapshot)
    if member is not None and missing[0] == member.id:
        budget = slot_budget(snapshot, member, silent)
    return TakeSlot(missing[0], _BY + rollout.id, budget, revision=record.revision)


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


# --- changes of a rollout -------------------------------------------------------------------------


def given_up(rollout: Rollout) -> Rollout:
    """Everybody in its turn comes back."""
    turns = tuple(replace(turn, given_up=1) for turn in rollout.turns)
    return replace(rollout, turns=turns, pause=None)


def rolled_back(rollout: Rollout) -> Rollout:
    """Every member that got the version returns to what it had, those that were left out, too."""
    return replace(given_up(rollout), rollback=1, skipped=(), failed=())


def skipped(snapshot: Snapshot, rollout: Rollout, node: str) -> Rollout:
    """A member keeps what it has, or comes back with it.

    Raises:
        KeyError: there is no such member.
    """
    check_member(snapshot, rollout, node)
    turn, skipped = rollout.turn_of(node), tuple(sorted({*rollout.skipped, node}))
    rollout = replace(without_its_pause(rollout, node), skipped=skipped)
    return rollout if turn is None else with_turn(rollout, replace(turn, given_up=1))


def without_its_pause(rollout: Rollout, node: str) -> Rollout:
    """The pause that began because a step failed on that member is over; a person's is not."""
    its = rollout.pause is not None and rollout.pause.by == node
    return replace(rollout, pause=None) if its else rollout


def check_member(snapshot: Snapshot, rollout: Rollout, node: str) -> None:
    """Refuse a name that nobody has.

    Raises:
        KeyError: there is no such member.
    """
    if node not in snapshot.members and rollout.turn_of(node) is None:
        raise KeyError(node)


def with_turn(rollout: Rollout, turn: Turn) -> Rollout:
    """The turn of this member is now this one."""
    turns = tuple(turn if one.node == turn.node else one for one in rollout.turns)
    return replace(rollout, turns=turns)
