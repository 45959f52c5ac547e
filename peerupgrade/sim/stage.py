"""A small world in which somebody else decides what happens next.

Theory of operation: the nodes and the store's rules are the real ones. Whatever is under way (a
request, its answer, a write to disk, callbacks, a broadcast, a timer) is kept as data, and nothing
happens by itself: `possible` lists what can happen next, `do` lets one of it happen. Time stands
still unless `pass_time` is called, so that leases, quarantines and locks end only when asked for.

A stage is copied cheaply (`clone`): hosts and servers are shared until one of the two changes them.
So it serves whoever wants to go through every order (`explore`) and whoever tells one (the
scenarios among the tests).

    store  a request reaches the store     saved     a memory is on disk, and the node knows
    reply  its answer reaches the node     switched  the callbacks for a version have run
    lock   the same for a lock server,     drained   operations of the older version have ended
    voted  and for its answer              heard     the next message of a subscription arrives
    timer  a timer fires                   prepared  the `before` steps have run
    probed  the program's probes answer    stepped   a step of a rollout has run
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar, assert_never

from peerupgrade.core.effects import (
    CallLock,
    CallStore,
    ConvertRecords,
    Drain,
    Drained,
    Effect,
    Emit,
    HeardOn,
    Input,
    InstalledChanged,
    LockReplied,
    Memory,
    Operate,
    Order,
    Part,
    Probed,
    Remember,
    Remembered,
    RunProbes,
    RunSteps,
    RunTurnStep,
    SetTimer,
    Start,
    StepOutcome,
    StepsDone,
    Stopped,
    StopSteps,
    StoreReplied,
    Switch,
    Switched,
    Tell,
    Timer,
    TimerFired,
    TurnStepEnded,
    WatchMembers,
)
from peerupgrade.core.health import Probing
from peerupgrade.core.invariants import Operating
from peerupgrade.core.membership import NodeConfig
from peerupgrade.core.node import MastershipConfig, Node
from peerupgrade.core.record import ClusterRecord, Member, Phase, TurnStep
from peerupgrade.core.requests import (
    Claim,
    Commit,
    Heard,
    MemberHeard,
    Read,
    ReadAll,
    RecordHeard,
    Reply,
    Report,
    Request,
    Subscribed,
)
from peerupgrade.core.turn import has_got
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.sim.servers import SimLockServer, SimStore

_T = TypeVar("_T")

SOON_S = 0.3  # a timer this near fires although the clock stands still
_LIVE_S = 0.1
_SETTLE_EVENTS_MAX = 2000


class Event(NamedTuple):
    """Something that can happen. `which` numbers what is under way, where there may be several."""

    kind: str
    host: str
    which: int = 0
    timer: Timer | None = None


@dataclass(slots=True)
class Draws:
    """Chance without chance: the shortest wait, and numbers that are never drawn twice."""

    host: int
    count: int = 0

    def uniform(self, a: float, b: float) -> float:
        """The smaller one."""
        return a

    def getrandbits(self, k: int, /) -> int:
        """A number that no one else has drawn."""
        self.count += 1
        return self.host << 32 | self.count


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way to the store. It arrives although its sender may have died."""

    life: int
    call: CallStore
    asked_s: float


