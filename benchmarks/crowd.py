"""A cluster of real nodes in several processes, and a store: for what is measured with many."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from redis.asyncio import Redis

from benchmarks.peers import memory
from benchmarks.workers import WorkerProcess, ask_all, shared, workers
from peerupgrade.adapters.embedded import EmbeddedServer

ALONE_MAX = 20  # so many nodes at most are each a process of their own
PROCESSES = 2
_CONNECTIONS_MAX = 20_000
_FORMED_S, _FORMED_EACH_S = 60.0, 0.1
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A store, and a folder for what nodes remember. `server` is None if it is another's."""

    url: str
    home: Path
    server: EmbeddedServer | None
    mark: str = field(default_factory=lambda: f"bench-{token_hex(4)}")

    def new_cluster(self) -> str:
        """A name that no other one has."""
        return f"{self.mark}-{token_hex(4)}"

    async def clean(self) -> None:
        """Leave nothing of these clusters in the store."""
        async with Redis.from_url(self.url) as client:
            async for key in client.scan_iter(f"pu:{{{self.mark}-*", count=1000):
                await client.delete(key)


@asynccontextmanager
async def store_place(url: str) -> AsyncIterator[StorePlace]:
    """The store of this URL; "": a server of one's own, by TCP, as between machines."""
    async with AsyncExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="peerupgrade-bench-", dir=memory())
        home = Path(stack.enter_context(folder))
        if url:
            place = StorePlace(url, home, None)
            stack.push_async_callback(place.clean)
            yield place
            return
        extra = [f"maxclients {_CONNECTIONS_MAX}", "tcp-backlog 4096"]
        server = EmbeddedServer(home / "store", tcp=True, extra_config=extra)
        await stack.enter_async_context(server)
        yield StorePlace(server.url, home, server)


@dataclass(frozen=True, slots=True)
class Crowd:
    """The nodes. The last of them is upgraded last."""

    names: Sequence[str]
    workers: Sequence[WorkerProcess]
    place: StorePlace
    client: Redis

    async def ask(self, do: str, **what: Any) -> list[Any]:
        """The same to all processes."""
        return await ask_all(self.workers, do, **what)

    async def install(self, names: Sequence[str], version: str) -> float:
        """Other software on some nodes; gives the moment of the last."""
        moments = [
            await worker.ask("install", names=own, version=version)
            for worker in self.workers
            if (own := [name for name in worker.names if name in names])
        ]
        return max(moments)

    async def all_operate(self, version: str) -> None:
        """Wait until all do."""

        async def reached() -> bool:
            return all(one == version for share in await self.ask("operating") for one in share)

        await self.until(reached, f"operate at {version}")

    async def complete(self, version: str) -> None:
        """Wait until all know that an upgrade is over."""

        async def reached() -> bool:
            return all(await self.ask("complete", version=version))

        await self.until(reached, f"know that {version} is complete")

    async def marks(self, version: str) -> dict[str, dict[str, float]]:
        """Of each node."""
        return {
            k: v for share in await self.ask("marks", version=version) for k, v in share.items()
        }

    async def until(self, reached: Callable[[], Awaitable[bool]], what: str) -> None:
        """Ask again and again."""
        try:
            async with asyncio.timeout(_FORMED_S + _FORMED_EACH_S * len(self.names)):
                while not await reached():
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise RuntimeError(f"not all of {len(self.names)} nodes {what} in time") from None


@asynccontextmanager
async def gathered(
    place: StorePlace, count: int, processes: int = PROCESSES, *, whole: bool = False
) -> AsyncIterator[Crowd]:
    """The processes of a cluster; `form` begins its nodes.

    Up to `ALONE_MAX` whole nodes are each a process of their own.
    """
    names = [f"n{number:04}" for number in range(count)]
    alone = whole and count <= ALONE_MAX
    shares = shared(names, count if alone else min(processes, count))
    async with workers("benchmarks.nodes", shares) as made, Redis.from_url(place.url) as client:
        yield Crowd(names, made, place, client)


async def begin(
    crowd: Crowd, worker: WorkerProcess, names: Sequence[str], cluster: str, **settings: Any
) -> None:
    """Some nodes of one process; until they have begun."""
    asked = {
        "installed": "1.0",
        "whole": False,
        "at_once": False,
        "home": str(crowd.place.home / cluster),
    }
    asked |= {"store": crowd.place.url, "cluster": cluster, **settings}
    await worker.ask("make", names=list(names), **asked)


async def form(crowd: Crowd, **settings: Any) -> str:
    """Begin all nodes, and wait until they operate at 1.0; gives the cluster's name."""
    cluster = crowd.place.new_cluster()
    settings["bootstrap_expect"] = len(crowd.names)
    await asyncio.gather(
        *(begin(crowd, one, one.names, cluster, **settings) for one in crowd.workers)
    )
    await crowd.all_operate("1.0")
    return cluster
