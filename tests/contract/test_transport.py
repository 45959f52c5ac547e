"""Gossip between nodes: on sockets and in memory alike."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import pytest_asyncio

from peerupgrade.adapters.gossip_link import GossipLink
from peerupgrade.adapters.memory import MemoryNetwork
from peerupgrade.ports import SendFault
from tests.wire.packets import ACK, PACKETS, TABLE, many

pytestmark = pytest.mark.asyncio


class Ear:
    def __init__(self, transport):
        self.transport = transport
        self.heard = []

    async def start(self):
        await self.transport.start(lambda packet, source: self.heard.append((packet, source)))

    async def hears(self, count):
        async with asyncio.timeout(20):
            while len(self.heard) < count:
                await asyncio.sleep(0.002)
        return [packet for packet, _ in self.heard]


@pytest_asyncio.fixture(params=["sockets", "memory"])
async def ears(request):
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        ears = []
        for _ in range(3):
            if request.param == "memory":
                transport = network.transport()
            else:
                transport = await GossipLink.bind("127.0.0.1:0", "blue")
            stack.push_async_callback(transport.aclose)
            ear = Ear(transport)
            await ear.start()
            ears.append(ear)
        yield ears


async def test_each_has_an_address_of_its_own(ears):
    assert len({ear.transport.address for ear in ears}) == 3


async def test_packets_arrive_where_they_are_sent_with_their_source(ears):
    one, two, three = ears
    for packet in PACKETS:
        one.transport.send(two.transport.address, packet)
    assert await two.hears(len(PACKETS)) == PACKETS
    assert {source for _, source in two.heard} == {one.transport.address}
    assert three.heard == []
    assert one.transport.traffic.sent == two.transport.traffic.heard == len(PACKETS)


async def test_large_tables_arrive(ears):
    one, two, _ = ears
    large = replace(TABLE, heartbeats=many(3000))
    one.transport.send(two.transport.address, large)
    assert await two.hears(1) == [large]


async def test_nothing_is_heard_within_what_sends(ears):
    one, two, _ = ears
    one.transport.send(two.transport.address, ACK)
    assert two.heard == []
    await two.hears(1)


async def test_one_may_answer_while_it_hears(ears):
    one, two, _ = ears
    await two.transport.start(lambda packet, source: two.transport.send(source, packet))
    one.transport.send(two.transport.address, ACK)
    assert await one.hears(1) == [ACK]


async def test_what_is_no_address_is_counted(ears):
    one, *_ = ears
    one.transport.send("nowhere", ACK)
    assert one.transport.traffic.unsent == {SendFault.NO_ADDRESS: 1}
    assert one.transport.traffic.sent == 0


async def test_who_is_gone_hears_nothing_and_harms_nobody(ears):
    one, two, three = ears
    await two.transport.aclose()
    await two.transport.aclose()
    one.transport.send(two.transport.address, ACK)
    two.transport.send(one.transport.address, ACK)
    one.transport.send(three.transport.address, ACK)
    assert await three.hears(1) == [ACK]
    assert (one.heard, two.heard) == ([], [])


async def test_in_memory_nodes_can_be_cut_off():
    network = MemoryNetwork()
    one, two = Ear(network.transport()), Ear(network.transport())
    for ear in (one, two):
        await ear.start()
    network.cut_off.add(two.transport.address)
    one.transport.send(two.transport.address, ACK)
    two.transport.send(one.transport.address, ACK)
    await asyncio.sleep(0.01)
    assert (one.heard, two.heard) == ([], [])
    network.cut_off.clear()
    one.transport.send(two.transport.address, ACK)
    assert await two.hears(1) == [ACK]
