"""What an upgrade would do, and what stands in its way, before anything happens.

Theory of operation: a plan is read from one snapshot and changes nothing. What stands in the way is
what `blockers` would find had the upgrade begun, without what the plan itself removes, and what
`admission` would say to the nodes that get the version. So a plan cannot disagree with what happens
when it is carried out.

What only the new version knows, its steps and its formats, is known once one member has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from peerupgrade.core.admission import WAITING_RULES, Entry, admission
from peerupgrade.core.blockers import Blocker, Code, hold_ended, raise_blockers
from peerupgrade.core.foresight import After, Batch, foresee
from peerupgrade.core.ledger import whole_ledger
from peerupgrade.core.progress import Progress, has_steps, progress_to
from peerupgrade.core.record import (
    ClusterRecord,
    Hold,
    Job,
    Member,
    Phase,
    Rollout,
    Snapshot,
    Standing,
    is_down,
)
from peerupgrade.core.refusals import unverified, version_words
from peerupgrade.core.rehearsal import Rehearsal
from peerupgrade.core.rollout import turn_order
from peerupgrade.core.steering import Start, begun
from peerupgrade.core.strategy import CAREFUL, Strategy
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import RefusedError

# Who is named by one of these gets no turn.
_OF_ROLLOUT = (Code.MEMBER_DOWN, Code.UNHEALTHY_BEFORE)

ANY = parse_version("0")  # the lowest supported version of who says none


@dataclass(frozen=True, slots=True)
class Turn:
    """One member in the order of a plan.

    Attributes:
        member: as the store knows it.
        answers: False if its lease has ended or gossip hears nothing of it.
        is_master: it decides at present.
        hands_over: it gives mastership to another one before it is taken down.
        slot_by: who has the permission to take it down; "": nobody.
    """

    member: Member
    answers: bool
    is_master: bool
    hands_over: bool
    slot_by: str


@dataclass(frozen=True, slots=True)
class Zone:
    """The members of a zone: how many serve, and how many of them can be down at once by this."""

    name: str
    members: int
    serving: int
    down_max: int


@dataclass(frozen=True, slots=True)
class Between:
    """What the cluster must act at first, because the version supports nothing older.

    Attributes:
        at_least: the lowest version that would do.
        below: the version that is planned.
        must_support: the oldest version in use, which the one in between has to support.
    """

    at_least: Version
    below: Version
    must_support: Version

    @property
    def exists(self) -> bool:
        """False: no version is old enough and new enough."""
        return self.at_least < self.below


@dataclass(frozen=True, slots=True)
class Due:
    """Steps of the application that would run, and the members that have them."""

    phase: Phase
    version: Version
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One collection.

    Attributes:
        progress: towards the formats of the version, by the store's counters; its target is "" if
            no member says which there are.
        estimated_s: how long it would take; None while nothing can be said.
        rehearsal: of a sample; None: there was none.
    """

    progress: Progress
    estimated_s: float | None
    rehearsal: Rehearsal | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer.

    Attributes:
        version: that is planned.
        lowest: the lowest version that it supports; None: nobody says.
        acting, data: of the cluster; None before it has formed.
        between: what must come first; None: nothing.
        strategy: by which a rollout would go.
        order: the members that get the version, first to last.
        batches: the same order, in batches; empty if there is no cluster yet, or nobody lacks it.
        opens_at_ms: when the first of them may begin; None if there is none.
        turn_s: how long a turn took in the last rollout, on average; None: there was none.
        lasts_s: from the first one's beginning to the end of the bake, with all that the strategy
            waits for, if whoever has to resume it does at once. Where `turn_s` is None the turns
            themselves are missing in it. None if there is no batch.
        done: those that have it, or a newer one.
        skipped: those that lack it, and would be left out.
        zones: by name.
        hold: that stands.
        steps: those that would run, as far as members have announced them.
        changes: the collections that have records.
        blockers: why today's upgrade has not finished.
        in_the_way: what would keep this one from its end; empty: go.
    """

    version: Version
    lowest: Version | None
    acting: Version | None
    data: Version | None
    between: Between | None
    strategy: Strategy
    order: tuple[Turn, ...]
    batches: tuple[Batch, ...]
    opens_at_ms: int | None
    turn_s: float | None
    lasts_s: float | None
    done: tuple[Turn, ...]
    skipped: tuple[str, ...]
    zones: tuple[Zone, ...]
    hold: Hold | None
    steps: tuple[Due, ...]
    changes: tuple[Change, ...]
    blockers: tuple[Blocker, ...]
    in_the_way: tuple[Blocker, ...]

    @property
    def go(self) -> bool:
        """Nothing stands in the way."""
        return not self.in_the_way


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what is known beyond the store.

    Attributes:
        version: that is planned.
        lowest: the lowest version that it supports; None: as the members say that have it.
        strategy: how a rollout would go on.
        skip: the members that it would leave out.
        blockers: why today's upgrade has not finished.
        silent: the members that do not answer gossip.
        rehearsals: where there were any.
    """

    version: Version
    lowest: Version | None = None
    strategy: Strategy = CAREFUL
    skip: tuple[str, ...] = ()
    blockers: Sequence[Blocker] = ()
    silent: Collection[str] = ()
    rehearsals: Sequence[Rehearsal] = ()


