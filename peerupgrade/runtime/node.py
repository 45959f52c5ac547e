"""A node, for embedding in asyncio programs.

    async with peerupgrade.Node(settings) as node:
        if node.is_active("2.0"):
            ...

The event loop is the application's own; nothing here changes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from random import SystemRandom
from types import TracebackType
from typing import Self

from peerupgrade.adapters.clock import unix_ms
from peerupgrade.adapters.gossip_link import resolve
from peerupgrade.adapters.redis_link import RedisLink
from peerupgrade.core.blockers import with_gossip
from peerupgrade.core.effects import Emit, InstalledChanged, Resign, SetAway, Stop
from peerupgrade.core.gossip.machine import GossipConfig
from peerupgrade.core.gossip.view import GossipView, look
from peerupgrade.core.health import Probing
from peerupgrade.core.leases import with_leases
from peerupgrade.core.ledger import whole_ledger
from peerupgrade.core.membership import NodeConfig, NodeState
from peerupgrade.core.node import MastershipConfig
from peerupgrade.core.node import Node as CoreNode
from peerupgrade.core.pace import Pace
from peerupgrade.core.record import ClusterRecord, Phase, Snapshot
from peerupgrade.core.refusals import explain, unverified
from peerupgrade.core.rehearsal import Rehearsal
from peerupgrade.core.requests import (
    All,
    Conflict,
    Done,
    Exclude,
    Failed,
    NotMember,
    OperatorRequest,
    Origin,
    ReadAll,
    Refused,
    ReleaseHold,
    Reply,
    Resolve,
    Resolved,
    SetHold,
    TakeSlot,
)
from peerupgrade.core.status import NodeStatus, local_blockers, node_status
from peerupgrade.core.steering import Steering, steer
from peerupgrade.core.versions import Version, parse_version, supported
from peerupgrade.data.collection import Access, Collection
from peerupgrade.data.latency import Latency
from peerupgrade.data.rehearsal import rehearse
from peerupgrade.errors import (
    PeerUpgradeError,
    RefusedError,
    SuspendedError,
    UnavailableError,
)
from peerupgrade.http.view import Finding, Ledger, NodeEvent
from peerupgrade.ports import Store, Traffic
from peerupgrade.runtime.doctor import examine
from peerupgrade.runtime.driver import Driver, Ports, Program, wait_at_most
from peerupgrade.runtime.guards import Guards
from peerupgrade.runtime.health import Check, Checks
from peerupgrade.runtime.hooks import Hooks, OnActing
from peerupgrade.runtime.serving import serve
from peerupgrade.runtime.steps import Register, Steps
from peerupgrade.runtime.turns import LookAtStep, ReadInstalled, RunStep, TurnSteps
from peerupgrade.runtime.waiters import Waiters
from peerupgrade.runtime.world import connected
from peerupgrade.settings import Settings, check_name

log = logging.getLogger("peerupgrade")

_LEDGER_TIMEOUT_S = 1.5
_EVENTS_MAX = 1000
_STEER_TRIES = 10
_OFTEN = Probing()


class Node:
    """One node of the cluster.

    Args:
        settings: how it is set up.
    """

    def __init__(self, settings: Settings) -> None:
        installed, lowest = supported(settings.installed, settings.lowest_supported)
        self.settings = settings
        self._config = NodeConfig(
            id=settings.name,
            installed=installed,
            lowest=lowest,
            lease_s=settings.lease_s,
            lease_margin_s=settings.guard_max_s,
            address=settings.address,
            zone=settings.zone,
            labels=dict(settings.labels),
            bootstrap_expect=settings.bootstrap_expect,
            quarantine_s=settings.quarantine_s,
        )
        self._hooks = Hooks()
        self._steps = Steps()
        self._turns = TurnSteps(installed)
        self._checks = Checks()
        self._guards = Guards()
        self._collections: dict[str, Collection] = {}
        self._latency = Latency()
        self._stack = AsyncExitStack()
        self._http = AsyncExitStack()
        self._waiters = Waiters()
        self._listeners: set[asyncio.Queue[NodeEvent]] = set()
        self._watchers: list[Callable[[], None]] = []
        self._known: Snapshot | None = None
        self._known_at_ms = 0
        self._silent_since_s: float | None = None  # the store, when it was last asked for `why`
        self._stopping = False
        # Set by `start`.
        self._core: CoreNode
        self._driver: Driver
        self._ports: Ports
        self._links: list[RedisLink]

    # --- life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start, and wait until the node operates."""
        await self.start()
        try:
            await self.operating_now()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drain and leave, as `on_stop` says."""
        await self.stop()

    async def start(self) -> None:
        """Begin: connect, and ask for admission. Returns at once.

        Raises:
            ConfigError: the state directory is in use, or no server can be started.
            DataError: what the node remembers cannot be read.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        self._ports, self._links = await self._stack.enter_async_context(connected(self.settings))
        transport = self._ports.transport
        gossiping = None
        if transport is not None:
            found = tuple(await resolve(self.settings.join))
            gossiping = GossipConfig(transport.address, found)
        formats = {name: one.formats for name, one in self._collections.items()}
        known = {name: one.names for name, one in formats.items()}
        self._core = CoreNode(
            config=replace(
                self._config,
                collections=known,
                steps=self._steps.versions,
                installs=self._turns.installs,
                gossip=gossiping.address if gossiping else "",
            ),
            lock=MastershipConfig(len(self._ports.locks), self.settings.lock_ttl_s),
            memory=self._ports.disk.load(),
            rng=SystemRandom(),
            pace=Pace(full=self.settings.conversion_pace == "full"),
            probing=self._checks.probing,
            gossiping=gossiping,
        )
        program = Program(
            self._hooks, self._steps, self._turns, self._checks, formats, self._latency
        )
        self._driver = Driver(self._core, self._ports, program, self._guards, self._after_input)
        self._driver.start()
        if transport is not None:
            await transport.start(self._driver.heard_packet)

    async def serve(self) -> str:
        """Answer the commands of operators, as an agent does; after `start`, until `stop`.

        Returns:
            The URL; "" if `listen` is empty.

        Raises:
            ConfigError: the address cannot be used.
        """
        return await serve(self, self._http)

    async def stop(self, *, leave: bool | None = None) -> None:
        """Drain, hand mastership over, and leave or stay as away; then close.

        Args:
            leave: True to leave, False to stay a member that is away; None: as `on_stop` says.
        """
        if self._stopping:
            return
        self._stopping = True
        if leave is None:
            leave = self.settings.on_stop == "leave"
        try:
            await self._http.aclose()
            if hasattr(self, "_driver"):
                await self._say_farewell(leave)
        finally:
            if hasattr(self, "_driver"):
                await self._driver.close()
            await self._stack.aclose()

    async def _say_farewell(self, leave: bool) -> None:
        """Drain and tell the store, within `stop_timeout_s` together."""
        timeout_s = self.settings.stop_timeout_s
        deadline_s = self._ports.clock.now_s() + timeout_s
        self._driver.feed(Resign())
        self._driver.feed(SetAway(True))  # from here no new operation begins
        if not await wait_at_most(self._guards.drained(None), timeout_s):
            log.warning("operations were still under way after %.0f s", timeout_s)
        self._driver.feed(Stop(leave))
        rest_s = max(1.0, deadline_s - self._ports.clock.now_s())
        if not await wait_at_most(self._wait_stopped(), rest_s):
            log.warning(
                "%s: the store did not confirm the end: the node is still a member, and blocks"
                " until it comes back or is excluded",
                self.settings.name,
            )

    async def _wait_stopped(self) -> None:
        await self._driver.stopped.wait()

    async def operating_now(self) -> None:
        """Wait until the node operates.

        Raises:
            RefusedError: the cluster does not admit it; the text says what would let it in.
            UnavailableError: the store did not answer for `start_timeout_s`.
            ConfigError: the store refuses this node's credentials.
        """
        timeout_s = self.settings.start_timeout_s or None
        answered = self._until(lambda: self._core.membership.view is not None)
        try:
            await asyncio.wait_for(answered, timeout_s)
        except TimeoutError:
            failure = self._core.membership.store_failure or "the store does not answer"
            raise UnavailableError(failure, hint="start it, or give another --store") from None
        await self._until(lambda: self._core.membership.operating is not None)

    async def _until(self, reached: Callable[[], bool]) -> None:
        error = await self._error_before(reached)
        if error is not None:
            raise error

    async def _error_before(self, reached: Callable[[], bool]) -> BaseException | None:
        """Wait; what ended the node first, kept at that moment: soon it may be stopped as well."""
        error: BaseException | None = None

        def over() -> bool:
            nonlocal error
            if reached():
                return True
            error = self._ended()
            return error is not None

        await self._waiters.until(over)
        return error

    def _ended(self) -> BaseException | None:
        """Why the node will not go on by itself; None while it may."""
        if self._driver.broken is not None:
            return self._driver.broken
        membership = self._core.membership
        if membership.state is NodeState.REFUSED and membership.refusal is not None:
            config = membership.config
            return explain(membership.refusal, config.id, config.installed, config.lowest)
        if membership.state is NodeState.EXCLUDED:
            return RefusedError(f"node {self.settings.name!r}: {membership.reason}")
        if self._driver.stopped.is_set() and not self._stopping:
            return UnavailableError("the node has stopped")
        return None

    async def ended(self) -> BaseException:
        """Wait until the node will not go on by itself, and say why."""
        error = await self._error_before(lambda: False)
        assert error is not None
        return error

    # --- for the application ----------------------------------------------------------------------

    @property
    def acting(self) -> str | None:
        """The acting version of the newest record that this node knows; None before there is one.

        What this node may do is another question: see `operating` and `is_active`.
        """
        record = self._core.membership.record
        return str(record.acting) if record and record.acting else None

    @property
    def operating(self) -> str | None:
        """The version that this node behaves as; None while it is suspended."""
        version = self._operating()
        return str(version) if version else None

    def _operating(self) -> Version | None:
        membership = self._core.membership
        lease_s = self.settings.lease_s
        if lease_s and self._ports.clock.now_s() >= membership.lease_deadline_s:
            return None  # R6: the clock is asked, not a timer
        return membership.operating

    def is_active(self, version: str) -> bool:
        """May this node write and send what `version` brought?

        Raises:
            VersionError: the version cannot be read.
        """
        operating = self._operating()
        return operating is not None and operating >= parse_version(version)

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[str]:
        """Mark one operation; gives the version that it must behave as from first to last.

        The node confirms a newer version only when operations of the older one have ended, so an
        operation must not last longer than `guard_max_s`.

        Raises:
            SuspendedError: the node may not operate now.
        """
        version = self._operating()
        if version is None or self._stopping:
            reason = self._core.membership.reason or "its lease has ended"
            raise SuspendedError(f"node {self.settings.name!r} does not operate: {reason}")
        with self._guards.running(version):
            yield str(version)

    async def settled(self, version: str, timeout_s: float | None = None) -> None:
        """Wait until every member has confirmed `version` or a newer one.

        Raises:
            TimeoutError: it took longer.
            RefusedError: this node was refused or excluded meanwhile.
        """
        wanted = parse_version(version)

        def reached(record: ClusterRecord) -> bool:
            return record.acting is not None and record.acting >= wanted and record.settled

        await self._record_is(reached, timeout_s)

    async def migrated(self, version: str, timeout_s: float | None = None) -> None:
        """Wait until all shared data is in the format of `version` or newer.

        Raises:
            TimeoutError, RefusedError: as for `settled`.
        """
        wanted = parse_version(version)

        def reached(record: ClusterRecord) -> bool:
            return record.data is not None and record.data >= wanted

        await self._record_is(reached, timeout_s)

    async def _record_is(
        self, reached: Callable[[ClusterRecord], bool], timeout_s: float | None
    ) -> None:
        def holds() -> bool:
            record = self._core.membership.record
            return record is not None and reached(record)

        await asyncio.wait_for(self._until(holds), timeout_s)

    def collection(self, name: str) -> Collection:
        """Shared data of this name; its formats are registered before the node starts.

        Raises:
            ConfigError: the name cannot be used.
        """
        if name not in self._collections:
            check_name("collection", name)
            access = Access(self._store, self._writer_now, self._latency)
            self._collections[name] = Collection(name, access)
        return self._collections[name]

    def _store(self) -> Store:
        if not hasattr(self, "_ports"):
            raise UnavailableError("the node has not been started")
        return self._ports.store

    def _writer_now(self) -> tuple[Origin, Version] | None:
        """Who a write of shared data is by, and the version that it is made at."""
        if not hasattr(self, "_core"):
            return None
        operating, origin = self._operating(), self._core.membership.origin
        return (origin, operating) if operating is not None and origin is not None else None

    def on_acting(self, callback: OnActing) -> OnActing:
        """Decorator: run `callback(version, previous)` before the node operates at a version.

        It runs also for the first one (`previous` is None) and when the node resumes. If it fails
        the node stays where it is, says why, and tries again. May be async.
        """
        return self._hooks.on_acting(callback)

    def before(self, version: str, *, name: str = "") -> Register:
        """Decorator: run `async step(context)` once, before the acting version rises to `version`.

        It runs on the master, begins again from its last checkpoint on the next one should that
        die, and keeps the version from rising until it has succeeded: see `StepContext`.

        Args:
            version: of the release that needs it; one that is left out by a raise counts, too.
            name: under which its progress is kept; by default that of the function.

        Raises:
            ConfigError: the name cannot be used, or is that of another step of the version.
        """
        return self._steps.register(Phase.BEFORE, version, name)

    def migration(self, version: str, *, name: str = "") -> Register:
        """Decorator: the same once all operate at `version`; the data version waits for it.

        It is for shared data that is in no collection, and pauses with the conversion of those.
        """
        return self._steps.register(Phase.MIGRATION, version, name)

    def on_turn(self, step: str, *, look: LookAtStep | None = None) -> Callable[[RunStep], RunStep]:
        """Decorator: run `callback(context)` for one step of this node's turn in a rollout.

        The steps are `drain`, `install`, `restart`, `verify` and `undrain`. The callback may be
        async, and gives None or a text that is shown. If it fails the rollout pauses and says why.
        It is not called again for a step that ended. Without one for `install` a person installs.

        Args:
            step: its name.
            look: whether a step was done that the end of this process cut short: True, False (then
                it runs again), or None for "nothing can say", and then a person decides. By
                default `install` is done if the version is, `restart` if this process has started
                since, and `verify` runs again.

        Raises:
            ConfigError: there is no such step, or it has a callback already.
        """

        def add(run: RunStep) -> RunStep:
            self._turns.register(step, run, look)
            return run

        return add

    def on_health(self, check: Check, probing: Probing = _OFTEN) -> Check:
        """Decorator: ask `check()` now and then whether this node's program is well.

        It is well unless the callback raises an error, says False, or does not answer in time; it
        may be async. A rollout gives another version only to a node that is well, goes on after
        its turn only once it is well again, and does what its strategy says about one that is
        worse for the new version.

        Args:
            check: the callback; several may be registered.
            probing: how often it is asked, and how many answers make a difference.

        Raises:
            ConfigError: another callback is asked in another way.
        """
        self._checks.register(check, probing)
        return check

    def installed_by(self, read: ReadInstalled) -> None:
        """How an agent reads the installed and the lowest supported version after each step."""
        self._turns.read_by(read)

    def installed_changed(self, installed: str, lowest_supported: str | None = None) -> None:
        """Other software is installed on this node now.

        Raises:
            ConfigError: a version cannot be read, or they exclude each other; nothing changes.
        """
        now = supported(installed, lowest_supported or self.settings.lowest_supported)
        self._driver.feed(InstalledChanged(*now))

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher()` whenever something may have changed."""
        self._watchers.append(watcher)

    def tell(self, event: str, detail: str) -> None:
        """Put something that happened beside the node into the log and the event stream."""
        self._tell(Emit(event, detail))

    def reached_at(self, address: str) -> None:
        """Where others reach this node, unless the settings say so; shown from its admission on."""
        if not self.settings.address:
            self._core.membership.config = replace(self._core.membership.config, address=address)

    # --- for operators: what the HTTP interface shows ---------------------------------------------

    def status(self) -> NodeStatus:
        """What the node can say at once, from its memory."""
        return node_status(self._core, self._ports.clock.now_s())

    def live(self) -> bool:
        """True while the driver runs."""
        return not self._driver.stopped.is_set()

    def gossip(self) -> GossipView | None:
        """What its gossip knows; None: the node does not gossip."""
        gossip = self._core.gossip
        if gossip is None:
            return None
        return look(self.settings.name, gossip, self._ports.clock.now_s())

    def traffic(self) -> Traffic | None:
        """What its gossip has sent and heard; None: the node does not gossip."""
        transport = self._ports.transport
        return None if transport is None else transport.traffic

    async def ledger(self) -> Ledger:
        """Ask the store, for a short while; without an answer, what was known last."""
        note, live = "", False
        try:
            reply = await asyncio.wait_for(self._ports.store.call(ReadAll()), _LEDGER_TIMEOUT_S)
        except (TimeoutError, PeerUpgradeError) as error:
            note = str(error) or "it did not answer in time"
        else:
            if isinstance(reply, All):
                live = True
                self._known, self._known_at_ms = reply.snapshot, unix_ms()
            elif isinstance(reply, Failed):
                note = reply.reason
        now_ms = self._known.now_ms if self._known and live else unix_ms()
        now_s = self._ports.clock.now_s()
        self._silent_since_s = None if live else (self._silent_since_s or now_s)
        status = self.status()
        silent_s = now_s - (self._silent_since_s or now_s)
        status = replace(status, store_silent_s=max(status.store_silent_s, silent_s))
        blockers = local_blockers(status, now_ms, live)
        seen = self.gossip()
        if self._known is not None:
            silent = seen.silent if seen is not None else ()
            known = whole_ledger(self._known, now_ms, silent)
            blockers = with_leases(known, self._known, now_ms) + blockers
        if seen is not None:
            blockers = with_gossip(blockers, seen)
        if note:
            note = f"the store does not answer ({note}); this is what was known last"
        return Ledger(tuple(blockers), live, self._known_at_ms or unix_ms(), note, self._known)

    async def history(self, count: int) -> list[dict[str, str]]:
        """The newest `count` entries of the history, newest first.

        Raises:
            UnavailableError: the store does not answer.
        """
        return await self._ports.store.history(count)

    async def change(self, request: OperatorRequest | Resolve) -> Reply:
        """Ask the store for a change.

        Raises:
            KeyError: there is no member of this name.
            RefusedError: a rule forbids it.
            UnavailableError: the store does not answer; it may or may not have been done.
        """
        return self._taken(request, await self._ports.store.call(request))

    async def steer(self, asked: Steering) -> Reply:
        """Start a rollout, or say how it goes on.

        Raises:
            KeyError: there is no member of this name.
            RefusedError: it cannot be done as things are.
            UnavailableError: as for `change`.
            VersionError: the version cannot be read.
        """
        for _ in range(_STEER_TRIES):  # the master writes the record, too
            known = await self._ports.store.call(ReadAll())
            if not isinstance(known, All):
                raise UnavailableError("the store does not answer", hint="try again when it does")
            if not known.snapshot.verified:
                raise unverified()
            request = steer(known.snapshot, asked)
            reply = await self._ports.store.call(request)
            if not isinstance(reply, Conflict):
                return self._taken(request, reply)
        raise RefusedError("the cluster record keeps changing", rule="busy", hint="try again")

    def _taken(self, request: OperatorRequest | Resolve, reply: Reply) -> Reply:
        """The reply, if it is what was asked for."""
        config = self._core.membership.config
        match reply:
            case Done() | Resolved():
                return reply
            case Refused():
                subject = getattr(request, "id", config.id)
                raise explain(reply, subject, config.installed, config.lowest)
            case Failed(reason):
                raise UnavailableError(
                    reason, hint="it may or may not have been done: look before trying again"
                )
            case Conflict():
                raise RefusedError("the member has changed meanwhile", hint="look again")
            case NotMember():
                assert isinstance(request, Exclude | TakeSlot)
                raise KeyError(request.id)
            case _:
                raise unverified()

    async def pause(self, by: str, reason: str) -> None:
        """Keep the conversion of shared data from going on; everyone sees by whom and why.

        Raises:
            RefusedError, UnavailableError: as for `change`.
        """
        await self.change(SetHold(by, reason, what="pause"))

    async def resume(self, by: str) -> None:
        """End a pause.

        Raises:
            RefusedError, UnavailableError: as for `change`.
        """
        await self.change(ReleaseHold(by, what="pause"))

    async def resolve(self, collection: str, key: str, verdict: str, by: str) -> int:
        """Say what becomes of records that could not be converted.

        Args:
            collection: its name.
            key: of one record; "": all that are parked.
            verdict: `retry`, `skip` (set aside, unconverted) or `delete`.
            by: who says so.

        Returns:
            How many records that was.

        Raises:
            RefusedError, UnavailableError: as for `change`.
        """
        reply = await self.change(Resolve(collection, key, verdict, by))
        assert isinstance(reply, Resolved)
        return reply.count

    async def exclude(self, name: str, by: str, reason: str, confirm_stopped: bool) -> None:
        """Remove the member of this name.

        Raises:
            KeyError: there is no such member.
            RefusedError, UnavailableError: as for `change`.
        """
        reply = await self._ports.store.call(ReadAll())
        if not isinstance(reply, All):
            raise UnavailableError("the store does not answer", hint="try again when it does")
        incarnation = reply.snapshot.members[name].incarnation
        await self.change(Exclude(name, by, reason, confirm_stopped, incarnation))

    async def resign(self) -> bool:
        """Give mastership to another node; False: this node is not master."""
        if not self._core.mastership.holding:
            return False
        self._driver.feed(Resign())
        return True

    async def set_away(self, away: bool) -> None:
        """Stop serving while software is replaced, or serve again."""
        self._driver.feed(SetAway(away))
        if away:
            await self._guards.drained(None)

    async def wait_newer(self, revision: int, timeout_s: float) -> ClusterRecord | None:
        """The newest record once it is newer than `revision`, or whatever is known by then."""

        def is_newer() -> bool:
            record = self._core.membership.record
            return record is not None and record.revision > revision

        await wait_at_most(self._waiters.until(is_newer), timeout_s)
        return self._core.membership.record

    def events(self) -> AsyncIterator[NodeEvent]:
        """Everything that happens from this call on; the oldest are dropped if nobody reads."""
        queue: asyncio.Queue[NodeEvent] = asyncio.Queue(_EVENTS_MAX)
        self._listeners.add(queue)
        return self._listen(queue)

    async def _listen(self, queue: asyncio.Queue[NodeEvent]) -> AsyncIterator[NodeEvent]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    async def rehearse(self, version: str, sample: int = 1000) -> list[Rehearsal]:
        """Convert some records of each collection to the format of `version`, into nothing.

        Args:
            version: that is installed here, or older.
            sample: so many of each collection.

        Raises:
            RefusedError: this node's program has no codecs for it; the text says who has.
            UnavailableError: the store does not answer.
            VersionError: the version cannot be read.
        """
        wanted, ledger = parse_version(version), await self.ledger()
        if not ledger.live or ledger.snapshot is None:
            raise UnavailableError("the records cannot be read", hint=ledger.note)
        counted = ledger.snapshot.collections
        missing = [name for name, one in counted.items() if one.counts and not self._knows(name)]
        if missing or self._core.membership.config.installed < wanted:
            raise self._cannot_rehearse(wanted, missing, ledger.snapshot)
        return [
            await rehearse(
                one.formats, self._ports.store, wanted, dict(counted[name].counts), sample
            )
            for name, one in sorted(self._collections.items())
            if name in counted
        ]

    def _knows(self, collection: str) -> bool:
        known = self._collections.get(collection)
        return known is not None and bool(known.formats.names)

    def _cannot_rehearse(
        self, wanted: Version, missing: list[str], snapshot: Snapshot
    ) -> RefusedError:
        what = f"has {self._core.membership.config.installed} installed, which knows no {wanted}"
        if missing:
            what = f"runs without the program that has the codecs of {', '.join(missing)}"
        able = [
            member.id
            for member in snapshot.members.values()
            if member.installed >= wanted
            and set(missing) <= member.collections.keys()
            and member.collections
        ]
        hint = f"start a program with {wanted} that registers them and calls `await node.serve()`"
        if able:
            hint = f"ask one that can: --node {' or --node '.join(sorted(able))}"
        return RefusedError(f"{self.settings.name} {what}", rule="no_codecs", hint=hint)

    async def doctor(self) -> list[Finding]:
        """Examine what this node depends on."""
        return await examine(self._links, self._ports.store)

    # --- after each input -------------------------------------------------------------------------

    def _after_input(self, emitted: Sequence[Emit]) -> None:
        for event in emitted:
            self._tell(event)
        record = self._core.membership.record
        if record is None or not record.converting:
            self._latency.at_rest()
        self._waiters.look()
        for watcher in self._watchers:
            watcher()

    def _tell(self, event: Emit) -> None:
        log.info("%s: %s %s", self.settings.name, event.event, event.detail)
        record = self._core.membership.record
        happened = NodeEvent(
            unix_ms(),
            self.settings.name,
            event.event,
            event.detail,
            record.revision if record else 0,
        )
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(happened)
