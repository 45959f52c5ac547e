"""Values that nodes write to the store and read from each other.

Each writer has `SLOTS` keys of its own, and numbers its writes. The store keeps the one with the
highest number, so a write that a proxy held back for a while never undoes a later one.

What counts: a write is acknowledged when WAIT, on the connection that made it, says that the
replica has it. From then on every read that begins later must find it or a later one. Writes that
no replica confirmed never count, so a failover to the replica may forget no write that counts; a
FLUSHALL voids every write acknowledged before its end.
"""

import json
import random

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.chaos.journal import now_s

SLOTS = 20
_WRITES_MAX = 10**6  # of one start
_REPLICAS = 1
_WAIT_MS = 150
_SET_IF_NEWER = """
local old = redis.call('GET', KEYS[1])
if not old or cjson.decode(old).seq < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
"""


def connect(url, timeout_s):
    """A client that tries everything once, on one connection: WAIT is about the connection."""
    return Redis.from_url(
        url,
        decode_responses=True,
        single_connection_client=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


def key_of(cluster, writer, slot):
    return f"chaos:{{{cluster}}}:{writer}:{slot}"


class Values:
    """Writes the values of one writer, and reads those of all.

    Args:
        client: of the store.
        journal: for what was acknowledged and read.
        cluster: the name of the cluster.
        writer: whose values these are.
        start: number of this start of the writer; a later one numbers its writes higher.
    """

    def __init__(self, client, journal, cluster, writer, start):
        self._client, self._journal, self._cluster = client, journal, cluster
        self._writer = writer
        self._seq = start * _WRITES_MAX

    async def write(self, version):
        """Write one value in the format of this version."""
        self._seq += 1
        key = key_of(self._cluster, self._writer, self._seq % SLOTS)
        value = json.dumps({"format": version, "writer": self._writer, "seq": self._seq})
        began_s, seq = now_s(), self._seq
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.eval(_SET_IF_NEWER, 1, key, value, seq)
            pipe.wait(_REPLICAS, _WAIT_MS)
            _, replicas = await pipe.execute()
        if replicas >= _REPLICAS:
            self._journal.write("wrote", began_s=began_s, key=key, seq=seq, format=version)

    async def read(self, writer):
        """Read one value of another writer."""
        key = key_of(self._cluster, writer, random.randrange(SLOTS))
        await read_value(self._client, self._journal, key)

    async def reconnect(self):
        """After any error: the connection may still bring the answer to an older question."""
        if self._client.connection is not None:
            await self._client.connection.disconnect(nowait=True)


async def read_value(client, journal, key):
    began_s = now_s()
    value = json.loads(await client.get(key) or '{"seq": 0, "format": null}')
    journal.write("read", began_s=began_s, key=key, seq=value["seq"], format=value["format"])
