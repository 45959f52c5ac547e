"""The second way of a raise: a real node that no store and no pub/sub reaches any more."""

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest

from peerupgrade.adapters.embedded import EmbeddedServer, find_server
from peerupgrade.core.requests import Done, SetHold
from tests.acceptance.cluster import Cluster
from tests.support.proxy import Proxy, Way

pytestmark = pytest.mark.asyncio

_PASSWORD = "secret-of-the-tests"
_LOOK_AGAIN_S = 0.05


@pytest.fixture
def store(tmp_path):
    return EmbeddedServer(tmp_path / "store", binary=find_server(), tcp=True, password=_PASSWORD)


async def test_a_decision_reaches_a_node_by_gossip_whose_way_to_the_store_is_dead(store, tmp_path):
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(store)
        parts = urlsplit(store.url)
        cluster = await stack.enter_async_context(Cluster(store.url, tmp_path))
        ways, nodes = {}, []
        for name in "abc":
            way = await stack.enter_async_context(Proxy((parts.hostname, parts.port)))
            url = f"redis://:{_PASSWORD}@127.0.0.1:{way.port}"
            node = await cluster.start(
                name, "1.0", store=url, bootstrap_expect=3, before="2.0", stop_timeout_s=1.0
            )
            ways[node] = way
            nodes.append(node)
        for node in nodes:
            assert await node.hear("ready", "error") == {"ready": "1.0"}
        for node in nodes:
            node.tell(do="installed", installed="2.0")
        # All have acknowledged the floor; from here on the raise needs nobody but the master.
        master = await first_to_say(nodes, "before")
        deaf = next(node for node in nodes if node is not master)
        ways[deaf].swallow(Way.BOTH)
        master.tell(do="go on")
        raised = await cluster.until(lambda s: str(s.record.acting) == "2.0")
        await has_revision(deaf, raised.record.raised_revision)
        status = await deaf.ask("status", do="status")
        assert status["acting"] == "2.0"
        async with asyncio.timeout(20):
            while deaf.operated[-1] != "2.0":
                await asyncio.sleep(_LOOK_AGAIN_S)

        # What an operator committed, and no master, takes this way as well.
        held = await cluster.store.call(SetHold("ann", "let us look at it first"))
        assert isinstance(held, Done)
        await has_revision(deaf, held.view.record.revision)
        snapshot = await cluster.snapshot()
        assert str(snapshot.members[deaf.name].operating) == "1.0"  # it could not tell the store
        assert not snapshot.record.settled
        assert "store_unreachable" in await deaf.ask("why", do="why")

        ways[deaf].heal()
        await cluster.until(lambda s: s.record.settled)


async def first_to_say(nodes, key):
    waiting = {asyncio.create_task(node.hear(key)): node for node in nodes}
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return waiting[done.pop()]


async def has_revision(node, revision, timeout_s=20.0):
    async with asyncio.timeout(timeout_s):
        while (await node.ask("status", do="status"))["revision"] < revision:
            await asyncio.sleep(_LOOK_AGAIN_S)