def make_plan(snapshot: Snapshot, asked: Question) -> Plan:
    """Look at everything; the moment is the snapshot's.

    Raises:
        KeyError: there is no member of a name in `skip`.
    """
    record = snapshot.record
    lowest = asked.lowest or _announced_lowest(snapshot, asked.version)
    turns = _turns(snapshot, asked)
    lacking = [one for one in turns if one.member.installed < asked.version]
    order = tuple(one for one in lacking if one.member.id not in asked.skip)
    rollout = _rollout(snapshot, asked)
    way = _course(snapshot, rollout) if rollout is not None and order else _NO_COURSE
    between = _between(record, asked.version, lowest or ANY) if order else None
    held = record is not None and not hold_ended(record, snapshot.now_ms)
    own = [
        *_version_blockers(record, asked.version, lowest or ANY, between, waits=bool(order)),
        *(_silence(one.member) for one in turns if not one.answers),
        *(_failures(one, asked.version) for one in asked.rehearsals if one.failed),
    ]
    return Plan(
        version=asked.version,
        lowest=lowest,
        acting=record.acting if record is not None else None,
        data=record.data if record is not None else None,
        between=between,
        strategy=asked.strategy,
        order=_ordered(order, way.batches),
        batches=way.batches,
        opens_at_ms=way.opens_at_ms,
        turn_s=way.turn_s,
        lasts_s=way.lasts_s,
        done=tuple(one for one in turns if one.member.installed >= asked.version),
        skipped=tuple(one.member.id for one in lacking if one.member.id in asked.skip),
        zones=_zones(record, turns, way.batches, asked.strategy),
        hold=record.hold if record is not None and held else None,
        steps=_steps(snapshot, asked.version),
        changes=_changes(snapshot, asked),
        blockers=tuple(asked.blockers),
        in_the_way=_in_the_way(snapshot, asked, own, rollout),
    )


# --- the nodes ------------------------------------------------------------------------------------


def _announced_lowest(snapshot: Snapshot, version: Version) -> Version | None:
    have_it = (one.lowest for one in snapshot.members.values() if one.installed == version)
    return max(have_it, default=None)


def _turns(snapshot: Snapshot, asked: Question) -> list[Turn]:
    """Every member, in order."""
    master = snapshot.record.master if snapshot.record is not None else ""
    others = len(snapshot.members) > 1
    found = []
    for one in snapshot.members.values():
        away, slot = one.standing is Standing.AWAY, snapshot.slots.get(one.id)
        silence = one.id in asked.silent or one.lease_ended(snapshot.now_ms)
        is_master = one.id == master
        found.append(
            Turn(one, away or not silence, is_master, is_master and others, slot.by if slot else "")
        )
    one_zone = asked.strategy.one_zone
    return sorted(found, key=lambda turn: turn_order(turn.member, master, one_zone=one_zone))


def _zones(
    record: ClusterRecord | None,
    turns: Collection[Turn],
    batches: Iterable[Batch],
    strategy: Strategy,
) -> tuple[Zone, ...]:
    members, serving = Counter[str](), Counter[str]()
    for one in turns:
        members[one.member.zone] += 1
        up = record is not None and one.answers and not is_down(record, one.member)
        serving[one.member.zone] += up
    down = _down_max(turns, batches, strategy.budget_of(len(turns)))
    return tuple(Zone(name, members[name], serving[name], down[name]) for name in sorted(members))


