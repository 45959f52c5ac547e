"""Real agents, `python -m peerupgrade node`, and what one of them costs at rest."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from peerupgrade.adapters.embedded import EmbeddedServer

_FORMED_TIMEOUT_S = 120.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def agents(count: int) -> AsyncIterator[list[int]]:
    """The pids of so many agents that operate; all are ended at the end."""
    with tempfile.TemporaryDirectory(prefix="peerupgrade-bench-") as home:
        server = EmbeddedServer(Path(home) / "store")
        await server.start()
        directories = {name: Path(home) / name for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME")}
        for directory in directories.values():
            directory.mkdir(mode=0o700)
        environment = {
            **os.environ,
            **{name: str(directory) for name, directory in directories.items()},
            "PEERUPGRADE_STORE": server.url,
        }
        started: list[asyncio.subprocess.Process] = []
        try:
            started += [await _agent(f"a{number}", count, environment) for number in range(count)]
            await _formed(count, environment)
            yield [one.pid for one in started]
        finally:
            for one in started:
                if one.returncode is None:
                    one.kill()
            await asyncio.gather(*(one.wait() for one in started))
            await server.stop()


async def _agent(name: str, count: int, environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "peerupgrade", "node", "--name", name, "--installed", "1.0",
        "--bootstrap-expect", str(count), env=environment,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def _formed(count: int, environment: dict[str, str]) -> None:
    async with asyncio.timeout(_FORMED_TIMEOUT_S):
        while True:
            asking = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "peerupgrade", "members", "--node", "a0", "-o", "json",
                env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            said, _ = await asking.communicate()
            members = json.loads(said)["members"] if said.strip() else []
            if sum(member["operating"] is not None for member in members) == count:
                return


async def cpu_share(pids: Sequence[int], length_s: float) -> float:
    """The share of one core that each of these processes takes, on average."""
    before, began_s = sum(map(_cpu_s, pids)), time.monotonic()
    await asyncio.sleep(length_s)
    took_s = time.monotonic() - began_s
    return (sum(map(_cpu_s, pids)) - before) / took_s / len(pids)


def memory_mib(pids: Sequence[int]) -> float:
    """Resident memory of the largest."""
    return max(int(_stat(pid)[21]) * _PAGE_BYTES for pid in pids) / 2**20


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """What follows the name of the program in /proc/PID/stat."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
