"""Whole upgrades over a Redis Cluster, and through a failover that Sentinel makes."""

from contextlib import AsyncExitStack

import pytest

from tests.acceptance.cluster import Cluster
from tests.adapters.test_redis_link import (
    PASSWORD,
    cluster_url,
    port_of,
    sentinel,
    started,
    watched_with_a_replica,
)
from tests.adapters.test_redis_link import (
    cluster as redis_cluster,
)

pytestmark = pytest.mark.asyncio


async def upgrade(cluster, nodes, version):
    for node in nodes:
        node.tell(do="installed", installed=version)
    await cluster.completed(version, timeout_s=40)
    assert [node.operated[-1] for node in nodes] == [version] * len(nodes)


async def test_over_a_redis_cluster(binary, tmp_path):
    slots = [(0, 5460), (5461, 10922), (10923, 16383)]
    async with (
        redis_cluster(tmp_path, binary, slots) as servers,
        Cluster(cluster_url(servers[0]), tmp_path) as cluster,
    ):
        nodes = await cluster.form("1.0", "a", "b", "c")
        await upgrade(cluster, nodes, "2.0")


async def test_through_a_failover_by_sentinel(binary, tmp_path):
    async with AsyncExitStack() as stack:
        extra = [f"masterauth {PASSWORD}", "repl-diskless-sync-delay 0"]
        first = await stack.enter_async_context(started(tmp_path / "1", binary, *extra))
        replica_of = f"replicaof 127.0.0.1 {port_of(first)}"
        await stack.enter_async_context(started(tmp_path / "2", binary, *extra, replica_of))
        watcher = await stack.enter_async_context(
            sentinel(tmp_path / "s", binary, port_of(first), "")
        )
        await watched_with_a_replica(watcher, "")
        url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{watcher}/main"
        cluster = await stack.enter_async_context(Cluster(url, tmp_path))
        nodes = await cluster.form("1.0", "a", "b", "c")
        await upgrade(cluster, nodes, "2.0")
        await first.kill()
        await upgrade(cluster, nodes, "3.0")
        assert all(node.operated == ["1.0", "2.0", "3.0"] for node in nodes)
        kinds = [entry["kind"] for entry in await cluster.history()]
        assert "verified" in kinds