@dataclass(slots=True)
class Host:
    """A machine: its disk, the process that runs on it or does not, and what that waits for."""

    name: str
    installed: Version
    lowest: Version
    draws: Draws
    disk: Memory = field(default_factory=Memory)
    disk_lost: bool = False
    node: Node | None = None
    life: int = 0
    paused: bool = False
    stalled: bool = False  # its subscriptions do not move
    ended: bool = False  # the process said farewell and ended
    slept_at_call: int | None = None  # until it heard from the store again: how far it had asked
    called: int = 0  # the number of its newest membership request
    watching: bool = False
    asked: tuple[Asked, ...] = ()
    replies: tuple[StoreReplied, ...] = ()
    locking: tuple[CallLock, ...] = ()
    votes: tuple[LockReplied, ...] = ()
    saving: Memory | None = None
    switching: int | None = None
    draining: int | None = None
    preparing: RunSteps | None = None
    ordered: Order | None = None
    step_ends: StepOutcome = StepOutcome.DONE  # what becomes of the steps of a rollout
    probing: int | None = None
    ails: str = ""  # why its program is not well
    news: tuple[Heard, ...] = ()  # on the way to the subscriber of the record's channel
    changes: tuple[Heard, ...] = ()  # and of the members' channel
    timers: dict[Timer, SetTimer] = field(default_factory=dict)
    flat: Any = None  # what a fingerprint made of it; void once it changes

    def clone(self) -> Host:
        """A host that shares nothing that changes."""
        host = copy(self)
        host.flat = None
        host.timers = dict(self.timers)
        host.draws = copy(self.draws)
        if self.node is not None:
            host.node = self.node.clone(host.draws)
        return host

    @property
    def awake(self) -> bool:
        """True while the process runs and is not paused."""
        return self.node is not None and not self.paused

    def forget(self) -> None:
        """The process is gone, and with it all that it waited for."""
        self.node, self.watching, self.paused, self.slept_at_call = None, False, False, None
        self.replies, self.votes, self.news, self.changes = (), (), (), ()
        self.saving = self.switching = self.draining = self.preparing = self.ordered = None
        self.probing = None
        self.timers.clear()


@dataclass(frozen=True, slots=True)
class StageConfig:
    """The size of a stage.

    Attributes:
        lock_servers: with one, which is the store, a lock request and its answer are one event.
        prompt: what happens at once on a node that runs: kinds of events, of requests, and steps
            of a master. "read" is all that changes nothing in the store, and the claim of a lock
            that is held. A write to disk is never prompt if it lets a node change its version.
            "newest": of what a paused or stalled node is told it hears the newest later.
    """

    hosts: int = 3
    lock_servers: int = 1
    ttl_s: float = 3.0
    lease_s: float = 0.0
    quarantine_s: float = 5.0
    with_replica: bool = False
    prompt: frozenset[str] = frozenset()
    before_versions: frozenset[Version] = frozenset()
    installs: bool = True
    probing: Probing | None = None


class Served(NamedTuple):
    """One request that the store has executed, and what the store had before and after it."""

    who: str
    request: Request
    reply: Reply
    before: ClusterRecord | None
    after: ClusterRecord | None
    members: Mapping[str, Member]


@dataclass(slots=True)
class Happened:
    """What was done at the store and at the nodes, for whoever judges or tells it."""

    served: list[Served] = field(default_factory=list)
    operated: list[tuple[str, Version | None, str]] = field(default_factory=list)
    ordered: list[tuple[str, Order]] = field(default_factory=list)  # steps that begin
    ended: list[tuple[str, Order]] = field(default_factory=list)  # and those that have succeeded


