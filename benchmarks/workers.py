"""Processes that hold several nodes, watchers or subscribers, and are told what to do by lines.

One JSON object a line goes in, one comes out. All times are of CLOCK_MONOTONIC, which all processes
of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvloop

_LINE_BYTES_MAX = 2**24


class WorkerProcess:
    """One process of a module that calls `obey`.

    Args:
        module: its name.
        names: of what it shall hold.
    """

    def __init__(self, module: str, names: Sequence[str]) -> None:
        self.module, self.names = module, list(names)
        self.process: asyncio.subprocess.Process
        self.answers = True  # False while it was killed or stopped on purpose
        self._asking = asyncio.Lock()

    async def start(self) -> None:
        """Begin the process."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self.module,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES_MAX,
        )  # fmt: skip

    async def ask(self, do: str, **what: Any) -> Any:
        """One line, and its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self._asking:
            self.process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.names[0]} has ended: see its message above")
        return json.loads(line)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def kill(self) -> None:
        """End it at once; harmless if it has ended."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def workers(
    module: str, shares: Sequence[Sequence[str]]
) -> AsyncIterator[list[WorkerProcess]]:
    """One process for each share of names that is not empty; all are ended at the end."""
    made = [WorkerProcess(module, share) for share in shares if share]
    try:
        await asyncio.gather(*(worker.start() for worker in made))
        yield made
    finally:
        await asyncio.gather(*(one.kill() for one in made if hasattr(one, "process")))


async def ask_all(asked: Sequence[WorkerProcess], do: str, **what: Any) -> list[Any]:
    """The same line to each that answers; the answers in their order."""
    return list(await asyncio.gather(*(one.ask(do, **what) for one in asked if one.answers)))


def shared(names: Sequence[str], processes: int) -> list[list[str]]:
    """Divide names among processes."""
    return [list(names[at::processes]) for at in range(processes)]


def obey(make: type) -> None:
    """What the main program of a worker does: make one object, and call its methods by name."""
    uvloop.run(_obey(make))


async def _obey(make: type) -> None:
    worker = make()
    reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        ask = json.loads(line)
        answer = await getattr(worker, ask.pop("do"))(**ask)
        print(json.dumps(answer), flush=True)
