"""What the proxy does to bytes is what the tests believe that it does."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from tests.support.proxy import Proxy, Way

pytestmark = pytest.mark.asyncio

_SILENCE_S = 0.1


@asynccontextmanager
async def behind_proxy():
    """A server that answers each byte by the same one, what it heard, and a connection to it."""
    heard = bytearray()

    async def answer(reader, writer):
        while data := await reader.read(1):
            heard.extend(data)
            writer.write(data)
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        Proxy(server.sockets[0].getsockname()) as proxy,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"1")
        assert await reader.readexactly(1) == b"1"
        yield proxy, heard, reader, writer
        writer.close()


async def is_silent(reader):
    try:
        await asyncio.wait_for(reader.read(1), _SILENCE_S)
    except TimeoutError:
        return True
    return False


async def test_swallowed_requests_never_arrive_and_the_connection_is_cut_when_it_heals():
    async with behind_proxy() as (proxy, heard, reader, writer):
        proxy.swallow(Way.REQUESTS)
        writer.write(b"2")
        assert await is_silent(reader)
        proxy.heal()
        assert await ended(reader)
        assert heard == b"1"


async def test_swallowed_replies_are_those_to_requests_that_arrived():
    async with behind_proxy() as (proxy, heard, reader, writer):
        proxy.swallow(Way.REPLIES)
        writer.write(b"2")
        assert await is_silent(reader)
        assert heard == b"12"
        proxy.heal()
        assert await ended(reader)


async def test_bytes_that_were_held_back_arrive_late():
    async with behind_proxy() as (proxy, heard, reader, writer):
        proxy.hold()
        writer.write(b"2")
        assert await is_silent(reader)
        assert heard == b"1"
        proxy.heal()
        assert await reader.readexactly(1) == b"2"


async def test_refused_until_it_heals():
    async with behind_proxy() as (proxy, _, reader, _):
        proxy.refuse()
        assert await ended(reader)
        again, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await ended(again)
        writer.close()
        proxy.heal()
        again, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"2")
        assert await again.readexactly(1) == b"2"
        writer.close()


async def ended(reader):
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True
