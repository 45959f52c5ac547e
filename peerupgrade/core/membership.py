"""One node's own membership: from the first word with the store to the confirmed switch.

Theory of operation: at any time at most one request is under way. `_next_request` looks at what is
known and names the one request that is missing; every answer and everything heard only changes what
is known. So a lost answer, a restart or a store that forgot all lead through the same door.

    read -> (init | attach) -> admit -> remember -> switch -> drain -> report

A newer record is applied in this order, whatever way it came: it is remembered on disk (R11), the
application's callbacks run, operations of the older version drain (R15), the node confirms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from peerupgrade.core.announce import announcements
from peerupgrade.core.chance import Rng
from peerupgrade.core.effects import (
    CallStore,
    Drain,
    Effect,
    Emit,
    Memory,
    Operate,
    Part,
    Remember,
    SetTimer,
    Stopped,
    Switch,
    Timer,
)
from peerupgrade.core.record import (
    ClusterRecord,
    Health,
    Member,
    Phase,
    Standing,
    Work,
    ahead,
    newer,
)
from peerupgrade.core.requests import (
    Admit,
    Admitted,
    Attach,
    Attached,
    Conflict,
    Done,
    Failed,
    Init,
    Leave,
    NotMember,
    Origin,
    Read,
    Refused,
    Reply,
    Report,
    Request,
    Unverified,
    View,
)
from peerupgrade.core.timers import Timers
from peerupgrade.core.versions import Version

_RETRY_S = (0.1, 2.0)
_POLL_S = 0.5
_SWITCH_RETRY_S = (1.0, 30.0)
_DISK_RETRY_S = (1.0, 10.0)
EARLIER_TOKENS = 8
_NEVER = ("", -1, -1, "")
_OUT_OF_SERVICE = "its turn in a rollout is under way"


class NodeState(StrEnum):
    """What a node is doing, in one word."""

    STARTING = "starting"
    STANDBY = "standby"
    OPERATING = "operating"
    SUSPENDED = "suspended"
    REFUSED = "refused"
    EXCLUDED = "excluded"
    AWAY = "away"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node is told about itself. `lease_s` 0 means policy freeze."""

    id: str
    installed: Version
    lowest: Version
    lease_s: float = 0.0
    lease_margin_s: float = 1.0  # the longest guarded operation
    address: str = ""
    gossip: str = ""
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    # The collections that its program can convert, with the formats that it knows of each.
    collections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # The application's own steps of an upgrade: for each phase the versions that have some.
    steps: Mapping[Phase, frozenset[Version]] = field(default_factory=dict)
    installs: bool = False  # in its turn it installs by itself; else a person does
    bootstrap_expect: int = 1
    quarantine_s: float = 5.0

    @property
    def store_lease_ms(self) -> int:
        """R7: the store's side is longer, by clock drift and the longest guarded operation."""
        if self.lease_s == 0:
            return 0
        return round((self.lease_s * 1.02 + self.lease_margin_s) * 1000)

    @property
    def step_names(self) -> tuple[str, ...]:
        """As other members are told of them."""
        pairs = ((phase, one) for phase, versions in self.steps.items() for one in versions)
        return tuple(sorted(f"{phase} {version}" for phase, version in pairs))

    @property
    def quarantine_ms(self) -> int:
        """R16: at least a whole lease."""
        return max(round(self.quarantine_s * 1000), self.store_lease_ms)


@dataclass(frozen=True, slots=True)
class _Reported:
    """What the store was told last."""

    standing: Standing
    seen: int = 0
    operating: Version | None = None
    operating_revision: int = 0
    failure: str = ""
    work: Work | None = None
    health: Health | None = None


