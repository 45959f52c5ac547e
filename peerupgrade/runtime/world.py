"""From settings to ports: what a node is connected to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from peerupgrade.adapters.clock import BoottimeClock
from peerupgrade.adapters.disk import FileDisk
from peerupgrade.adapters.embedded import EmbeddedServer
from peerupgrade.adapters.gossip_link import gossip_link
from peerupgrade.adapters.redis_bus import RedisBus
from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_lock import RedisLockServer
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.adapters.redis_store import RedisStore
from peerupgrade.core.mastership import lock_timeout_s
from peerupgrade.runtime.driver import Ports
from peerupgrade.settings import Settings

_STORE_TIMEOUT_S = 1.0


def state_directory(settings: Settings) -> Path:
    """Where the node remembers."""
    if settings.state_dir:
        return Path(settings.state_dir)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "peerupgrade" / settings.cluster / settings.name


def store_links(settings: Settings, store_url: str) -> list[RedisLink]:
    """One link for each lock server; the first is the store itself."""
    slot_key = Keys(settings.cluster).record
    store = RedisLink(parse_store_url(store_url), timeout_s=_STORE_TIMEOUT_S, slot_key=slot_key)
    timeout_s = lock_timeout_s(settings.lock_ttl_s)
    return [
        store,
        *(
            RedisLink(parse_store_url(url), timeout_s=timeout_s, slot_key=slot_key)
            for url in settings.lock_servers
        ),
    ]


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[tuple[Ports, list[RedisLink]]]:
    """The ports of a node, and the links behind them; closed at the end.

    Without a store in the settings a server of the node's own is started, and ends with it.

    Raises:
        ConfigError: the directory is in use, or no server can be started.
        DataError: what is in the directory cannot be read.
    """
    directory = state_directory(settings)
    async with AsyncExitStack() as stack:
        disk = FileDisk(directory)
        stack.callback(disk.close)
        store_url = settings.store
        if not store_url:
            server = await stack.enter_async_context(EmbeddedServer(directory / "store"))
            store_url = server.url
        links = store_links(settings, store_url)
        store = RedisStore(
            links[0],
            settings.cluster,
            min_replicas=settings.min_replicas,
            timeout_s=_STORE_TIMEOUT_S,
        )
        stack.push_async_callback(store.aclose)
        locks = []
        for number, link in enumerate(links):
            lock = RedisLockServer(
                link, settings.cluster, ttl_s=settings.lock_ttl_s, is_store=number == 0
            )
            stack.push_async_callback(lock.aclose)
            locks.append(lock)
        # A beat comes each third of the ttl.
        bus = RedisBus(links[0], settings.cluster, ping_s=max(1.0, settings.lock_ttl_s / 2))
        transport = await stack.enter_async_context(gossip_link(settings))
        yield Ports(store, locks, bus, disk, BoottimeClock(), transport), links
