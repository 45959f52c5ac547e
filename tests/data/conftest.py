"""Clusters in one process, on a server of their own."""

import asyncio
import contextlib
import itertools

import pytest

import peerupgrade
from peerupgrade.adapters.embedded import EmbeddedServer

_names = (f"data-{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = EmbeddedServer(tmp_path_factory.mktemp("server"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


def register_1(node, **codec):
    notes = node.collection("notes")
    notes.format("1.0", **codec)
    return notes


def register_2(node, *, upgrade=None, downgrade=None):
    """Release 2.0: a note is no more its text, but has the number of its words, too."""
    notes = register_1(node)
    notes.format(
        "2.0",
        upgrade=upgrade or (lambda text: {"text": text, "words": len(text.split())}),
        downgrade=downgrade or (lambda note: note["text"]),
    )
    return notes


class Cluster:
    """Nodes that share a store; each has a directory of its own."""

    def __init__(self, server, directory):
        self.server, self.directory = server, directory
        self.name = next(_names)
        self.stack = contextlib.AsyncExitStack()
        self.nodes = {}

    def settings(self, name, installed, **changes):
        fast = {"quarantine_s": 0.0, "lock_ttl_s": 0.9, "on_stop": "stay"}
        return peerupgrade.Settings(
            name=name,
            cluster=self.name,
            installed=installed,
            store=self.server.url,
            state_dir=str(self.directory / name),
            **(fast | changes),
        )

    def make(self, name, installed, register=None, **changes):
        node = peerupgrade.Node(self.settings(name, installed, **changes))
        if register is not None:
            register(node)
        self.nodes[name] = node
        return node

    async def start(self, name, installed, register=None, **changes):
        node = self.make(name, installed, register, **changes)
        await node.__aenter__()
        return node

    async def stop(self, name):
        await self.nodes.pop(name).stop()

    async def crash(self, name):
        """It ends without a word, as by SIGKILL."""
        node = self.nodes.pop(name)
        await node._http.aclose()
        await node._driver.close()
        await node._stack.aclose()

    async def until(self, reached, within_s=20):
        async with asyncio.timeout(within_s):
            while not await reached():
                await asyncio.sleep(0.02)

    async def record(self):
        (node, *_) = self.nodes.values()
        return (await node.ledger()).snapshot.record

    async def data_is(self, version):
        async def reached():
            return str((await self.record()).data) == version

        await self.until(reached)

    async def blockers(self):
        (node, *_) = self.nodes.values()
        return {(one.code, one.subject): one for one in (await node.ledger()).blockers}

    async def aclose(self):
        for name in list(self.nodes):
            await self.stop(name)
