"""What is between the nodes and the servers: loss, delay, duplication, reordering, partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, TypeVar

from peerupgrade.core.effects import (
    CallLock,
    CallStore,
    HeardOn,
    LockReplied,
    PacketHeard,
    StoreReplied,
    Tell,
)
from peerupgrade.core.requests import (
    Failed,
    Heard,
    LockReply,
    MemberHeard,
    Reply,
    Request,
    Subscribed,
)

if TYPE_CHECKING:
    from peerupgrade.sim.servers import SimLockServer, SimStore
    from peerupgrade.sim.world import Machine, World

_T = TypeVar("_T")

STORE_TIMEOUT_S = 1.0
LOCK_TIMEOUT_S = 0.25
_RECONNECT_S = 0.2
CALM_DELAY_S = (0.0005, 0.003)


@dataclass(slots=True)
class Link:
    """One machine's connections. Requests and answers can be cut apart from each other."""

    requests_cut: bool = False  # nothing reaches the store and its lock
    answers_cut: bool = False  # nothing comes back, pub/sub neither
    locks_cut: bool = False  # the further lock servers cannot be reached
    bus_cut: bool = False  # only pub/sub is silent
    bus_reorders: bool = False
    delay_s: float = 0.0  # on top of everybody's
    mute: bool = False  # nothing that it says reaches other nodes
    deaf: bool = False  # it hears nothing of what other nodes say
    abandoned: SimStore | None = None  # it still talks to this old primary
    cut_until_s: float = 0.0  # when it was last cut off
    bus_free_s: float = 0.0  # pub/sub messages arrive in order

    @property
    def cut(self) -> bool:
        """True while nothing can be agreed on with the store."""
        return self.requests_cut or self.answers_cut or self.abandoned is not None


