"""One lock server in Redis or Valkey.

Theory of operation: a call never takes longer than `lock_timeout_s`, whatever the server does. The
connection is made by a task of its own, which goes on when a call has given up, so that the next
call finds it. After any error the connection is dropped, because only a new one notices that the
server was restarted: a server that may have forgotten a lock in a restart does not vote before all
that it could have forgotten have ended (R30).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from peerupgrade.adapters.redis_line import Line
from peerupgrade.adapters.redis_link import RedisLink, ServerFacts, preflight, redis_errors
from peerupgrade.adapters.redis_scripts import Keys, Script, cancellable
from peerupgrade.core.mastership import lock_timeout_s
from peerupgrade.core.requests import Acquire, Extend, LockReply, LockRequest, Release
from peerupgrade.errors import PeerUpgradeError

_log = logging.getLogger(__name__)

_SCRIPTS: Mapping[type[LockRequest], Script] = {
    Acquire: Script("lock_acquire"),
    Extend: Script("lock_extend"),
    Release: Script("lock_release"),
}
_UPTIME_ERROR_S = 1.0  # a server counts its uptime in whole seconds


@dataclass(frozen=True, slots=True)
class _Voter:
    """A connected server; `votes_at_s` by the event loop's clock."""

    line: Line
    client: Redis
    votes_at_s: float


class RedisLockServer:
    """`ports.LockServer` over a Redis or Valkey server.

    Args:
        link: to the server.
        cluster: the name of the cluster.
        ttl_s: of the lock, as every node has it.
        is_store: it is the store itself, where everyone listens.
    """

    def __init__(self, link: RedisLink, cluster: str, *, ttl_s: float, is_store: bool) -> None:
        self._link = link
        self._keys = Keys(cluster)
        self._channel = self._keys.record_channel if is_store else ""
        self._ttl_s = ttl_s
        self._timeout_s = lock_timeout_s(ttl_s)
        self._connection: asyncio.Task[_Voter] | None = None
        self._asking = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._trouble = ""

    async def call(self, request: LockRequest) -> LockReply:
        """Do one request, at most once; `answered` is False when no answer came in time."""
        try:
            async with asyncio.timeout(self._timeout_s), self._asking:
                with cancellable():
                    reply = await self._call(request)
        except PeerUpgradeError as error:
            self._warn(str(error))
        except TimeoutError:
            self._warn(f"{self._link.url} does not answer within {self._timeout_s:g} s")
        else:
            self._trouble = ""
            return reply
        return LockReply(False, answered=False)

    async def aclose(self) -> None:
        """Close the connection."""
        self._drop()
        await asyncio.gather(*self._closing)

    async def _call(self, request: LockRequest) -> LockReply:
        if self._connection is None:
            self._connection = asyncio.create_task(self._connect())
            self._connection.add_done_callback(self._forget_failed)
        # Shielded: making the connection goes on when this call has given up.
        voter = await asyncio.shield(self._connection)
        try:
            return await self._ask(voter, request)
        except BaseException:
            self._drop()  # a late answer may still come on it
            raise

    async def _connect(self) -> _Voter:
        client = await self._link.connect()
        try:
            with redis_errors(self._link.url, "ask the lock server what it is"):
                facts = await preflight(client)
        except BaseException:
            await client.aclose()
            raise
        rest_s = _rest_s(facts, self._ttl_s)
        votes_at_s = asyncio.get_running_loop().time() + rest_s
        return _Voter(Line(client, self._timeout_s), client, votes_at_s)

    def _forget_failed(self, connection: asyncio.Task[_Voter]) -> None:
        failed = connection.cancelled() or connection.exception() is not None
        if failed and self._connection is connection:
            self._connection = None

    async def _ask(self, voter: _Voter, request: LockRequest) -> LockReply:
        rest_s = voter.votes_at_s - asyncio.get_running_loop().time()
        if isinstance(request, Acquire) and rest_s > 0:
            return LockReply(False, remaining_ms=round(rest_s * 1000) + 1)
        keys = [self._keys.lock, self._keys.epoch, self._keys.record]
        with redis_errors(self._link.url, "ask the lock server"):
            granted, remaining_ms, epoch = await voter.line.run(
                _SCRIPTS[type(request)], keys, *self._arguments(request)
            )
        return LockReply(bool(granted), int(remaining_ms), int(epoch))

    def _arguments(self, request: LockRequest) -> list[str]:
        match request:
            case Acquire(token, ttl_ms):
                return [token, str(ttl_ms)]
            case Extend(token, ttl_ms, epoch):
                return [token, str(ttl_ms), str(epoch), self._channel]
            case Release(token):
                return [token, self._channel]

    def _warn(self, trouble: str) -> None:
        """Say it once, not at every attempt."""
        if trouble != self._trouble:
            _log.warning("%s", trouble)
        self._trouble = trouble

    def _drop(self) -> None:
        """Forget the connection, and close it without waiting for that."""
        connection, self._connection = self._connection, None
        if connection is not None:
            closing = asyncio.create_task(_close(connection))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _rest_s(facts: ServerFacts, ttl_s: float) -> float:
    """How long a server may not vote yet, because of a lock that it may have forgotten."""
    if facts.appendonly and facts.appendfsync == "always":
        return 0.0
    return max(0.0, ttl_s + _UPTIME_ERROR_S - facts.uptime_s)


async def _close(connection: asyncio.Task[_Voter]) -> None:
    if not connection.done():
        connection.cancel()
    with suppress(asyncio.CancelledError, PeerUpgradeError, RedisError, OSError):
        await (await connection).client.aclose()
