"""Who does not answer any more.

Theory of operation: in each interval a node pings one other. If no answer comes in time it asks a
few others to try, and tries again itself; if none of that helps, the node is suspected. The suspect
hears of it and has a while to contradict; then it has failed. Whoever is slow itself accuses
nobody: timers that fire late, different nodes that do not answer one after the other, and
accusations that this node had to contradict all make it more patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from math import gcd, log2

from peerupgrade.core.chance import Rng

HELPERS = 3
_ANSWER = 0.4  # of an interval: so long a first answer may take
_SUSPICION = 1.6  # intervals, in a cluster of up to eight nodes
_LATE = 0.25  # of an interval: a timer that fires later than this means that we were slow
_HEALTH_MAX = 4
_EARLY_S = 0.001  # a timer may fire a moment before its time
_RTT_SHARE = 0.2  # of each new measurement in the average


class Verdict(Enum):
    """What is to be done about the node that is being probed."""

    ASK = auto()  # ping it
    HELP = auto()  # ping it again, and ask others to
    SUSPECT = auto()  # it did not answer


@dataclass(slots=True)
class Contact:
    """When a node was heard, and how long its answers take; None: never measured."""

    heard_s: float
    rtt_s: float | None = None


@dataclass(slots=True)
class _Probe:
    target: str
    sequence: int
    sent_s: float
    helped: bool = False


@dataclass(slots=True)
class Detector:
    """The machine.

    Attributes:
        interval_s: from one probe to the next.
        health: 0 when all is well; each step more makes this node slower to accuse.
    """

    interval_s: float
    rng: Rng
    health: int = 0
    contacts: dict[str, Contact] = field(default_factory=dict)
    _probe: _Probe | None = None
    _sequence: int = 0
    _at: int = 0
    _stride: int = 0
    _due_s: float | None = None  # when the timer was to fire
    _missed: str = ""  # the last node that did not answer, if none has answered since
    _suspects: dict[str, float] = field(default_factory=dict)  # id -> when it has failed

    # --- probing ----------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """Of the probe under way."""
        return self._sequence

    @property
    def due_s(self) -> float | None:
        """When `proceed` is to be called next; None: as soon as there is somebody to probe."""
        return self._due_s

    def begin(self, now: float) -> None:
        """The first probe, some time within an interval."""
        self._due_s = now + self.rng.uniform(0.0, self.interval_s)

    def proceed(self, now: float, others: Sequence[str]) -> tuple[str, Verdict] | None:
        """The timer fired.

        Args:
            now: in seconds.
            others: everybody else who is there, beginning with our neighbour.

        Returns:
            Whom it is about, and what is to be done; None: nobody is there, look again later.
        """
        self._catch_up(now)
        probe = self._probe
        if probe is None or probe.target not in others:
            return self._next(now, others)
        if not probe.helped:
            probe.helped = True
            self._due_s = max(now, probe.sent_s + self.interval_s) + self._patience_s
            return probe.target, Verdict.HELP
        self._probe, self._due_s = None, now
        if self._missed not in ("", probe.target):
            self._worse()  # two nodes in a row: it may be us
        self._missed = probe.target
        return probe.target, Verdict.SUSPECT

    def answered(self, now: float, target: str, sequence: int) -> None:
        """An `Ack` came."""
        probe = self._probe
        if probe is None or (probe.target, probe.sequence) != (target, sequence):
            return
        contact = self.contacts.get(target)
        if contact and not probe.helped:  # else it is not known which of the pings it answers
            took_s, known_s = now - probe.sent_s, contact.rtt_s
            contact.rtt_s = took_s if known_s is None else known_s + _RTT_SHARE * (took_s - known_s)
        self._probe, self._missed = None, ""
        self._due_s = max(now, probe.sent_s + self.interval_s)
        self.health = max(0, self.health - 1)

    def heard(self, now: float, node_id: str) -> None:
        """A packet of that node came."""
        contact = self.contacts.get(node_id)
        if contact is None:
            self.contacts[node_id] = Contact(now)
        else:
            contact.heard_s = now

    def forget(self, node_id: str) -> None:
        """The node is not there any more."""
        self.contacts.pop(node_id, None)
        self._suspects.pop(node_id, None)

    def contradicted(self) -> None:
        """This node was suspected: it answers late."""
        self._worse()

    def _next(self, now: float, others: Sequence[str]) -> tuple[str, Verdict] | None:
        self._probe, self._due_s = None, now + self.interval_s
        if not others:
            return None
        target = self._in_turn(others)
        self._sequence += 1
        self._probe = _Probe(target, self._sequence, now)
        self._due_s = now + _ANSWER * self.interval_s + self._patience_s
        return target, Verdict.ASK

    def _in_turn(self, others: Sequence[str]) -> str:
        """Every second time our neighbour, else all of them, in an order of our own.

        So nobody waits longer than two intervals for somebody to look, however large the cluster.
        """
        if self._sequence % 2:
            return others[0]
        count = len(others)
        if self._stride == 0 or gcd(self._stride, count) != 1:
            self._stride = self.rng.getrandbits(32) % count
            while gcd(self._stride, count) != 1:
                self._stride = (self._stride + 1) % count if count > 1 else 1
        self._at = (self._at + self._stride) % count
        return others[self._at]

    @property
    def _patience_s(self) -> float:
        return self.health * _ANSWER * self.interval_s

    def _worse(self) -> None:
        self.health = min(_HEALTH_MAX, self.health + 1)

    def _catch_up(self, now: float) -> None:
        """If we were slow, answers may lie unread: nobody is judged by what we have not heard."""
        if self._due_s is None or now <= self._due_s + _LATE * self.interval_s:
            return
        self._worse()
        late_s = now - self._due_s
        for node_id in self._suspects:
            self._suspects[node_id] += late_s
        self._probe, self._due_s = None, now

    # --- suspicion --------------------------------------------------------------------------------

    def suspect(self, now: float, node_id: str, nodes: int) -> None:
        """Give the node its time to contradict; `nodes`: the size of the cluster."""
        grown = max(1.0, log2(nodes) / 3.0) if nodes > 0 else 1.0
        length_s = _SUSPICION * self.interval_s * grown + self._patience_s
        self._suspects.setdefault(node_id, now + length_s)

    def trust(self, node_id: str) -> None:
        """It has contradicted, or is gone."""
        self._suspects.pop(node_id, None)

    def failed(self, now: float) -> list[str]:
        """Those whose time is over, each told once."""
        self._catch_up(now)
        over = [node_id for node_id, until_s in self._suspects.items() if until_s <= now + _EARLY_S]
        for node_id in over:
            del self._suspects[node_id]
        return over

    @property
    def next_failure_s(self) -> float | None:
        """When the first suspicion ends."""
        return min(self._suspects.values(), default=None)
