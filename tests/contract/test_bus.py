"""Pub/sub: what is lost is noticed, and nothing that is said ends the listening."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from peerupgrade.adapters.embedded import EmbeddedServer
from peerupgrade.adapters.memory import MemoryCluster
from peerupgrade.adapters.redis_bus import RedisBus
from peerupgrade.adapters.redis_line import Line
from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.core.requests import Beat, Freed, Init, Subscribed
from peerupgrade.core.store import StoreState

PING_S = 0.2
FREED = '{"heard":"freed"}'


def link_to(server, name):
    return RedisLink(parse_store_url(server.url), timeout_s=1.0, slot_key=Keys(name).record)


@contextlib.asynccontextmanager
async def listening(bus, *, members=False):
    heard = []
    task = asyncio.create_task(bus.listen(heard.append, members=members))
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(heard, *wanted, within_s=10.0):
    """Until exactly this was heard."""
    deadline_s = time.monotonic() + within_s
    while len(heard) < len(wanted):
        assert time.monotonic() < deadline_s, heard
        await asyncio.sleep(0.002)
    assert heard == list(wanted)


@contextlib.asynccontextmanager
async def raw_client(server, name):
    client = await link_to(server, name).connect()
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
def server(tmp_path, binary):
    return EmbeddedServer(tmp_path, binary=binary)


@pytest.mark.asyncio
async def test_hears_one_channel_in_order(server, name):
    keys = Keys(name)
    async with (
        server,
        raw_client(server, name) as raw,
        listening(RedisBus(link_to(server, name), name)) as record,
        listening(RedisBus(link_to(server, name), name), members=True) as members,
    ):
        await until(record, Subscribed())
        await until(members, Subscribed())
        beats = [Beat(number, 0, 0, 0, 0) for number in range(200)]
        line, rest = Line(raw, 5.0), '"record_epoch":"0","revision":"0","members_revision":"0"'
        texts = [f'{{"heard":"beat","epoch":"{beat.epoch}",{rest},"ttl_ms":"0"}}' for beat in beats]
        # All at once, so that they come in few pieces.
        await asyncio.gather(*(line.ask("PUBLISH", keys.record_channel, one) for one in texts))
        await line.ask("PUBLISH", keys.members_channel, FREED)
        await until(record, Subscribed(), *beats)
        await until(members, Subscribed(), Freed())


@pytest.mark.asyncio
async def test_goes_on_after_nonsense(server, name):
    async with (
        server,
        raw_client(server, name) as raw,
        listening(RedisBus(link_to(server, name), name)) as heard,
    ):
        await until(heard, Subscribed())
        for nonsense in ("", "x", b"\xff\x00", "[" * 200_000, "{}", '{"heard":"party"}'):
            await raw.publish(Keys(name).record_channel, nonsense)
        await raw.publish(Keys(name).record_channel, FREED)
        await until(heard, Subscribed(), Freed())


@pytest.mark.asyncio
async def test_subscribes_again_after_its_connection_was_killed(server, name, caplog):
    async with (
        server,
        raw_client(server, name) as raw,
        listening(RedisBus(link_to(server, name), name)) as heard,
    ):
        for number in range(1, 4):
            await until(heard, *[Subscribed()] * number)
            assert await raw.client_kill_filter(_type="pubsub") == 1
        await until(heard, *[Subscribed()] * 4, within_s=2.0)
        await raw.publish(Keys(name).record_channel, FREED)
        await until(heard, *[Subscribed()] * 4, Freed())
    assert len(caplog.messages) == 3  # each is news again


@pytest.mark.asyncio
async def test_notices_a_server_that_hangs(server, name, caplog):
    async with (
        server,
        listening(RedisBus(link_to(server, name), name, ping_s=PING_S)) as heard,
    ):
        await until(heard, Subscribed())
        os.kill(server.pid, signal.SIGSTOP)
        begin_s = time.monotonic()
        while not caplog.messages:
            assert time.monotonic() - begin_s < 10
            await asyncio.sleep(0.01)
        assert time.monotonic() - begin_s > PING_S * 1.5
        assert "has said nothing for 0.4 s" in caplog.text
        os.kill(server.pid, signal.SIGCONT)
        await until(heard, Subscribed(), Subscribed())
    assert len(caplog.messages) == 1


@pytest.mark.asyncio
async def test_silence_alone_is_no_reason_to_connect_again(server, name):
    async with (
        server,
        raw_client(server, name) as raw,
        listening(RedisBus(link_to(server, name), name, ping_s=0.05)) as heard,
    ):
        await until(heard, Subscribed())
        await asyncio.sleep(0.5)
        await raw.publish(Keys(name).record_channel, FREED)
        await until(heard, Subscribed(), Freed())


@pytest.mark.asyncio
async def test_asks_for_no_sign_of_life_while_there_are_messages(server, name):
    async with (
        server,
        raw_client(server, name) as raw,
        listening(RedisBus(link_to(server, name), name, ping_s=1.0)) as heard,
    ):
        await until(heard, Subscribed())
        pings = await _pings(raw)
        for _ in range(15):  # often enough on a busy machine, too
            await raw.publish(Keys(name).record_channel, FREED)
            await asyncio.sleep(0.1)
        assert await _pings(raw) == pings
        await asyncio.sleep(1.5)
        assert await _pings(raw) == pings + 1


async def _pings(raw):
    return (await raw.info("commandstats"))["cmdstat_ping"]["calls"]


@pytest.mark.asyncio
async def test_says_that_it_may_not_listen(server, name, caplog):
    async with server, raw_client(server, name) as raw:
        await raw.execute_command("ACL", "SETUSER", "default", "resetchannels")
        async with listening(RedisBus(link_to(server, name), name)) as heard:
            async with asyncio.timeout(5):
                while not caplog.messages:
                    await asyncio.sleep(0.01)
            assert "does not permit this user what is needed" in caplog.text
            await raw.execute_command("ACL", "SETUSER", "default", "allchannels")
            await until(heard, Subscribed())


@pytest.mark.asyncio
async def test_waits_for_a_server_that_is_not_there(server, name, caplog):
    async with server:
        link = link_to(server, name)
        await server.kill()
        async with listening(RedisBus(link, name)) as heard:
            await asyncio.sleep(0.3)
            assert heard == []
            await server.start()
            await until(heard, Subscribed())
    assert len(caplog.messages) == 1


@pytest.mark.asyncio
async def test_ends_at_once_whatever_it_does(server, name):
    async with server:
        for delay_s in (0, 0, 0.001, 0.003, 0.01, 0.1):
            begin_s = time.monotonic()
            async with listening(RedisBus(link_to(server, name), name)):
                await asyncio.sleep(delay_s)
            assert time.monotonic() - begin_s < delay_s + 5


@pytest.mark.asyncio
async def test_in_memory():
    cluster = MemoryCluster()
    async with listening(cluster.bus()) as heard:
        await until(heard, Subscribed())
        await cluster.store().call(Init("g", 1, 0))
        assert len(heard) == 1  # never within the request
        await asyncio.sleep(0)
        assert heard[1].record.generation == "g"
        saved = cluster.state.copy()
        cluster.down = True
        await cluster.store().call(Init("h", 1, 0))
        cluster.fail_over(saved)
        await asyncio.sleep(0)
        assert heard[2:] == [Subscribed()]
        assert cluster.state == saved
        cluster.wipe()
        assert cluster.state == StoreState()


@pytest.mark.asyncio
async def test_asks_less_often_where_silence_is_usual(server, name):
    async with (
        server,
        raw_client(server, name) as raw,
        listening(RedisBus(link_to(server, name), name, ping_s=0.1), members=True) as heard,
    ):
        await until(heard, Subscribed())
        pings = await _pings(raw)
        await asyncio.sleep(0.6)
        assert await _pings(raw) == pings
        while await _pings(raw) == pings:
            await asyncio.sleep(0.05)
