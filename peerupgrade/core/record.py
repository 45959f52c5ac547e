"""What the cluster agrees on, and what is known of each member.

Theory of operation: the store holds one `ClusterRecord`, one `Member` for each registered node and
a counter `members_revision` that grows with every change of a member. A decision is made from all
three (`Snapshot`) and is committed only if none of them has moved since.

Records of one generation are ordered by `(revision, epoch)`: a commit makes a new revision, a claim
of mastership makes a new epoch at the same revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from peerupgrade.core.strategy import CAREFUL, Strategy
from peerupgrade.core.versions import Version


class Standing(StrEnum):
    """What a registered member may do."""

    SERVING = "serving"
    STANDBY = "standby"  # counts in the minimum, may not operate yet
    AWAY = "away"  # told us that it does not serve now, for example while software is replaced


@dataclass(frozen=True, slots=True)
class Hold:
    """An operator's word that the acting version must not rise."""

    by: str
    reason: str
    at_ms: int
    until_ms: int = 0  # 0: until it is released


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An upgrade that has begun: somewhere a version above the acting one is installed."""

    before: str  # the acting version when it began
    started_at_ms: int


@dataclass(frozen=True, slots=True)
class Completion:
    """The last upgrade that ended."""

    before: str
    version: str
    started_at_ms: int
    ended_at_ms: int

    @property
    def duration_s(self) -> float:
        """Seconds from the first newer installed version to the end."""
        return (self.ended_at_ms - self.started_at_ms) / 1000


class TurnStep(StrEnum):
    """What is done on a member in its turn, in this order."""

    DRAIN = "drain"  # nothing new is sent to it
    LEAVE = "leave"  # it does not operate any more, and the store knows
    INSTALL = "install"
    RESTART = "restart"
    VERIFY = "verify"
    RETURN = "return"  # it is admitted with what it has now, and operates
    UNDRAIN = "undrain"


class WorkState(StrEnum):
    """What has become of the step that a member is at."""

    RUNS = "runs"
    WAITS = "waits"  # for a person, who does it
    FAILED = "failed"
    UNKNOWN = "unknown"  # it was cut short, and nothing says whether it was done
    ENDED = "ended"  # the whole turn
    DRAINED = "drained"  # the turn is over, and nothing is sent to the member yet


@dataclass(frozen=True, slots=True)
class Work:
    """How far a member is with its turn. It is on its disk before it is acted on.

    Attributes:
        turn: which one, see `Turn`.
        version: that it gets.
        before: that it had.
        step, state: where it is.
        attempt: so many times somebody let a step run that had failed, and one.
        note: what the step said, or why it failed.
    """

    turn: str
    version: str
    before: str
    step: TurnStep = TurnStep.DRAIN
    state: WorkState = WorkState.RUNS
    attempt: int = 1
    note: str = ""

    @property
    def out_of_service(self) -> bool:
        """R26: while it is at one of these steps the member must not serve."""
        between = (TurnStep.LEAVE, TurnStep.INSTALL, TurnStep.RESTART, TurnStep.VERIFY)
        return self.state is not WorkState.ENDED and self.step in between

    @property
    def over(self) -> bool:
        """The rollout does not wait for the member any more."""
        return self.state in (WorkState.ENDED, WorkState.DRAINED)


class HealthState(StrEnum):
    """What a member's probes say of its program."""

    UNKNOWN = "unknown"  # nothing yet
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Health:
    """What a member's probes say, and why they fail if they do."""

    state: HealthState
    note: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A member that a rollout takes down now, by the permission that is in its slot.

    Attributes:
        id: never given twice: the epoch and the revision in which it was given.
        attempt: a step that failed in an earlier one runs again.
        given_up: 1: it comes back with what it has.
    """

    id: str
    node: str
    version: str
    at_ms: int
    attempt: int = 1
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """An upgrade that the cluster itself drives.

    Attributes:
        id: never given twice.
        version: that every member gets.
        strategy: how it goes on.
        turns: that are under way.
        skipped: members that keep what they have.
        failed: those of them that it has left out by itself, since somebody last resumed it.
        returning: those of them that return to what they had, because they became unhealthy; until
            it ends the acting version does not rise.
        pause: no turn begins; those under way go on.
        aborted: 1: no turn begins any more, and it ends with those under way.
        rollback: 1: every member that got the version in it returns to what it had; until it ends
            the acting version does not rise.
        cause: why it is rolled back by itself.
        turns_done, turns_took_ms: so many turns were gone through to their end, and took so long
            together.
    """

    id: str
    version: str
    by: str
    reason: str
    started_at_ms: int
    strategy: Strategy = CAREFUL
    turns: tuple[Turn, ...] = ()
    turn_ended_at_ms: int = 0
    skipped: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    returning: tuple[str, ...] = ()
    pause: Hold | None = None
    aborted: int = 0
    rollback: int = 0
    cause: str = ""
    turns_done: int = 0
    turns_took_ms: int = 0

    def turn_of(self, node_id: str) -> Turn | None:
        """The member's turn, if it has one."""
        return next((turn for turn in self.turns if turn.node == node_id), None)


