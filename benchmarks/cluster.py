"""A node in this process and a server of its own, for benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

import peerupgrade
from peerupgrade.adapters.embedded import EmbeddedServer

Register = Callable[[peerupgrade.Node], object]


class Place:
    """A server, and a directory for the node's memory."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self._directory = directory

    @asynccontextmanager
    async def node(
        self, installed: str, register: Register, pace: str = "adaptive"
    ) -> AsyncIterator[peerupgrade.Node]:
        """One node that operates, and stays a member when it ends."""
        node = peerupgrade.Node(
            peerupgrade.Settings(
                name="bench",
                installed=installed,
                store=self.url,
                state_dir=str(self._directory / "state"),
                quarantine_s=0.0,
                on_stop="stay",
                conversion_pace=pace,
            )
        )
        register(node)
        async with node:
            yield node

    @asynccontextmanager
    async def bare(self) -> AsyncIterator[Redis]:
        """The library's own client, as anybody would make it."""
        client = Redis.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    """Everything is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="peerupgrade-bench-") as home:
        server = EmbeddedServer(Path(home) / "store")
        await server.start()
        try:
            yield Place(server.url, Path(home))
        finally:
            await server.stop()
