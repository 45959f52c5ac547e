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
from dataclasses import dataclass

from peerupgrade.core.admission import WAITING_RULES, Entry, admission
from peerupgrade.core.blockers import Blocker, Code, hold_ended, raise_blockers
from peerupgrade.core.progress import Progress, has_steps, progress_to
from peerupgrade.core.record import (
    ClusterRecord,
    Hold,
    Job,
    Member,
    Phase,
    Snapshot,
    Standing,
    is_down,
)
from peerupgrade.core.refusals import unverified, version_words
from peerupgrade.core.rehearsal import Rehearsal
from peerupgrade.core.rollout import turn_order
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import RefusedError

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
    """How many members a zone has, and how many of them serve."""

    name: str
    members: int
    serving: int


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
        order: the members that get the version, first to last.
        done: those that have it, or a newer one.
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
    order: tuple[Turn, ...]
    done: tuple[Turn, ...]
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
        blockers: why today's upgrade has not finished.
        silent: the members that do not answer gossip.
        rehearsals: where there were any.
    """

    version: Version
    lowest: Version | None = None
    blockers: Sequence[Blocker] = ()
    silent: Collection[str] = ()
    rehearsals: Sequence[Rehearsal] = ()


def make_plan(snapshot: Snapshot, asked: Question) -> Plan:
    """Look at everything; the moment is the snapshot's."""
    record = snapshot.record
    lowest = asked.lowest or _announced_lowest(snapshot, asked.version)
    turns = _turns(snapshot, asked.silent)
    order = tuple(one for one in turns if one.member.installed < asked.version)
    between = _between(record, asked.version, lowest or ANY) if order else None
    changes = _changes(snapshot, asked)
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
        order=order,
        done=tuple(one for one in turns if one.member.installed >= asked.version),
        zones=_zones(record, turns),
        hold=record.hold if record is not None and held else None,
        steps=_steps(snapshot, asked.version),
        changes=changes,
        blockers=tuple(asked.blockers),
        in_the_way=_in_the_way(snapshot, asked, own),
    )


# --- the nodes ------------------------------------------------------------------------------------


def _announced_lowest(snapshot: Snapshot, version: Version) -> Version | None:
    have_it = (one.lowest for one in snapshot.members.values() if one.installed == version)
    return max(have_it, default=None)


def _turns(snapshot: Snapshot, silent: Collection[str]) -> list[Turn]:
    """Every member, in order."""
    master = snapshot.record.master if snapshot.record is not None else ""
    others = len(snapshot.members) > 1
    found = []
    for one in snapshot.members.values():
        away, slot = one.standing is Standing.AWAY, snapshot.slots.get(one.id)
        silence = one.id in silent or one.lease_ended(snapshot.now_ms)
        is_master = one.id == master
        found.append(
            Turn(one, away or not silence, is_master, is_master and others, slot.by if slot else "")
        )
    return sorted(found, key=lambda turn: turn_order(turn.member, master))


def _zones(record: ClusterRecord | None, turns: Iterable[Turn]) -> tuple[Zone, ...]:
    members, serving = Counter[str](), Counter[str]()
    for one in turns:
        members[one.member.zone] += 1
        up = record is not None and one.answers and not is_down(record, one.member)
        serving[one.member.zone] += up
    return tuple(Zone(name, members[name], serving[name]) for name in sorted(members))


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


def _in_the_way(snapshot: Snapshot, asked: Question, own: Iterable[Blocker]) -> tuple[Blocker, ...]:
    """Each reason once, the first that names it."""
    found: dict[tuple[Code, str], Blocker] = {}
    today = (one for one in asked.blockers if not _removed(snapshot, asked.version, one))
    begun = raise_blockers(snapshot, snapshot.now_ms)  # the same as if an upgrade had begun
    for one in (*own, *today, *begun):
        found.setdefault((one.code, one.subject), one)
    return tuple(found.values())


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
