"""Very many nodes around one store in virtual time: no gossip, no faults but lost messages.

The nodes and the store's rules are the real ones. Every message between them takes a moment, those
of the channels may be lost; what is lost is repaired by what the master says with each extension of
its lease. So what is measured is a raise, and what it costs the store and each node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from peerupgrade.core.effects import (
    CallLock,
    CallStore,
    Drain,
    Drained,
    Effect,
    HeardOn,
    Input,
    InstalledChanged,
    LockReplied,
    Memory,
    Operate,
    Remember,
    Remembered,
    SetTimer,
    Start,
    StoreReplied,
    Switch,
    Switched,
    TimerFired,
    WatchMembers,
)
from peerupgrade.core.membership import NodeConfig
from peerupgrade.core.node import MastershipConfig, Node
from peerupgrade.core.requests import Heard, LockRequest, MemberHeard, Request, Subscribed
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.sim.events import Agenda
from peerupgrade.sim.servers import SimStore

_DELAY_S = (0.0002, 0.001)
_TTL_S = 3.0
_BETWEEN_JOINS_S = 0.0001


@dataclass(slots=True)
class Assembly:
    """The nodes, by name.

    Attributes:
        loss: the share of messages on the channels that does not arrive.
        operated_s: node -> version -> when it first operated at it.
        asked, told: messages to the store and from it, by kind.
        weighs: called with each of them; it may note their size.
    """

    rng: Random
    loss: float = 0.0
    agenda: Agenda = field(default_factory=Agenda)
    store: SimStore = field(default_factory=lambda: SimStore(with_replica=False))
    nodes: dict[str, Node] = field(default_factory=dict)
    watching: set[str] = field(default_factory=set)
    arrives_s: dict[tuple[str, bool], float] = field(default_factory=dict)  # the last, in order
    operated_s: dict[str, dict[Version, float]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    weighs: Callable[[Request | LockRequest | Heard], None] = lambda _message: None

    def gather(self, count: int) -> None:
        """So many nodes that operate at 1.0; the first one is their master."""
        version = parse_version("1.0")
        for number in range(count):
            name = f"n{number:06}"
            config = NodeConfig(id=name, installed=version, lowest=version, quarantine_s=0.0)
            lock = MastershipConfig(servers=1, ttl_s=_TTL_S)
            self.nodes[name] = Node(config, lock, Memory(), self.rng)
            self.operated_s[name] = {}
            self.agenda.at(
                self.agenda.now_s + _BETWEEN_JOINS_S * number + (number > 0) * 1.0,
                partial(self._start, name),
            )
        self.run_until(lambda: self.all_operate(version))

    def upgrade(self, names: Sequence[str], version: Version) -> None:
        """Other software on some nodes."""
        for name in names:
            self._feed(name, InstalledChanged(version, self.nodes[name].config.lowest))

    def all_operate(self, version: Version) -> bool:
        """Whether every node does, by now."""
        return all(version in seen for seen in self.operated_s.values())

    def has_settled(self, version: Version) -> bool:
        """Whether the upgrade to it is over, by the store."""
        record = self.store.state.record
        return record is not None and record.data == version and record.upgrade is None

    def run_until(self, done: Callable[[], bool], *, within_s: float = 600.0) -> None:
        """Let time pass.

        Raises:
            RuntimeError: it is not done by then.
        """
        until_s = self.agenda.now_s + within_s
        while not done():
            next_s = self.agenda.now_s + _DELAY_S[1]
            if next_s > until_s:
                raise RuntimeError(f"not reached within {within_s} virtual seconds")
            while self.agenda.step(next_s):
                pass

    # --- what nodes do ----------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        self._feed(name, Start())
        self._feed(name, HeardOn(Subscribed()))

    def _feed(self, name: str, event: Input) -> None:
        for effect in self.nodes[name].handle(self.agenda.now_s, event):
            self._carry_out(name, effect)

    def _soon(self, name: str, event: Input) -> None:
        self.agenda.after(self.rng.uniform(*_DELAY_S), partial(self._feed, name, event))

    def _carry_out(self, name: str, effect: Effect) -> None:
        match effect:
            case CallStore() | CallLock():
                arrives = partial(self._reaches, name, effect, self.agenda.now_s)
                self.agenda.after(self.rng.uniform(*_DELAY_S), arrives)
            case SetTimer(timer, at_s, token):
                self.agenda.at(at_s, partial(self._feed, name, TimerFired(timer, token)))
            case WatchMembers(on):
                (self.watching.add if on else self.watching.discard)(name)
                if on:
                    self._soon(name, HeardOn(Subscribed(), members=True))
            case Remember(memory):
                self._soon(name, Remembered(memory))
            case Switch(_, _, attempt):
                self._soon(name, Switched(attempt))
            case Drain(_, attempt):
                self._soon(name, Drained(attempt))
            case Operate(version, _) if version is not None:
                self.operated_s[name].setdefault(version, self.agenda.now_s)
            case _:  # nobody gossips, and the programs have nothing of their own
                pass

    # --- what the store does ----------------------------------------------------------------------

    def _reaches(self, name: str, effect: CallStore | CallLock, asked_s: float) -> None:
        self.asked[type(effect.request).__name__] += 1
        self.weighs(effect.request)
        now_s = self.agenda.now_s
        if isinstance(effect, CallLock):
            vote, heard = self.store.execute_lock(effect.request, now_s)
            self._soon(name, LockReplied(effect.server, effect.round, vote))
        else:
            reply, heard = self.store.execute(effect.request, now_s)
            self._soon(name, StoreReplied(effect.part, effect.call, reply, asked_s))
        for message in heard:
            self._publish(message)

    def _publish(self, message: Heard) -> None:
        members = isinstance(message, MemberHeard)
        for name in self.watching if members else self.nodes:
            self.told[type(message).__name__] += 1
            self.weighs(message)
            if not self.loss or self.rng.random() >= self.loss:
                self._hears(name, message, members=members)

    def _hears(self, name: str, message: Heard, *, members: bool) -> None:
        """One connection brings its messages in order."""
        soon_s = self.agenda.now_s + self.rng.uniform(*_DELAY_S)
        at_s = max(soon_s, self.arrives_s.get((name, members), 0.0))
        self.arrives_s[name, members] = at_s
        self.agenda.at(at_s, partial(self._feed, name, HeardOn(message, members=members)))
