"""The world: real nodes, real store rules, and a network in between that one seed decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from peerupgrade.core.effects import (
    BeforeDone,
    CallLock,
    CallStore,
    Drain,
    Drained,
    Effect,
    Emit,
    HeardOn,
    Input,
    LockReplied,
    Memory,
    Operate,
    Remember,
    Remembered,
    RunBefore,
    SetTimer,
    Start,
    Stopped,
    StoreReplied,
    Switch,
    Switched,
    SwitchFailed,
    TimerFired,
    WatchMembers,
)
from peerupgrade.core.invariants import Operating
from peerupgrade.core.membership import NodeConfig
from peerupgrade.core.node import MastershipConfig, Node
from peerupgrade.core.requests import (
    Failed,
    Heard,
    LockReply,
    MemberHeard,
    Reply,
    Request,
    Subscribed,
)
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.sim.events import Agenda
from peerupgrade.sim.servers import SimLockServer, SimStore
from peerupgrade.sim.story import outcome

STORE_TIMEOUT_S = 1.0
LOCK_TIMEOUT_S = 0.25
_TOLD = ("admitted", "attached", "master", "master no more", "callback failed", "disk failed")


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """The size of a world."""

    nodes: int = 5
    lock_servers: int = 1
    ttl_s: float = 3.0
    lease_s: float = 0.0
    with_replica: bool = False
    bootstrap_expect: int = 3
    versions: tuple[str, ...] = ("1.0", "1.1", "2.0", "3.0")
    first_version: int = 0


@dataclass(slots=True, eq=False)
class Machine:
    """A host: its disk, and the process that runs on it or does not."""

    name: str
    version: int  # index into the versions: what is installed on disk
    disk: Memory = field(default_factory=Memory)
    disk_lost: bool = False  # at least once
    node: Node | None = None
    life: int = 0  # grows with each start, so that what belongs to an older one is dropped
    paused_until_s: float = 0.0
    cut_until_s: float = 0.0  # when it was last cut off
    store_cut: bool = False  # cannot reach the store
    bus_cut: bool = False  # hears nothing
    watching: bool = False
    drift: float = 1.0
    jump_s: float = 0.0
    callback_fails: int = 0
    disk_fails: int = 0
    bus_free_s: float = 0.0  # pub/sub messages arrive in order
    inbox: list[tuple[int, Input]] = field(default_factory=list)


@dataclass(slots=True)
class World:
    """Everything, and the only randomness there is."""

    config: WorldConfig
    rng: Random
    observe: Callable[[World, str, object], None]
    agenda: Agenda = field(default_factory=Agenda)
    machines: dict[str, Machine] = field(default_factory=dict)
    store: SimStore = field(init=False)
    locks: list[SimLockServer] = field(init=False)
    trace: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    tracing: bool = False
    loss: float = 0.0
    duplication: float = 0.0
    delay_s: tuple[float, float] = (0.0005, 0.003)
    versions: list[Version] = field(init=False)

    def __post_init__(self) -> None:
        self.store = SimStore(self.config.with_replica)
        self.locks = [SimLockServer() for _ in range(self.config.lock_servers - 1)]
        self.versions = [parse_version(text) for text in self.config.versions]

    # --- machines ---------------------------------------------------------------------------------

    def add(self, name: str, version: int) -> Machine:
        """A new machine, not yet started."""
        machine = Machine(name, version, drift=self.rng.uniform(0.999, 1.001))
        self.machines[name] = machine
        return machine

    def lowest(self, version: int) -> Version:
        """Each release supports the one before it."""
        return self.versions[max(0, version - 1)]

    def start(self, machine: Machine) -> None:
        """Start the process with what is installed now."""
        machine.life += 1
        machine.inbox.clear()
        machine.paused_until_s = 0.0
        machine.watching = False
        config = NodeConfig(
            id=machine.name,
            installed=self.versions[machine.version],
            lowest=self.lowest(machine.version),
            lease_s=self.config.lease_s,
            bootstrap_expect=self.config.bootstrap_expect,
        )
        lock = MastershipConfig(1 + len(self.locks), self.config.ttl_s)
        machine.node = Node(config, lock, machine.disk, Random(self.rng.getrandbits(64)))
        self.tell(f"{machine.name} starts with {config.installed}")
        self.feed(machine, Start())
        self._subscribe(machine, machine.life, members=False)

    def kill(self, machine: Machine) -> None:
        """SIGKILL."""
        if machine.node is not None:
            self.tell(f"{machine.name} dies")
            machine.node, machine.watching = None, False
            machine.life += 1

    def runs(self, name: str) -> bool:
        """True if any process of that node name is alive, on whatever machine."""
        return any(m.name == name and m.node is not None for m in self.machines.values())

    def clock_s(self, machine: Machine) -> float:
        """A machine's own clock."""
        return 1000.0 + self.agenda.now_s * machine.drift + machine.jump_s

    def feed(self, machine: Machine, event: Input) -> None:
        """Give a node one input, and carry its effects out."""
        if machine.node is None:
            return
        if self.agenda.now_s < machine.paused_until_s:
            machine.inbox.append((machine.life, event))
            return
        node = machine.node
        effects = node.handle(self.clock_s(machine), event)
        if self.tracing:
            self.log(f"{machine.name} <- {event}")
        for effect in effects:
            self._carry_out(machine, effect)
        self.observe(self, "fed", machine)

    def pause(self, machine: Machine, duration_s: float) -> None:
        """SIGSTOP for a while."""
        machine.paused_until_s = self.agenda.now_s + duration_s
        self.agenda.after(duration_s + 1e-6, partial(self._wake, machine, machine.life))

    def _wake(self, machine: Machine, life: int) -> None:
        if machine.life != life:
            return
        inbox, machine.inbox = machine.inbox, []
        for owner, event in inbox:
            if owner == machine.life:
                self.feed(machine, event)

    def operating(self) -> list[Operating]:
        """Every node that operates at this moment, paused ones too."""
        found = []
        for machine in self.machines.values():
            node = machine.node
            if node is None or node.membership.operating is None:
                continue
            lapsed = self.clock_s(machine) >= node.membership.lease_deadline_s
            if self.config.lease_s and lapsed:
                continue  # every guarded operation checks the clock first
            config = node.membership.config
            found.append(
                Operating(
                    machine.name,
                    node.membership.incarnation,
                    config.installed,
                    config.lowest,
                    node.membership.operating,
                )
            )
        return found

    def log(self, line: str) -> None:
        """One line of the trace: everything, as it is."""
        if self.tracing:
            self.trace.append(f"{self.agenda.now_s:9.4f} {line}")

    def tell(self, line: str) -> None:
        """One line of the story: what a person needs to follow it."""
        if self.tracing:
            self.story.append(f"{self.agenda.now_s:9.4f} s  {line}")
            self.log(line)

    # --- effects ----------------------------------------------------------------------------------

    def _later(self, machine: Machine, delay_s: float, event: Input) -> None:
        life = machine.life

        def deliver() -> None:
            if machine.life == life:
                self.feed(machine, event)

        self.agenda.after(delay_s, deliver)

    def _carry_out(self, machine: Machine, effect: Effect) -> None:
        if self.tracing:
            self.log(f"{machine.name} -> {effect}")
        match effect:
            case CallStore():
                self._call_store(machine, effect)
            case CallLock():
                self._call_lock(machine, effect)
            case SetTimer(timer, at_s, token):
                wait_s = max(0.0, (at_s - self.clock_s(machine)) / machine.drift)
                self._later(machine, wait_s, TimerFired(timer, token))
            case Remember(memory):
                self._remember(machine, memory)
            case Stopped():
                self.agenda.after(0.0, partial(self._end, machine, machine.life))
            case WatchMembers(on):
                self._watch_members(machine, on=on)
            case Switch() | Drain() | RunBefore():
                self._application(machine, effect)
            case Operate() | Emit():
                self._tell_effect(machine, effect)
                self.observe(self, "effect", (machine, effect))

    def _application(self, machine: Machine, effect: Switch | Drain | RunBefore) -> None:
        match effect:
            case Switch(_, _, attempt):
                self._switch(machine, attempt)
            case Drain(_, attempt):
                self._later(machine, self.rng.uniform(0.0, 0.05), Drained(attempt))
            case RunBefore(version):
                self._later(machine, self.rng.uniform(0.0, 0.1), BeforeDone(version))

    def _tell_effect(self, machine: Machine, effect: Operate | Emit) -> None:
        match effect:
            case Operate(version, reason):
                self.tell(f"{machine.name} " + (f"operates at {version}" if version else reason))
            case Emit(event, detail) if event in _TOLD:  # of the rest the store tells
                self.tell(f"{machine.name} {event}: {detail}")
            case Emit():
                pass

    def _watch_members(self, machine: Machine, *, on: bool) -> None:
        machine.watching = on
        if on:
            self._subscribe(machine, machine.life, members=True)

    def _end(self, machine: Machine, life: int) -> None:
        if machine.life == life:
            self.kill(machine)

    def _remember(self, machine: Machine, memory: Memory) -> None:
        life = machine.life

        def saved() -> None:
            # A crash between this line and the answer leaves the new memory on disk.
            if machine.life != life:
                return
            machine.disk = memory
            self._later(machine, self.rng.uniform(0.0001, 0.002), Remembered(memory))

        self.agenda.after(self.rng.uniform(0.0001, 0.004), saved)

    def _switch(self, machine: Machine, attempt: int) -> None:
        if machine.callback_fails > 0:
            machine.callback_fails -= 1
            self._later(machine, 0.01, SwitchFailed(attempt, "the callback failed"))
        else:
            self._later(machine, self.rng.uniform(0.0, 0.02), Switched(attempt))

    # --- network ----------------------------------------------------------------------------------

    def _delay(self) -> float:
        return self.rng.uniform(*self.delay_s)

    def _lost(self) -> bool:
        return self.loss > 0 and self.rng.random() < self.loss

    def _call_store(self, machine: Machine, call: CallStore) -> None:
        asked_s, life = self.clock_s(machine), machine.life
        answered = [False]

        def answer(reply: Reply) -> None:
            if machine.life == life and not answered[0]:
                answered[0] = True
                self.feed(machine, StoreReplied(call.part, call.call, reply, asked_s))

        def arrive() -> None:
            # It arrives although the sender may have died: only the answer finds nobody.
            if not self.store.up:
                return
            reply = self.do(call.request, machine.name)
            if not machine.store_cut and not self._lost():
                self.agenda.after(self._delay(), partial(answer, reply))

        if not machine.store_cut and not self._lost():
            self.agenda.after(self._delay(), arrive)
        if self.duplication and self.rng.random() < self.duplication:
            self.agenda.after(self._delay() * 20, arrive)
        self.agenda.after(STORE_TIMEOUT_S, partial(answer, Failed("timed out")))

    def do(self, request: Request, who: str) -> Reply:
        """One request is executed by the store: everything that follows from that."""
        before = self.store.state.record
        reply, heard = self.store.execute(request, self.agenda.now_s)
        self.log(f"store: {who}: {request} => {reply}")
        line = outcome(request, reply) if self.tracing else ""
        if line:
            self.tell(f"{who} {line}")
        self.observe(self, "store", (request, reply, before))
        self._publish(heard)
        return reply

    def _publish(self, heard: Sequence[Heard]) -> None:
        for message in heard:
            members = isinstance(message, MemberHeard)
            for machine in self.machines.values():
                if machine.node is None or machine.bus_cut or (members and not machine.watching):
                    continue
                if machine.store_cut:
                    continue
                arrives_s = max(machine.bus_free_s, self.agenda.now_s + self._delay())
                machine.bus_free_s = arrives_s
                wait_s = arrives_s - self.agenda.now_s
                self._later(machine, wait_s, HeardOn(message, members=members))

    def _subscribe(self, machine: Machine, life: int, *, members: bool) -> None:
        def connected() -> None:
            if machine.life != life or (members and not machine.watching):
                return
            if not self.store.up or machine.store_cut or machine.bus_cut:
                self.agenda.after(0.2, connected)
                return
            self.feed(machine, HeardOn(Subscribed(), members=members))

        self.agenda.after(self._delay(), connected)

    def resubscribe(self, machine: Machine) -> None:
        """The subscriber noticed that its connection was gone."""
        self._subscribe(machine, machine.life, members=False)
        if machine.watching:
            self._subscribe(machine, machine.life, members=True)

    def _call_lock(self, machine: Machine, call: CallLock) -> None:
        life = machine.life
        server = self.store if call.server == 0 else self.locks[call.server - 1]
        answered = [False]

        def answer(reply: LockReply) -> None:
            if machine.life == life and not answered[0]:
                answered[0] = True
                self.feed(machine, LockReplied(call.server, call.round, reply))

        def arrive() -> None:
            if not server.up:
                return
            reply, heard = server.execute_lock(call.request, self.agenda.now_s)
            if call.server == 0:
                self._publish(heard)
            if not self._lost():
                self.agenda.after(self._delay(), partial(answer, reply))

        if not machine.store_cut and not self._lost():
            self.agenda.after(self._delay(), arrive)
        self.agenda.after(LOCK_TIMEOUT_S, partial(answer, LockReply(False, answered=False)))