def _down_max(turns: Iterable[Turn], batches: Iterable[Batch], budget: int) -> Counter[str]:
    """By zone; batches of which none waits for all before it may overlap in any way."""
    zone_of = {one.member.id: one.member.zone for one in turns}
    most, overlapping = Counter[str](), Counter[str]()
    for batch in batches:
        if batch.after is not After.PLACE:
            overlapping.clear()
        overlapping.update(zone_of[name] for name in batch.members)
        most |= Counter({zone: min(budget, count) for zone, count in overlapping.items()})
    return most


# --- how it would go ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Course:
    """See `Plan`."""

    batches: tuple[Batch, ...] = ()
    opens_at_ms: int | None = None
    turn_s: float | None = None
    lasts_s: float | None = None


_NO_COURSE = _Course()


def _rollout(snapshot: Snapshot, asked: Question) -> Rollout | None:
    """As `upgrade start` would begin it; None: there is no cluster yet."""
    if snapshot.record is None or snapshot.record.acting is None:
        return None
    start = Start(str(asked.version), "", strategy=asked.strategy, skip=asked.skip)
    return begun(snapshot, snapshot.record, start)


def _course(snapshot: Snapshot, rollout: Rollout) -> _Course:
    assert snapshot.record is not None
    last = snapshot.record.rollout_end
    turn_ms = last.turns_took_ms / last.turns_done if last is not None and last.turns_done else None
    seen = foresee(snapshot, rollout, round(turn_ms or 0))
    opens_at_ms = seen.batches[0].begins_at_ms
    turn_s = turn_ms / 1000 if turn_ms is not None else None
    return _Course(seen.batches, opens_at_ms, turn_s, (seen.ends_at_ms - opens_at_ms) / 1000)


def _ordered(order: tuple[Turn, ...], batches: Iterable[Batch]) -> tuple[Turn, ...]:
    """As the rollout takes them; before there is a cluster, as it would."""
    by_name = {one.member.id: one for one in order}
    return tuple(by_name[name] for batch in batches for name in batch.members) or order


# --- what would run -------------------------------------------------------------------------------


def _steps(snapshot: Snapshot, version: Version) -> tuple[Due, ...]:
    record = snapshot.record
    if record is None or record.acting is None:
        return ()
    assert record.before is not None
    assert record.data is not None
    jobs = (
        Job(Phase.BEFORE, max(record.acting, record.before), version),
        Job(Phase.MIGRATION, record.data, version),
    )
    return tuple(
        Due(job.phase, of, _who_has(snapshot, job.phase, of))
        for job in jobs
        for of in sorted(_announced(snapshot, job.phase))
        if job.covers(job.phase, of)
    )


def _announced(snapshot: Snapshot, phase: Phase) -> frozenset[Version]:
    return frozenset(of for one in snapshot.members.values() for of in has_steps(one, phase))


def _who_has(snapshot: Snapshot, phase: Phase, version: Version) -> tuple[str, ...]:
    members = sorted(snapshot.members.items())
    return tuple(name for name, one in members if version in has_steps(one, phase))


def _changes(snapshot: Snapshot, asked: Question) -> tuple[Change, ...]:
    rehearsed = {one.collection: one for one in asked.rehearsals}
    found = []
    for one in progress_to(snapshot, asked.version, snapshot.now_ms):
        rehearsal = rehearsed.get(one.collection)
        estimated_s = rehearsal.estimated_s if rehearsal is not None else None
        if estimated_s is None and snapshot.record is not None and one.target:
            estimated_s = _by_the_last(one, snapshot.record)
        found.append(Change(one, estimated_s, rehearsal))
    return tuple(found)


def _by_the_last(one: Progress, record: ClusterRecord) -> float | None:
    """By the pace of the conversion under way, or else of the last one, which ended by then."""
    if not one.left:
        return 0.0
    if record.data != record.acting:
        return one.remaining_s
    last, view = record.completion, one.view
    if last is None or not 0 < view.began_at_ms < last.ended_at_ms or not view.converted:
        return None
    return one.left * (last.ended_at_ms - view.began_at_ms) / 1000 / view.converted


# --- what stands in the way -----------------------------------------------------------------------


def _between(record: ClusterRecord | None, version: Version, lowest: Version) -> Between | None:
    """While the data is only on its way to what is needed, waiting is enough."""
    if record is None or record.acting is None or lowest <= record.acting:
        return None
    assert record.data is not None
    return Between(lowest, version, min(record.acting, record.data))


