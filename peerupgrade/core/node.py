"""A whole node, composed of its machines, without a clock, a socket or a disk.

    handle(now, input) -> effects

`now` is the node's own clock in seconds: it must also count while the machine sleeps. Whoever
drives a node (the asyncio runtime, the simulator) carries the effects out and feeds their results
back as inputs; nothing waits in here.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Literal, assert_never

from peerupgrade.core.chance import Rng
from peerupgrade.core.conversion import Converter
from peerupgrade.core.effects import (
    Drained,
    Effect,
    HeardOn,
    Input,
    InstalledChanged,
    LockReplied,
    Memory,
    PacketHeard,
    Part,
    Probed,
    RecordsConverted,
    Remembered,
    RememberFailed,
    Resign,
    SetAway,
    Start,
    StepsDone,
    StepsFailed,
    Stop,
    StoreReplied,
    Switched,
    SwitchFailed,
    Timer,
    TimerFired,
    TurnStepEnded,
)
from peerupgrade.core.gossip.machine import Gossip, GossipConfig, carried
from peerupgrade.core.gossip.packets import Heartbeat, Packet
from peerupgrade.core.gossip.view import failed, silent
from peerupgrade.core.health import Prober, Probing
from peerupgrade.core.master import Master
from peerupgrade.core.mastership import Mastership
from peerupgrade.core.membership import Membership, NodeConfig, NodeState
from peerupgrade.core.pace import Pace
from peerupgrade.core.record import ClusterRecord, Standing, newer
from peerupgrade.core.requests import (
    Beat,
    Claimed,
    Done,
    DoubtHeard,
    ExcludedHeard,
    Freed,
    MemberHeard,
    RecordHeard,
    Subscribed,
    Unverified,
)
from peerupgrade.core.timers import Timers
from peerupgrade.core.turn import Walker

_LOOK_S = 1.0  # so often at most does gossip make a node look at the store


@dataclass(frozen=True, slots=True)
class MastershipConfig:
    """How the master is found."""

    servers: int = 1
    ttl_s: float = 3.0


@dataclass(slots=True)
class Node:
    """The composition. Public attributes may be read, never written."""

    config: NodeConfig
    lock: MastershipConfig
    memory: Memory
    rng: Rng
    pace: Pace = field(default_factory=Pace)
    probing: Probing | None = None
    gossiping: GossipConfig | None = None
    timers: Timers = field(default_factory=Timers)
    membership: Membership = field(init=False)
    mastership: Mastership = field(init=False)
    master: Master = field(init=False)
    converter: Converter = field(init=False)
    prober: Prober = field(init=False)
    walker: Walker = field(init=False)
    gossip: Gossip | None = None
    _changes_told: int = 0  # of conditions by gossip, to the master
    _said: tuple[object, ...] = ()  # what gossip was told of this node
    _looked_s: float = -inf  # when gossip last was a reason to look at the store

    def __post_init__(self) -> None:
        self.membership = Membership(self.config, self.memory, self.rng, self.timers)
        self.mastership = Mastership(
            self.config.id, self.lock.servers, self.lock.ttl_s, self.rng, self.timers
        )
        self.mastership.epoch_known = self.memory.epoch
        quarantine_s = self.config.quarantine_ms / 1000
        self.master = Master(self.timers, quarantine_s, self.config.steps)
        self.prober = Prober(self.probing, self.membership, self.timers)
        self.walker = Walker(self.membership, self.prober)
        self.converter = Converter(self.timers, self.config.collections, self.pace)
        if self.gossiping is not None:
            self.gossip = Gossip(self.gossiping, self.rng, self.timers)
            self.master.silent = partial(silent, self.gossip)
            self.master.failed = partial(failed, self.gossip)

    def handle(self, now: float, event: Input) -> list[Effect]:
        """Take one input.

        Args:
            now: the node's clock in seconds; never smaller than at the call before.
            event: what happened.

        Returns:
            What is to be done now, in this order.
        """
        self.membership.now_s = now
        self.membership.epoch_heard = self.mastership.epoch_known
        effects = self.membership.check_lease(now)
        if self.mastership.must_step_down(now):
            effects += self.mastership.resign(now, 0.0)
            effects += self._follow_mastership(now, durable=True)
        effects += self._dispatch(now, event)
        if self.gossip is not None and self.gossip.condition_changes != self._changes_told:
            self._changes_told = self.gossip.condition_changes
            effects += self.master.silence_changed(now)
        durable = True
        if isinstance(event, StoreReplied) and isinstance(event.reply, Claimed):
            durable = event.reply.durable
        effects += self._follow_mastership(now, durable)
        effects += self.walker.follow(now)
        if self.converter.formats:
            record = self.membership.memory.record
            due = self.membership.origin if self.converter.is_due(record) else None
            effects += self.converter.follow(now, due, record)
        if self.gossip is not None:
            effects += self._follow_membership(now, self.gossip)
        return effects

    def clone(self, rng: Rng) -> Node:
        """A node that goes its own way from here, for whoever wants to know more than one."""
        clone, timers = copy(self), copy(self.timers)
        clone.rng, clone.timers = rng, timers
        clone.membership = membership = copy(self.membership)
        clone.mastership = mastership = copy(self.mastership)
        clone.master = master = copy(self.master)
        clone.converter = converter = copy(self.converter)
        clone.prober = prober = copy(self.prober)
        clone.walker = walker = copy(self.walker)
        walker.membership = prober.membership = membership
        walker.prober = prober
        membership.rng = mastership.rng = rng
        membership.timers = mastership.timers = master.timers = converter.timers = timers
        prober.timers = timers
        return clone

    def _follow_mastership(self, now: float, durable: bool) -> list[Effect]:
        """Keep the three machines in step."""
        view = self.membership.view
        known = view.record if view is not None else None
        master = known.master if known is not None else ""
        effects = self.mastership.set_eligible(now, self.membership.registered, master)
        if view is not None and view.doubt:
            self.master.saw_doubt(now, view.doubt)
        if self._is_fenced:
            effects += self.mastership.resign(now, self.lock.ttl_s / 3)
        cedes = self.master.lacks_steps or self.master.gives_way
        if cedes and self.master.epoch == self.mastership.epoch != 0:
            effects += self.mastership.hand_over(now)
        if self.mastership.holding and self.master.epoch != self.mastership.epoch:
            effects += self.master.begin(now, self.mastership.epoch, self.mastership.token, durable)
        elif not self.mastership.holding and self.master.epoch:
            effects += self.master.end()
        return effects

    @property
    def _is_fenced(self) -> bool:
        """The store gave a newer epoch, or a doubt made it newer: nothing can be committed."""
        view, epoch = self.membership.view, self.mastership.epoch
        if not epoch:
            return False
        known = view.record.epoch if view is not None and view.record is not None else 0
        return known > epoch or (self.master.fenced and self.master.epoch == epoch)

    def _dispatch(self, now: float, event: Input) -> list[Effect]:
        match event:
            case StoreReplied():
                return self._store_replied(now, event)
            case LockReplied(server, round_, reply):
                return self.mastership.lock_replied(now, server, round_, reply)
            case TimerFired():
                return self._timer(now, event)
            case HeardOn():
                return self._heard(now, event)
            case PacketHeard(packet):
                return self._packet(now, packet) if self.gossip is not None else []
            case Remembered(memory):
                return self.membership.remembered(now, memory)
            case RememberFailed(error):
                return self.membership.remember_failed(now, error)
            case Switched(attempt):
                return self.membership.switched(now, attempt)
            case SwitchFailed(attempt, error):
                return self.membership.switch_failed(now, attempt, error)
            case Drained(attempt):
                return self.membership.drained(now, attempt)
            case StepsDone() | StepsFailed() | RecordsConverted() | TurnStepEnded() | Probed():
                return self._worked(now, event)
            case _:
                return self._command(now, event)

    def _worked(
        self,
        now: float,
        event: StepsDone | StepsFailed | RecordsConverted | TurnStepEnded | Probed,
    ) -> list[Effect]:
        match event:
            case StepsDone(job, epoch):
                return self.master.steps_done(now, job, epoch)
            case StepsFailed(job, epoch, error):
                return self.master.steps_failed(now, job, epoch, error)
            case RecordsConverted(call, done, took_s, felt):
                return self.converter.converted(now, call, done, took_s, felt)
            case TurnStepEnded(order, outcome, note):
                return self.walker.ended(now, order, outcome, note)
            case Probed(call, error):
                return self.prober.looked(now, call, error)
            case _:
                assert_never(event)

    def _command(
        self, now: float, event: Start | InstalledChanged | SetAway | Resign | Stop
    ) -> list[Effect]:
        match event:
            case Start():
                return self.membership.start() + self.prober.begin()
            case InstalledChanged(installed, lowest):
                return self.membership.installed_changed(now, installed, lowest)
            case SetAway(away):
                return self.membership.set_away(now, away)
            case Resign():
                return self.mastership.hand_over(now)
            case Stop(leave):
                return self.mastership.hand_over(now) + self.membership.stop(now, leave)
            case _:
                assert_never(event)

    def _store_replied(self, now: float, event: StoreReplied) -> list[Effect]:
        match event.part:
            case Part.MEMBERSHIP:
                return self.membership.replied(now, event.call, event.reply, event.asked_s)
            case Part.MASTER:
                return self._master_replied(now, event)
            case Part.MASTERSHIP:
                if event.call != self.mastership.round:
                    return []
                effects = self.mastership.claim_replied(now, event.reply)
                if isinstance(event.reply, Unverified):
                    effects += self.membership.doubt(now)
                return effects
            case Part.CONVERSION:
                return self.converter.replied(now, event.call, event.reply)
            case Part.GOSSIP:
                return self.gossip.replied(now, event.reply) if self.gossip is not None else []
            case _:
                assert_never(event.part)

    def _timer(self, now: float, fired: TimerFired) -> list[Effect]:
        if not self.timers.due(fired):
            return []
        match fired.timer:
            case Timer.CONTEND:
                return self.mastership.contend(now)
            case Timer.ROUND:
                return self.mastership.round_over(now)
            case Timer.EXTEND:
                return self.mastership.extend(now)
            case Timer.STEP_DOWN | Timer.LEASE | Timer.TURN:
                return []  # `handle` looks at the clock anyway
            case Timer.HEALTH:
                return self.prober.look()
            case Timer.RETRY_STORE:
                return self.membership.retry(now)
            case Timer.RETRY_SWITCH:
                return self.membership.retry_switch(now)
            case Timer.RENEW_LEASE:
                return self.membership.renew_lease(now)
            case Timer.DECIDE:
                return self.master.decide(now)
            case Timer.CONVERT:
                return self.converter.go_on(now)
            case _:
                return self._gossip_timer(now, fired.timer) if self.gossip is not None else []

    def _heard(self, now: float, event: HeardOn) -> list[Effect]:
        match event.heard:
            case Subscribed():
                if event.members:
                    return self.master.watching(now) if self.master.epoch else []
                return self.membership.heard_subscribed(now)
            case RecordHeard(record):
                self.mastership.epoch_known = max(self.mastership.epoch_known, record.epoch)
                effects = self.membership.heard_record(now, record)
                if self.master.epoch:
                    effects += self.master.heard_record(now, record)
                return effects
            case MemberHeard():
                return self.master.heard_member(now, event.heard) if self.master.epoch else []
            case Beat():
                return self._beat(now, event.heard)
            case Freed():
                return self.mastership.heard_freed(now)
            case ExcludedHeard(node_id, incarnation):
                effects = self.membership.heard_excluded(node_id, incarnation)
                if self.gossip is not None:
                    effects += self.gossip.excluded(now, node_id, incarnation)
                return effects
            case DoubtHeard():
                effects = self.membership.doubt(now)
                if self.master.epoch:
                    effects += self.master.read_again(now)
                return effects
            case _:
                assert_never(event.heard)

    def _beat(self, now: float, beat: Beat) -> list[Effect]:
        effects = self.mastership.heard_beat(now, beat)
        known = self.membership.view
        order = known.record.order if known is not None and known.record is not None else None
        if (beat.revision, beat.record_epoch) != order:
            effects += self.membership.doubt(now)  # something was missed, or the store went back
        if self.master.epoch == beat.epoch:
            effects += self.master.heard_beat(now, beat)
        return effects

    # --- gossip -----------------------------------------------------------------------------------

    def _gossip_timer(
        self,
        now: float,
        timer: Literal[Timer.PROBE, Timer.SUSPICION, Timer.HAND_ON, Timer.SECOND_WAY],
    ) -> list[Effect]:
        assert self.gossip is not None
        match timer:
            case Timer.PROBE:
                snapshot = self.master.snapshot
                met = self.gossip.meet(now, snapshot.members) if snapshot is not None else []
                return self.gossip.probe(now) + met
            case Timer.SUSPICION:
                return self.gossip.suspicion_over(now)
            case Timer.HAND_ON:
                return self.gossip.hand_on(now)
            case Timer.SECOND_WAY:
                return self.gossip.second_way()
            case _:
                assert_never(timer)

    def _follow_membership(self, now: float, gossip: Gossip) -> list[Effect]:
        """Gossip says what this node is, once it was admitted, and which record it obeys."""
        membership = self.membership
        if not membership.registered:
            stopped = membership.state is NodeState.STOPPED
            return gossip.leave(now) if stopped else []
        effects: list[Effect] = []
        config = membership.config
        said = (membership.admitted_as, config, membership.operating, membership.standing)
        if said != self._said:
            self._said = said
            effects += gossip.says(now, self._heartbeat(gossip.config.address))
        record = membership.memory.record
        if record is not None and _replaces(record, gossip.record):
            effects += gossip.obeys(now, record, master=False)
        return effects

    def _heartbeat(self, address: str) -> Heartbeat:
        config = self.membership.config
        return Heartbeat(
            config.id,
            self.membership.admitted_as,
            0,
            config.installed,
            config.lowest,
            address,
            operating=self.membership.operating,
            standing=self.membership.standing,
            zone=config.zone,
            labels=config.labels,
        )

    def _packet(self, now: float, packet: Packet) -> list[Effect]:
        assert self.gossip is not None
        effects = self.gossip.heard(now, packet)
        record = carried(packet, self.gossip.record)
        if record is None:
            return effects
        if not self.membership.obeys(record):  # R24
            if now < self._looked_s + _LOOK_S:
                return effects
            self._looked_s = now
            return effects + self.membership.doubt(now)
        effects += self.gossip.obeys(now, record, master=False)
        effects += self.gossip.passes_on(now, packet)
        return effects + self._heard(now, HeardOn(RecordHeard(record)))

    def _master_replied(self, now: float, event: StoreReplied) -> list[Effect]:
        effects = self.master.replied(now, event.call, event.reply)
        record = event.reply.view.record if isinstance(event.reply, Done) else None
        if self.gossip is None or record is None or not self.membership.obeys(record):
            return effects
        if _replaces(record, self.gossip.record):
            effects += self.gossip.obeys(now, record, master=True)
            effects += self.membership.heard_record(now, record)
        return effects

    @property
    def standing(self) -> Standing | None:
        """What the store was told last; None while not registered."""
        return self.membership.standing if self.membership.registered else None


def _replaces(record: ClusterRecord, known: ClusterRecord | None) -> bool:
    """True for a newer record, and for one of another cluster in this one's place."""
    return known is None or record.generation != known.generation or newer(record, known)
