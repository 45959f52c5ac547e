"""Gossip alone, of very many nodes in virtual time: no store, no faults but loss, cuts and crashes.

All begin knowing each other, so that what is measured is one change and not the beginning.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from peerupgrade.core.effects import Effect, Emit, SetTimer, Tell, Timer, TimerFired
from peerupgrade.core.gossip.machine import Gossip, GossipConfig
from peerupgrade.core.gossip.packets import Heartbeat, Packet
from peerupgrade.core.gossip.roster import Roster
from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.timers import Timers
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.sim.events import Agenda

_DELAY_S = (0.0002, 0.001)


def _beside(everyone: Roster) -> Roster:
    """The same view, with room for changes of its own."""
    return replace(everyone, heartbeats=ChainMap({}, everyone.heartbeats))


@dataclass(slots=True)
class Crowd:
    """The nodes, by name; the name is the address, too.

    Attributes:
        loss: the share of packets that does not arrive.
        dead: who has crashed.
        stopped: who is stopped, until when; what comes meanwhile waits.
        parted: these and the others do not hear each other.
        sent: packets by kind.
        events: what nodes emitted: (time, node, event, detail).
        hears: called for each packet that arrives, with the receiver.
    """

    rng: Random
    loss: float = 0.0
    agenda: Agenda = field(default_factory=Agenda)
    nodes: dict[str, Gossip] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    stopped: dict[str, float] = field(default_factory=dict)
    parted: frozenset[str] = frozenset()
    sent: Counter[str] = field(default_factory=Counter)
    events: list[tuple[float, str, str, str]] = field(default_factory=list)
    hears: Callable[[str, Packet], None] = lambda _name, _packet: None

    def gather(self, count: int, *, interval_s: float = 0.5, probing: bool = True) -> None:
        """Make nodes that know each other.

        Args:
            count: how many.
            interval_s: of their probes.
            probing: False where only the spread of one change matters: it saves most of the work.
                Nobody is forgotten then, so all share one view, and keep their own changes beside
                it: a hundred thousand views of a hundred thousand nodes would fit nowhere.
        """
        version = parse_version("1.0")
        names = [f"n{number:06}" for number in range(count)]
        beats = [Heartbeat(name, 1, 1, version, version, name) for name in names]
        everyone = Roster()
        for beat in beats:
            everyone.hear(beat)
        for beat in beats:
            node = Gossip(GossipConfig(beat.id, interval_s=interval_s), self.rng, Timers())
            node.roster, node.me = everyone.clone() if probing else _beside(everyone), beat
            self.nodes[beat.id] = node
            if probing:
                node.detector.begin(0.0)
                due_s = node.detector.due_s
                assert due_s is not None
                self.carry_out(beat.id, [node.timers.set(Timer.PROBE, due_s)])

    # --- what happens -----------------------------------------------------------------------------

    def install(self, name: str, version: Version) -> None:
        """One node has other software now, and says so."""
        node = self.nodes[name]
        assert node.me is not None
        self.carry_out(name, node.says(self.agenda.now_s, replace(node.me, installed=version)))

    def commit(self, name: str, record: ClusterRecord) -> None:
        """One node is the master, has committed a record, and pub/sub is dead."""
        now_s = self.agenda.now_s
        self.carry_out(name, self.nodes[name].obeys(now_s, record, master=True))

    def run(self, until_s: float, *, done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as it is done."""
        while not done():
            if not self.agenda.step(until_s):
                return done()
        return True

    # --- carrying out -----------------------------------------------------------------------------

    def carry_out(self, name: str, effects: list[Effect]) -> None:
        """What a node decided."""
        for effect in effects:
            match effect:
                case Tell(to, packet):
                    self._tell(name, to, packet)
                case SetTimer():
                    self._set_timer(name, effect)
                case Emit(event, detail):
                    self.events.append((self.agenda.now_s, name, event, detail))
                case _:  # the store is not there
                    pass

    def _tell(self, name: str, to: str, packet: Packet) -> None:
        self.sent[type(packet).__name__] += 1
        if (name in self.parted) != (to in self.parted):
            return
        if self.loss and self.rng.random() < self.loss:
            return
        self.agenda.after(self.rng.uniform(*_DELAY_S), lambda: self._arrive(to, packet))

    def _arrive(self, to: str, packet: Packet) -> None:
        if to in self.dead or to not in self.nodes:
            return
        if self._wait(to, lambda: self._arrive(to, packet)):
            return
        node, now_s = self.nodes[to], self.agenda.now_s
        self.hears(to, packet)
        self.carry_out(to, node.heard(now_s, packet))
        record = getattr(packet, "record", None)
        if record is not None and node.record is None:
            self.carry_out(to, node.obeys(now_s, record, master=False))
            self.carry_out(to, node.passes_on(now_s, packet))

    def _wait(self, name: str, action: Callable[[], None]) -> bool:
        """True if the process is stopped: then it happens when that is over."""
        until_s = self.stopped.get(name, 0.0)
        if self.agenda.now_s >= until_s:
            return False
        self.agenda.at(until_s, action)
        return True

    def _set_timer(self, name: str, effect: SetTimer) -> None:
        node = self.nodes[name]
        fires: dict[Timer, Callable[[], list[Effect]]] = {
            Timer.PROBE: lambda: node.probe(self.agenda.now_s),
            Timer.SUSPICION: lambda: node.suspicion_over(self.agenda.now_s),
            Timer.HAND_ON: lambda: node.hand_on(self.agenda.now_s),
            Timer.SECOND_WAY: node.second_way,
        }

        def fire() -> None:
            if name in self.dead or self._wait(name, fire):
                return
            if node.timers.due(TimerFired(effect.timer, effect.token)):
                self.carry_out(name, fires[effect.timer]())

        self.agenda.at(effect.at_s, fire)
