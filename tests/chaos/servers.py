"""The servers of a run: a store with a replica, two more lock servers, and what befalls them.

Everyone reaches the store through a proxy of their own, which a failover points elsewhere, as a
name service or a virtual address would.
"""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from peerupgrade.adapters.embedded import EmbeddedServer, find_server
from tests.support.proxy import Proxy

PASSWORD = "secret-of-the-chaos"
_TIMEOUT_S = 15.0
_LOOK_AGAIN_S = 0.02


def address(server):
    parts = urlsplit(server.url)
    return parts.hostname, parts.port


def url_of(proxy):
    return f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}"


class Server:
    """One server, and an administrator's connection that no proxy disturbs."""

    def __init__(self, directory, binary):
        extra = [f"masterauth {PASSWORD}", "repl-diskless-sync-delay 0"]
        if binary.name == "valkey" or binary.version >= (7,):
            extra.append("enable-debug-command yes")
        self.embedded = EmbeddedServer(
            directory, binary=binary, tcp=True, password=PASSWORD, extra_config=extra
        )

    def client(self):
        host, port = address(self.embedded)
        return Redis(
            host=host,
            port=port,
            password=PASSWORD,
            socket_timeout=_TIMEOUT_S,
            decode_responses=True,
        )

    async def ask(self, *command):
        async with self.client() as client:
            return await client.execute_command(*command)

    async def pause(self, pause_s):
        """The process stands still."""
        os.kill(self.embedded.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(pause_s)
        finally:
            os.kill(self.embedded.pid, signal.SIGCONT)

    async def restart(self, down_s):
        """It dies, and comes back on the same files."""
        await self.embedded.kill()
        await asyncio.sleep(down_s)
        await self.embedded.start()


class Servers:
    """All of them; an async context manager.

    Attributes:
        store: where the cluster record is now.
        replica: the other one of the pair.
        locks: the two further lock servers.
    """

    def __init__(self, directory):
        binary = find_server()
        self.binary = str(binary)
        names = ("store", "replica", "lock1", "lock2")
        self._all = [Server(Path(directory) / name, binary) for name in names]
        self.store, self.replica, *self.locks = self._all
        self._store_proxies = []
        self._stack = AsyncExitStack()

    async def __aenter__(self):
        for server in self._all:
            await self._stack.enter_async_context(server.embedded)
        await self.replicate()
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()

    async def proxies(self, stack):
        """A way of one's own to the store and to each lock server; closed with the stack."""
        made = [
            await stack.enter_async_context(Proxy(address(server.embedded)))
            for server in (self.store, *self.locks)
        ]
        self._store_proxies.append(made[0])
        stack.callback(self._store_proxies.remove, made[0])
        return made

    async def replicate(self):
        """Make the other one of the pair a replica, and wait until it has everything."""
        host, port = address(self.store.embedded)
        await self.replica.ask("REPLICAOF", host, port)
        async with asyncio.timeout(_TIMEOUT_S):
            while (await self.replica.ask("INFO", "replication"))["master_link_status"] != "up":
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def fail_over(self, *, lag_s):
        """The replica takes the store's place, without what was written in the last `lag_s`.

        Args:
            lag_s: how long before that the replica hears nothing any more.

        Returns:
            The old store, on the files that it had; `replicate` makes it forget what is lost.
        """
        old, new = self.store, self.replica
        await new.ask("REPLICAOF", "NO", "ONE")
        await asyncio.sleep(lag_s)
        await old.embedded.kill()
        self.store, self.replica = new, old
        for proxy in self._store_proxies:
            proxy.point_at(address(new.embedded))
        await old.embedded.start()  # nobody is led to it any more
        return old
