"""Carries out what the core decides, and tells it what came of it.

Inputs are taken one at a time, in the event loop; each effect that waits for something is a task of
its own, and its result is the next input. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never

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
    PacketHeard,
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
    StepsDone,
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
from peerupgrade.core.gossip.packets import Packet
from peerupgrade.core.membership import NodeState
from peerupgrade.core.node import Node
from peerupgrade.core.record import TurnStep
from peerupgrade.core.requests import Failed, Heard, LockReply
from peerupgrade.core.versions import supported
from peerupgrade.data.formats import Formats
from peerupgrade.data.latency import Latency
from peerupgrade.errors import PeerUpgradeError
from peerupgrade.ports import Bus, Clock, Disk, LockServer, Store, Transport
from peerupgrade.runtime.guards import Guards
from peerupgrade.runtime.health import Checks
from peerupgrade.runtime.hooks import Hooks
from peerupgrade.runtime.saver import SAVER
from peerupgrade.runtime.steps import Steps
from peerupgrade.runtime.turns import TurnSteps

log = logging.getLogger("peerupgrade")


@dataclass(frozen=True, slots=True)
class Program:
    """What the application has registered.

    Attributes:
        hooks: its callbacks.
        steps: its own steps of an upgrade.
        turns: what is done on this node in its turn of a rollout.
        checks: whether it is well.
        formats: collection -> its formats.
        latency: of its own commands about shared data.
    """

    hooks: Hooks
    steps: Steps
    turns: TurnSteps
    checks: Checks
    formats: Mapping[str, Formats]
    latency: Latency


@dataclass(frozen=True, slots=True)
class Ports:
    """The world of one node. The store is lock server 0."""

    store: Store
    locks: Sequence[LockServer]
    bus: Bus
    disk: Disk
    clock: Clock
    transport: Transport | None = None  # without one the node does not gossip


class Driver:
    """Drives one core node.

    Args:
        core: the node.
        ports: its world.
        program: the application.
        guards: the operations under way.
        changed: called after every input, with the events that it emitted.
    """

    def __init__(
        self,
        core: Node,
        ports: Ports,
        program: Program,
        guards: Guards,
        changed: Callable[[Sequence[Emit]], None],
    ) -> None:
        self._core = core
        self._ports = ports
        self._hooks = program.hooks
        self._program = program
        self._guards = guards
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._members_bus: asyncio.Task[None] | None = None
        self._steps: asyncio.Task[None] | None = None
        self._switching = asyncio.Lock()
        self._saving: asyncio.Future[None] | None = None  # until the last write has ended
        self._emitted: list[Emit] = []
        self.stopped = asyncio.Event()
        self.broken: BaseException | None = None  # what ended the node against its will

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; the loop must be running."""
        self.feed(Start())
        self._spawn(self._ports.bus.listen(partial(self._heard, members=False), members=False))

    async def close(self) -> None:
        """Cancel everything and wait for its end."""
        self.stopped.set()
        for timer in self._timers.values():
            timer.cancel()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._saving is not None:
            await self._saving  # the file must not be closed under a write

    def feed(self, event: Input) -> None:
        """Give the core one input, and carry its effects out."""
        if self.stopped.is_set():
            return
        try:
            for effect in self._core.handle(self._ports.clock.now_s(), event):
                self._carry_out(effect)
        except Exception as error:  # noqa: BLE001 - whoever feeds, a timer or a socket, would go on
            self._break(error)
        emitted, self._emitted = self._emitted, []
        self._changed(emitted)

    def _break(self, error: BaseException) -> None:
        """The node cannot go on."""
        self.broken = error
        if not isinstance(error, PeerUpgradeError):
            log.critical("the node ends: an internal error", exc_info=error)
        self.stopped.set()

    def _heard(self, heard: Heard, *, members: bool) -> None:
        self.feed(HeardOn(heard, members=members))

    def heard_packet(self, packet: Packet, _source: str) -> None:
        """Another node said something."""
        self.feed(PacketHeard(packet))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._break(error)
            self._changed([])

    # --- effects ----------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case CallStore():
                self._spawn(self._call_store(effect))
            case CallLock():
                self._spawn(self._call_lock(effect))
            case SetTimer():
                self._set_timer(effect)
            case Remember(memory):
                self._remember(memory)
            case WatchMembers(on):
                self._watch_members(on)
            case Switch() | Drain() | RunSteps() | StopSteps() | ConvertRecords():
                self._in_application(effect)
            case RunTurnStep():
                self._spawn(self._run_turn_step(effect))
            case RunProbes(call):
                self._spawn(self._run_probes(call))
            case Tell(to, packet):
                assert self._ports.transport is not None, "only a node with a transport gossips"
                self._ports.transport.send(to, packet)
            case Operate() | Emit():
                self._emitted.append(_event(effect))
            case Stopped():
                self.stopped.set()
            case _:
                assert_never(effect)

    def _in_application(
        self, effect: Switch | Drain | RunSteps | StopSteps | ConvertRecords
    ) -> None:
        match effect:
            case Switch():
                self._spawn(self._switch(effect))
            case Drain(version, attempt):
                self._spawn(self._then(self._guards.drained(version), Drained(attempt)))
            case RunSteps():
                self._steps = self._spawn(self._run_steps(effect, self._steps))
            case StopSteps():
                if self._steps is not None:
                    self._steps.cancel()
            case ConvertRecords():
                asyncio.get_running_loop().call_soon(self._convert, effect)
            case _:
                assert_never(effect)

    async def _then(self, work: Awaitable[None], result: Input) -> None:
        await work
        self.feed(result)

    async def _call_store(self, call: CallStore) -> None:
        asked_s = self._ports.clock.now_s()
        try:
            reply = await self._ports.store.call(call.request)
        except PeerUpgradeError as error:
            if self._core.membership.state is NodeState.STARTING:
                raise  # it has never worked as it is set up: say so instead of trying for ever
            reply = Failed(str(error))
        self.feed(StoreReplied(call.part, call.call, reply, asked_s))

    async def _call_lock(self, call: CallLock) -> None:
        try:
            reply = await self._ports.locks[call.server].call(call.request)
        except PeerUpgradeError as error:
            log.warning("lock server %d: %s", call.server, error)
            reply = LockReply(granted=False, answered=False)
        self.feed(LockReplied(call.server, call.round, reply))

    def _set_timer(self, effect: SetTimer) -> None:
        old = self._timers.pop(effect.timer, None)
        if old is not None:
            old.cancel()
        delay_s = max(0.0, effect.at_s - self._ports.clock.now_s())
        fired = TimerFired(effect.timer, effect.token)
        loop = asyncio.get_running_loop()
        self._timers[effect.timer] = loop.call_later(delay_s, self.feed, fired)

    def _remember(self, memory: Memory) -> None:
        loop = asyncio.get_running_loop()
        self._saving = saving = loop.create_future()

        def ended(error: Exception | None) -> None:
            loop.call_soon_threadsafe(self._saved, memory, saving, error)

        SAVER.do(partial(self._ports.disk.save, memory), ended)

    def _saved(self, memory: Memory, saving: asyncio.Future[None], error: Exception | None) -> None:
        saving.set_result(None)
        match error:
            case None:
                self.feed(Remembered(memory))
            case OSError():
                self.feed(RememberFailed(error.strerror or str(error)))
            case _:
                self._break(error)
                self._changed([])

    async def _switch(self, effect: Switch) -> None:
        async with self._switching:  # callbacks of two versions never run at the same time
            try:
                await self._hooks.switch(effect.version, effect.previous)
            except Exception as error:
                log.warning("a callback for %s failed", effect.version, exc_info=error)
                self.feed(SwitchFailed(effect.attempt, f"{type(error).__name__}: {error}"))
            else:
                self.feed(Switched(effect.attempt))

    async def _run_steps(self, effect: RunSteps, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # a step never runs twice at the same time on one node
            await asyncio.wait((before,))
        job, epoch = effect.job, effect.epoch
        try:
            await self._program.steps.run(effect, self._ports.store)
        except Exception as error:
            log.warning("a step (%s) for %s failed", job.phase, job.upto, exc_info=error)
            self.feed(StepsFailed(job, epoch, f"{type(error).__name__}: {error}"))
        else:
            self.feed(StepsDone(job, epoch))

    async def _run_turn_step(self, effect: RunTurnStep) -> None:
        order, turns = effect.order, self._program.turns
        try:
            if order.work.step in (TurnStep.INSTALL, TurnStep.RESTART):
                await self._guards.drained(None)  # no operation is under way on this node
            outcome, note = await turns.run(order)
        except Exception as error:
            log.warning("%s failed", order.work.step, exc_info=error)
            outcome, note = StepOutcome.FAILED, _why(error)
        try:  # a step that failed may have installed something, too
            versions = await turns.read()
            if versions is not None:
                self.feed(InstalledChanged(*supported(*versions)))
        except Exception as error:
            log.warning("what is installed cannot be read", exc_info=error)
            if outcome is not StepOutcome.FAILED:
                outcome, note = StepOutcome.FAILED, _why(error)
        self.feed(TurnStepEnded(order, outcome, note))

    async def _run_probes(self, call: int) -> None:
        self.feed(Probed(call, await self._program.checks.run()))

    def _convert(self, effect: ConvertRecords) -> None:
        """A share is small: it occupies the loop for a few milliseconds."""
        began_s = time.perf_counter()
        formats = self._program.formats[effect.collection]
        done = formats.convert_all(effect.records, effect.target)
        took_s = time.perf_counter() - began_s
        self.feed(RecordsConverted(effect.call, done, took_s, self._program.latency.felt()))

    def _watch_members(self, on: bool) -> None:
        if self._members_bus is not None:
            self._members_bus.cancel()
            self._members_bus = None
        if on:
            hear = partial(self._heard, members=True)
            self._members_bus = self._spawn(self._ports.bus.listen(hear, members=True))


def _why(error: Exception) -> str:
    """What keeps a step of a turn from its end, for the store."""
    return str(error) if isinstance(error, PeerUpgradeError) else f"{type(error).__name__}: {error}"


def _event(effect: Operate | Emit) -> Emit:
    if isinstance(effect, Emit):
        return effect
    if effect.version is None:
        return Emit("suspended", effect.reason)
    return Emit("operates", f"at {effect.version}")


async def wait_at_most(work: Awaitable[None], timeout_s: float) -> bool:
    """Wait for something; False if it took longer."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work, timeout_s)
        return True
    return False