@dataclass(frozen=True, slots=True)
class RolloutEnd:
    """The last rollout that ended; what both have is as it was then."""

    id: str
    version: str
    started_at_ms: int
    ended_at_ms: int
    aborted: int = 0
    skipped: tuple[str, ...] = ()
    rollback: int = 0
    cause: str = ""
    turns_done: int = 0
    turns_took_ms: int = 0


@dataclass(frozen=True, slots=True)
class Downgrade:
    """What an operator has asked for: that the acting version goes back. The master decides.

    Attributes:
        version: that the cluster shall act at.
        by, reason, at_ms: who asked, why and when.
        formats: of records that it can read; those that are in use or may come into use.
        barred: 1: since a commit that found no record in any other, none can be written.
    """

    version: str
    by: str
    reason: str
    at_ms: int
    formats: tuple[str, ...] = ()
    barred: int = 0


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """What the cluster agrees on. `acting`, `floor` and `data` are None until it has formed."""

    generation: str
    revision: int = 0
    epoch: int = 0
    master: str = ""
    acting: Version | None = None
    floor: Version | None = None  # the admission floor; above `acting` while a raise is under way
    before: Version | None = None  # the version whose `before` steps have succeeded
    data: Version | None = None
    lowest: Version | None = None  # the highest "lowest supported" of the members
    floor_revision: int = 0
    raised_revision: int = 0
    settled_revision: int = 0  # equals raised_revision once every member has confirmed
    floor_at_ms: int = 0
    raised_at_ms: int = 0
    hold: Hold | None = None
    pause: Hold | None = None  # keeps the conversion of shared data from going on
    upgrade: Upgrade | None = None
    completion: Completion | None = None
    rollout: Rollout | None = None
    rollout_end: RolloutEnd | None = None
    downgrade: Downgrade | None = None
    downgrades: int = 0  # how often the acting version went back, see `reached`
    downgraded_from: Version | None = None  # until all have confirmed: some may still operate at it
    bootstrap_expect: int = 1
    created_at_ms: int = 0
    identity: str = ""  # the server process that this record was last verified on
    doubt: int = 0  # names that verification: who took no part in it must confirm its membership

    @property
    def order(self) -> tuple[int, int]:
        """Records of one generation are ordered by this."""
        return (self.revision, self.epoch)

    @property
    def reached(self) -> tuple[int, str]:
        """What never goes back: how often there was a downgrade, then the acting version's key."""
        return (self.downgrades, self.acting.key if self.acting is not None else "")

    @property
    def formats_allowed(self) -> tuple[str, ...] | None:
        """A downgrade has begun: nothing is written in another format. None: none has."""
        if self.downgrade is None or not self.downgrade.barred:
            return None
        return self.downgrade.formats

    @property
    def raising(self) -> bool:
        """True while the admission floor is above the acting version."""
        return self.acting is not None and self.floor is not None and self.floor > self.acting

    @property
    def stays(self) -> bool:
        """True while a rollout or a member of it goes back, or it bakes: nothing may be raised."""
        rollout = self.rollout
        if rollout is None:
            return False
        return rollout.rollback == 1 or bool(rollout.returning) or rollout.strategy.bake_ms > 0

    @property
    def settled(self) -> bool:
        """True when every member has confirmed the acting version."""
        return self.acting is not None and self.settled_revision >= self.raised_revision

    @property
    def converting(self) -> bool:
        """R13: shared data may be converted: all have settled, and nobody has paused it."""
        return self.settled and self.data != self.acting and self.pause is None

    @property
    def job(self) -> Job | None:
        """The steps of the application whose turn it is, if there are any; see `job_paused`."""
        if self.acting is None:
            return None
        if self.raising and self.before != self.floor:
            assert self.floor is not None
            return Job(Phase.BEFORE, self.acting, self.floor)
        if self.settled and self.data != self.acting:
            assert self.data is not None
            return Job(Phase.MIGRATION, self.data, self.acting)
        return None

    @property
    def job_paused(self) -> bool:
        """Migrations pause with the conversion."""
        job = self.job
        return job is not None and job.phase is Phase.MIGRATION and self.pause is not None


