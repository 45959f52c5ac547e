"""A look into the store of a cluster, from outside of it."""

import asyncio

from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.adapters.redis_store import RedisStore
from peerupgrade.core.requests import All, ReadAll

_TIMEOUT_S = 2.0
_LOOK_AGAIN_S = 0.02


class Observer:
    """Reads the record, the members and the history."""

    def __init__(self, url, cluster):
        slot_key = Keys(cluster).record
        self.link = RedisLink(parse_store_url(url), timeout_s=_TIMEOUT_S, slot_key=slot_key)
        self.store = RedisStore(self.link, cluster)

    async def aclose(self):
        await self.store.aclose()

    async def snapshot(self):
        reply = await self.store.call(ReadAll())
        return reply.snapshot if isinstance(reply, All) else None

    async def until(self, reached, timeout_s=20.0):
        """Wait until `reached(snapshot)`; gives the snapshot."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while True:
            snapshot = await self.snapshot()
            if snapshot is not None and snapshot.record is not None and reached(snapshot):
                return snapshot
            if asyncio.get_running_loop().time() > deadline_s:
                raise AssertionError(f"not reached within {timeout_s} s: {snapshot}")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def completed(self, version, timeout_s=20.0):
        """Wait until the upgrade to `version` has ended by itself."""
        return await self.until(lambda s: has_completed(s, version), timeout_s)


def has_completed(snapshot, version):
    """True once the upgrade to `version` has ended by itself."""
    record = snapshot.record
    return (
        snapshot.verified
        and record.completion is not None
        and record.completion.version == version
        and record.upgrade is None
        and str(record.data) == version
    )