@dataclass(slots=True)
class Stage:
    """The world. `hosts` and `store` are shared with its clones: change them by the verbs only."""

    config: StageConfig
    hosts: dict[str, Host] = field(default_factory=dict)
    store: SimStore = field(init=False)
    locks: tuple[SimLockServer, ...] = field(init=False)
    now_s: float = 0.0
    _happened: Happened = field(default_factory=Happened)
    _owned: frozenset[str] = frozenset()
    _owns_servers: bool = True

    def __post_init__(self) -> None:
        self.store = SimStore(self.config.with_replica)
        self.locks = tuple(SimLockServer() for _ in range(self.config.lock_servers - 1))

    def clone(self) -> Stage:
        """A stage that goes its own way from here."""
        self._owned, self._owns_servers = frozenset(), False
        stage = copy(self)
        stage.hosts, stage._happened = dict(self.hosts), Happened()  # noqa: SLF001 - its own class
        return stage

    def _own(self, name: str) -> Host:
        if name not in self._owned:
            self.hosts[name] = self.hosts[name].clone()
            self._owned |= {name}
        return self.hosts[name]

    def _own_servers(self) -> SimStore:
        if not self._owns_servers:
            self.store = self.store.clone()
            self.locks = tuple(replace(server, state=copy(server.state)) for server in self.locks)
            self._owns_servers = True
        return self.store

    # --- what is ----------------------------------------------------------------------------------

    @property
    def clock_s(self) -> float:
        """Every node's own clock."""
        return 1000.0 + self.now_s

    @property
    def store_now_ms(self) -> int:
        """The store's clock."""
        return self.store.now_ms(self.now_s)

    @property
    def lock_held(self) -> bool:
        """True while nobody can become master."""
        lock = self.store.state.lock
        return bool(lock.token) and self.store_now_ms < lock.until_ms

    def operating(self) -> list[Operating]:
        """Every node that operates at this moment, paused ones too."""
        found = []
        for host in self.hosts.values():
            membership = host.node.membership if host.node is not None else None
            if membership is None or membership.operating is None:
                continue
            if self.config.lease_s and self.clock_s >= membership.lease_deadline_s:
                continue  # every guarded operation checks the clock first
            config = membership.config
            found.append(
                Operating(
                    host.name,
                    (membership.memory.token, membership.incarnation),
                    config.installed,
                    config.lowest,
                    membership.operating,
                )
            )
        return found

    def possible(self) -> list[Event]:
        """Everything that can happen next without anybody's doing, in a fixed order."""
        events = []
        for host in self.hosts.values():
            events += _numbered("store", host, host.asked) + _numbered("lock", host, host.locking)
            if host.awake:
                events += [*self._within(host)]
        return events

    def _within(self, host: Host) -> Iterator[Event]:
        """What can happen to a process that runs."""
        name = host.name
        yield from _numbered("reply", host, host.replies)
        yield from _numbered("voted", host, host.votes)
        if host.news and not host.stalled:
            yield Event("heard", name, 0)
        if host.changes and not host.stalled:
            yield Event("heard", name, 1)
        for kind, waits in (
            ("saved", host.saving),
            ("switched", host.switching),
            ("drained", host.draining),
            ("prepared", host.preparing),
            ("stepped", host.ordered),
            ("probed", host.probing),
        ):
            if waits is not None:
                yield Event(kind, name)
        soon_s = self.clock_s + SOON_S
        for timer in host.timers.values():
            if timer.at_s <= soon_s:
                yield Event("timer", name, timer=timer.timer)

    # --- what happens -----------------------------------------------------------------------------

    def take(self) -> Happened:
        """All that has happened since this was asked last."""
        happened, self._happened = self._happened, Happened()
        return happened

    def do(self, event: Event) -> None:
        """Let one of what is possible happen."""
        self._do(event)
        self._promptly()

    def _do(self, event: Event) -> None:
        host = self._own(event.host)
        match event.kind:
            case "store":
                self._reaches_store(host, event.which)
            case "lock":
                self._reaches_lock(host, event.which)
            case "reply":
                reply, host.replies = _taken(host.replies, event.which)
                self._replied(host, reply)
            case "voted":
                vote, host.votes = _taken(host.votes, event.which)
                self._feed(host, vote)
            case "heard":
                self._hears(host, members=event.which == 1)
            case "timer":
                assert event.timer is not None
                timer = host.timers.pop(event.timer)
                self._feed(host, TimerFired(timer.timer, timer.token))
            case _:
                self._works(host, event.kind)

    def _works(self, host: Host, kind: str) -> None:
        """The disk, and the application."""
        match kind:
            case "saved":
                memory, host.saving = host.saving, None
                assert memory is not None
                host.disk = memory
                self._feed(host, Remembered(memory))
            case "switched":
                attempt, host.switching = host.switching, None
                assert attempt is not None
                self._feed(host, Switched(attempt))
            case "drained":
                attempt, host.draining = host.draining, None
                assert attempt is not None
                self._feed(host, Drained(attempt))
            case "prepared":
                run, host.preparing = host.preparing, None
                assert run is not None
                self._feed(host, StepsDone(run.job, run.epoch))
            case "stepped":
                order, host.ordered = host.ordered, None
                assert order is not None
                self._step_ends(host, order)
            case "probed":
                call, host.probing = host.probing, None
                assert call is not None
                self._feed(host, Probed(call, host.ails))
            case _:
                raise ValueError(kind)

    def _step_ends(self, host: Host, order: Order) -> None:
        """It was run, or looked at: then only an installed version can be seen."""
        outcome, version = host.step_ends, parse_version(order.work.version)
        if order.look:
            done = has_got(host.installed, order.work.version, order.work.before)
            seen = StepOutcome.DONE if done else StepOutcome.NOT_DONE
            outcome = seen if order.work.step is TurnStep.INSTALL else StepOutcome.UNKNOWN
        elif outcome is StepOutcome.DONE:
            self._happened.ended.append((host.name, order))
            if order.work.step is TurnStep.INSTALL:
                host.installed = version
                self._feed(host, InstalledChanged(version, host.lowest))
        self._feed(host, TurnStepEnded(order, outcome))

    def _promptly(self) -> None:
        """What is prompt happens at once, until nothing of it is left."""
        names = [*self.hosts] if self.config.prompt else []
        for _ in range(_SETTLE_EVENTS_MAX):
            events = (self._prompt_event(self.hosts[name]) for name in names)
            event = next((event for event in events if event is not None), None)
            if event is None:
                return
            self._do(event)
        raise AssertionError("L1: it never comes to rest")

    def _prompt_event(self, host: Host) -> Event | None:
        if not host.awake:
            return None
        for event in self._within(host):
            if self._happens_at_once(host, event.kind):
                return event
        for index, asked in enumerate(host.asked):
            if asked.life == host.life and self._at_once(asked.call.request):
                return Event("store", host.name, index)
        return None

    def _at_once(self, request: Request) -> bool:
        prompt = self.config.prompt
        if type(request).__name__ in prompt or (
            isinstance(request, Commit) and request.step in prompt
        ):
            return True
        return "read" in prompt and self._reads(request)

    def _reads(self, request: Request) -> bool:
        """True if it changes nothing in the store that anybody else looks at."""
        if not isinstance(request, Report):
            return isinstance(request, Read | ReadAll | Claim)
        known = self.store.state.members.get(request.id)
        if known is None or known.incarnation != request.incarnation:
            return True
        said = (request.standing, request.seen, request.operating_revision, request.failure)
        knew = (known.standing, known.seen, known.operating_revision, known.failure)
        return (*said, request.work, request.health) == (*knew, known.work, known.health)

    def _happens_at_once(self, host: Host, kind: str) -> bool:
        if kind == "switched":  # a node that operates at nothing is in nobody's way
            assert host.node is not None
            return "first switch" in self.config.prompt and host.node.membership.operating is None
        return kind in self.config.prompt and (kind != "saved" or not self._decisive(host))

    def _decisive(self, host: Host) -> bool:
        """True if the node may operate at another version once this is on its disk."""
        memory, known = host.saving, host.disk.record
        assert memory is not None
        if memory.record is None:
            return False
        return known is None or memory.record.acting != known.acting

    def _feed(self, host: Host, event: Input) -> None:
        assert host.node is not None
        for effect in host.node.handle(self.clock_s, event):
            self._carry_out(host, effect)
        while self.config.lock_servers == 1 and host.locking:
            self._reaches_lock(host, 0)
            while host.votes:
                vote, host.votes = _taken(host.votes, 0)
                self._feed(host, vote)

    def _carry_out(self, host: Host, effect: Effect) -> None:
        match effect:
            case CallStore():
                asked = Asked(host.life, effect, self.clock_s)
                host.asked = tuple(sorted((*host.asked, asked), key=lambda one: one.call.part))
                if effect.part is Part.MEMBERSHIP:
                    host.called = effect.call
            case CallLock():
                host.locking = (*host.locking, effect)
            case SetTimer(timer):
                host.timers[timer] = effect
            case WatchMembers(on):
                host.watching, host.changes = on, (Subscribed(),) if on else ()
            case Remember() | Switch() | Drain() | RunSteps() | RunTurnStep() | RunProbes():
                self._begin_work(host, effect)
            case StopSteps():
                host.preparing = None
            case Operate(version, reason):
                self._happened.operated.append((host.name, version, reason))
            case Stopped():
                host.ended = True
                host.forget()
            case Emit() | Tell():  # nobody gossips here
                pass
            case ConvertRecords():
                raise AssertionError("no program here has a collection")
            case _:
                assert_never(effect)

    def _begin_work(
        self, host: Host, effect: Remember | Switch | Drain | RunSteps | RunTurnStep | RunProbes
    ) -> None:
        match effect:
            case Remember(memory):
                host.saving = memory
            case Switch(_, _, attempt):
                host.switching = attempt
            case Drain(_, attempt):
                host.draining = attempt
            case RunSteps():
                host.preparing = effect
            case RunTurnStep(order):
                host.ordered = order
                self._happened.ordered.append((host.name, order))
            case RunProbes(call):
                host.probing = call

    def _replied(self, host: Host, reply: StoreReplied) -> None:
        if host.slept_at_call is not None and reply.part is Part.MEMBERSHIP:
            host.slept_at_call = None if reply.call > host.slept_at_call else host.slept_at_call
        self._feed(host, reply)

    def _reaches_store(self, host: Host, which: int) -> None:
        asked, host.asked = _taken(host.asked, which)
        reply = self._serve(host.name, asked.call.request)
        if host.node is not None and host.life == asked.life:
            call = asked.call
            replied = StoreReplied(call.part, call.call, reply, asked.asked_s)
            host.replies = (*host.replies, replied)

    def operate(self, request: Request) -> Reply:
        """An operator asks the store, and is answered at once."""
        reply = self._serve("operator", request)
        self._promptly()
        return reply

    def _serve(self, who: str, request: Request) -> Reply:
        before = self._own_servers().state.record
        reply, heard = self.store.execute(request, self.now_s)
        state = self.store.state
        served = Served(who, request, reply, before, state.record, dict(state.members))
        self._happened.served.append(served)
        self._publish(heard)
        return reply

    def _reaches_lock(self, host: Host, which: int) -> None:
        call, host.locking = _taken(host.locking, which)
        self._own_servers()
        server = self.store if call.server == 0 else self.locks[call.server - 1]
        reply, heard = server.execute_lock(call.request, self.now_s)
        if host.node is not None:
            host.votes = (*host.votes, LockReplied(call.server, call.round, reply))
        if call.server == 0:
            self._publish(heard)

    def _publish(self, heard: Sequence[Heard]) -> None:
        for message in heard:
            members = isinstance(message, MemberHeard)
            for name, host in self.hosts.items():
                if host.node is None or (members and not host.watching):
                    continue
                if "newest" in self.config.prompt and (host.paused or host.stalled):
                    self._queue_newest(self._own(name), message)
                elif members:
                    self._own(name).changes += (message,)
                else:
                    self._own(name).news += (message,)

    def _queue_newest(self, host: Host, message: Heard) -> None:
        """A queue that is full keeps what says something new; the members are read again."""
        if not isinstance(message, MemberHeard):
            kept = (old for old in host.news if not _says_as_much(message, old))
            host.news = (*kept, message)

    def _hears(self, host: Host, *, members: bool) -> None:
        if members:
            message, host.changes = _taken(host.changes, 0)
        else:
            message, host.news = _taken(host.news, 0)
        self._feed(host, HeardOn(message, members=members))

    # --- verbs: nodes -----------------------------------------------------------------------------

    def add(self, name: str, installed: Version, lowest: Version) -> None:
        """A new machine, not yet started."""
        self.hosts[name] = Host(name, installed, lowest, Draws(len(self.hosts) + 1))
        self._owned |= {name}

    def install(self, name: str, installed: Version, lowest: Version) -> None:
        """Other software on the disk: it runs from the next start on."""
        host = self._own(name)
        host.installed, host.lowest = installed, lowest

    def start(self, name: str) -> None:
        """Start the process with what is installed."""
        host = self._own(name)
        assert host.node is None
        host.life += 1
        host.ended = host.stalled = False
        config = NodeConfig(
            id=name,
            installed=host.installed,
            lowest=host.lowest,
            lease_s=self.config.lease_s,
            quarantine_s=self.config.quarantine_s,
            bootstrap_expect=self.config.hosts,
            steps={Phase.BEFORE: self.config.before_versions},
            installs=self.config.installs,
        )
        lock = MastershipConfig(self.config.lock_servers, self.config.ttl_s)
        host.node = Node(config, lock, host.disk, host.draws, probing=self.config.probing)
        host.news = (Subscribed(),)
        self.feed(name, Start())

    def kill(self, name: str, *, lose_disk: bool = False, lose_requests: bool = False) -> None:
        """SIGKILL. Its requests are still on their way, unless they are lost, too."""
        host = self._own(name)
        host.forget()
        if lose_requests:
            host.asked = ()
        if lose_disk:
            host.disk, host.disk_lost = Memory(), True

    def feed(self, name: str, event: Input) -> None:
        """Give a node one input, for example an operator's command."""
        self._feed(self._own(name), event)
        self._promptly()

    def pause(self, name: str) -> None:
        """SIGSTOP: requests arrive, answers wait."""
        host = self._own(name)
        host.paused, host.slept_at_call = True, host.called

    def resume(self, name: str) -> None:
        """SIGCONT; its subscriptions were lost meanwhile, and what they had received was not."""
        host = self._own(name)
        host.paused = False
        self._resubscribe(host)
        self._promptly()

    def stall(self, name: str) -> None:
        """Its subscriptions do not move; its requests do."""
        self._own(name).stalled = True

    def unstall(self, name: str) -> None:
        """What waited arrives, however old it is."""
        self._own(name).stalled = False
        self._promptly()

    def reconnect(self, name: str) -> None:
        """Its subscriptions are made anew; what was on the way is lost."""
        host = self._own(name)
        host.news = host.changes = ()
        self._resubscribe(host)
        self._promptly()

    def _resubscribe(self, host: Host) -> None:
        if host.node is not None:
            host.news = (*host.news, Subscribed())
            host.changes = (*host.changes, Subscribed()) if host.watching else ()

    # --- verbs: the store and time ----------------------------------------------------------------

    def replicate(self) -> None:
        """The copy catches up: what is in it outlives a failover."""
        self._own_servers().replicate()

    def cut_replica(self) -> None:
        """The copy falls behind from here on, and confirms nothing."""
        self._own_servers().replica_up = False

    def mend_replica(self) -> None:
        """The copy follows again."""
        self._own_servers().replica_up = True
        self.store.replicate()

    def fail_over(self) -> None:
        """Another process answers, with what the copy has; all connections are made anew."""
        self._own_servers().lose()
        self.store.replica_up = True
        self._reconnect_all()

    def restart_store(self) -> None:
        """Another process answers, with everything."""
        self._own_servers().restart()
        self._reconnect_all()

    def rename_store(self) -> None:
        """It calls itself something else; nothing is lost, and no connection breaks."""
        self._own_servers().rename()

    def flush(self) -> None:
        """FLUSHALL: the same process, and nothing in it."""
        self._own_servers().wipe()

    def _reconnect_all(self) -> None:
        for name in self.hosts:
            self._resubscribe(self._own(name))
        self._promptly()

    def pass_time(self, seconds: float) -> None:
        """Nothing happens meanwhile; timers become possible."""
        self.now_s += seconds
        for name in self.hosts:
            self._own(name)  # what is due has changed

    def drop_late(self) -> None:
        """Requests of processes that are gone are lost."""
        for name, host in list(self.hosts.items()):
            if any(asked.life != host.life or host.node is None for asked in host.asked):
                owned = self._own(name)
                alive = owned.node is not None
                owned.asked = tuple(a for a in owned.asked if alive and a.life == owned.life)

    # --- fair play --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything that is under way comes to its end; time stands still."""
        for _ in range(_SETTLE_EVENTS_MAX):
            event = next((event for event in self.possible() if self._due(event)), None)
            if event is None:
                return
            self.do(event)
        raise AssertionError("L1: it never comes to rest")

    def _due(self, event: Event) -> bool:
        if event.timer is None:
            return True
        return self.hosts[event.host].timers[event.timer].at_s <= self.clock_s

    def live(self, seconds: float) -> None:
        """Time passes, and everything happens in time."""
        self.settle()
        for _ in range(round(seconds / _LIVE_S)):
            self.pass_time(_LIVE_S)
            self.settle()


def _says_as_much(message: Heard, old: Heard) -> bool:
    """True if whoever hears `message` misses nothing of `old`."""
    if not isinstance(message, RecordHeard) or not isinstance(old, RecordHeard):
        return type(message) is type(old)
    one, other = message.record, old.record
    return (one.acting, one.identity, one.doubt) == (other.acting, other.identity, other.doubt)


def _numbered(kind: str, host: Host, waiting: Sequence[object]) -> list[Event]:
    return [Event(kind, host.name, index) for index in range(len(waiting))]


def _taken(waiting: tuple[_T, ...], which: int) -> tuple[_T, tuple[_T, ...]]:
    return waiting[which], waiting[:which] + waiting[which + 1 :]
