"""A line to the store's primary that is made anew after any error.

Whoever meets an error drops the line, so that the next request makes another one; it is closed only
when nothing is under way on it any more, so that what was asked before may still be answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from peerupgrade.adapters.redis_line import Line
from peerupgrade.adapters.redis_link import RedisLink, redis_errors
from peerupgrade.errors import PeerUpgradeError, UnavailableError


@dataclass(slots=True)
class _Shared:
    """A line, the client that closes it, and how many requests are under way on it."""

    line: Line
    client: Redis
    under_way: int = 0
    dropped: bool = False


class StoreClient:
    """A line to the link's primary: made when it is needed, dropped after any error.

    Args:
        link: to the server.
        timeout_s: for each answer.
        binary: answers are bytes instead of text.
    """

    def __init__(self, link: RedisLink, *, timeout_s: float, binary: bool = False) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._binary = binary
        self._shared: _Shared | None = None
        self._closed = False
        self._connecting = asyncio.Lock()

    @asynccontextmanager
    async def use(self, doing: str) -> AsyncIterator[Line]:
        """The line, for one thing that is done with it.

        Raises:
            UnavailableError: as for the link, and once this client was closed.
            ConfigError: as for the link.
        """
        shared = self._shared
        if shared is None or shared.line.lost.done():
            shared = await self._connected(doing)
        shared.under_way += 1
        try:
            with redis_errors(self._link.url, doing):
                yield shared.line
        except PeerUpgradeError:
            shared.dropped = True
            raise
        finally:
            shared.under_way -= 1
            if shared.dropped:
                await self._drop(shared)

    async def _connected(self, doing: str) -> _Shared:
        async with self._connecting:
            if self._closed:
                raise UnavailableError(f"cannot {doing}: the connection was closed")
            if self._shared is not None and self._shared.line.lost.done():  # while it was idle
                await self._drop(self._shared)
            if self._shared is None:
                client = await self._link.connect(timeout_s=self._timeout_s)
                line = Line(client, self._timeout_s, binary=self._binary)
                self._shared = _Shared(line, client)
            return self._shared

    async def aclose(self) -> None:
        """Close the connections, each when the last request on it is answered."""
        async with self._connecting:
            self._closed = True
            if self._shared is not None:
                await self._drop(self._shared)

    async def _drop(self, shared: _Shared) -> None:
        shared.dropped = True
        if self._shared is shared:  # not one that was made meanwhile
            self._shared = None
        if not shared.under_way:
            with suppress(RedisError, OSError):  # it may be broken already
                await shared.client.aclose()
