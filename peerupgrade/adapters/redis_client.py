"""A client of the store's primary that is made anew after any error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from peerupgrade.adapters.redis_link import RedisLink, redis_errors
from peerupgrade.errors import PeerUpgradeError


class StoreClient:
    """A client of the link's primary: made when it is needed, dropped after any error.

    Args:
        link: to the server.
        single: one connection of its own instead of a pool.
        timeout_s: for each answer.
        binary: answers are bytes instead of text.
    """

    def __init__(
        self, link: RedisLink, *, single: bool, timeout_s: float, binary: bool = False
    ) -> None:
        self._link = link
        self._single = single
        self._timeout_s = timeout_s
        self._binary = binary
        self._client: Redis | None = None
        self._connecting = asyncio.Lock()

    @asynccontextmanager
    async def use(self, doing: str) -> AsyncIterator[Redis]:
        """The client, for one thing that is done with it.

        Raises:
            UnavailableError, ConfigError: as for the link.
        """
        client = self._client or await self._connected()
        try:
            with redis_errors(self._link.url, doing):
                yield client
        except PeerUpgradeError:
            if self._client is client:  # not one that was made meanwhile
                self._client = None
            await _close(client)
            raise

    async def _connected(self) -> Redis:
        async with self._connecting:
            if self._client is None:
                self._client = await self._link.connect(
                    single=self._single, timeout_s=self._timeout_s, binary=self._binary
                )
            return self._client

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await _close(client)


async def _close(client: Redis) -> None:
    with suppress(RedisError, OSError):  # it may be broken already
        await client.aclose()
