"""The program that an agent runs: it runs while its node operates, and where a turn verifies it.

Theory of operation: one task starts the program when it may run, and stops it when it may not.

    it may      while the node operates, and, once its turn in a rollout has restarted it, while the
                node is away: no acting version passes a member that is away
    it may not  while the node is suspended, or has left to get other software

The installed version is read before each start, the node is told of it, and it does not change for
the node while the program runs: so what the cluster knows of is what runs. A program that has died
is started again after a pause that grows while it keeps dying.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from peerupgrade.adapters.embedded import die_with_parent
from peerupgrade.core.membership import NodeState
from peerupgrade.errors import ConfigError, PeerUpgradeError
from peerupgrade.runtime.driver import wait_at_most
from peerupgrade.runtime.programs import kill_session, split_command, start_program
from peerupgrade.runtime.turns import (
    LookAtStep,
    ReadInstalled,
    RunStep,
    TurnContext,
    call,
    limited,
)
from peerupgrade.runtime.waiters import Waiters

if TYPE_CHECKING:
    from peerupgrade.runtime.node import Node

log = logging.getLogger("peerupgrade")

_PAUSE_S = (0.5, 30.0)
_STEADY_S = 60.0  # whoever has run for so long begins with the short pause again
_SETTLE_S = 1.0  # whoever ends sooner after its restart has failed to start
_VERSION = "{version}"


class Supervised:
    """The program.

    Args:
        command: split as a shell would; `{version}` in it is the installed version.
        stop_s: how long it may take to end after SIGTERM; then it is killed.
        step_s: how long its restart may take in a turn, and how long verifying it.
        acting_file: has the acting version in it from before the node confirms that.
        read_installed: gives the installed and the lowest supported version.

    Raises:
        ConfigError: the command cannot be split.
    """

    def __init__(
        self,
        command: str,
        stop_s: float,
        step_s: float,
        acting_file: Path,
        read_installed: ReadInstalled,
    ) -> None:
        self._where = f"run {command!r}"
        self._argv = split_command(self._where, command)
        self._stop_s, self._step_s = stop_s, step_s
        self._acting_file = acting_file
        self._read = read_installed
        self._waiters = Waiters()
        self._process: Process | None = None
        self._versions: tuple[str, str] | None = None  # of what runs
        self._acting: str | None = None  # that the program was told last
        self._in_turn = False  # its turn has restarted it, and is not over
        self._holding = 0  # so many want it to be stopped
        self._over = False
        self._ends = 0  # how often it has ended, or did not start, without being asked to
        self._last_end = ""
        # Set by `start`.
        self._node: Node
        self._url: str
        self._task: asyncio.Task[None]

    # --- life -------------------------------------------------------------------------------------

    def start(self, node: Node, url: str) -> None:
        """Run the program whenever it may run.

        Args:
            node: that has been started.
            url: of its HTTP interface; "" if it has none.
        """
        self._node, self._url = node, url
        node.watch(self._look)
        self._task = asyncio.get_running_loop().create_task(self._supervise())

    async def stop(self) -> None:
        """Stop it for good."""
        self._over = True
        self._look()
        await self._task

    def set_acting(self, version: str, _previous: str | None) -> None:
        """Tell it, before the node operates at a version."""
        self._acting = version
        self._write_acting(version)

    def _write_acting(self, version: str) -> None:
        new = self._acting_file.with_suffix(".new")
        new.write_text(f"{version}\n", encoding="utf-8")
        new.replace(self._acting_file)

    def kill(self) -> None:
        """SIGKILL, when the agent ends at once."""
        if self._process is not None:
            kill_session(self._process)

    # --- what is installed ------------------------------------------------------------------------

    async def read_installed(self) -> tuple[str, str]:
        """The installed and the lowest supported version: of what runs, if it does.

        Raises:
            PeerUpgradeError: it cannot be found out.
        """
        return self._versions or await self._read()

    async def reload(self) -> tuple[str, str]:
        """Read them anew; if they are others the program is stopped before the node is told.

        Raises:
            PeerUpgradeError: it cannot be found out; nothing has changed.
        """
        versions = await self._read()
        if versions != self._versions:
            async with self._stopped():
                self._node.installed_changed(*versions)
        return versions

    # --- its turn in a rollout --------------------------------------------------------------------

    def turn_steps(
        self, steps: Mapping[str, tuple[RunStep, LookAtStep | None]]
    ) -> dict[str, tuple[RunStep, LookAtStep | None]]:
        """The steps of a turn with what must happen to the program in them.

        Raises:
            ConfigError: something else restarts it.
        """
        if "restart" in steps:
            raise ConfigError(
                "run and another way to restart are given",
                hint="the program that --run starts is restarted by it: take the other one away",
            )
        found = dict(steps)
        if "install" in steps:
            found["install"] = (self._with_install(steps["install"][0]), steps["install"][1])
        verify = self._with_verify(steps.get("verify", (_nothing, None))[0])
        found["restart"] = (self._limited("restart", self._restart), lambda _context: False)
        found["verify"] = (self._limited("verify", verify), None)
        return found

    def _limited(self, step: str, run: RunStep) -> RunStep:
        """The program may take as long to start as a step may take."""
        return limited(run, f"{step} of {self._where}", self._step_s)

    def _with_install(self, install: RunStep) -> RunStep:
        async def run(context: TurnContext) -> str | None:
            self._in_turn = False
            self._look()
            await self._waiters.until(lambda: self._process is None)
            return await call(install, context)

        return run

    def _with_verify(self, verify: RunStep) -> RunStep:
        async def run(context: TurnContext) -> str | None:
            await self._start_in_turn()  # if another agent restarted it, it ended with that
            ends = self._ends
            said = await call(verify, context)
            self._check_ends(ends)
            return said

        return run

    async def _restart(self, _context: TurnContext) -> str:
        async with self._stopped():
            pass
        await self._start_in_turn()
        return f"{self._where} runs"

    async def _start_in_turn(self) -> None:
        """Wait until it runs, and has not ended at once."""
        if self._process is not None and self._in_turn:
            return
        ends, self._in_turn = self._ends, True
        self._look()
        try:
            await self._waiters.until(lambda: self._process is not None or self._ends > ends)
            await wait_at_most(self._waiters.until(lambda: self._ends > ends), _SETTLE_S)
            self._check_ends(ends)
        except (ConfigError, asyncio.CancelledError):  # it took too long
            self._in_turn = False
            self._look()
            raise

    def _check_ends(self, before: int) -> None:
        if self._ends > before:
            raise ConfigError(f"{self._where} {self._last_end}", hint="see what it said in the log")

    # --- the task ---------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._node.operating is not None:
            self._in_turn = False
        self._waiters.look()

    def _may_run(self) -> bool:
        if self._holding or self._over:
            return False
        in_turn = self._in_turn and self._node.status().state is NodeState.AWAY
        return in_turn or self._node.operating is not None

    @asynccontextmanager
    async def _stopped(self) -> AsyncIterator[None]:
        self._holding += 1
        try:
            self._look()
            await self._waiters.until(lambda: self._process is None)
            yield
        finally:
            self._holding -= 1
            self._look()

    async def _supervise(self) -> None:
        shortest_s, longest_s = _PAUSE_S
        pause_s, loop = shortest_s, asyncio.get_running_loop()
        while not self._over:
            await self._waiters.until(lambda: self._may_run() or self._over)
            began_s, ends = loop.time(), self._ends
            try:
                await self._run_once()
            except (PeerUpgradeError, OSError) as error:
                self._has_ended(f"does not start: {error}")
            if self._ends == ends:
                pause_s = shortest_s
                continue
            if loop.time() - began_s >= _STEADY_S:
                pause_s = shortest_s
            self._node.tell("program", f"{self._last_end}; it may start again in {pause_s:g} s")
            stopped = await wait_at_most(self._waiters.until(lambda: not self._may_run()), pause_s)
            pause_s = shortest_s if stopped else min(longest_s, pause_s * 2)

    async def _run_once(self) -> None:
        """From its start to its end."""
        versions = await self._read()
        self._node.installed_changed(*versions)
        if not self._may_run():
            return  # the node may not operate with what is installed now
        self._versions = versions
        try:
            process = await self._started(versions[0])
            exited = asyncio.get_running_loop().create_task(process.wait())
            exited.add_done_callback(lambda _task: self._waiters.look())
            self._process = process
            self._node.tell("program", f"{versions[0]} runs as process {process.pid}")
            await self._waiters.until(lambda: exited.done() or not self._may_run())
            if exited.done():
                kill_session(process)  # nothing that it has started is in the way of the next one
                self._has_ended(f"has ended with status {exited.result()}")
            else:
                await self._end(process, exited)
        finally:
            self._process = self._versions = None
            self._look()

    async def _started(self, installed: str) -> Process:
        acting = self._acting or self._node.acting
        variables = {"PEERUPGRADE_ACTING_FILE": str(self._acting_file)}
        if acting is not None:
            self._write_acting(acting)  # by an earlier agent, it may be lost
            variables["PEERUPGRADE_ACTING"] = acting
        if self._url:
            variables["PEERUPGRADE_URL"] = self._url
        return await start_program(
            self._where,
            [word.replace(_VERSION, installed) for word in self._argv],
            stdout=sys.stderr.fileno(),
            stderr=None,
            variables=variables,
            before=die_with_parent(os.getpid()),
        )

    async def _end(self, process: Process, exited: asyncio.Task[int]) -> None:
        """SIGTERM to the program; SIGKILL to what is left of it and of all that it has started."""
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        done, _ = await asyncio.wait((exited,), timeout=self._stop_s)
        kill_session(process)
        status = await exited
        how = f"with status {status}" if done else f"killed after {self._stop_s:g} s"
        self._node.tell("program", f"was stopped: {how}")

    def _has_ended(self, how: str) -> None:
        self._last_end = how
        self._ends += 1
        self._waiters.look()


def _nothing(_context: TurnContext) -> None:
    """What verifies a program that nobody has given a way to verify."""
