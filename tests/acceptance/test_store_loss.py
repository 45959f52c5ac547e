"""A store that goes away, or comes back knowing less: real servers, real processes."""

import asyncio
import shutil
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from peerupgrade.adapters.embedded import EmbeddedServer
from tests.acceptance.cluster import Cluster
from tests.support.proxy import Proxy

pytestmark = pytest.mark.asyncio

PASSWORD = "secret-of-the-tests"


def address(server):
    parts = urlsplit(server.url)
    return parts.hostname, parts.port


@asynccontextmanager
async def behind_proxy(server, directory, **settings):
    """A cluster that reaches the server through a proxy."""
    async with (
        Proxy(address(server)) as proxy,
        Cluster(f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}", directory, **settings) as cluster,
    ):
        yield cluster, proxy


def tcp_server(directory, binary):
    return EmbeddedServer(directory, binary=binary, tcp=True, password=PASSWORD)


async def admin(server, *command):
    host, port = address(server)
    async with Redis(host=host, port=port, password=PASSWORD) as client:
        return await client.execute_command(*command)


async def raised(cluster, nodes, version):
    for node in nodes:
        node.tell(do="installed", installed=version)
    await cluster.completed(version)


async def nobody_went_back(cluster, nodes, version):
    """The store is brought forward, no node went back, and no old node gets in."""
    snapshot = await cluster.until(lambda s: s.verified and str(s.record.acting) == version)
    assert str(snapshot.record.acting) == version
    for node in nodes:
        assert node.operated == ["1.0", version], node.said
        assert (await node.ask("status", do="status"))["operating"] == version
    old = await cluster.start("late", "1.0")
    refusal = await old.hear("ready", "error")
    assert refusal["rule"] == "installed_below_acting", refusal
    assert "late" not in (await cluster.snapshot()).members


async def history_says(cluster, *kinds):
    said = [entry["kind"] for entry in await cluster.history()]
    for kind in kinds:
        assert kind in said, said


async def test_nodes_go_on_while_the_store_is_down_and_the_upgrade_finishes_after(binary, tmp_path):
    async with (
        tcp_server(tmp_path / "one", binary) as server,
        behind_proxy(server, tmp_path) as (cluster, _),
    ):
        nodes = await cluster.form("1.0", "a", "b", "c")
        for node in nodes[:-1]:
            node.tell(do="installed", installed="2.0")
        await cluster.until(lambda s: s.record.upgrade is not None)
        await server.kill()
        nodes[-1].tell(do="installed", installed="2.0")
        for _ in range(10):
            await asyncio.sleep(1.0)
            for node in nodes:
                status = await node.ask("status", do="status")
                assert status["operating"] == "1.0", status
        assert "store_unreachable" in (await nodes[0].ask("why", do="why"))
        await server.start()
        await cluster.completed("2.0")
        await nobody_went_back(cluster, nodes, "2.0")
        await history_says(cluster, "doubted", "verified")


async def test_failover_to_a_replica_that_missed_the_raise(binary, tmp_path):
    async with (
        tcp_server(tmp_path / "one", binary) as primary,
        tcp_server(tmp_path / "two", binary) as replica,
        behind_proxy(primary, tmp_path) as (cluster, proxy),
    ):
        host, port = address(primary)
        await admin(replica, "CONFIG", "SET", "masterauth", PASSWORD)
        await admin(replica, "REPLICAOF", host, str(port))
        nodes = await cluster.form("1.0", "a", "b", "c")
        async with asyncio.timeout(10):
            while (await admin(replica, "INFO", "replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        await admin(replica, "REPLICAOF", "NO", "ONE")  # from here it misses everything
        await raised(cluster, nodes, "2.0")
        await primary.kill()
        early = await cluster.start("early", "1.0")  # an old node asks at the worst moment
        proxy.point_at(address(replica))
        assert (await early.hear("ready", "error"))["rule"] == "installed_below_acting"
        await nobody_went_back(cluster, nodes, "2.0")
        await history_says(cluster, "doubted", "brought forward", "verified")
        await raised_again(cluster, nodes)


async def test_restart_that_lost_the_last_writes(binary, tmp_path):
    async with (
        tcp_server(tmp_path / "one", binary) as server,
        behind_proxy(server, tmp_path) as (cluster, _),
    ):
        nodes = await cluster.form("1.0", "a", "b", "c")
        await asyncio.sleep(0.2)
        shutil.copytree(
            tmp_path / "one",
            tmp_path / "backup",
            ignore=shutil.ignore_patterns("*.sock", "lock*"),
        )
        await raised(cluster, nodes, "2.0")
        await server.kill()
        for path in (tmp_path / "one").iterdir():
            if path.name.startswith("appendonly"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (tmp_path / "backup").iterdir():
            if path.name.startswith("appendonly"):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, tmp_path / "one" / path.name)
        await server.start()
        await nobody_went_back(cluster, nodes, "2.0")
        await history_says(cluster, "doubted", "brought forward", "verified")
        await raised_again(cluster, nodes)


async def test_flushall(binary, tmp_path):
    async with (
        tcp_server(tmp_path / "one", binary) as server,
        behind_proxy(server, tmp_path) as (cluster, _),
    ):
        nodes = await cluster.form("1.0", "a", "b", "c")
        await raised(cluster, nodes, "2.0")
        await admin(server, "FLUSHALL")
        early = await cluster.start("early", "1.0")
        await nobody_went_back(cluster, nodes, "2.0")
        assert (await early.hear("ready", "error"))["rule"] == "installed_below_acting"
        await history_says(cluster, "brought back", "verified")
        await raised_again(cluster, nodes)


async def raised_again(cluster, nodes):
    """What was repaired works."""
    await raised(cluster, nodes, "3.0")
    assert [node.operated[-1] for node in nodes] == ["3.0"] * len(nodes)
