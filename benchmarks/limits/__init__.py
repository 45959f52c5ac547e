"""How fast a bare PUBLISH is: what nothing that is built on it can beat.

Two kinds of subscribers are there: those of the library, in the same processes as the nodes, and
minimal ones in C.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from benchmarks.peers import end, said
from benchmarks.workers import WorkerProcess, ask_all
from peerupgrade.adapters.redis_link import parse_store_url

HOW_TO_GET = "apt install gcc libc6-dev"
_CHANNEL = "bench:redis-py"
_READERS_CHANNEL = "bench:reader"
_PAYLOAD = b"x" * 1000  # about as much as a record takes
_TIMEOUT_S = 20.0


def has_compiler() -> bool:
    """Whether there can be readers in C."""
    return shutil.which("cc") is not None


def readable(store: str) -> bool:
    """Whether readers in C can reach this store: by TCP, without TLS."""
    url = parse_store_url(store)
    return url.kind == "tcp" and not url.tls


@asynccontextmanager
async def readers(
    store: str, count: int, processes: int, folder: Path
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Subscribers in C; they end with the block."""
    program = folder / "reader"
    if not program.exists():
        source = Path(__file__).with_name("reader.c")
        compiling = await asyncio.create_subprocess_exec("cc", "-O2", "-o", program, source)
        if await compiling.wait():
            raise RuntimeError(f"{source} cannot be compiled: see above")
    url = parse_store_url(store)
    host, port = url.hosts[0]
    auth = f"{url.username} {url.password}".strip()
    made = []
    async with AsyncExitStack() as stack:
        for number in range(processes):
            share = count // processes + (number < count % processes)
            if not share:
                continue
            reader = await asyncio.create_subprocess_exec(
                program, host, str(port), auth, _READERS_CHANNEL, str(share),
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            stack.push_async_callback(end, reader)
            made.append(reader)
        for reader in made:
            await said(reader, "reader")
        yield made


async def to_last_reader(client: Redis, made: Sequence[asyncio.subprocess.Process]) -> float:
    """Seconds from a PUBLISH until the last reader in C has it."""
    began_s = time.monotonic()
    await client.publish(_READERS_CHANNEL, _PAYLOAD)
    last = await asyncio.gather(*(said(reader, "reader") for reader in made))
    return max(int(one) for one in last) / 1e9 - began_s


async def subscribe(store: str, workers: Sequence[WorkerProcess], count: int) -> None:
    """So many subscribers of the library, shared among the workers."""
    shares = [len(range(count)[at :: len(workers)]) for at in range(len(workers))]
    for worker, share in zip(workers, shares, strict=True):
        await worker.ask("subscribe", store=store, channel=_CHANNEL, count=share)


async def to_last_subscriber(
    client: Redis, workers: Sequence[WorkerProcess], count: int, wait_s: float
) -> float:
    """Seconds from a PUBLISH until the last subscriber of the library has it.

    Nobody is asked before `wait_s`, because asking takes time of those who hear.
    """
    began_s = time.monotonic()
    await client.publish(_CHANNEL, _PAYLOAD)
    heard_s: list[float] = []
    async with asyncio.timeout(_TIMEOUT_S):
        while len(heard_s) < count:
            await asyncio.sleep(wait_s)
            heard_s += [at for one in await ask_all(workers, "heard") for at in one]
    return max(heard_s) - began_s
