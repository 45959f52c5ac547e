"""A conversion while clients write and whoever converts is killed: nothing lost, nothing stale."""

import asyncio
import contextlib
from random import Random

import pytest

from peerupgrade import ConflictError, StaleVersionError, UnavailableError
from peerupgrade.core.requests import Scan
from tests.data.conftest import Cluster, register_1, register_2

RECORDS = 3000
WRITERS = 4


class Journal:
    """What one client has written, and what was acknowledged."""

    def __init__(self, number):
        self.rng = Random(number)
        self.keys = [f"k{n}" for n in range(number, RECORDS, WRITERS)]
        self.last = {}
        self.written = 0
        self.ended = False

    async def run(self, cluster):
        while not self.ended:
            key, text = self.rng.choice(self.keys), f"note {self.written}"
            node = self.rng.choice(list(cluster.nodes.values()))
            await asyncio.sleep(0.001)
            try:
                notes = node.collection("notes")
                found = await notes.get(key)
                await notes.put(key, text, format="1.0", expect=found.stamp)
            except (StaleVersionError, ConflictError):
                continue
            except UnavailableError:
                self.last[key] = None  # it may have been written
                continue
            self.last[key] = text
            self.written += 1


async def kill(cluster, name):
    """As SIGKILL: nothing is said, nothing is finished."""
    node = cluster.nodes.pop(name)
    await node._driver.close()
    await node._stack.aclose()


async def converter(cluster):
    (node, *_) = cluster.nodes.values()
    return (await node.ledger()).snapshot.collections["notes"].converter


@pytest.mark.asyncio
async def test_converters_and_masters_are_killed_while_clients_write(server, tmp_path):
    cluster = Cluster(server, tmp_path)
    names = ["a", "b", "c"]
    for name in names:
        await cluster.start(name, "1.0", register_1, lock_ttl_s=2.0)
    batch = cluster.nodes["a"].collection("notes").batch()
    for number in range(RECORDS):
        batch.put(f"k{number}", "first")
    await batch.commit()
    async with contextlib.AsyncExitStack() as stack:
        journals = [Journal(number) for number in range(WRITERS)]
        tasks = [asyncio.create_task(one.run(cluster)) for one in journals]
        stack.callback(lambda: [task.cancel() for task in tasks])
        for name in names:
            await cluster.stop(name)
            await cluster.start(name, "2.0", register_2, lock_ttl_s=2.0)
        killed = 0
        while str((await cluster.record()).data) != "2.0":
            victim = await converter(cluster)
            if killed < 3 and victim in cluster.nodes and (await cluster.record()).settled:
                await kill(cluster, victim)
                await cluster.start(victim, "2.0", register_2, lock_ttl_s=2.0)
                killed += 1
            await asyncio.sleep(0.05)
        for journal in journals:
            journal.ended = True
        await asyncio.gather(*tasks)
    assert killed > 0
    assert min(one.written for one in journals) > 10
    notes = cluster.nodes["a"].collection("notes")
    kept = {record.key: record.value["text"] async for record in notes.scan()}
    wanted = {f"k{number}": "first" for number in range(RECORDS)}
    for journal in journals:
        wanted |= journal.last
    assert {key: kept[key] for key, text in wanted.items() if text is not None} == {
        key: text for key, text in wanted.items() if text is not None
    }
    raw = await cluster.nodes["a"]._ports.store.call(Scan("notes", "0", 100_000))
    assert {record.format for _, record in raw.records} == {"2.0"}
    view = (await cluster.nodes["a"].ledger()).snapshot.collections["notes"]
    assert view.counts == {"2.0": RECORDS}
    await cluster.aclose()
