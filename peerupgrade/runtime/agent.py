"""The `node` command: a node beside a program that is written in whatever language.

SIGTERM and SIGINT end it in order (a second one at once), SIGHUP reads the installed version again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TypeAlias

from peerupgrade.core.health import Probing
from peerupgrade.errors import ExitCode, PeerUpgradeError
from peerupgrade.runtime.health import Check
from peerupgrade.runtime.hooks import OnActing
from peerupgrade.runtime.node import Node
from peerupgrade.runtime.supervised import Supervised
from peerupgrade.runtime.turns import LookAtStep, ReadInstalled, RunStep
from peerupgrade.settings import Settings

log = logging.getLogger("peerupgrade")


TurnSteps: TypeAlias = Mapping[str, tuple[RunStep, LookAtStep | None]]
Health: TypeAlias = tuple[Sequence[Check], Probing]
NOT_PROBED: Health = ((), Probing())


def run_agent(
    settings: Settings,
    read_installed: ReadInstalled,
    on_acting: OnActing | None = None,
    turn_steps: TurnSteps | None = None,
    health: Health = NOT_PROBED,
    program: Supervised | None = None,
) -> ExitCode:
    """Run until a signal or the cluster ends it.

    Args:
        settings: of the node.
        read_installed: gives the installed and the lowest supported version; at each SIGHUP again.
        on_acting: run before the node operates at a version.
        turn_steps: what is done in the node's turn of a rollout, by the name of the step.
        health: what is asked whether the program is well, and how.
        program: that the agent runs.

    Raises:
        PeerUpgradeError: why the node could not go on.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        steps = turn_steps or {}
        agent = _Agent(settings, read_installed, on_acting, steps, health, program)
        return runner.run(agent.run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Agent:
    def __init__(
        self,
        settings: Settings,
        read_installed: ReadInstalled,
        on_acting: OnActing | None,
        turn_steps: TurnSteps,
        health: Health,
        program: Supervised | None,
    ) -> None:
        self._settings = settings
        self._on_acting = on_acting
        self._turn_steps = turn_steps
        self._health = health
        self._program = program
        self._read_installed = read_installed
        self._signalled = asyncio.Event()
        self._reading = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()
        self._node: Node

    async def run(self) -> ExitCode:
        self._catch_signals()
        async with AsyncExitStack() as stack:
            self._node = Node(self._settings)
            if self._program is not None:
                self._node.on_acting(self._program.set_acting)
            if self._on_acting is not None:
                self._node.on_acting(self._on_acting)
            self._node.installed_by(self._read_installed)
            for step, (run, look) in self._turn_steps.items():
                self._node.on_turn(step, look=look)(run)
            checks, probing = self._health
            for check in checks:
                self._node.on_health(check, probing)
            stack.push_async_callback(self._node.stop)
            await self._node.start()
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
            url = await self._node.serve()
            if url:
                log.info("%s: %s", self._settings.name, url)
            if self._program is not None:
                self._program.start(self._node, url)
                stack.push_async_callback(self._program.stop)
            # What is there now stays: to look through it all takes as long as a whole raise.
            gc.freeze()
            running = asyncio.create_task(self._run_node())
            signalled = asyncio.create_task(self._signalled.wait())
            await asyncio.wait((running, signalled), return_when=asyncio.FIRST_COMPLETED)
            signalled.cancel()
            running.cancel()
            (outcome,) = await asyncio.gather(running, return_exceptions=True)
            if isinstance(outcome, BaseException) and not isinstance(
                outcome, asyncio.CancelledError
            ):
                raise outcome
        log.info("%s: stopped", self._settings.name)
        return ExitCode.OK

    async def _run_node(self) -> None:
        await self._node.operating_now()
        raise await self._node.ended()

    # --- signals ----------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # until there is a node

    def _end(self) -> None:
        if self._signalled.is_set():
            sys.stderr.write("peerupgrade: stopped at once, without leaving the cluster\n")
            if self._program is not None:
                self._program.kill()
            os._exit(ExitCode.INTERRUPTED)
        self._signalled.set()

    def _reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._read_again())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _read_again(self) -> None:
        try:
            async with self._reading:  # the later signal has the last word
                if self._program is not None:
                    installed, _ = await self._program.reload()
                else:
                    installed, lowest = await self._read_installed()
                    self._node.installed_changed(installed, lowest)
        except PeerUpgradeError as error:
            log.error("the installed version stays as it was: %s", error)  # noqa: TRY400
        else:
            log.info("%s: installed %s", self._settings.name, installed)
