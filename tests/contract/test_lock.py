"""A lock server of one's own: it answers in time or not at all, and never votes too early."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from peerupgrade.adapters.embedded import EmbeddedServer
from peerupgrade.adapters.memory import MemoryCluster
from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_lock import RedisLockServer
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.core.requests import Acquire, Extend, LockReply, Release

TTL_S = 1.0
TIMEOUT_S = 0.1  # of a call
_LIBRARY_S = 2.0  # a client that tries again by itself takes longer; a busy machine does not
UNANSWERED = LockReply(False, answered=False)


@contextlib.asynccontextmanager
async def lock_of(server, name, *, is_store=False, ttl_s=TTL_S):
    link = RedisLink(parse_store_url(server.url), timeout_s=1.0, slot_key=Keys(name).lock)
    lock = RedisLockServer(link, name, ttl_s=ttl_s, is_store=is_store)
    try:
        yield lock
    finally:
        await lock.aclose()


async def answered(lock, request, within_s=10.0):
    deadline_s = time.monotonic() + within_s
    while not (reply := await lock.call(request)).answered:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)
    return reply


async def timed(lock, request):
    begin_s = time.monotonic()
    reply = await lock.call(request)
    return reply, time.monotonic() - begin_s


@pytest.fixture
def server(tmp_path, binary):
    return EmbeddedServer(tmp_path, binary=binary)


@pytest.mark.parametrize("fsync", ["always", "everysec", "no log at all"])
@pytest.mark.asyncio
async def test_does_not_vote_before_what_it_may_have_forgotten_has_ended(
    tmp_path, binary, name, fsync
):
    persistent = fsync == "always"
    server = EmbeddedServer(
        tmp_path,
        binary=binary,
        persistent=fsync != "no log at all",
        extra_config=["appendfsync everysec"] if fsync == "everysec" else [],
    )
    async with server, lock_of(server, name) as lock:
        started_s = time.monotonic()
        while not (reply := await answered(lock, Acquire("m1", 1000))).granted:
            assert not persistent
            assert 0 < reply.remaining_ms <= 2001
            await asyncio.sleep(reply.remaining_ms / 1000)
        assert persistent or time.monotonic() - started_s > TTL_S
        await server.kill()
        await server.start()
        restarted_s = time.monotonic()
        # An extension is no vote: it finds the key or it does not.
        if fsync != "everysec":  # which may have kept it or not
            assert (await answered(lock, Extend("m1", 1000, 1))).granted is persistent
        while not (reply := await answered(lock, Acquire("n1", 1000))).granted:
            await asyncio.sleep(reply.remaining_ms / 1000)
        assert time.monotonic() - restarted_s > TTL_S * 0.9


@pytest.mark.asyncio
async def test_epochs_survive_a_restart(server, name):
    async with server, lock_of(server, name) as lock:
        await answered(lock, Acquire("m1", 1000))
        await lock.call(Extend("m1", 1000, 7))
        await server.kill()
        await server.start()
        assert (await answered(lock, Release("m1"))).epoch == 7


@pytest.mark.asyncio
async def test_a_hung_server_costs_the_timeout_and_no_more(server, name):
    async with server, lock_of(server, name) as lock:
        assert (await answered(lock, Acquire("m1", 60_000))).granted
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                reply, took_s = await timed(lock, Extend("m1", 60_000, 1))
                assert reply == UNANSWERED
                assert took_s < _LIBRARY_S
            # Several at once do not wait for one another.
            begin_s = time.monotonic()
            replies = await asyncio.gather(*(lock.call(Release("m1")) for _ in range(5)))
            assert replies == [UNANSWERED] * 5
            assert time.monotonic() - begin_s < _LIBRARY_S
        finally:
            os.kill(server.pid, signal.SIGCONT)
        # What was asked meanwhile and not answered may have been done.
        assert (await answered(lock, Acquire("m1", 60_000))).granted


@pytest.mark.asyncio
async def test_a_dead_server_is_found_again(server, name, caplog):
    async with server, lock_of(server, name) as lock:
        await answered(lock, Acquire("m1", 60_000))
        await server.kill()
        for _ in range(3):
            reply, took_s = await timed(lock, Extend("m1", 60_000, 1))
            assert reply == UNANSWERED
            assert took_s < _LIBRARY_S
        await server.start()
        reply, took_s = await timed(lock, Extend("m1", 60_000, 1))
        assert reply.granted
        assert took_s < _LIBRARY_S
    assert len(caplog.messages) <= 3  # said once for each kind of trouble, not for each call


@pytest.mark.asyncio
async def test_a_wrong_password_is_no_answer_and_is_said(server, name, caplog):
    async with server:
        url = parse_store_url(server.url.replace("unix://:", "unix://:x"))
        lock = RedisLockServer(
            RedisLink(url, timeout_s=1.0, slot_key="x"), name, ttl_s=TTL_S, is_store=False
        )
        assert await lock.call(Acquire("m1", 1000)) == UNANSWERED
        await lock.aclose()
    assert "refused the user name or password" in caplog.text


@pytest.mark.asyncio
async def test_a_cancelled_call_leaves_nothing_behind(server, name):
    async with server, lock_of(server, name) as lock:
        for delay_s in (0, 0, 0.0001, 0.0005, 0.001, 0.005):
            task = asyncio.create_task(lock.call(Acquire("m1", 60_000)))
            await asyncio.sleep(delay_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert (await answered(lock, Extend("m1", 60_000, 3))).epoch in (0, 3)
        assert (await answered(lock, Acquire("m1", 60_000))).granted
        assert (await answered(lock, Extend("m1", 60_000, 4))) == LockReply(True, 0, 4)


class SlowLink(RedisLink):
    """Far away: connecting takes longer than a call may."""

    connects = 0

    async def connect(self, **options):
        self.connects += 1
        await asyncio.sleep(TIMEOUT_S * 2.5)
        return await super().connect(**options)


@pytest.mark.asyncio
async def test_a_connection_that_takes_longer_than_a_call_is_made_all_the_same(server, name):
    async with server:
        link = SlowLink(parse_store_url(server.url), timeout_s=1.0, slot_key="x")
        lock = RedisLockServer(link, name, ttl_s=TTL_S, is_store=False)
        replies = [await lock.call(Acquire("m1", 60_000)) for _ in range(5)]
        await lock.aclose()
    assert replies[:2] == [UNANSWERED] * 2
    assert replies[-1].granted
    assert link.connects == 1


@pytest.mark.asyncio
async def test_closing_while_it_connects(server, name):
    async with server, lock_of(server, name) as lock:
        os.kill(server.pid, signal.SIGSTOP)
        assert await lock.call(Acquire("m1", 1000)) == UNANSWERED
        begin_s = time.monotonic()
        await lock.aclose()
        assert time.monotonic() - begin_s < _LIBRARY_S
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.asyncio
async def test_servers_in_memory_are_independent():
    cluster = MemoryCluster()
    locks = [cluster.lock_server(index) for index in range(3)]
    assert (await locks[0].call(Acquire("m1", 60_000))).granted
    assert (await locks[1].call(Acquire("n1", 60_000))).granted
    cluster.locks_down.add(1)
    assert await locks[1].call(Acquire("n1", 60_000)) == UNANSWERED
    assert (await locks[2].call(Acquire("n1", 60_000))).granted
    cluster.down = True
    assert await locks[0].call(Acquire("m1", 60_000)) == UNANSWERED
    assert (await locks[2].call(Acquire("n1", 60_000))).granted