@dataclass(slots=True)
class Membership:
    """The machine."""

    config: NodeConfig
    memory: Memory
    rng: Rng
    timers: Timers
    state: NodeState = NodeState.STARTING
    reason: str = "it has not been admitted yet"
    refusal: Refused | None = None
    view: View | None = None
    operating: Version | None = None
    failure: str = ""
    health: Health | None = None  # of this node's program; None: nothing probes it
    lease_deadline_s: float = 0.0
    epoch_heard: int = 0  # the highest epoch that this node has heard of
    store_failure: str = ""  # why the store's last answer is missing
    store_failed_s: float | None = None  # since when
    now_s: float = 0.0  # of the input being handled
    state_since_s: float = 0.0
    _stale: bool = True
    _calls: int = 0
    _pending: Request | None = None
    _registered: bool = False
    _standing: Standing = Standing.STANDBY
    _admit_again: bool = False
    _attached_in: int = 0  # the doubt in which this node has said what it remembers
    _confirmed: int = -1  # the verification of the store under which the membership is known
    # The record, and where, at which admission or attaching was refused.
    _tried: tuple[str, int, int, str] = _NEVER
    _reported: _Reported = _Reported(Standing.STANDBY)
    _renew: bool = False
    _retries: int = 0
    _wanted: Memory | None = None  # what shall be on disk and is not yet
    _disk_failures: int = 0  # one after the other
    _next_record: ClusterRecord | None = None
    _switching: Version | None = None
    _switch_attempt: int = 0
    _switch_failures: int = 0
    _draining: bool = False
    _has_operated: bool = False
    _operating_since: int = 0  # the revision of the raise that brought the operating version
    _stop: bool | None = None  # leave? once the end was asked for

    # --- what others may know ---------------------------------------------------------------------

    @property
    def registered(self) -> bool:
        """True while the store has this process as a member."""
        return self._registered and self._stop is None

    @property
    def standing(self) -> Standing:
        """What this node may do, by the store's last word and its own."""
        return self._standing

    @property
    def saving(self) -> bool:
        """True while something is on its way to the disk."""
        return self._wanted is not None

    @property
    def has_left(self) -> bool:
        """R26: it does not operate, and the store knows that it does not serve."""
        told = self._reported.standing is Standing.AWAY
        return told and self._standing is Standing.AWAY and self.operating is None

    @property
    def incarnation(self) -> int:
        """Of this membership."""
        return self.memory.incarnation

    @property
    def admitted_as(self) -> int:
        """The same, be it on the disk yet or not: what others know this start by."""
        return self._current.incarnation

    @property
    def record(self) -> ClusterRecord | None:
        """The newest record that is on this node's disk, or else that was read."""
        return self.memory.record or (self.view.record if self.view else None)

    @property
    def origin(self) -> Origin | None:
        """R8: what a write of this node carries now; None while it may not write."""
        record = self.memory.record
        if not self._registered or self.operating is None or record is None:
            return None
        # While the node switches it still writes as it operates, and the store refuses that.
        raised = record.raised_revision if record.acting == self.operating else None
        return Origin(
            self.config.id,
            self.incarnation,
            record.generation,
            self._operating_since if raised is None else raised,
        )

    def obeys(self, record: ClusterRecord) -> bool:
        """R24: only what comes from the store that admitted this node."""
        known = self.record
        return (
            bool(record.identity)
            and record.doubt == self._confirmed
            and known is not None
            and record.generation == known.generation
        )

    # --- inputs -----------------------------------------------------------------------------------

    def start(self) -> list[Effect]:
        """Draw the token of this start, and keep it before anyone sees it."""
        if self.memory.token and self.memory.admitted_token != self.memory.token:
            return self._remember(self.memory)
        return self._new_token()

    def heard_subscribed(self, now: float) -> list[Effect]:
        """Whatever was said while nobody listened must be read, and an exclusion found out."""
        self._stale = self._renew = True
        self._retries = 0
        return self.step(now)

    def heard_record(self, now: float, record: ClusterRecord) -> list[Effect]:
        """A broadcast: obeyed if it is this store's, else a reason to look."""
        if not self.obeys(record):
            self._stale = True
            return self.step(now)
        if self.view is None or self.view.record is None or newer(record, self.view.record):
            self.view = View(record, record.identity)
        return self._suspend_if_forgotten() + self._consider(record) + self.step(now)

    def heard_excluded(self, node_id: str, incarnation: int) -> list[Effect]:
        """S8: an excluded incarnation never operates again."""
        if node_id != self.config.id or incarnation != self.admitted_as or not self._registered:
            return []
        self._registered = False
        return self._suspend(NodeState.EXCLUDED, "it was excluded; start it again")

    def doubt(self, now: float) -> list[Effect]:
        """The store may have lost writes, or this node missed a broadcast."""
        self._stale = True
        return self.step(now)

    def installed_changed(self, now: float, installed: Version, lowest: Version) -> list[Effect]:
        """Other software is installed: admission decides anew."""
        if (installed, lowest) == (self.config.installed, self.config.lowest):
            return []
        supports_less = lowest > self.config.lowest
        self.config = replace(self.config, installed=installed, lowest=lowest)
        if self._standing is Standing.AWAY:
            return []  # R26: its return is what is asked for, with these versions
        self._admit_again, self._tried = True, _NEVER
        if self.state is NodeState.REFUSED:
            self.state, self.refusal = NodeState.SUSPENDED, None
        record, operates = self.memory.record, self.operating or self._switching
        unable = self._unable(record) if record is not None and operates else ""
        if supports_less and not unable:  # R20: the cluster may have gone back, unheard of here
            unable = f"it supports nothing below {lowest} any more, and asks the store first"
        back_from = record.downgraded_from if record is not None else None
        if back_from is not None and installed < back_from and not unable:  # some may operate there
            unable = f"not all have confirmed the downgrade from {back_from} here"
        if not unable:
            return self.step(now)
        self._switching = None  # it would operate as the software that was there before may
        return self._suspend(NodeState.SUSPENDED, unable) + self.step(now)

    def set_away(self, now: float, away: bool) -> list[Effect]:
        """R26: not serving, while software is replaced."""
        if away and self._standing is Standing.SERVING:
            self._standing = Standing.AWAY
            return self._suspend(NodeState.AWAY, "it was told not to serve") + self.step(now)
        if not away and self._standing is Standing.AWAY:
            self._admit_again, self._tried = True, _NEVER
            return self.step(now)
        return []

    def stop(self, now: float, leave: bool) -> list[Effect]:
        """End of the process: leave, or stay registered as away; in its turn it does not leave."""
        if self._stop is not None:
            return []
        self._stop = leave and not self._out_of_service
        effects = self._suspend(NodeState.STOPPED, "it is stopping")
        if not self._registered:
            return [*effects, Stopped()]
        return effects + self.step(now)

    def renew_lease(self, now: float) -> list[Effect]:
        """Time to confirm the membership."""
        self._renew = True
        return self.step(now)

    def check_lease(self, now: float) -> list[Effect]:
        """R6: whoever cannot confirm its membership in time suspends itself."""
        if not self.config.lease_s or not self._registered or now < self.lease_deadline_s:
            return []
        self._registered, self._tried = False, _NEVER
        suspended = self._suspend(
            NodeState.SUSPENDED, "its lease has ended without word from the store"
        )
        return suspended + self._new_token()

    def retry(self, now: float) -> list[Effect]:
        """After a pause: look again."""
        self._stale = True
        return self.step(now)

    # --- the next request -------------------------------------------------------------------------

    def step(self, now: float) -> list[Effect]:
        """Ask for the one thing that is missing, if any."""
        if self._pending is not None or not self.memory.token or self._disk_first:
            return []
        request = self._next_request()
        if request is None:
            return [] if self._stop is None else [Stopped()]
        if isinstance(request, _Wait):
            return [self.timers.set(Timer.RETRY_STORE, now + _POLL_S)]
        self._pending = request
        self._calls += 1
        return [CallStore(Part.MEMBERSHIP, request, self._calls)]

    @property
    def _disk_first(self) -> bool:
        """Nothing is asked before the disk has what the last answer said."""
        if self._wanted is None:
            return False
        # With a full disk a member can still say so; another start is nothing that was admitted.
        wanted, known = self._wanted, self.memory
        same = (wanted.token, wanted.incarnation) == (known.token, known.incarnation)
        return not self._disk_failures or not same

    def _next_request(self) -> Request | _Wait | None:
        if self._stop is not None:
            return self._farewell()
        if self.state in (NodeState.REFUSED, NodeState.EXCLUDED):
            return None
        if self._stale or self.view is None:
            return Read()
        record = self.view.record
        if record is None:
            if self.memory.record is None:
                return self._init()
            return self._attach(self.memory.record)
        remembered = self.memory.record
        foreign = remembered is not None and remembered.generation != record.generation
        if foreign or not self.view.verified or (remembered and ahead(remembered, record)):
            return self._reconcile(record, remembered)
        admitted = self._registered and not self._admit_again
        if not admitted or self._standing is Standing.STANDBY:
            if _mark(self.view) != self._tried:
                return self._admit()
            return self._report(record) if admitted and self._renew else None
        return self._report(record)

    def _reconcile(
        self, record: ClusterRecord, remembered: ClusterRecord | None
    ) -> Request | _Wait | None:
        """The store is not the one that it was."""
        assert self.view is not None
        if remembered is None and record.acting is None:
            return self._init()
        attached = self._attached_in == self.view.doubt != 0
        lost = self.view.verified  # by its own word it is fine, yet it knows less than we do
        if (attached and not lost and not self._renew) or _mark(self.view) == self._tried:
            return _Wait()
        return self._attach(remembered)

    def _init(self) -> Request:
        generation = f"{self.rng.getrandbits(64):016x}"
        return Init(generation, self.config.bootstrap_expect, self.config.quarantine_ms)

    def _attach(self, memory: ClusterRecord | None) -> Request:
        self._renew = False
        if memory is not None:
            epoch = max(memory.epoch, self.memory.epoch, self.epoch_heard)
            memory = replace(memory, epoch=epoch)
        return Attach(self._member(), memory, self.config.quarantine_ms)

    def _admit(self) -> Request:
        remembered = self.memory.record
        return Admit(
            id=self.config.id,
            token=self.memory.token,
            earlier=self.memory.earlier,
            incarnation=self.memory.incarnation,
            generation=remembered.generation if remembered else "",
            number=self._calls + 1,
            installed=self.config.installed,
            lowest=self.config.lowest,
            lease_ms=self.config.store_lease_ms,
            address=self.config.address,
            gossip=self.config.gossip,
            zone=self.config.zone,
            labels=self.config.labels,
            collections=self.config.collections,
            steps=self.config.step_names,
        )

    def _report(self, record: ClusterRecord) -> Request | None:
        due = self._due(record)
        confirmed = record.doubt == self._confirmed
        if due == self._reported and not self._renew and confirmed:
            return None
        self._renew = False
        return self._report_of(due, record.generation)

    def _report_of(self, due: _Reported, generation: str) -> Report:
        return Report(
            id=self.config.id,
            incarnation=self.incarnation,
            generation=generation,
            number=self._calls + 1,
            standing=due.standing,
            seen=due.seen,
            operating=due.operating,
            operating_revision=due.operating_revision,
            failure=due.failure,
            work=due.work,
            health=due.health,
        )

    def _due(self, record: ClusterRecord) -> _Reported:
        """What the store should know; equal to the last report when there is nothing new."""
        told, remembered = self._reported, self.memory.record
        if remembered is None:
            return told
        seen = told.seen
        if record.raising and remembered.revision >= record.floor_revision:
            seen = max(seen, record.floor_revision)
        due = told
        now = (self._standing, seen, self.failure, self.memory.work, self.health)
        if now != (told.standing, told.seen, told.failure, told.work, told.health):
            standing, seen, failure, work, health = now
            due = replace(
                told, standing=standing, seen=seen, failure=failure, work=work, health=health
            )
        confirmed = self.operating is not None and self.operating == remembered.acting
        if confirmed and not self._draining and told.operating_revision < record.raised_revision:
            due = replace(
                due, operating=self.operating, operating_revision=remembered.revision, failure=""
            )
        return due

    def _farewell(self) -> Request | None:
        record = self.record
        if not self._registered or record is None:
            return None
        if self._stop:
            return Leave(self.config.id, self.incarnation, record.generation)
        return self._report_of(replace(self._reported, standing=Standing.AWAY), record.generation)

    def _member(self) -> Member:
        """This node, as it attaches: what it operates at, or standby if it does not."""
        serves = self._registered and self._standing is not Standing.STANDBY
        operates = serves and self.operating is not None and not self._draining
        remembered = self.memory.record
        confirmed = operates and remembered is not None and remembered.acting == self.operating
        return Member(
            id=self.config.id,
            incarnation=self.memory.incarnation,
            token=self.memory.token,
            installed=self.config.installed,
            lowest=self.config.lowest,
            standing=self._standing if serves else Standing.STANDBY,
            operating=self.operating if operates else None,
            operating_revision=remembered.revision if confirmed and remembered else 0,
            failure=self.failure,
            work=self.memory.work,
            health=self.health,
            number=self._calls + 1,
            lease_ms=self.config.store_lease_ms,
            address=self.config.address,
            gossip=self.config.gossip,
            zone=self.config.zone,
            labels=self.config.labels,
            collections=self.config.collections,
            steps=self.config.step_names,
        )

    # --- answers ----------------------------------------------------------------------------------

    def replied(self, now: float, call: int, reply: Reply, asked_s: float) -> list[Effect]:
        """The store answered, or did not."""
        if call != self._calls or self._pending is None:
            return []
        request, self._pending = self._pending, None
        if isinstance(reply, Failed):
            return self._store_failed(now, reply)
        self._retries, self.store_failure, self.store_failed_s = 0, "", None
        if self._stop is not None:
            return self._stop_replied(now, request)
        self._look(reply)
        forgotten = self._suspend_if_forgotten()
        match reply:
            case Admitted():
                effects = self._admitted(request, reply, asked_s)
            case Attached():
                effects = self._attached(request, reply, asked_s)
            case Done():
                effects = self._report_done(request, reply, asked_s)
            case Refused():
                effects = self._refused(reply)
            case NotMember():
                effects = self._not_member(reply)
            case _:
                effects = []
        if self.view is not None and self.view.record is not None and self.view.verified:
            effects += self._consider(self.view.record) + self._apply()
        return forgotten + effects + self._lease_timer(now) + self.step(now)

    def _look(self, reply: Reply) -> None:
        """Every answer shows the record as it is now."""
        match reply:
            case View():
                self.view, self._stale = reply, False
            case (
                Admitted()
                | Attached()
                | Done()
                | Refused()
                | NotMember()
                | Unverified()
                | Conflict()
            ):
                self.view, self._stale = reply.view, False
            case _:
                pass

    def _suspend_if_forgotten(self) -> list[Effect]:
        """The cluster settled at a newer version without this node: it is no member any more.

        That takes a store that lost the registration while the node could not say so (R17).
        """
        record = self.view.record if self.view else None
        if record is None or record.data is None or self.operating is None:
            return []
        if self.memory.record is not None and record.reached < self.memory.record.reached:
            return []  # it has forgotten a downgrade: this node tells it
        if record.data <= self.operating:
            return []
        self._registered, self._tried = False, _NEVER
        return self._suspend(
            NodeState.SUSPENDED, f"the cluster settled at {record.data} without it"
        )

    def _store_failed(self, now: float, failed: Failed) -> list[Effect]:
        self.store_failure = failed.reason
        self._stale = True
        if self.store_failed_s is None:
            self.store_failed_s = now
        self._retries += 1
        low, high = _RETRY_S
        wait_s = min(high, low * 2 ** min(self._retries, 10)) * self.rng.uniform(0.5, 1.0)
        return [self.timers.set(Timer.RETRY_STORE, now + wait_s)]

    def _stop_replied(self, now: float, request: Request) -> list[Effect]:
        away = isinstance(request, Report) and request.standing is Standing.AWAY
        if isinstance(request, Leave) or (away and not self._stop):
            self._registered = False
            return [Stopped()]
        return self.step(now)  # the answer to something asked before

    def _admitted(self, request: Request, reply: Admitted, asked_s: float) -> list[Effect]:
        record = reply.view.record
        assert record is not None
        assert isinstance(request, Admit)
        if request.token != self._current.token:
            return self._given_up(request.token)
        asked_with = (request.installed, request.lowest)
        fresh = not self._registered or reply.incarnation != self.incarnation
        was, self._standing = self._standing, self._standing_for(reply.standing)
        self._registered = True
        self._admit_again = asked_with != (self.config.installed, self.config.lowest)
        self._confirmed = record.doubt
        self.lease_deadline_s = asked_s + self.config.lease_s
        serves = reply.standing is Standing.SERVING
        self._tried = _NEVER if serves else _mark(reply.view)
        if fresh or was is not Standing.SERVING or not serves:
            self._reported = _Reported(reply.standing, seen=record.revision)
        effects = [] if serves else self._suspend(NodeState.STANDBY, reply.rule)
        if self._standing is Standing.AWAY:
            effects = self._suspend(NodeState.AWAY, _OUT_OF_SERVICE)
        if not fresh:
            return effects
        effects.append(Emit("admitted", f"incarnation {reply.incarnation}, {reply.standing}"))
        memory = replace(self._current, incarnation=reply.incarnation, admitted_token=request.token)
        return effects + self._remember(self._with_record(memory, record))

    def _standing_for(self, granted: Standing) -> Standing:
        """R26: what was begun on this node goes on before it serves again."""
        stays = granted is Standing.SERVING and self._out_of_service
        return Standing.AWAY if stays else granted

    @property
    def _out_of_service(self) -> bool:
        work = self._current.work
        return work is not None and work.out_of_service

    def _attached(self, request: Request, reply: Attached, asked_s: float) -> list[Effect]:
        assert isinstance(request, Attach)
        member = request.member
        if not reply.view.verified and member.token != self._current.token:
            return self._given_up(member.token)
        self._attached_in = self._confirmed = reply.view.doubt
        if reply.view.verified:  # the store had lost nothing
            self._confirmed = -1  # asked again by the next report or admission
            return []
        self._tried = _NEVER
        self.lease_deadline_s = asked_s + self.config.lease_s
        self._standing = member.standing
        self._registered = True
        self._reported = _Reported(
            member.standing,
            0,
            member.operating,
            member.operating_revision,
            member.failure,
            member.work,
            member.health,
        )
        attached = Emit("attached", "the store may have lost writes")
        memory = replace(self._current, incarnation=reply.incarnation, admitted_token=member.token)
        return [attached] if memory == self.memory else [attached, *self._remember(memory)]

    def _report_done(self, request: Request, reply: Done, asked_s: float) -> list[Effect]:
        if isinstance(request, Report) and self._registered:
            self._reported = _Reported(
                request.standing,
                request.seen,
                request.operating,
                request.operating_revision,
                request.failure,
                request.work,
                request.health,
            )
            self.lease_deadline_s = asked_s + self.config.lease_s
            if reply.view.record is not None:
                self._confirmed = reply.view.record.doubt
        return []

    def _refused(self, reply: Refused) -> list[Effect]:
        self._tried = _mark(reply.view)
        self.refusal = reply
        self._admit_again = False
        if reply.rule == "excluded":
            if not self._registered and self.operating is None:
                return self._new_token()  # an earlier start was excluded, not this one
            self._registered = False
            return self._suspend(NodeState.EXCLUDED, "it was excluded; start it again")
        if reply.rule == "other_generation":
            self._registered = False  # R24: of this store it is no member
        # Who has never operated gives up and says why; who has may be let in again.
        state = NodeState.SUSPENDED if self._has_operated else NodeState.REFUSED
        return self._suspend(state, reply.rule)

    def _not_member(self, reply: NotMember) -> list[Effect]:
        if not self._registered:
            return []  # asked before its lease ended: since then it wants a new admission
        self._registered = False
        self._tried = _NEVER
        stone = reply.tombstone
        if stone is not None and stone.incarnation == self.incarnation:
            return self._suspend(NodeState.EXCLUDED, f"excluded by {stone.by}: {stone.reason}")
        return self._suspend(NodeState.SUSPENDED, "the store does not know it any more")

    # --- memory -----------------------------------------------------------------------------------

    @property
    def _current(self) -> Memory:
        """The memory, with what is on its way to the disk."""
        return self._wanted or self.memory

    def _new_token(self) -> list[Effect]:
        """A new admission needs a new token; the accepted ones prove whose the name is."""
        memory = self._current
        token = f"{self.rng.getrandbits(128):032x}"
        earlier = _earlier(memory, memory.admitted_token)
        return self._remember(replace(memory, token=token, earlier=earlier))

    def _given_up(self, token: str) -> list[Effect]:
        """A start was admitted that has ended by its lease meanwhile: now it owns the name."""
        memory = self._current
        earlier = _earlier(memory, token)
        return self._remember(replace(memory, admitted_token=token, earlier=earlier))

    def remember_work(self, work: Work) -> list[Effect]:
        """How far this node is with its turn; it is acted on once it is on the disk."""
        return self._remember(replace(self._current, work=work))

    def _remember(self, memory: Memory) -> list[Effect]:
        self._wanted = memory
        return [Remember(memory)]

    def remembered(self, now: float, memory: Memory) -> list[Effect]:
        """It is on disk: now it may be acted on."""
        if memory != self._wanted:
            return []
        effects: list[Effect] = [*announcements(self.memory.record, memory.record)]
        if self._disk_failures:
            self.failure = ""
        self._wanted, self.memory, self._disk_failures = None, memory, 0
        record, self._next_record = self._next_record, None
        effects += self._consider(record) if record is not None else []
        return effects + self._apply() + self.step(now)

    def remember_failed(self, now: float, error: str) -> list[Effect]:
        """The disk refused: what is not on disk is not operated at."""
        self._disk_failures += 1
        self.failure = f"cannot remember on disk: {error}"
        low, high = _DISK_RETRY_S
        wait_s = min(high, low * 2 ** min(self._disk_failures - 1, 10))
        wait_s *= self.rng.uniform(0.5, 1.0)
        retry = self.timers.set(Timer.RETRY_SWITCH, now + wait_s)
        return [Emit("disk failed", error), retry, *self.step(now)]

    def _consider(self, record: ClusterRecord) -> list[Effect]:
        """Remember a newer record, then apply it."""
        if self._wanted is not None:
            if newer(record, self._next_record):
                self._next_record = record
            return []
        memory = self._with_record(self.memory, record)
        return self._remember(memory) if memory != self.memory else []

    def _with_record(self, memory: Memory, record: ClusterRecord) -> Memory:
        """R10: `memory` with the record if that is newer, and never below what was operated at."""
        if not self._registered or self._standing is not Standing.SERVING:
            return memory
        if not record.identity or record.doubt != self._confirmed:
            return memory
        known = memory.record
        if known is not None:
            if record.generation != known.generation or not newer(record, known):
                return memory
            if record.reached < known.reached:
                self._stale = True
                return memory
        return replace(memory, record=record, epoch=max(record.epoch, memory.epoch))

    # --- operating --------------------------------------------------------------------------------

    def _apply(self) -> list[Effect]:
        """Operate as the remembered record says, as far as this node may."""
        record = self.memory.record
        if not self._registered or self._standing is not Standing.SERVING or self._stop is not None:
            return []
        if record is None or record.acting is None or self._switching is not None:
            return []
        if self._wanted is not None:
            return []  # something newer is on its way to the disk
        if self._admit_again and self.operating is None:
            return []  # R20: it asks the store first
        unable = self._unable(record)
        if unable:
            return self._suspend(NodeState.SUSPENDED, unable)
        if self.operating == record.acting:
            return []
        self._switching = record.acting
        self._switch_attempt += 1
        return [Switch(record.acting, self.operating, self._switch_attempt)]

    def _unable(self, record: ClusterRecord) -> str:
        """R12, R14: why this software cannot operate as the record says; "" if it can."""
        lowest, installed = self.config.lowest, self.config.installed
        if record.acting is None or record.data is None:
            return "the cluster has not formed yet"
        if not lowest <= record.acting <= installed:
            return f"the cluster acts at {record.acting}, it supports {lowest} to {installed}"
        if lowest > record.data:
            return f"shared data may be in the format of {record.data}, it reads from {lowest} on"
        return ""

    def switched(self, now: float, attempt: int) -> list[Effect]:
        """All callbacks have run: from here on the node operates at the new version."""
        if attempt != self._switch_attempt or self._switching is None:
            return []
        version, self._switching = self._switching, None
        self.failure, self._switch_failures = "", 0
        if not self._registered or self._standing is not Standing.SERVING or self._stop is not None:
            return []
        record = self.memory.record
        if record is None or record.acting != version:
            return self._apply()  # the cluster went on while the callbacks ran
        self.operating, self._draining, self._has_operated = version, True, True
        self._operating_since = record.raised_revision
        self.state, self.reason = NodeState.OPERATING, ""
        self.refusal = None
        effects: list[Effect] = [Operate(version, ""), Drain(version, self._switch_attempt)]
        return effects + self._apply() + self.step(now)

    def switch_failed(self, now: float, attempt: int, error: str) -> list[Effect]:
        """The node stays at its old operating version, says why, and tries again."""
        if attempt != self._switch_attempt or self._switching is None:
            return []
        self._switching = None
        self.failure = error
        self._switch_failures += 1
        low, high = _SWITCH_RETRY_S
        wait_s = min(high, low * 2 ** (self._switch_failures - 1))
        retry = self.timers.set(Timer.RETRY_SWITCH, now + wait_s)
        return [retry, Emit("callback failed", error), *self.step(now)]

    def retry_switch(self, now: float) -> list[Effect]:
        """Try again what failed."""
        if self._wanted is not None:
            return [Remember(self._wanted)]
        return self._apply() + self.step(now)

    def drained(self, now: float, attempt: int) -> list[Effect]:
        """R15: no operation of the older version is under way any more."""
        if attempt != self._switch_attempt:
            return []
        self._draining = False
        return self.step(now)

    def _suspend(self, state: NodeState, reason: str) -> list[Effect]:
        if state is not self.state:
            self.state_since_s = self.now_s
        self.state, self.reason = state, reason
        if self.operating is None:
            return []
        self.operating, self._draining = None, False
        return [Operate(None, reason)]

    def _lease_timer(self, now: float) -> list[Effect]:
        if not self.config.lease_s or not self._registered:
            return []
        renew_s = max(now, self.lease_deadline_s - self.config.lease_s * 2 / 3)
        lapse: SetTimer = self.timers.set(Timer.LEASE, self.lease_deadline_s)
        return [self.timers.set(Timer.RENEW_LEASE, renew_s), lapse]


def _mark(view: View) -> tuple[str, int, int, str]:
    """Tells one state of the record, on one server process, from every other."""
    if view.record is None:
        return _NEVER
    return (view.record.generation, *view.record.order, view.identity)


def _earlier(memory: Memory, token: str) -> tuple[str, ...]:
    """More than one, because a failover may bring back a store that knows an older one only."""
    older = [one for one in memory.earlier if one != token]
    return tuple(filter(None, (token, *older)))[:EARLIER_TOKENS]


@dataclass(frozen=True, slots=True)
class _Wait:
    """Nothing to ask now; look again after a while."""
