"""Commands on a line: answers go to whoever asked, and what is lost is lost for all at once."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from peerupgrade.adapters.embedded import EmbeddedServer
from peerupgrade.adapters.redis_client import StoreClient
from peerupgrade.adapters.redis_line import Line
from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.errors import UnavailableError

pytestmark = pytest.mark.asyncio


def link_to(url):
    return RedisLink(parse_store_url(url), timeout_s=2.0, slot_key="k")


@pytest_asyncio.fixture
async def server(tmp_path):
    async with EmbeddedServer(tmp_path) as server:
        yield server


@asynccontextmanager
async def line_to(url, timeout_s=5.0, **options):
    client = await link_to(url).connect()
    try:
        yield Line(client, timeout_s, **options)
    finally:
        await client.aclose()


async def test_each_gets_its_own_answer(server):
    async with line_to(server.url) as line:
        asked = [line.ask("ECHO", str(number)) for number in range(500)]
        assert await asyncio.gather(*asked) == [str(number) for number in range(500)]


async def test_an_answer_that_comes_in_pieces(server):
    async with line_to(server.url, binary=True) as line:
        large = bytes(range(256)) * 20_000
        assert await asyncio.gather(line.ask("ECHO", large), line.ask("PING")) == [large, b"PONG"]


async def test_an_error_is_for_whoever_asked_and_ends_nothing(server):
    async with line_to(server.url) as line:
        answers = await asyncio.gather(
            line.ask("ECHO", "1"), line.ask("NONSENSE"), line.ask("ECHO", "2"),
            return_exceptions=True,
        )  # fmt: skip
        assert (answers[0], answers[2]) == ("1", "2")
        assert isinstance(answers[1], ResponseError)


async def test_the_answer_to_somebody_who_gave_up_is_nobody_elses(server):
    async with line_to(server.url) as line:
        gone = asyncio.create_task(line.ask("ECHO", "gone"))
        await asyncio.sleep(0)
        gone.cancel()
        assert await line.ask("ECHO", "here") == "here"
        assert gone.cancelled()


async def test_text_that_is_none_breaks_nothing(server):
    async with line_to(server.url) as line:
        assert await line.ask("ECHO", b"\xff!") == "\ufffd!"
        assert await line.ask("PING") == "PONG"


async def test_without_an_answer_in_time_all_under_way_is_lost(server):
    async with line_to(server.url, timeout_s=0.2) as line:
        await line.ask("PING")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            answers = await asyncio.gather(
                line.ask("ECHO", "1"), line.ask("ECHO", "2"), return_exceptions=True
            )
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert [type(one) for one in answers] == [RedisTimeoutError] * 2
        with pytest.raises(RedisTimeoutError):
            await line.ask("PING")


async def test_answers_that_come_again_and_again_in_time_are_enough(server):
    async with line_to(server.url, timeout_s=0.3) as line:
        for _ in range(8):
            await asyncio.sleep(0.05)
            assert await line.ask("PING") == "PONG"
        await asyncio.sleep(0.4)  # nothing is under way: nothing is due
        assert await line.ask("PING") == "PONG"


@pytest.mark.parametrize("said", [b"+nobody asked\r\n", b"?\r\n"])
async def test_a_server_that_says_what_no_server_says(said):
    async def talk(reader, writer):
        while command := await reader.readline():
            if command.strip().upper() in (b"PING", b"SETNAME", b"CLIENT"):
                writer.write(b"+PONG\r\n")
            if command.strip().upper() == b"ECHO":
                writer.write(b"+1\r\n" + said if said.startswith(b"+") else said)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with line_to(f"redis://127.0.0.1:{port}") as line:
            if said.startswith(b"+"):
                assert await line.ask("ECHO", "1") == "1"
            with pytest.raises(InvalidResponse):
                await line.ask("ECHO", "2")


async def test_a_line_that_broke_while_it_was_idle_costs_no_request(server):
    store = StoreClient(link_to(server.url), timeout_s=2.0)
    async with line_to(server.url) as other:
        async with store.use("ask") as line:
            number = await line.ask("CLIENT", "ID")
        await other.ask("CLIENT", "KILL", "ID", number)
        await asyncio.wait_for(line.lost, 5)
        async with store.use("ask") as line:
            assert await line.ask("PING") == "PONG"
    await store.aclose()


async def test_a_line_that_breaks_under_a_request_is_said(server):
    store = StoreClient(link_to(server.url), timeout_s=2.0)

    async def killed(other):
        async with store.use("ask") as line:
            number = await line.ask("CLIENT", "ID")
            waits = asyncio.create_task(line.ask("BLPOP", "nothing", "0"))
            await other.ask("CLIENT", "KILL", "ID", number)
            await waits

    async with line_to(server.url) as other:
        with pytest.raises(UnavailableError, match="closed the connection"):
            await killed(other)
    await store.aclose()