def _version_blockers(
    record: ClusterRecord | None,
    version: Version,
    lowest: Version,
    between: Between | None,
    *,
    waits: bool,
) -> list[Blocker]:
    """What admission would say to a member that gets the version; `waits`: there is one."""
    rule = admission(record, version, lowest, is_member=True).rule
    too_old = rule in ("installed_below_acting", "installed_below_floor")
    if rule in ("", *WAITING_RULES) or not (too_old or waits):
        return []
    code = Code.OLDER_VERSION if too_old else Code.LOWEST_SUPPORTED
    evidence, remedy = version_words(rule, record, f"a node with {version}", version, lowest)
    if between is not None:
        oldest = between.must_support
        remedy = f"no version can come in between: make {version} support {oldest} or newer, too"
        if between.exists:
            remedy = (
                f"first bring the cluster to {between.at_least} or newer, below {version}, that"
                f" still supports {oldest}"
            )
    return [Blocker(code, "", 0, evidence, remedy)]


def _silence(member: Member) -> Blocker:
    return Blocker(
        Code.UNRESPONSIVE,
        member.id,
        0,
        f"{member.id} does not answer",
        f"start {member.id} again, or exclude it if it is gone for good",
    )


def _failures(one: Rehearsal, version: Version) -> Blocker:
    some = f": {one.failures[0].key}: {one.failures[0].error}" if one.failures else ""
    return Blocker(
        Code.PARKED,
        one.collection,
        0,
        f"{one.failed} of {one.sampled} records of {one.collection} do not come through, to format"
        f" {one.target} or back{some}",
        f"mend the codec; peerupgrade upgrade rehearse {version} names what fails",
    )


def _in_the_way(
    snapshot: Snapshot, asked: Question, own: Iterable[Blocker], rollout: Rollout | None
) -> tuple[Blocker, ...]:
    """Each reason once, the first that names it."""
    found: dict[tuple[Code, str], Blocker] = {}
    today = (one for one in asked.blockers if not _removed(snapshot, asked.version, one))
    raising = raise_blockers(snapshot, snapshot.now_ms)  # the same as if an upgrade had begun
    for one in (*own, *today, *raising):
        found.setdefault((one.code, one.subject), one)
    if rollout is None:
        return tuple(found.values())
    keeps = _rollout_blockers(snapshot, asked, rollout)
    named = {one.subject for one in found.values()}
    more = [one for one in keeps if one.code in _OF_ROLLOUT and one.subject not in named]
    # A spent budget follows from others that are down: it is a reason where nothing else is.
    spent = [one for one in keeps if one.code is Code.BUDGET_SPENT and not (found or more)]
    return (*found.values(), *more, *spent)


def _rollout_blockers(snapshot: Snapshot, asked: Question, rollout: Rollout) -> list[Blocker]:
    """What `why` would say if this rollout had begun."""
    assert snapshot.record is not None
    under_way = replace(snapshot, record=replace(snapshot.record, rollout=rollout))
    return whole_ledger(under_way, snapshot.now_ms, asked.silent)


def _removed(snapshot: Snapshot, version: Version, blocker: Blocker) -> bool:
    """Carrying out the plan removes it."""
    if blocker.code is Code.OLDER_VERSION:
        return True  # it is in the order, or it has the version already
    member = snapshot.members.get(blocker.subject)
    # It stands by only until then.
    return blocker.code is Code.TOO_NEW and member is not None and member.lowest <= version


# --- one node -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deployment:
    """What would become of a node with a version now.

    Attributes:
        newcomer: of a node that is no member.
        member: of one that is, and gets the version.
        refusal: in words, if a newcomer is not admitted.
    """

    newcomer: Entry
    member: Entry
    refusal: RefusedError | None

    @property
    def go(self) -> bool:
        """Any node may have it now."""
        return self.refusal is None


def can_deploy(snapshot: Snapshot, installed: Version, lowest: Version) -> Deployment:
    """Ask as admission does, without joining."""
    record = snapshot.record
    if record is not None and not snapshot.verified:
        refusal = unverified()
        return Deployment(Entry(refusal.rule, None), Entry(refusal.rule, None), refusal)
    newcomer, member = (
        admission(record, installed, lowest, is_member=is_member) for is_member in (False, True)
    )
    if newcomer.standing is not None:
        return Deployment(newcomer, member, None)
    message, hint = version_words(newcomer.rule, record, "a new node", installed, lowest)
    return Deployment(newcomer, member, RefusedError(message, rule=newcomer.rule, hint=hint))