@dataclass(frozen=True, slots=True)
class Member:
    """One admitted node as the store knows it."""

    id: str
    incarnation: int
    token: str
    installed: Version
    lowest: Version
    standing: Standing = Standing.STANDBY
    seen: int = 0  # the newest revision that it has acknowledged
    operating: Version | None = None
    operating_revision: int = 0  # it confirmed that it operates as this revision says
    failure: str = ""  # why it could not switch, in its own words
    work: Work | None = None  # of its newest turn
    health: Health | None = None  # None: nothing probes it
    lease_ms: int = 0  # 0: policy freeze, its registration never ends by itself
    lease_until_ms: int = 0
    address: str = ""
    gossip: str = ""  # `host:port` where it gossips; "": it does not
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    # The collections that its program can convert, with the formats that it knows of each.
    collections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    steps: tuple[str, ...] = ()  # of an upgrade that its program has: "before 2.0"
    number: int = 0  # of its newest request: an older one that arrives late is refused
    attached: int = 0  # the doubt about the store in which it last said what it remembers
    joined_at_ms: int = 0
    changed_at_ms: int = 0
    health_since_ms: int = 0  # when the state of its health became what it is

    def lease_ended(self, now_ms: int) -> bool:
        """True once it has a lease that it did not renew; `now_ms` is the store's clock."""
        return self.lease_ms > 0 and now_ms >= self.lease_until_ms


@dataclass(frozen=True, slots=True)
class Slot:
    """R29: the permission to take one member down; it lasts until it is given back."""

    id: str
    by: str
    at_ms: int
    incarnation: int  # of the member when it was given
    away: int = 0  # 1: that incarnation has been away since


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A member that was excluded; its incarnation never returns."""

    id: str
    incarnation: int
    token: str
    by: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Parked:
    """A record that could not be converted; it stays where it is."""

    format: str
    error: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class CollectionView:
    """What the store knows of one collection without reading its records.

    Attributes:
        counts: format -> number of records.
        parked: key -> why that record could not be converted.
        skipped: records that an operator has set aside.
        converter: the node that converts it; "" if none ever did.
        converted: records converted since the acting version rose.
        began_at_ms: when the first of them was.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    parked: Mapping[str, Parked] = field(default_factory=dict)
    skipped: int = 0
    converter: str = ""
    converted: int = 0
    began_at_ms: int = 0


class Phase(StrEnum):
    """When the application's own steps of an upgrade run."""

    BEFORE = "before"  # the floor is up: before the acting version rises
    MIGRATION = "migration"  # all have settled: before the data version rises


@dataclass(frozen=True, slots=True)
class StepState:
    """How far one of the application's own steps is.

    Attributes:
        phase, version: when it runs, and what for.
        name: of the step.
        checkpoint: JSON that only the step understands.
        done, total: its progress, in units of its own; a total of 0: it says nothing.
        finished: 1 once it has succeeded; it never runs again.
        failure: why it failed when it ran last, in its own words.
        number: of its newest save: an older one that arrives late is refused.
    """

    phase: str
    version: Version
    name: str
    checkpoint: str = "null"
    done: int = 0
    total: int = 0
    began_at_ms: int = 0
    saved_at_ms: int = 0
    finished: int = 0
    failure: str = ""
    number: int = 0

    @property
    def key(self) -> str:
        """Its name among all steps of a cluster."""
        return f"{self.phase} {self.version.key} {self.name}"


@dataclass(frozen=True, slots=True)
class Job:
    """All steps of one phase that a raise needs: those of versions in (above, upto]."""

    phase: Phase
    above: Version
    upto: Version

    def covers(self, phase: str, version: Version) -> bool:
        """Whether the steps of that version belong to it."""
        return phase == self.phase and self.above < version <= self.upto


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store at one moment: everything that a decision may be made from."""

    record: ClusterRecord | None
    members: Mapping[str, Member]
    members_revision: int
    now_ms: int
    identity: str  # the server process that answered
    quarantine_until_ms: int = 0  # names the doubt, too
    doubted_at_ms: int = 0  # when that began
    excluded: Mapping[str, Tombstone] = field(default_factory=dict)
    slots: Mapping[str, Slot] = field(default_factory=dict)
    collections: Mapping[str, CollectionView] = field(default_factory=dict)
    steps: Mapping[str, StepState] = field(default_factory=dict)  # by `StepState.key`

    @property
    def verified(self) -> bool:
        """True when the record belongs to the server process that answered."""
        return self.record is not None and self.record.identity == self.identity


def is_healthy(health: Health | None) -> bool:
    """True also where nothing is probed."""
    return health is None or health.state is HealthState.HEALTHY


def is_down(record: ClusterRecord, member: Member) -> bool:
    """True unless the member has confirmed that it operates as the record says."""
    confirmed = member.operating_revision >= record.raised_revision
    return member.standing is not Standing.SERVING or not confirmed


def newer(record: ClusterRecord, than: ClusterRecord | None) -> bool:
    """True if `record` is later than `than`; both of one generation.

    A newer revision of an older mastership is none: it belongs to writes that the store lost (R24).
    """
    return than is None or (record.order > than.order and record.epoch >= than.epoch)


def ahead(memory: ClusterRecord, store: ClusterRecord) -> bool:
    """True if a node remembers more than the store has: the store lost writes."""
    return memory.revision > store.revision or memory.reached > store.reached
