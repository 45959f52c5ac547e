"""The gossip of one node: it hears packets and timers, and answers with packets.

Theory of operation: nothing here decides anything about the cluster. What it learns is shown to
people (`roster`, events), and a record that was committed is handed to the node, which obeys it by
the same rules as one from the store.

A record takes this way only when it must. Whoever committed it waits until pub/sub has had its
time, and then tells a few relays: those that know it already stay silent, and that was all; those
that do not tell everyone else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from peerupgrade.core.chance import Rng
from peerupgrade.core.effects import CallStore, Effect, Emit, Part, Tell, Timer
from peerupgrade.core.gossip.detector import HELPERS, Detector, Verdict
from peerupgrade.core.gossip.packets import (
    Ack,
    Condition,
    Digest,
    Heartbeat,
    Packet,
    Ping,
    PingFor,
    Spread,
    Table,
)
from peerupgrade.core.gossip.roster import Others, Roster, is_present
from peerupgrade.core.gossip.spreading import DIRECT_MAX, Queue, relays
from peerupgrade.core.record import ClusterRecord, Member, newer
from peerupgrade.core.requests import Reply, Seeds, SeedsFound
from peerupgrade.core.timers import Timers

FANOUT = 3
_TICK_S = 0.02  # between two rounds of handing on, while there is something to hand on
_QUIET_S = 0.3  # so long after the last news two nodes may still differ because it is under way
_SEEK_S = 2.0
_MEET_S = 60.0  # so often a master looks for members that its gossip does not know
_MEET_MAX = 6  # of them at a time: each tells whom it knows
_SECOND_WAY_S, _SECOND_WAY_EACH_S = 0.003, 0.00003  # what pub/sub needs, and for each subscriber
_RECONNECT_EVERY = 10  # probes
_FORGET_S = 60.0  # who has gone is shown so long
_RELAYED_MAX = 64  # probes of others that we take part in at a time
_OWN_MAX = 2**32  # numbers of our own probes are not higher, those that we relay are


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """How a node gossips.

    Attributes:
        address: where it is reached, `host:port`; "": it does not gossip.
        join: where to look for others besides the store.
        interval_s: from one probe to the next; all other times follow from it.
    """

    address: str = ""
    join: tuple[str, ...] = ()
    interval_s: float = 0.5


@dataclass(slots=True)
class Gossip:
    """The machine. `me`: what this node says of itself; None before it was ever admitted."""

    config: GossipConfig
    rng: Rng
    timers: Timers
    roster: Roster = field(default_factory=Roster)
    detector: Detector = field(init=False)
    me: Heartbeat | None = None
    record: ClusterRecord | None = None  # the newest that the node obeys
    condition_changes: int = 0  # how often the condition of any node has changed
    _queue: Queue = field(default_factory=Queue)
    _record_s: float = 0.0  # since when
    _changed_s: float = 0.0  # the roster, last
    _exchange_s: float = 0.0  # when tables may be exchanged again
    _seek_s: float = 0.0
    _meet_s: float = 0.0
    _seeking: bool = False
    _introduced: bool = False  # somebody has told us everything
    _ticking: bool = False
    _probes: int = 0
    _relayed_last: int = _OWN_MAX
    _relayed: dict[int, tuple[str, int]] = field(default_factory=dict)  # for whom we ping
    _gone_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.detector = Detector(self.config.interval_s, self.rng)

    # --- this node --------------------------------------------------------------------------------

    def says(self, now: float, said: Heartbeat) -> list[Effect]:
        """This node has something new to say of itself. `said.number` is left to us."""
        before, first = self.me, self.me is None
        anew = before is None or before.incarnation != said.incarnation
        number = before.number + 1 if before and not anew else 1
        self.me = replace(said, number=number)
        self.roster.hear(self.me)
        self._changed_s = now
        self._queue.add(self.me.id)
        effects = self._tick(now)
        if before is not None and _urgent(before, self.me):
            effects += [*self._tell_all(news=(self.me,)), *_installed(before, self.me)]
        if anew:  # others may have been admitted that did not find us
            self._seeking, self._seek_s = True, now
            effects += self._seek(now)
        if first:
            self.detector.begin(now)
            effects += self._probe_timer()
        return effects

    def leave(self, now: float) -> list[Effect]:
        """This node ends."""
        if self.me is None or self.me.condition is Condition.LEFT:
            return []
        self.me = replace(self.me, number=self.me.number + 1, condition=Condition.LEFT)
        told = self._tell_all(news=(self.me,))
        self.roster.hear(self.me)
        for timer in (Timer.PROBE, Timer.SUSPICION, Timer.HAND_ON, Timer.SECOND_WAY):
            self.timers.cancel(timer)
        return told

    def excluded(self, now: float, node_id: str, incarnation: int) -> list[Effect]:
        """The store has removed a node, so nobody waits for it; one that lives contradicts."""
        known = self.roster.heartbeats.get(node_id)
        if self.me is None or known is None or node_id == self.me.id:
            return []
        if known.incarnation > incarnation:
            return []  # it has come back since
        gone = replace(known, condition=Condition.LEFT, by=self._id)
        return self._learn(now, (gone,), spreads=True)

    def obeys(self, now: float, record: ClusterRecord, *, master: bool) -> list[Effect]:
        """The node obeys a newer record, from wherever it has it; `master`: from its own commit."""
        self.record, self._record_s = record, now
        if not master or self.me is None:
            return []
        wait_s = _SECOND_WAY_S + _SECOND_WAY_EACH_S * len(self.roster.present)
        return [self.timers.set(Timer.SECOND_WAY, now + wait_s)]

    def passes_on(self, now: float, packet: Packet) -> list[Effect]:
        """The record in a packet was new, and is obeyed: others will not have it either."""
        if not isinstance(packet, Spread) or packet.record is None or self.me is None:
            return []
        self._queue.add_record(packet.record)
        return [*self._tell(self._below(packet.until), (), packet.record), *self._tick(now)]

    # --- inputs -----------------------------------------------------------------------------------

    def heard(self, now: float, packet: Packet) -> list[Effect]:
        """A packet came."""
        if self.me is None or self.me.condition is Condition.LEFT or packet.sender == self.me.id:
            return []
        effects = self._take_in(now, packet)
        if packet.sender in self.roster.heartbeats:
            self.detector.heard(now, packet.sender)
        match packet:
            case Ping():
                effects += self._pinged(now, packet)
            case PingFor():
                effects += self._asked_to_ping(packet)
            case Ack():
                effects += self._acknowledged(now, packet)
            case Spread():
                if packet.news:
                    effects += self._tell(self._below(packet.until), packet.news, None)
            case Table():
                if packet.answer:
                    effects.append(Tell(packet.answer, self._table()))
            case _:
                assert_never(packet)
        return effects

    def replied(self, now: float, reply: Reply) -> list[Effect]:
        """The store named somebody to begin with."""
        if self.me is None:
            return []
        found = reply.addresses if isinstance(reply, SeedsFound) else None
        if found == () and not self.config.join:
            self._seeking = False  # whoever comes later will find us
        self._seek_s = now + _SEEK_S
        return self._introduce((*self.config.join, *(found or ())))

    def meet(self, now: float, members: Mapping[str, Member]) -> list[Effect]:
        """Whom the store has as members: those that were never heard of are told of us.

        Only a master knows that without asking. So gossip that was parted becomes one again, as
        does that of nodes that found nobody when they joined, and nobody asks the store for it.
        """
        if self.me is None or now < self._meet_s:
            return []
        self._meet_s = now + _MEET_S
        known = self.roster.heartbeats
        unmet = {m.id: m.gossip for m in members.values() if m.gossip and m.id not in known}
        drawn = self._draw(tuple(unmet), _MEET_MAX)
        return self._introduce(tuple(unmet[one] for one in drawn))

    def probe(self, now: float) -> list[Effect]:
        """The timer of the detector."""
        effects: list[Effect] = []
        others = self._others
        found = self.detector.proceed(now, others)
        if found is not None and found[1] is Verdict.SUSPECT:
            effects += self._suspect(now, found[0])
            found = self.detector.proceed(now, others)
        if found is not None:
            effects += self._ask(*found)
        self._probes += 1
        if self._probes % _RECONNECT_EVERY == 0:
            effects += self._reconnect()
        self._forget(now)
        return [*effects, *self._seek(now), *self._probe_timer()]

    def suspicion_over(self, now: float) -> list[Effect]:
        """The timer of the suspicions."""
        return self._give_up(now)

    def second_way(self) -> list[Effect]:
        """Pub/sub has had its time."""
        return self._tell(relays(self._others), (), self.record)

    def hand_on(self, now: float) -> list[Effect]:
        """The timer of what is to be handed on."""
        self._ticking = False
        others = self._others
        if not others:
            self._queue = Queue()  # whoever comes is told everything
            return []
        receivers = self._draw(others, FANOUT)
        ids, record = self._queue.take(len(receivers))
        packet = Spread(self._id, self._digest, self._heartbeats(ids), record)
        return [*self._send(receivers, packet), *self._tick(now)]

    # --- packets ----------------------------------------------------------------------------------

    def _pinged(self, now: float, ping: Ping) -> list[Effect]:
        if ping.target != self._id:
            return []  # another node had this address before us
        ack = Ack(self._id, self._digest, ping.sequence, self._id, self._riding())
        effects: list[Effect] = [Tell(ping.address, ack)]
        known = self.roster.heartbeats.get(ping.sender)
        if known is not None and known.by:  # it lives, and does not know what we believe
            effects.append(Tell(ping.address, Spread(self._id, self._digest, (known,))))
        return [*effects, *self._compare(now, ping, ping.address)]

    def _asked_to_ping(self, asked: PingFor) -> list[Effect]:
        while len(self._relayed) >= _RELAYED_MAX:
            del self._relayed[next(iter(self._relayed))]
        self._relayed_last += 1
        self._relayed[self._relayed_last] = (asked.address, asked.sequence)
        ping = Ping(self._id, self._digest, self._relayed_last, asked.target, self.config.address)
        return [Tell(asked.target_address, ping)]

    def _acknowledged(self, now: float, ack: Ack) -> list[Effect]:
        if ack.sequence > _OWN_MAX:
            asked = self._relayed.pop(ack.sequence, None)
            if asked is None:
                return []
            address, sequence = asked
            return [Tell(address, Ack(self._id, self._digest, sequence, ack.target))]
        self.detector.answered(now, ack.target, ack.sequence)
        known = self.roster.heartbeats.get(ack.sender)
        effects = self._compare(now, ack, known.address) if known is not None else []
        return [*effects, *self._probe_timer()]

    def _compare(self, now: float, packet: Ping | Ack, address: str) -> list[Effect]:
        """The tick that repairs: whoever knows more tells."""
        theirs, record = packet.digest, self.record
        effects: list[Effect] = []
        if record is not None and now >= self._record_s + _QUIET_S:
            behind = (theirs.revision, theirs.epoch) < record.order
            if theirs.generation == record.generation and behind:
                effects.append(Tell(address, Spread(self._id, self._digest, record=record)))
        settled = now >= max(self._changed_s + _QUIET_S, self._exchange_s) and not self._queue
        if settled and theirs.table != self.roster.digest:
            self._exchange_s = now + self.config.interval_s
            effects.append(Tell(address, self._table(answer=self.config.address)))
        return effects

    def _take_in(self, now: float, packet: Packet) -> list[Effect]:
        """The news in a packet."""
        if isinstance(packet, Table):
            spreads = self._introduced or bool(packet.answer)  # all is new to a newcomer
            self._introduced, self._seeking = True, False
            return self._learn(now, packet.heartbeats, spreads=spreads, sender=packet.sender)
        if isinstance(packet, Ack) and packet.target != packet.sender:
            return []
        return self._learn(now, packet.news, spreads=True, sender=packet.sender)

    def _learn(
        self, now: float, news: Iterable[Heartbeat], *, spreads: bool, sender: str = ""
    ) -> list[Effect]:
        effects: list[Effect] = []
        for heartbeat in news:
            if heartbeat.id == self._id:
                effects += self._contradict(now, heartbeat)
                continue
            known = self.roster.heartbeats.get(heartbeat.id)
            if known and heartbeat.id == sender and _is_forgotten(known, heartbeat):
                self.roster.forget(sender)
            if not self.roster.hear(heartbeat):
                continue
            self._changed_s = now
            before = known.condition if known is not None else Condition.ALIVE
            self.condition_changes += before is not heartbeat.condition
            self._judge(now, heartbeat)
            if spreads:
                self._queue.add(heartbeat.id)
                effects += _events(known, heartbeat)
        return [*effects, *self._tick(now), *self._suspicion_timer()]

    def _judge(self, now: float, heartbeat: Heartbeat) -> None:
        """What a heartbeat means for the detector."""
        if heartbeat.condition is Condition.SUSPECT:
            self.detector.suspect(now, heartbeat.id, len(self.roster.present))
        elif is_present(heartbeat):
            self.detector.trust(heartbeat.id)
            self._gone_s.pop(heartbeat.id, None)
        else:
            self.detector.trust(heartbeat.id)  # when it was heard last is still of interest
            self._gone_s[heartbeat.id] = now

    def _contradict(self, now: float, heard: Heartbeat) -> list[Effect]:
        """Somebody has another opinion of this node."""
        assert self.me is not None
        if heard.incarnation != self.me.incarnation or heard == self.me:
            return []
        older = heard.number < self.me.number
        if older or (heard.number == self.me.number and heard.condition is Condition.ALIVE):
            return []
        if heard.condition is not Condition.ALIVE:
            self.detector.contradicted()
        self.me = replace(self.me, number=heard.number + 1)
        self.roster.hear(self.me)
        self._queue.add(self.me.id)
        self._changed_s = now
        return self._tell_all(news=(self.me,))

    # --- who does not answer ----------------------------------------------------------------------

    def _ask(self, target: str, verdict: Verdict) -> list[Effect]:
        known = self.roster.heartbeats[target]
        news = (known,) if known.condition is Condition.SUSPECT else self._riding()
        sequence = self.detector.sequence
        ping = Ping(self._id, self._digest, sequence, target, self.config.address, news)
        effects: list[Effect] = [Tell(known.address, ping)]
        if verdict is Verdict.HELP:
            others = tuple(one for one in self._others if one != target)
            here = self.config.address
            asking = PingFor(self._id, self._digest, sequence, target, known.address, here)
            effects += self._send(self._draw(others, HELPERS), asking)
        return effects

    def _suspect(self, now: float, target: str) -> list[Effect]:
        known = self.roster.heartbeats[target]
        if known.condition is not Condition.ALIVE:
            return []
        suspect = replace(known, condition=Condition.SUSPECT, by=self._id)
        told = Spread(self._id, self._digest, (suspect,))  # it hears of it first
        return [*self._learn(now, (suspect,), spreads=True), Tell(known.address, told)]

    def _give_up(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for target in self.detector.failed(now):
            failed = replace(
                self.roster.heartbeats[target], condition=Condition.FAILED, by=self._id
            )
            effects += self._learn(now, (failed,), spreads=True)
        return [*effects, *self._suspicion_timer(), *self._probe_timer()]

    def _reconnect(self) -> list[Effect]:
        """A node that was given up may be there again, on the other side of what parted us."""
        failed = tuple(
            one.id for one in self.roster.heartbeats.values() if one.condition is Condition.FAILED
        )
        effects: list[Effect] = []
        for target in self._draw(failed, 1):
            known = self.roster.heartbeats[target]
            news = (known,)  # what it will contradict
            ping = Ping(self._id, self._digest, 0, target, self.config.address, news)
            effects.append(Tell(known.address, ping))
        return effects

    def _forget(self, now: float) -> None:
        for node_id in [one for one, since_s in self._gone_s.items() if now > since_s + _FORGET_S]:
            if self.roster.heartbeats[node_id].condition is Condition.LEFT:
                del self._gone_s[node_id]
                self.roster.forget(node_id)
                self.detector.forget(node_id)

    def _probe_timer(self) -> list[Effect]:
        due_s = self.detector.due_s
        return [] if due_s is None else [self.timers.set(Timer.PROBE, due_s)]

    def _suspicion_timer(self) -> list[Effect]:
        next_s = self.detector.next_failure_s
        return [] if next_s is None else [self.timers.set(Timer.SUSPICION, next_s)]

    # --- finding others ---------------------------------------------------------------------------

    def _seek(self, now: float) -> list[Effect]:
        if not self._seeking or now < self._seek_s:
            return []
        self._seek_s = now + _SEEK_S
        return [CallStore(Part.GOSSIP, Seeds(self._id, self.rng.getrandbits(32)), 0)]

    def _introduce(self, addresses: tuple[str, ...]) -> list[Effect]:
        table = self._table(answer=self.config.address)
        places = [one for one in addresses if one != self.config.address]
        return [Tell(place, table) for place in dict.fromkeys(places)]

    # --- telling ----------------------------------------------------------------------------------

    @property
    def _id(self) -> str:
        assert self.me is not None
        return self.me.id

    @property
    def _others(self) -> Others:
        return self.roster.others(self._id)

    @property
    def _digest(self) -> Digest:
        record = self.record
        if record is None:
            return Digest(table=self.roster.digest)
        return Digest(record.generation, record.revision, record.epoch, self.roster.digest)

    def _table(self, answer: str = "") -> Table:
        present = self._heartbeats(self.roster.present)
        return Table(self._id, self._digest, present, self.record, answer)

    def _heartbeats(self, ids: Iterable[str]) -> tuple[Heartbeat, ...]:
        known = self.roster.heartbeats
        return tuple(known[one] for one in ids if one in known)

    def _riding(self) -> tuple[Heartbeat, ...]:
        """News on a packet that goes anyway."""
        if not self._queue:
            return ()
        ids = self._queue.first()
        self._queue.told(ids)
        return self._heartbeats(ids)

    def _tick(self, now: float) -> list[Effect]:
        if self._ticking or not self._queue:
            return []
        self._ticking = True
        return [self.timers.set(Timer.HAND_ON, now + self.rng.uniform(0.5, 1.0) * _TICK_S)]

    def _draw(self, ids: Sequence[str], count: int) -> list[str]:
        """Some of them, each at most once."""
        drawn: dict[str, None] = {}
        while len(drawn) < min(count, len(ids)):
            drawn[ids[self.rng.getrandbits(32) % len(ids)]] = None
        return list(drawn)

    def _send(self, receivers: Iterable[str], packet: Packet) -> list[Effect]:
        known = self.roster.heartbeats
        return [Tell(known[one].address, packet) for one in receivers]

    def _tell_all(self, news: tuple[Heartbeat, ...]) -> list[Effect]:
        others = self._others
        if len(others) <= DIRECT_MAX:
            return self._send(others, Spread(self._id, self._digest, news))
        return self._tell(relays(others), news, None)

    def _below(self, until: str) -> list[tuple[str, str]]:
        """The part of the cluster that the sender of a packet leaves to us."""
        return relays(self.roster.after(self._id, until)) if until and until != self._id else []

    def _tell(
        self,
        parts: Iterable[tuple[str, str]],
        news: tuple[Heartbeat, ...],
        record: ClusterRecord | None,
    ) -> list[Effect]:
        known = self.roster.heartbeats
        return [
            Tell(known[relay].address, Spread(self._id, self._digest, news, record, until))
            for relay, until in parts
        ]


def carried(packet: Packet, known: ClusterRecord | None) -> ClusterRecord | None:
    """The record in a packet, if it may be newer than the one that is known."""
    record = packet.record if isinstance(packet, Spread | Table) else None
    if record is None or known is None or record.generation != known.generation:
        return None
    return record if newer(record, known) else None


def _is_forgotten(known: Heartbeat, said: Heartbeat) -> bool:
    """A later start has gone, and the node speaks: the store has forgotten that later one."""
    return not is_present(known) and said.incarnation < known.incarnation


def _urgent(before: Heartbeat, after: Heartbeat) -> bool:
    """Everyone must know at once, but for what all change at the same moment."""
    return replace(before, number=0, operating=None) != replace(after, number=0, operating=None)


def _events(before: Heartbeat | None, after: Heartbeat) -> list[Effect]:
    """What people see."""
    name, installed = after.id, f"installed {after.installed}"
    if before is None:
        return [Emit("node joined", f"{name}, {installed}")]
    restarted = after.incarnation != before.incarnation
    if restarted and after.condition is Condition.ALIVE:
        return [Emit("node restarted", f"{name}, {installed}")]
    changed = [] if after.condition is before.condition else [Emit(*_change(after))]
    return [*changed, *_installed(before, after)]


def _installed(before: Heartbeat, after: Heartbeat) -> list[Effect]:
    """Other software on a node."""
    if after.installed == before.installed:
        return []
    what = f"{after.id}: {after.installed}, was {before.installed}"
    return [Emit("node installed", what)]


def _change(after: Heartbeat) -> tuple[str, str]:
    match after.condition:
        case Condition.SUSPECT:
            return "node suspected", f"{after.id} does not answer, says {after.by}"
        case Condition.FAILED:
            return "node failed", f"{after.id} was given up by {after.by}"
        case Condition.LEFT:
            return "node left", after.id
        case Condition.ALIVE:
            return "node recovered", after.id
        case _:
            assert_never(after.condition)
