"""The world: real nodes, real store rules, and machines, a network and servers that fail.

Nothing in here decides anything of the protocol: effects of the core are carried out, and their
results are fed back, in virtual time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from peerupgrade.core.crashpoints import deed
from peerupgrade.core.effects import (
    CallLock,
    CallStore,
    ConvertRecords,
    Drain,
    Effect,
    Emit,
    Input,
    LockReplied,
    Memory,
    Operate,
    Probed,
    RecordsConverted,
    Remember,
    Remembered,
    RememberFailed,
    RunProbes,
    RunSteps,
    RunTurnStep,
    SetTimer,
    Start,
    StepOutcome,
    StepsFailed,
    Stopped,
    StopSteps,
    StoreReplied,
    Switch,
    Switched,
    SwitchFailed,
    Tell,
    Timer,
    TimerFired,
    TurnStepEnded,
    WatchMembers,
)
from peerupgrade.core.gossip.machine import GossipConfig
from peerupgrade.core.health import Probing
from peerupgrade.core.invariants import Operating
from peerupgrade.core.membership import NodeConfig
from peerupgrade.core.node import MastershipConfig, Node
from peerupgrade.core.pace import Felt
from peerupgrade.core.requests import (
    Conversion,
    Done,
    Failed,
    LockReply,
    ReleaseHold,
    Reply,
    Request,
    SetHold,
)
from peerupgrade.core.steering import Steering, steer
from peerupgrade.core.store import snapshot
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import RefusedError
from peerupgrade.sim.application import COLLECTION, Application, Operations, formats
from peerupgrade.sim.events import Agenda
from peerupgrade.sim.network import Link, Network
from peerupgrade.sim.observed import Fed, Observed, Said, Started, Stored
from peerupgrade.sim.servers import SimLockServer, SimStore
from peerupgrade.sim.steps import StepRunner, registered
from peerupgrade.sim.story import of_effect, outcome
from peerupgrade.sim.turns import TurnRunner

if TYPE_CHECKING:
    from peerupgrade.sim.orchestrator import Orchestrator

_PROGRAMS, _PROGRAMS_MIN = 0.6, 2  # somebody must be there to convert
_INSTALLS = 0.85
_PROBE_S = (0.001, 0.1)
_WAKE_S = 1e-6  # a machine that was paused goes on just after everything of that moment


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
    before: tuple[str, ...] = ("1.1", "2.0")  # the versions that programs have steps before
    migrations: tuple[str, ...] = ("1.1", "3.0")
    first_version: int = 0
    probing: Probing | None = None
    gossip_s: float = 0.0  # from one probe to the next; 0: nobody gossips
    writes: bool = True  # else programs have no shared data: only then the way back is open


@dataclass(slots=True, eq=False)
class Machine:
    """A host: its disk, and the process that runs on it or does not."""

    name: str
    version: int  # index into the versions: what is installed on disk
    has_program: bool = True  # else it runs the agent alone, which has no codec and writes nothing
    place: str = ""  # its address: differs between two machines of one name
    link: Link = field(default_factory=Link)
    disk: Memory = field(default_factory=Memory)
    disk_lost: bool = False  # at least once
    node: Node | None = None
    life: int = 0  # grows with each start, so that what belongs to an older one is dropped
    paused_until_s: float = 0.0
    watching: bool = False
    drift: float = 1.0
    drift_since_s: float = 0.0
    clock_was_s: float = 1000.0  # at that moment
    callback_fails: int = 0
    callback_hangs_s: float = 0.0
    step_fails: int = 0
    turn_fails: int = 0
    ails: bool = False  # its program is not well, whatever is installed
    installs: bool = True  # in a rollout; else a person does
    codec_fails: bool = False
    disk_full: bool = False
    saved_until_s: float = 0.0  # one save after another, in the order in which they were decided
    operations: Operations = field(default_factory=Operations)
    timers: dict[Timer, int] = field(default_factory=dict)  # the token of each that is set
    backlog: list[Callable[[], None]] = field(default_factory=list)  # of a paused process

    def paused(self, now_s: float) -> bool:
        """Stopped at this moment."""
        return now_s < self.paused_until_s


@dataclass(frozen=True, slots=True)
class Trap:
    """What happens to the next machine that comes to a crash point."""

    action: str  # crash, pause, fail; or hold: an operator does so at that very moment
    duration_s: float


@dataclass(slots=True)
class World:
    """Everything, and the only randomness there is."""

    config: WorldConfig
    rng: Random
    observe: Callable[[World, Observed], None]
    agenda: Agenda = field(default_factory=Agenda)
    machines: dict[str, Machine] = field(default_factory=dict)
    store: SimStore = field(init=False)
    locks: list[SimLockServer] = field(init=False)
    network: Network = field(init=False)
    application: Application = field(init=False)
    steps: StepRunner = field(init=False)
    turns: TurnRunner = field(init=False)
    traps: dict[str, Trap] = field(default_factory=dict)  # by crash point
    orchestrators: dict[str, Orchestrator] = field(default_factory=dict)
    sprung: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    tracing: bool = False
    versions: list[Version] = field(init=False)
    bad_release: Version | None = None  # programs that have it are not well
    healed: bool = False  # the faults have stopped

    def __post_init__(self) -> None:
        self.store = SimStore(self.config.with_replica)
        self.locks = [SimLockServer() for _ in range(self.config.lock_servers - 1)]
        self.network = Network(self, self.rng)
        self.application = Application(self, Random(self.rng.getrandbits(64)))
        self.steps = StepRunner(self, Random(self.rng.getrandbits(64)))
        self.turns = TurnRunner(self, Random(self.rng.getrandbits(64)))
        self.versions = [parse_version(text) for text in self.config.versions]

    # --- machines ---------------------------------------------------------------------------------

    def add(self, name: str, version: int) -> Machine:
        """A new machine, not yet started."""
        has_program = len(self.machines) < _PROGRAMS_MIN or self.rng.random() < _PROGRAMS
        drift = self.rng.uniform(0.999, 1.001)
        installs = self.rng.random() < _INSTALLS
        machine = Machine(name, version, has_program, name, drift=drift, installs=installs)
        self.machines[name] = machine
        return machine

    def lowest(self, version: int) -> Version:
        """Each release supports the one before it."""
        return self.versions[max(0, version - 1)]

    def start(self, machine: Machine) -> None:
        """Start the process with what is installed now."""
        machine.life += 1
        machine.backlog.clear()
        machine.paused_until_s = 0.0
        machine.watching = False
        config = NodeConfig(
            id=machine.name,
            installed=self.versions[machine.version],
            lowest=self.lowest(machine.version),
            lease_s=self.config.lease_s,
            bootstrap_expect=self.config.bootstrap_expect,
            gossip=machine.place if self.config.gossip_s else "",
            collections=(
                {COLLECTION: formats(self, machine.version)} if machine.has_program else {}
            ),
            steps=registered(self.config) if machine.has_program else {},
            installs=machine.installs,
        )
        machine.node = Node(
            config,
            MastershipConfig(1 + len(self.locks), self.config.ttl_s),
            machine.disk,
            Random(self.rng.getrandbits(64)),
            probing=self.config.probing,
            gossiping=self._gossiping(machine),
        )
        if self.tracing:
            self.tell(f"{machine.name} starts with {config.installed}")
        self.observe(self, Started(machine))
        machine.operations = Operations()
        if machine.has_program:
            self.application.begin(machine)
        self.feed(machine, Start())
        self.network.subscribe(machine, members=False)

    def ails(self, machine: Machine) -> str:
        """Why its program is not well: for itself, or for what is installed."""
        if machine.ails:
            return "broken"
        return "a bad release" if self.versions[machine.version] == self.bad_release else ""

    def _gossiping(self, machine: Machine) -> GossipConfig | None:
        interval_s = self.config.gossip_s
        return GossipConfig(machine.place, interval_s=interval_s) if interval_s else None

    def kill(self, machine: Machine) -> None:
        """SIGKILL."""
        if machine.node is not None:
            self.tell(f"{machine.name} dies")
            machine.node, machine.watching = None, False
            machine.life += 1

    def pause(self, machine: Machine, duration_s: float) -> None:
        """SIGSTOP for a while."""
        machine.paused_until_s = self.agenda.now_s + duration_s
        self.agenda.after(duration_s + _WAKE_S, partial(self._wake, machine, machine.life))

    def _wake(self, machine: Machine, life: int) -> None:
        if machine.life != life:
            return
        backlog, machine.backlog = machine.backlog, []
        for action in backlog:
            if machine.life == life:
                action()

    def runs(self, name: str) -> bool:
        """True if any process of that node name is alive, on whatever machine."""
        return any(m.name == name and m.node is not None for m in self.machines.values())

    def clock_s(self, machine: Machine) -> float:
        """A machine's own clock."""
        return machine.clock_was_s + (self.agenda.now_s - machine.drift_since_s) * machine.drift

    def set_clock(self, machine: Machine, *, drift: float, jump_s: float = 0.0) -> None:
        """From now on the machine's clock runs at another pace, after a jump forward."""
        machine.clock_was_s = self.clock_s(machine) + jump_s
        machine.drift_since_s, machine.drift = self.agenda.now_s, drift

    def lapsed(self, machine: Machine) -> bool:
        """Its lease has ended, by its own clock."""
        if not self.config.lease_s or machine.node is None:
            return False
        return self.clock_s(machine) >= machine.node.membership.lease_deadline_s

    def operating(self) -> list[Operating]:
        """Every node that operates at this moment, paused ones too."""
        found = []
        for machine in self.machines.values():
            membership = machine.node.membership if machine.node else None
            version = membership.operating if membership else None
            if membership is None or version is None or self.lapsed(machine):
                continue  # every guarded operation checks the clock first
            config = membership.config
            start = (membership.memory.token, membership.memory.incarnation)
            found.append(Operating(machine.name, start, config.installed, config.lowest, version))
        return found

    # --- inputs and effects -----------------------------------------------------------------------

    def feed(self, machine: Machine, event: Input) -> None:
        """Give a node one input, and carry its effects out."""
        node, life = machine.node, machine.life
        if node is None:
            return
        if machine.paused(self.agenda.now_s):
            machine.backlog.append(partial(self.feed, machine, event))
            return
        effects = node.handle(self.clock_s(machine), event)
        if self.tracing:
            self.log(f"{machine.name} <- {event}")
        for effect in effects:
            if machine.life != life:
                break  # it has died in between
            self._carry_out(machine, effect)
        self.observe(self, Fed(machine))

    def later(self, machine: Machine, delay_s: float, event: Input) -> None:
        """Feed an input in a while, if that process still lives."""
        life = machine.life

        def deliver() -> None:
            if machine.life == life:
                self.feed(machine, event)

        self.agenda.after(delay_s, deliver)

    def conclude(self, machine: Machine, effect: Effect, result: Input) -> None:
        """Feed the result of an effect; a crash point lies just before."""
        if self.traps:
            trap = self._spring("after", machine, effect)
            if trap is not None and trap.action == "fail":
                result = _failure(effect)
        if machine.node is not None:
            self.feed(machine, result)

    def conclude_later(
        self, machine: Machine, delay_s: float, effect: Effect, result: Input
    ) -> None:
        """The same after a while."""
        life = machine.life

        def deliver() -> None:
            if machine.life == life:
                self.conclude(machine, effect, result)

        self.agenda.after(delay_s, deliver)

    def _spring(self, when: str, machine: Machine, effect: Effect) -> Trap | None:
        """Crash or pause the machine if something waits for it at this point."""
        name = deed(effect)
        trap = self.traps.pop(f"{when} {name}", None) if name else None
        if trap is None:
            return None
        self.sprung[f"{when} {name}"] += 1
        self.tell(f"fault: {trap.action} {when} {name}, on {machine.name}")
        if trap.action == "crash":
            self.kill(machine)
            self.agenda.after(trap.duration_s, partial(self.revive, machine))
        elif trap.action == "pause":
            self.pause(machine, trap.duration_s)
        elif trap.action == "hold" and self.store.up:
            self.do(SetHold("operator", "at a bad moment"), "operator")
            self.agenda.after(trap.duration_s, self.release)
        return trap

    def release(self) -> None:
        """An operator ends the hold."""
        if self.store.up:
            self.do(ReleaseHold("operator"), "operator")

    def revive(self, machine: Machine) -> None:
        """Start it, unless somebody else did or the machine is gone."""
        if machine.node is None and machine in self.machines.values():
            self.start(machine)

    def _carry_out(self, machine: Machine, effect: Effect) -> None:
        if self.traps:
            trap = self._spring("before", machine, effect)
            if trap is not None and trap.action == "fail":
                self.later(machine, 0.0, _failure(effect))
                return
            if machine.node is None:
                return
        if machine.paused(self.agenda.now_s):
            machine.backlog.append(partial(self._carry_out, machine, effect))
            return
        if self.tracing:
            self.log(f"{machine.name} -> {effect}")
        self._perform(machine, effect)

    def _perform(self, machine: Machine, effect: Effect) -> None:
        match effect:
            case CallStore():
                self.network.call_store(machine, effect)
            case CallLock():
                self.network.call_lock(machine, effect)
            case SetTimer():
                self._set_timer(machine, effect)
            case Stopped():
                self.agenda.after(0.0, partial(self._end, machine, machine.life))
            case WatchMembers(on):
                self._watch_members(machine, on=on)
            case Remember():
                self._remember(machine, effect)
            case Switch() | Drain() | RunSteps() | StopSteps() | ConvertRecords() | RunTurnStep():
                self._in_application(machine, effect)
            case RunProbes(call):
                self.later(machine, self.rng.uniform(*_PROBE_S), Probed(call, self.ails(machine)))
            case Tell():
                self.network.tell(machine, effect)
            case Operate() | Emit():
                if self.tracing:
                    self.tell(of_effect(machine.name, effect))
                self.observe(self, Said(machine, effect))

    def _in_application(
        self,
        machine: Machine,
        effect: Switch | Drain | RunSteps | StopSteps | ConvertRecords | RunTurnStep,
    ) -> None:
        match effect:
            case Switch():
                self._switch(machine, effect)
            case Drain():
                self.application.drain(machine, effect)
            case RunSteps():
                self.steps.begin(machine, effect)
            case StopSteps():
                pass  # the worst that an application can do is to go on
            case ConvertRecords():
                self.application.convert(machine, effect)
            case RunTurnStep():
                self.turns.begin(machine, effect)

    def _watch_members(self, machine: Machine, *, on: bool) -> None:
        machine.watching = on
        if on:
            self.network.subscribe(machine, members=True)

    def _set_timer(self, machine: Machine, effect: SetTimer) -> None:
        timer, token, life = effect.timer, effect.token, machine.life
        machine.timers[timer] = token

        def fire() -> None:
            if machine.timers.get(timer) == token and machine.life == life:
                self.feed(machine, TimerFired(timer, token))

        wait_s = max(0.0, (effect.at_s - self.clock_s(machine)) / machine.drift)
        self.agenda.after(wait_s, fire)

    def _end(self, machine: Machine, life: int) -> None:
        if machine.life == life:
            self.kill(machine)

    # --- what happens on the machine itself -------------------------------------------------------

    def _remember(self, machine: Machine, effect: Remember) -> None:
        life = machine.life

        def saved() -> None:
            # A crash between this line and the answer leaves the new memory on disk.
            if machine.life != life:
                return
            if machine.paused(self.agenda.now_s):
                machine.backlog.append(saved)
                return
            if machine.disk_full:
                self.conclude(machine, effect, RememberFailed("no space left"))
                return
            machine.disk = effect.memory
            self.conclude_later(
                machine, self.rng.uniform(0.0001, 0.002), effect, Remembered(effect.memory)
            )

        took_s = self.rng.uniform(0.0001, 0.004)
        machine.saved_until_s = max(self.agenda.now_s, machine.saved_until_s) + took_s
        self.agenda.after(machine.saved_until_s - self.agenda.now_s, saved)

    def _switch(self, machine: Machine, effect: Switch) -> None:
        result: Input = Switched(effect.attempt)
        if machine.callback_fails > 0:
            machine.callback_fails -= 1
            result = SwitchFailed(effect.attempt, "the callback failed")
        took_s = self.rng.uniform(0.0, 0.02) + machine.callback_hangs_s
        self.conclude_later(machine, took_s, effect, result)

    # --- the store --------------------------------------------------------------------------------

    def do(self, request: Request, who: str, store: SimStore | None = None) -> Reply:
        """One request is executed by a store: everything that follows from that."""
        store = store or self.store
        before = store.state.record
        reply, heard = store.execute(request, self.agenda.now_s)
        if self.tracing:
            self.log(f"store: {who}: {request} => {reply}")
            line = outcome(request, reply)
            self.tell(f"{who} {line}" if line else "")
        self.observe(self, Stored(store, request, reply, before))
        self.network.publish(heard, store)
        return reply

    def steer(self, asked: Steering) -> bool:
        """Somebody starts a rollout, or says how it goes on; False: that is refused."""
        store = self.store
        if not store.up or store.state.record is None:
            return False
        seen = snapshot(store.state, store.now_ms(self.agenda.now_s), store.identity)
        try:
            request = steer(seen, asked)
        except (RefusedError, KeyError):
            return False
        return isinstance(self.do(request, "operator"), Done)

    # --- what is told -----------------------------------------------------------------------------

    def log(self, line: str) -> None:
        """One line of the trace: everything, as it is."""
        if self.tracing:
            self.trace.append(f"{self.agenda.now_s:9.4f} {line}")

    def tell(self, line: str) -> None:
        """One line of the story: what a person needs to follow it; "" is none."""
        if self.tracing and line:
            self.story.append(f"{self.agenda.now_s:9.4f} s  {line}")
            self.log(line)


def _failure(effect: Effect) -> Input:
    """The input that reports that an effect failed."""
    match effect:
        case CallStore(part=part, call=call):
            return StoreReplied(part, call, Failed("the connection broke"), 0.0)
        case CallLock(server=server, round=round_):
            return LockReplied(server, round_, LockReply(granted=False, answered=False))
        case Remember():
            return RememberFailed("the disk failed")
        case Switch(attempt=attempt):
            return SwitchFailed(attempt, "the callback broke")
        case RunSteps(job, epoch):
            return StepsFailed(job, epoch, "the step broke")
        case RunTurnStep(order):
            return TurnStepEnded(order, StepOutcome.FAILED, "the step broke")
        case ConvertRecords(call=call, records=records):
            broken = [
                Conversion(key, one.format, one.stamp, error="the codec broke")
                for key, one in records
            ]
            return RecordsConverted(call, tuple(broken), 0.0, Felt())
        case _:
            raise AssertionError(f"{effect} cannot fail")
