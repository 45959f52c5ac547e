"""Clients of etcd that watch one key, in one process, as anybody would write them with aetcd."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import aetcd

from benchmarks.workers import obey

_KEY = b"/bench/acting"


class Worker:
    """What the lines ask for."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._clients: list[aetcd.Client] = []
        self._watching: list[asyncio.Task[None]] = []
        self._seen_s: list[float] = []
        self._puts = 0

    async def watch(self, port: int, count: int) -> int:
        """So many watchers, each with a connection of its own."""
        for _ in range(count):
            client = await self._stack.enter_async_context(aetcd.Client(port=port, timeout=30))
            watch = await client.watch(_KEY)
            self._clients.append(client)
            self._watching.append(asyncio.create_task(self._follow(watch)))
        return count

    async def _follow(self, watch: aetcd.rtypes.Watch) -> None:
        async for _ in watch:
            self._seen_s.append(time.monotonic())

    async def put(self) -> float:
        """Change the key; gives the moment before."""
        self._puts += 1
        began_s = time.monotonic()
        await self._clients[0].put(_KEY, b"2.%d" % self._puts)
        return began_s

    async def seen(self) -> list[float]:
        """When they saw a change; they begin anew."""
        seen_s, self._seen_s = self._seen_s, []
        return seen_s


if __name__ == "__main__":
    obey(Worker)
