"""Pub/sub of a Redis or Valkey server.

Theory of operation: what is heard is a hint, never the truth. Messages are lost whenever the
connection is, so after each subscription `Subscribed` is heard, and whoever listens reads what it
has missed. A server that hangs keeps its connections open, so silence is answered by a PING, and
another silence by a new connection. While the master's beats come there is no silence.

They do not come on the members' channel, to which only the master listens. What is lost there the
master finds out by its next beat, which names the members' revision; so little is asked there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from peerupgrade.adapters.redis_line import Connection
from peerupgrade.adapters.redis_link import RedisLink, redis_errors
from peerupgrade.adapters.redis_scripts import Keys, cancellable
from peerupgrade.core.requests import Heard, Subscribed
from peerupgrade.errors import PeerUpgradeError, UnavailableError
from peerupgrade.wire import heard_from_text

_log = logging.getLogger(__name__)

_BACKOFF_S = (0.05, 2.0)
_MEMBERS_TIMES = 10


class RedisBus:
    """`ports.Bus` over a Redis or Valkey server.

    Args:
        link: to the server.
        cluster: the name of the cluster.
        ping_s: after so much silence a PING is sent; after as much again the connection is dropped.
            More than passes between two beats. On the members' channel it is ten times that.
    """

    def __init__(self, link: RedisLink, cluster: str, *, ping_s: float = 1.5) -> None:
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
        ping_s = self._ping_s * (_MEMBERS_TIMES if members else 1)
        low_s, high_s = _BACKOFF_S
        failures = 0

        def hear_one(heard: Heard) -> None:
            nonlocal failures
            failures = 0
            hear(heard)

        while True:
            try:
                await self._listen_once(channel, hear_one, ping_s)
            except PeerUpgradeError as error:
                failures += 1
                if failures == 1:
                    _log.warning("%s", error)
            wait_s = min(high_s, low_s * 2 ** min(failures - 1, 10))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _listen_once(
        self, channel: str, hear: Callable[[Heard], None], ping_s: float
    ) -> None:
        """Until the connection is lost."""
        with cancellable() as check_cancelled, redis_errors(self._link.url, "listen"):
            async with aclosing(await self._link.connect()) as client:
                check_cancelled()
                subscription = _Subscription(hear, client)
                subscription.send(b"SUBSCRIBE", channel)
                await self._watch(subscription, ping_s)

    async def _watch(self, subscription: _Subscription, ping_s: float) -> None:
        """Until the connection is lost, or gives no sign of life."""
        loop, pinged_at_s = asyncio.get_running_loop(), 0.0
        while not subscription.lost.done():
            now_s, heard_at_s = loop.time(), subscription.heard_at_s
            wait_s = max(heard_at_s, pinged_at_s) + ping_s - now_s
            if wait_s <= 0 and pinged_at_s > heard_at_s:
                raise UnavailableError(
                    f"cannot listen: {self._link.url} has said nothing for"
                    f" {now_s - heard_at_s:.1f} s",
                    hint="see whether the server hangs or the network drops packets",
                )
            if wait_s <= 0:
                subscription.send(b"PING")
                pinged_at_s, wait_s = now_s, ping_s
            await asyncio.wait([subscription.lost], timeout=wait_s)
        raise subscription.lost.result()


class _Subscription(Connection):
    """What is heard on a subscribed connection.

    Attributes:
        heard_at_s: when the last bytes came, by the event loop's clock.
    """

    def __init__(self, hear: Callable[[Heard], None], client: Redis) -> None:
        super().__init__(client, "")
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self.heard_at_s = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """Bytes came, whatever they say: the server is alive."""
        self.heard_at_s = self._loop.time()
        super().data_received(data)

    def said(self, reply: Any) -> None:
        """A message, or the answer to a command."""
        match reply:
            case [b"message", _, text]:
                heard = heard_from_text(text)
                if heard is not None:
                    self._hear(heard)
            case [b"subscribe", *_]:
                self._hear(Subscribed())
            case RedisError():
                self.lose(reply)
            case _:
                pass  # the answer to a PING
