"""Three independent lock servers, of which some die or hang."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from peerupgrade.adapters.embedded import EmbeddedServer
from tests.acceptance.cluster import Cluster

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def three_servers(binary, directory):
    """The store and two more, and a cluster on them."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(EmbeddedServer(directory / name, binary=binary))
            for name in ("store", "lock1", "lock2")
        ]
        urls = [server.url for server in servers]
        cluster = Cluster(urls[0], directory, lock_servers=urls[1:])
        yield servers, await stack.enter_async_context(cluster)


async def upgrade(cluster, version):
    for node in cluster.processes:
        node.tell(do="installed", installed=version)
    await cluster.completed(version)


async def test_a_hung_or_dead_minority_costs_nothing_but_its_time_out(binary, tmp_path):
    async with three_servers(binary, tmp_path) as (servers, cluster):
        await cluster.form("1.0", "a", "b", "c")
        os.kill(servers[1].pid, signal.SIGSTOP)
        try:
            await upgrade(cluster, "2.0")
            master = await cluster.master()
            assert await master.ask("resigned", do="resign")
            await cluster.master(other_than=master.name)
            await upgrade(cluster, "3.0")
        finally:
            os.kill(servers[1].pid, signal.SIGCONT)
        await servers[2].kill()
        await upgrade(cluster, "4.0")


async def test_without_a_majority_nothing_rises_and_everything_goes_on(binary, tmp_path):
    async with three_servers(binary, tmp_path) as (servers, cluster):
        nodes = await cluster.form("1.0", "a", "b", "c")
        for server in servers[1:]:
            await server.kill()
        while any([(await node.ask("status", do="status"))["epoch"] for node in nodes]):
            pass  # until the master has stepped down
        for node in nodes:
            node.tell(do="installed", installed="2.0")
        await cluster.until(lambda s: all(str(m.installed) == "2.0" for m in s.members.values()))
        async with asyncio.timeout(20):  # it is said once the node itself has tried in vain
            while "no_master" not in await nodes[0].ask("why", do="why"):
                await asyncio.sleep(0.1)
        for node in nodes:
            status = await node.ask("status", do="status")
            assert (status["operating"], status["acting"]) == ("1.0", "1.0")
        for server in servers[1:]:
            await server.start()
        await cluster.completed("2.0")
