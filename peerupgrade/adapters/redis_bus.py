"""Pub/sub of a Redis or Valkey server.

Theory of operation: what is heard is a hint, never the truth. Messages are lost whenever the
connection is, so after each subscription `Subscribed` is heard, and whoever listens reads what it
has missed. A server that hangs keeps its connections open, so silence is answered by a PING, and
another silence by a new connection. While the master's beats come there is no silence.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Protocol

from peerupgrade.adapters.redis_link import RedisLink, redis_errors
from peerupgrade.adapters.redis_scripts import Keys, cancellable
from peerupgrade.core.requests import Heard, Subscribed
from peerupgrade.errors import PeerUpgradeError, UnavailableError
from peerupgrade.wire import heard_from_text

_log = logging.getLogger(__name__)

_BACKOFF_S = (0.05, 2.0)


class _Wire(Protocol):
    """What is used of the library's connection: much less than its own subscriber does."""

    async def send_command(self, *args: str, check_health: bool) -> None: ...

    async def read_response(
        self, disable_decoding: bool, timeout: float, *, disconnect_on_error: bool
    ) -> list[bytes] | None: ...


class RedisBus:
    """`ports.Bus` over a Redis or Valkey server.

    Args:
        link: to the server.
        cluster: the name of the cluster.
        ping_s: after so much silence a PING is sent; after as much again the connection is dropped.
    """

    def __init__(self, link: RedisLink, cluster: str, *, ping_s: float = 1.0) -> None:
        self._link = link
        self._keys = Keys(cluster)
        self._ping_s = ping_s

    async def listen(self, hear: Callable[[Heard], None], *, members: bool) -> None:
        """Listen until cancelled, and connect again whenever that is needed.

        Args:
            hear: called for everything heard, and with `Subscribed` after each (re)subscription.
            members: listen to the members' channel instead of the record's.
        """
        channel = self._keys.members_channel if members else self._keys.record_channel
        low_s, high_s = _BACKOFF_S
        failures = 0

        def hear_one(heard: Heard) -> None:
            nonlocal failures
            failures = 0
            hear(heard)

        while True:
            try:
                await self._listen_once(channel, hear_one)
            except PeerUpgradeError as error:
                failures += 1
                if failures == 1:
                    _log.warning("%s", error)
            wait_s = min(high_s, low_s * 2 ** min(failures - 1, 10))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _listen_once(self, channel: str, hear: Callable[[Heard], None]) -> None:
        """Until the connection is lost."""
        with cancellable() as check_cancelled, redis_errors(self._link.url, "listen"):
            async with aclosing(await self._link.connect(single=True)) as client:
                wire: _Wire | None = client.connection
                assert wire is not None
                await wire.send_command("SUBSCRIBE", channel, check_health=False)
                while True:
                    check_cancelled()
                    match await self._next(wire):
                        case [b"message", _, text]:
                            heard = heard_from_text(text)
                            if heard is not None:
                                hear(heard)
                        case [b"subscribe", *_]:
                            hear(Subscribed())
                        case _:
                            pass  # a sign of life

    async def _next(self, wire: _Wire) -> list[bytes]:
        """The next thing that the server says, if need be after asking for a sign of life."""
        said = await self._read(wire)
        if said is None:
            await wire.send_command("PING", check_health=False)
            said = await self._read(wire)
        if said is None:
            raise UnavailableError(
                f"cannot listen: {self._link.url} has said nothing for {2 * self._ping_s:g} s",
                hint="see whether the server hangs or the network drops packets",
            )
        return said

    async def _read(self, wire: _Wire) -> list[bytes] | None:
        """None after too long a silence; nothing of what comes later is lost by that."""
        return await wire.read_response(True, self._ping_s, disconnect_on_error=False)