@dataclass(slots=True)
class Network:
    """Carries requests, answers and messages between the machines of a world and its servers."""

    world: World
    rng: Random
    loss: float = 0.0
    duplication: float = 0.0
    delay_s: tuple[float, float] = CALM_DELAY_S
    parted: frozenset[str] = frozenset()  # these machines and the others do not hear each other
    _uniform: Callable[[float, float], float] = field(init=False)

    def __post_init__(self) -> None:
        self._uniform = self.rng.uniform

    def calm(self) -> None:
        """Nothing is lost any more, and everything arrives soon."""
        self.loss = self.duplication = 0.0
        self.parted = frozenset()
        self.delay_s = CALM_DELAY_S

    def delay(self, machine: Machine) -> float:
        """How long one message to or from a machine takes."""
        return self._uniform(*self.delay_s) + machine.link.delay_s

    def _lost(self) -> bool:
        return self.loss > 0 and self.rng.random() < self.loss

    def _store_of(self, machine: Machine) -> SimStore:
        return machine.link.abandoned or self.world.store

    # --- requests ---------------------------------------------------------------------------------

    def call_store(self, machine: Machine, call: CallStore) -> None:
        """Send a request; it arrives although the sender may have died meanwhile."""
        asked_s = self.world.clock_s(machine)

        def answered(reply: Reply) -> None:
            result = StoreReplied(call.part, call.call, reply, asked_s)
            self.world.conclude(machine, call, result)

        self.ask_store(machine, call.request, answered)

    def ask_store(
        self, machine: Machine, request: Request, answered: Callable[[Reply], None]
    ) -> None:
        """The same for whoever asks. A time-out is an answer, too."""
        link, store = machine.link, self._store_of(machine)
        answer, process = _once(machine, answered), store.process

        def arrive() -> None:
            if not store.up:
                return
            reply = self.world.do(request, machine.name, store)
            if not link.answers_cut and not self._lost():
                self.world.agenda.after(self.delay(machine), partial(answer, reply))

        def arrive_again() -> None:
            if store.process == process:  # what is repeated on a connection ends with that
                arrive()

        self._send(machine, arrive, arrive_again)
        self.world.agenda.after(STORE_TIMEOUT_S, partial(answer, Failed("timed out")))

    def call_lock(self, machine: Machine, call: CallLock) -> None:
        """The same for a lock server."""
        link = machine.link
        store = self._store_of(machine) if call.server == 0 else None
        server: SimStore | SimLockServer = store or self.world.locks[call.server - 1]

        def answered(reply: LockReply) -> None:
            self.world.conclude(machine, call, LockReplied(call.server, call.round, reply))

        answer = _once(machine, answered)

        def arrive() -> None:
            if not server.up:
                return
            reply, heard = server.execute_lock(call.request, self.world.agenda.now_s)
            if store is not None:
                self.publish(heard, store)
            if not (store and link.answers_cut) and not self._lost():
                self.world.agenda.after(self.delay(machine), partial(answer, reply))

        if store is not None or not link.locks_cut:
            self._send(machine, arrive, arrive, to_store=store is not None)
        timed_out = LockReply(granted=False, answered=False)
        self.world.agenda.after(LOCK_TIMEOUT_S, partial(answer, timed_out))

    def _send(
        self,
        machine: Machine,
        arrive: Callable[[], None],
        arrive_again: Callable[[], None],
        *,
        to_store: bool = True,
    ) -> None:
        cut = to_store and machine.link.requests_cut
        if not cut and not self._lost():
            self.world.agenda.after(self.delay(machine), arrive)
        if self.duplication and self.rng.random() < self.duplication:
            self.world.agenda.after(self.delay(machine) * 20, arrive_again)

    # --- between nodes ----------------------------------------------------------------------------

    def tell(self, machine: Machine, tell: Tell) -> None:
        """Carry a packet of gossip."""
        place = tell.to
        parted = (machine.place in self.parted) != (place in self.parted)
        if machine.link.mute or parted or self._lost():
            return

        def arrive() -> None:
            receiver = self.world.machines.get(place)
            if receiver is not None and not receiver.link.deaf:
                self.world.feed(receiver, PacketHeard(tell.packet))

        self.world.agenda.after(self.delay(machine), arrive)
        if self.duplication and self.rng.random() < self.duplication:
            self.world.agenda.after(self.delay(machine) * 20, arrive)

    # --- pub/sub ----------------------------------------------------------------------------------

    def publish(self, heard: Sequence[Heard], store: SimStore) -> None:
        """Tell everyone who listens to that server."""
        for message in heard:
            members = isinstance(message, MemberHeard)
            event = HeardOn(message, members=members)
            for machine in self.world.machines.values():
                link = machine.link
                if machine.node is None or (members and not machine.watching):
                    continue
                if link.bus_cut or link.answers_cut or self._store_of(machine) is not store:
                    continue
                self._tell(machine, event)

    def _tell(self, machine: Machine, event: HeardOn) -> None:
        now_s, link = self.world.agenda.now_s, machine.link
        arrives_s = now_s + self.delay(machine)
        if link.bus_reorders:
            arrives_s += self._uniform(0.0, 0.5)
        else:
            arrives_s = max(link.bus_free_s, arrives_s)
            link.bus_free_s = arrives_s
        self.world.later(machine, arrives_s - now_s, event)

    def subscribe(self, machine: Machine, *, members: bool) -> None:
        """Connect, again and again until it succeeds."""
        life, link = machine.life, machine.link

        def connected() -> None:
            if machine.life != life or (members and not machine.watching):
                return
            if not self._store_of(machine).up or link.cut or link.bus_cut:
                self.world.agenda.after(_RECONNECT_S, connected)
                return
            self.world.feed(machine, HeardOn(Subscribed(), members=members))

        self.world.agenda.after(self.delay(machine), connected)

    def resubscribe(self, machine: Machine) -> None:
        """The subscriber noticed that its connection was gone."""
        self.subscribe(machine, members=False)
        if machine.watching:
            self.subscribe(machine, members=True)


def _once(machine: Machine, answered: Callable[[_T], None]) -> Callable[[_T], None]:
    """The first answer counts, and only for the process that asked."""
    life, done = machine.life, False

    def answer(reply: _T) -> None:
        nonlocal done
        if machine.life == life and not done:
            done = True
            answered(reply)

    return answer
