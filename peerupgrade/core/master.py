"""What a node does while it is master: watch the members, decide, commit, take slots.

Theory of operation: the master keeps a copy of the store's state, fed by the members' channel, and
reads everything again when it missed a change. From that copy `acting.next_step` decides; the store
commits the step only if the copy was exact. So a stale copy costs a round trip and nothing else.

How far the conversion of shared data is nobody tells: the master reads it again now and then. When
the counters say that nothing older is left, it has each collection scanned, from end to end on one
server process, and only then lets the data version rise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from peerupgrade.core.acting import (
    Progress,
    Step,
    StepName,
    awaited,
    may_bring_step,
    next_step,
)
from peerupgrade.core.blockers import raise_blockers
from peerupgrade.core.effects import (
    CallStore,
    Effect,
    Emit,
    Part,
    RunSteps,
    StopSteps,
    Timer,
    WatchMembers,
)
from peerupgrade.core.leases import lapse_moments, lapsed, renewed
from peerupgrade.core.progress import all_progress, runners, steps_wanted
from peerupgrade.core.record import ClusterRecord, Job, Member, Phase, Snapshot, Standing, newer
from peerupgrade.core.requests import (
    All,
    Audit,
    Audited,
    Beat,
    Commit,
    Done,
    Exclude,
    Failed,
    Fenced,
    MemberHeard,
    NotMember,
    ReadAll,
    Refused,
    Reply,
    Request,
    ReturnSlot,
    TakeSlot,
)
from peerupgrade.core.rollout import (
    bakes_until_ms,
    hands_over,
    rollout_step,
    slot_request,
    slots_after,
    soaks_until_ms,
    window_opens_at_ms,
)
from peerupgrade.core.timers import Timers
from peerupgrade.core.versions import Version

_RETRY_S = 0.2
_AGAIN_S = 1.0
_LOOK_S = 0.25  # how often it reads how far the conversion is
_AUDIT_RECORDS = 1000
_DRIFT, _JUMP_MS = 1.02, 500  # more than that no two clocks differ by themselves
_SILENCE_S = 0.5  # how often it looks whether a member answers gossip again


@dataclass(slots=True)
class Master:
    """The machine; idle unless `epoch` is set."""

    timers: Timers
    quarantine_s: float = 5.0
    steps: Mapping[Phase, frozenset[Version]] = field(default_factory=dict)  # that are here
    silent: Callable[[], frozenset[str]] = frozenset  # who does not answer gossip
    failed: Callable[[], frozenset[str]] = frozenset  # and has not for long
    epoch: int = 0
    fenced: bool = False
    lacks_steps: bool = False  # steps are due that only others have: one of them shall be master
    gives_way: bool = False  # a rollout has come to this node: another one shall be master
    step_failure: str = ""
    snapshot: Snapshot | None = None
    _token: str = ""
    _durable: bool = True
    _steps_done: Job | None = None
    _steps_running: Job | None = None
    _read_at_s: float = 0.0
    _watching: bool = False
    _pending: Request | None = None
    _calls: int = 0
    _stale: bool = False
    _waits_for: str | None = None  # see `awaited`
    _not_before_s: float = 0.0
    _deaf_until_s: float = 0.0
    _doubt: int = 0
    _doubt_since_s: float = 0.0
    _data_read: int = 0  # the raise that had settled when the collections were read
    _audit_of: tuple[int, str] = (0, "")  # the raise and the server process that it is about
    _audited: frozenset[str] = frozenset()
    _proves: tuple[int, str] | None = None  # of what the pending commit proves that
    _data_durable_of: tuple[int, str] = (0, "")  # the replicas have all that was converted then
    _sure: frozenset[str] = frozenset()  # whose slots were acknowledged to this mastership
    _slots_not_before_s: float = 0.0
    _since_ms: int = 0  # when this mastership first read the store, or its clock had jumped

    # --- beginning and end ------------------------------------------------------------------------

    def begin(self, now: float, epoch: int, token: str, durable: bool) -> list[Effect]:
        """A mastership was claimed. Listening comes first, then reading: nothing is missed.

        Should listening fail, a master that reads now and then is better than none.
        """
        self.epoch, self._token, self._durable = epoch, token, durable
        self.fenced, self.lacks_steps, self.step_failure = False, False, ""
        self.snapshot, self._pending, self._watching = None, None, False
        self._steps_done = None
        self._data_read, self._audit_of, self._data_durable_of = 0, (0, ""), (0, "")
        self._sure, self._slots_not_before_s, self.gives_way = frozenset(), 0.0, False
        self._not_before_s, self._deaf_until_s, self._since_ms = 0.0, now + _AGAIN_S, 0
        wake = self.timers.set(Timer.DECIDE, self._deaf_until_s)
        return [WatchMembers(True), wake, Emit("master", f"epoch {epoch}")]

    def end(self) -> list[Effect]:
        """The mastership is over."""
        epoch, self.epoch = self.epoch, 0
        self.snapshot, self._pending = None, None
        stopped = self._stop_steps()
        return [*stopped, WatchMembers(False), Emit("master no more", f"epoch {epoch}")]

    # --- inputs -----------------------------------------------------------------------------------

    def watching(self, now: float) -> list[Effect]:
        """The members' channel is subscribed (again)."""
        self._watching = True
        return self.read_again(now)

    def read_again(self, now: float) -> list[Effect]:
        """The copy cannot be trusted any more."""
        self._stale = True
        return self.decide(now)

    def heard_member(self, now: float, heard: MemberHeard) -> list[Effect]:
        """One member changed."""
        if self.snapshot is None or heard.members_revision <= self.snapshot.members_revision:
            return []
        if heard.members_revision != self.snapshot.members_revision + 1:
            return self.read_again(now)
        awaited_one = may_bring_step(self.snapshot, self._waits_for, heard.id, heard.member)
        members = dict(self.snapshot.members)
        if heard.member is None:
            members.pop(heard.id, None)
        else:
            members[heard.id] = heard.member
        slots, slot = dict(self.snapshot.slots), self.snapshot.slots.get(heard.id)
        if slot is not None and heard.member and heard.member.standing is Standing.AWAY:
            slots[heard.id] = replace(slot, away=1)  # as the store does it
        self.snapshot = replace(
            self.snapshot,
            members=members,
            members_revision=heard.members_revision,
            slots=slots,
        )
        return self.decide(now) if awaited_one else []

    def heard_record(self, now: float, record: ClusterRecord) -> list[Effect]:
        """Somebody else changed the record, for example a hold."""
        if self.snapshot is None or not self.snapshot.verified:
            return self.read_again(now)
        if record.identity != self.snapshot.identity:
            return self.read_again(now)
        if record.downgrade is not None:  # it is decided from the records, of which nobody tells
            return self.read_again(now)
        if newer(record, self.snapshot.record):
            self.snapshot = replace(self.snapshot, record=record)
        return self.decide(now)

    def silence_changed(self, now: float) -> list[Effect]:
        """Somebody does not answer gossip any more, or does again: a rollout goes by that."""
        record = self.snapshot.record if self.snapshot is not None else None
        return self.decide(now) if record is not None and record.rollout is not None else []

    def heard_beat(self, now: float, beat: Beat) -> list[Effect]:
        """Our own beat says what the store has: a missed change shows here."""
        if self.snapshot is None or self._pending is not None:
            return []
        record = self.snapshot.record
        missed = record is None or beat.revision > record.revision
        if missed or beat.members_revision > self.snapshot.members_revision:
            return self.read_again(now)
        return []

    def saw_doubt(self, now: float, doubt: int) -> None:
        """R16 by the node's own clock, too: the server's may jump."""
        if doubt != self._doubt:
            self._doubt, self._doubt_since_s = doubt, now

    def steps_done(self, now: float, job: Job, epoch: int) -> list[Effect]:
        """The application's own steps have succeeded."""
        if (job, epoch) != (self._steps_running, self.epoch):
            return []  # another mastership's, or not due any more
        self._steps_running, self._steps_done, self.step_failure = None, job, ""
        return self.decide(now)

    def steps_failed(self, now: float, job: Job, epoch: int, error: str) -> list[Effect]:
        """They will be tried again."""
        if (job, epoch) != (self._steps_running, self.epoch):
            return []
        self._steps_running, self.step_failure = None, error
        self._not_before_s = now + _AGAIN_S
        return [Emit("step failed", error), *self.decide(now)]

    def replied(self, now: float, call: int, reply: Reply) -> list[Effect]:
        """The store answered."""
        if call != self._calls or self._pending is None:
            return []
        request, self._pending = self._pending, None
        if isinstance(request, TakeSlot | ReturnSlot) and isinstance(reply, Done | Refused):
            return self._slot_replied(now, request, done=isinstance(reply, Done))
        if isinstance(request, Exclude) and isinstance(reply, Done | NotMember | Refused):
            return self._exclusion_replied(now, reply)
        match reply:
            case All(snapshot):
                self._read(now, snapshot)
            case Done(view, durable):
                assert isinstance(request, Commit)
                return self._committed(now, request, view.record, durable)
            case Audited():
                assert isinstance(request, Audit)
                self._looked_at(request.collection, reply)
            case Fenced():
                self.fenced = True
                return []
            case Failed():
                self._stale = True
                if isinstance(request, Commit):
                    self._durable = False  # it may have been written, and nothing else is known
                return [self.timers.set(Timer.DECIDE, now + _RETRY_S)]
            case _:  # refused, conflict or unverified: look again before deciding again
                self._stale = True
                if not self._conflict_is_news(request):
                    return [self.timers.set(Timer.DECIDE, now + _RETRY_S)]
        return self.decide(now)

    def _read(self, now: float, snapshot: Snapshot) -> None:
        if not self._since_ms or self._has_jumped(now, snapshot):
            self._since_ms = snapshot.now_ms
        self.snapshot, self._read_at_s = snapshot, now
        record = snapshot.record
        self._data_read = record.raised_revision if record and record.settled else 0
        if not snapshot.verified:
            self.saw_doubt(now, snapshot.quarantine_until_ms)

    def _looked_at(self, collection: str, audited: Audited) -> None:
        if audited.older:  # it begins again once the counters know of it
            self._stale = True
        elif audited.ended:
            self._audited |= {collection}

    def _slot_replied(
        self, now: float, request: TakeSlot | ReturnSlot, *, done: bool
    ) -> list[Effect]:
        """R29: what was acknowledged no failover forgets."""
        assert self.snapshot is not None
        self._sure -= {request.id}
        if not done:  # too many are down, or not up yet: look again after a while
            self._stale, self._slots_not_before_s = True, now + _AGAIN_S
            return self.decide(now)
        self.snapshot = slots_after(self.snapshot, request, self.store_now_ms(now))
        if isinstance(request, TakeSlot):
            self._sure |= {request.id}
        return self.decide(now)

    def _exclusion_replied(self, now: float, reply: Done | NotMember | Refused) -> list[Effect]:
        """The member is gone; or it has renewed its lease, of which nobody was told."""
        match reply:
            case Refused(other=Member(id=name, lease_until_ms=until_ms)):
                assert self.snapshot is not None
                self.snapshot = renewed(self.snapshot, name, until_ms)
            case _:
                self._stale = True
        return self.decide(now)

    def _conflict_is_news(self, request: Request) -> bool:
        """A lost race is answered by reading at once; anything else might go in circles."""
        return isinstance(request, Commit) and not request.repair

    def _committed(
        self, now: float, request: Commit, record: ClusterRecord | None, durable: bool
    ) -> list[Effect]:
        self._durable = durable
        if durable and self._proves is not None:
            self._data_durable_of = self._proves
        if not durable:
            self._not_before_s = now + _AGAIN_S
        if self.snapshot is not None and record is not None:
            if request.repair:
                self._stale = True
            elif newer(record, self.snapshot.record):  # a hold may have been heard of already
                self.snapshot = replace(self.snapshot, record=record)
        return [Emit("committed", request.step), *self.decide(now)]

    # --- deciding ---------------------------------------------------------------------------------

    def store_now_ms(self, now: float) -> int:
        """The store's clock, never ahead of itself."""
        if self.snapshot is None:
            return 0
        return self.snapshot.now_ms + int((now - self._read_at_s) * 1000)

    def _has_jumped(self, now: float, snapshot: Snapshot) -> bool:
        """By the store's clock more time has passed since it was read than here: R7 counts anew."""
        if self.snapshot is None or not self.snapshot.now_ms:
            return False
        passed_ms = (now - self._read_at_s) * 1000
        return snapshot.now_ms - self.snapshot.now_ms > passed_ms * _DRIFT + _JUMP_MS

    def decide(self, now: float) -> list[Effect]:
        """Commit the next step, or find out what is awaited."""
        self._waits_for = None
        if not self.epoch or self._pending is not None or self.fenced:
            return []
        if self.snapshot is None or self._stale:
            if not self._watching and now < self._deaf_until_s:
                return [self.timers.set(Timer.DECIDE, self._deaf_until_s)]
            self._stale, self._deaf_until_s = False, now + _AGAIN_S
            return self._ask(ReadAll())
        if now < self._not_before_s:
            return [self.timers.set(Timer.DECIDE, self._not_before_s)]
        now_ms = self.store_now_ms(now)
        silent = self.silent()
        step = next_step(self.snapshot, now_ms, self._progress()) or rollout_step(
            self.snapshot, now_ms, self._sure, silent, self.failed()
        )
        trusted_s = self._doubt_since_s + self.quarantine_s
        if step is not None and step.name is StepName.VERIFIED and now < trusted_s:
            return [self.timers.set(Timer.DECIDE, trusted_s)]
        if step is not None:
            return self._ask(self._commit(step))
        self.gives_way = hands_over(self.snapshot, now_ms, silent)
        slot = slot_request(self.snapshot, now_ms, self._sure, silent)
        if slot is not None and now >= self._slots_not_before_s:
            return self._ask(replace(slot, token=self._token, epoch=self.epoch))
        exclusion = lapsed(self.snapshot, now_ms, self._since_ms)
        if exclusion is not None:
            return self._ask(replace(exclusion, token=self._token, epoch=self.epoch))
        effects = self._follow_steps(now)
        if self._waits_for_data:
            return effects + self._watch_data(now)
        if not self._watching:  # nobody will tell of a change: look again
            self._stale = True
            return [*effects, self.timers.set(Timer.DECIDE, self._deaf_until_s)]
        self._waits_for = awaited(self.snapshot)
        return effects + self._wake(now)

    def _progress(self) -> Progress:
        assert self.snapshot is not None
        record = self.snapshot.record
        raised = record.raised_revision if record is not None else 0
        now = (raised, self.snapshot.identity)
        return Progress(
            self._durable,
            bool(steps_wanted(self.snapshot)),
            self._steps_done,
            data_read=self._data_read == raised,
            audited=self._audited if self._audit_of == now else frozenset(),
            data_durable=self._data_durable_of == now,
        )

    @property
    def _waits_for_data(self) -> bool:
        snapshot = self.snapshot
        if snapshot is None or snapshot.record is None or not snapshot.verified:
            return False
        return snapshot.record.settled and snapshot.record.data != snapshot.record.acting

    def _watch_data(self, now: float) -> list[Effect]:
        """Read how far the conversion is, or scan what should have no older record any more."""
        snapshot = self.snapshot
        assert snapshot is not None
        assert snapshot.record is not None
        raised = snapshot.record.raised_revision
        if self._data_read != raised:
            return self._ask(ReadAll())
        if self._audit_of != (raised, snapshot.identity):
            self._audit_of = (raised, snapshot.identity)
            self._audited = frozenset()
        for one in all_progress(snapshot, self.store_now_ms(now)):
            ready = one.target and not one.left and not one.view.parked
            if ready and one.collection not in self._audited:
                return self._ask(self._audit(one.collection, one.target))
        self._stale = True
        return [self.timers.set(Timer.DECIDE, now + _LOOK_S)]

    def _audit(self, collection: str, target: str) -> Audit:
        """The next part of a scan."""
        return Audit(self._token, self.epoch, collection, target, _AUDIT_RECORDS)

    def _follow_steps(self, now: float) -> list[Effect]:
        """Run the application's own steps while they are due; those before a raise come last."""
        snapshot = self.snapshot
        assert snapshot is not None
        record = snapshot.record if snapshot.verified else None
        job = record.job if record is not None and not record.job_paused else None
        if job is not None and job == self._steps_running:
            return []
        effects, wanted = self._stop_steps(), steps_wanted(snapshot)
        if job is None or not wanted or job == self._steps_done:
            return effects
        if job.phase is Phase.BEFORE and raise_blockers(snapshot, self.store_now_ms(now)):
            return effects
        if not wanted <= self.steps.get(job.phase, frozenset()):
            self.lacks_steps = bool(runners(snapshot, wanted))
            return effects
        self._steps_running = job
        return [*effects, RunSteps(job, self.epoch, self._token)]

    def _stop_steps(self) -> list[Effect]:
        running, self._steps_running = self._steps_running, None
        return [] if running is None else [StopSteps()]

    def _wake(self, now: float) -> list[Effect]:
        """Some things happen by the clock alone: the end of a hold, of a quarantine, of a lease."""
        snapshot = self.snapshot
        assert snapshot is not None
        store_now_ms = self.store_now_ms(now)
        record, awaited = snapshot.record, list[float]()
        moments = [snapshot.quarantine_until_ms, soaks_until_ms(snapshot)]
        moments += lapse_moments(snapshot, self._since_ms)
        if record is not None and record.hold is not None:
            moments.append(record.hold.until_ms)
        if record is not None and record.rollout is not None:
            moments.append(window_opens_at_ms(record.rollout, store_now_ms))
            moments.append(bakes_until_ms(snapshot))
            if self.silent() & snapshot.members.keys():
                awaited.append(now + _SILENCE_S)
        if not snapshot.verified:
            moments += [member.lease_until_ms for member in snapshot.members.values()]
        if slot_request(snapshot, store_now_ms, self._sure):  # the store, or gossip, is in its way
            awaited.append(max(self._slots_not_before_s, now + _SILENCE_S))
        ahead_ms = [moment - store_now_ms for moment in moments if moment > store_now_ms]
        awaited += [now + ahead / 1000 + 0.001 for ahead in ahead_ms]
        return [self.timers.set(Timer.DECIDE, min(awaited))] if awaited else []

    def _commit(self, step: Step) -> Commit:
        assert self.snapshot is not None
        assert self.snapshot.record is not None
        raised = (self.snapshot.record.raised_revision, self.snapshot.identity)
        self._proves = raised if step.proves_data else None
        return Commit(
            token=self._token,
            epoch=self.epoch,
            revision=self.snapshot.record.revision,
            members_revision=self.snapshot.members_revision,
            record=step.record,
            step=str(step.name),
            inputs=step.inputs,
            repair=step.name is StepName.VERIFIED,
        )

    def _ask(self, request: Request) -> list[Effect]:
        self._pending = request
        self._calls += 1
        return [CallStore(Part.MASTER, request, self._calls)]
