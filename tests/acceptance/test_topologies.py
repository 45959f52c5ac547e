"""Whole upgrades over a Redis Cluster, and through a failover that Sentinel makes."""

from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from peerupgrade import Node, Settings
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
from tests.data.conftest import register_2

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def program(cluster):
    """A member that keeps notes, of release 2.0 already."""
    settings = {
        **cluster.settings,
        "name": "notes",
        "store": cluster.url,
        "state_dir": str(cluster.directory / "notes"),
        "installed": "2.0",
    }
    node = Node(Settings(**settings))
    register_2(node)
    async with node:
        yield node


async def change_notes(notes):
    """Everything that a collection can, while 1.0 is written."""
    stamp = await notes.put("k", {"text": "one two", "words": 2}, expect=0)
    batch = notes.batch()
    batch.put("l", {"text": "three", "words": 1}, ttl_s=60)
    batch.put("m", {"text": "four", "words": 1})
    batch.put("k", {"text": "five", "words": 1}, expect=stamp)
    await batch.commit()
    await notes.delete("m")
    assert (await notes.get("k")).format == "1.0"
    assert set(await notes.get_many(["k", "l", "m"])) == {"k", "l"}


async def kept_notes(notes):
    found = {one.key: (one.value["text"], one.format) async for one in notes.scan()}
    assert found == {"k": ("five", "2.0"), "l": ("three", "2.0")}


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
        async with program(cluster) as node:
            notes = node.collection("notes")
            await change_notes(notes)
            await upgrade(cluster, nodes, "2.0")
            await kept_notes(notes)


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
        node = await stack.enter_async_context(program(cluster))
        notes = node.collection("notes")
        await change_notes(notes)
        await upgrade(cluster, nodes, "2.0")
        await kept_notes(notes)
        await first.kill()
        node.installed_changed("3.0")
        await upgrade(cluster, nodes, "3.0")
        await kept_notes(notes)
        assert all(node.operated == ["1.0", "2.0", "3.0"] for node in nodes)
        kinds = [entry["kind"] for entry in await cluster.history()]
        assert "verified" in kinds
