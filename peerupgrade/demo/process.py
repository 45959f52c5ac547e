"""The operating-system processes of the demo: none may outlive it."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from asyncio.subprocess import Process as Child
from collections.abc import Mapping, Sequence
from pathlib import Path

from peerupgrade.adapters.embedded import die_with_parent
from peerupgrade.errors import PeerUpgradeError

_STOP_S = 5.0
_FIRST_LINE_S = 60.0
_LOG_LINES = 5


class DemoError(PeerUpgradeError):
    """When: the demo could not go on. State after: it ends everything. What to do: as it says."""


class Process:
    """One process, and the file that has what it says."""

    def __init__(self, what: str, child: Child, log: Path) -> None:
        self.what = what
        self._child = child
        self._log = log
        self._wanted = True

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    def check(self) -> None:
        """Nothing may end by itself.

        Raises:
            DemoError: it did.
        """
        if self._wanted and self._child.returncode is not None:
            raise DemoError(
                f"{self.what} has ended with status {self._child.returncode}", hint=self._said()
            )

    def _said(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-_LOG_LINES:]) or "its log is empty"

    async def first_line(self) -> str:
        """What it says on stdout when it is ready.

        Raises:
            DemoError: it says nothing.
        """
        assert self._child.stdout is not None
        try:
            line = await asyncio.wait_for(self._child.stdout.readline(), _FIRST_LINE_S)
        except TimeoutError:
            line = b""
        if not line:
            raise DemoError(f"{self.what} did not become ready", hint=self._said())
        return line.decode().strip()

    def reload(self) -> None:
        """SIGHUP."""
        self._child.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        self._wanted = False
        if self._child.returncode is None:
            self._child.terminate()
        try:
            await asyncio.wait_for(self._child.wait(), _STOP_S)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL."""
        self._wanted = False
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()


class Processes:
    """Every process that the demo has started."""

    def __init__(self) -> None:
        self._all: list[Process] = []

    @property
    def pids(self) -> list[int]:
        """Of all, in the order in which they were started, whether they run or not."""
        return [process.pid for process in self._all]

    async def start(
        self, what: str, argv: Sequence[str], *, log: Path, environment: Mapping[str, str]
    ) -> Process:
        """Start one, in the directory of its log."""
        with log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                *argv,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=errors,
                cwd=log.parent,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the demo only, which ends them in order
                preexec_fn=die_with_parent(os.getpid()),
            )
        process = Process(what, child, log)
        self._all.append(process)
        return process

    def check(self) -> None:
        """As `Process.check`, for all of them."""
        for process in self._all:
            process.check()

    async def stop(self) -> None:
        """End all of them at the same time."""
        await asyncio.gather(*(process.stop() for process in self._all))
