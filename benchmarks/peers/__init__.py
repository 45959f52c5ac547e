"""What others do, measured in the same run."""

from __future__ import annotations

import asyncio
import os
import socket

_MEMORY = "/dev/shm"
_SAID_TIMEOUT_S = 30.0


def memory() -> str | None:
    """Where a folder is in memory; None: nowhere, so it will be on a disk.

    All nodes of one machine would share its disk, which real ones do not.
    """
    return _MEMORY if os.access(_MEMORY, os.W_OK) else None


def free_port() -> int:
    """A port of loopback that nobody had a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def end(process: asyncio.subprocess.Process) -> None:
    """At once; harmless if it has ended."""
    if process.returncode is None:
        process.kill()
    await process.wait()


async def said(process: asyncio.subprocess.Process, what: str) -> str:
    """The next line of a process that tells something; `what` it is called.

    Raises:
        RuntimeError: it has ended.
    """
    assert process.stdout is not None
    async with asyncio.timeout(_SAID_TIMEOUT_S):
        line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a {what} has ended: see its message above")
    return line.decode()
