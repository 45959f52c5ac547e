"""The store when servers die, hang, lose writes, fail over or refuse."""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import replace

import pytest

from peerupgrade.adapters.embedded import EmbeddedServer
from peerupgrade.adapters.memory import MemoryCluster
from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_lock import RedisLockServer
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.adapters.redis_store import RedisStore
from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.requests import (
    Acquire,
    Admit,
    Admitted,
    Attach,
    Attached,
    Claim,
    Claimed,
    Commit,
    Done,
    Exclude,
    Failed,
    Init,
    Read,
    ReadAll,
    ReleaseHold,
    SetHold,
    TakeSlot,
    Unverified,
    View,
)
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import ConfigError, UnavailableError

PASSWORD = "s3cret"
V1, V2 = parse_version("1.0"), parse_version("2.0")
WAIT_MS = 1_000  # for replicas
FIRST = Init("g", 1, 0)
ADMIT = Admit("a", "a1", (), 0, "", 1, V1, V1)
AGAIN = replace(ADMIT, number=2)


def link_to(url, name, timeout_s=1.0):
    return RedisLink(parse_store_url(url), timeout_s=timeout_s, slot_key=Keys(name).record)


@contextlib.asynccontextmanager
async def store_of(url, name, **options):
    store = RedisStore(link_to(url, name), name, **options)
    try:
        yield store
    finally:
        await store.aclose()


@contextlib.asynccontextmanager
async def raw_client(url, name):
    client = await link_to(url, name).connect()
    try:
        yield client
    finally:
        await client.aclose()


async def become_master(url, name, store):
    """Form a cluster with one member; the answer is the commit of its next raise."""
    await store.call(FIRST)
    await store.call(ADMIT)
    lock = RedisLockServer(link_to(url, name), name, ttl_s=60.0, is_store=True)
    assert (await lock.call(Acquire("m1", 60_000))).granted
    await lock.aclose()
    claimed = await store.call(Claim("m", "m1", 0))
    assert isinstance(claimed, Claimed)
    return raise_to(V1, await store.call(ReadAll())), claimed


def raise_to(version, everything):
    record = everything.snapshot.record
    new = replace(record, acting=version, floor=version, before=version, data=version)
    revisions = (record.epoch, record.revision, everything.snapshot.members_revision)
    return Commit("m1", *revisions, new, "raised", "inputs")


@pytest.mark.asyncio
async def test_a_killed_server_is_not_trusted_when_it_is_back(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary)
    async with server, store_of(server.url, name) as store:
        commit, _ = await become_master(server.url, name, store)
        assert isinstance(await store.call(commit), Done)
        commit = raise_to(V2, await store.call(ReadAll()))
        view = await store.call(Read())
        await server.kill()
        for request in (Read(), ADMIT, commit, SetHold("ann", "why")):
            assert isinstance(await store.call(request), Failed)
        with pytest.raises(UnavailableError, match="cannot connect"):
            await store.history(1)
        await server.start()
        back = await store.call(Read())
        assert back.record == view.record
        assert back.identity != view.identity
        assert not back.verified
        for request in (AGAIN, commit, SetHold("ann", "why"), Claim("m", "m1", 0)):
            assert isinstance(await store.call(request), Unverified), request
        # A member that remembers it all brings it through, and somebody repairs it.
        member = (await store.call(ReadAll())).snapshot.members["a"]
        attach = Attach(replace(member, number=5), view.record, 0)
        assert isinstance(await store.call(attach), Attached)
        assert isinstance(await store.call(Claim("n", "m1", 0)), Claimed)
        repair = raise_to(V1, await store.call(ReadAll()))
        assert isinstance(await store.call(replace(repair, repair=True)), Done)
        assert isinstance(await store.call(replace(AGAIN, number=6)), Admitted)


@pytest.mark.asyncio
async def test_a_hung_server_costs_the_timeout_and_nothing_is_done_twice(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary)
    async with server, store_of(server.url, name, timeout_s=0.3, wait_ms=100) as store:
        await store.call(FIRST)
        assert isinstance(await store.call(SetHold("ann", "0")), Done)
        before = (await store.call(Read())).record.revision
        os.kill(server.pid, signal.SIGSTOP)
        begin_s = time.monotonic()
        replies = await asyncio.gather(
            store.call(ADMIT), *(store.call(SetHold("ann", str(n))) for n in range(3))
        )
        took_s = time.monotonic() - begin_s
        os.kill(server.pid, signal.SIGCONT)
        assert all(isinstance(reply, Failed) for reply in replies)
        assert "did not answer in time" in replies[0].reason
        assert took_s < 5  # a client that tries again by itself takes longer
        async with asyncio.timeout(5):
            while not isinstance(reply := await store.call(Read()), View):
                await asyncio.sleep(0.01)
        assert reply.record.revision <= before + 3


@pytest.mark.asyncio
async def test_forgotten_scripts_are_sent_again(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary)
    async with (
        server,
        store_of(server.url, name) as store,
        raw_client(server.url, name) as raw,
    ):
        await store.call(FIRST)
        await raw.script_flush()
        assert isinstance(await store.call(ADMIT), Admitted)
        assert (await store.call(ReadAll())).snapshot.members_revision == 2


@pytest.mark.asyncio
async def test_many_at_once(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary)
    async with server, store_of(server.url, name, timeout_s=5.0) as store:
        await store.call(FIRST)
        admits = [replace(ADMIT, id=f"n{n}", token=f"t{n}") for n in range(60)]
        holds = [SetHold("ann", str(n)) for n in range(20)]
        replies = await asyncio.gather(*map(store.call, [*admits, *holds]))
        assert {type(reply) for reply in replies} == {Admitted, Done}
        assert {r.incarnation for r in replies if isinstance(r, Admitted)} == set(range(1, 61))
        assert (await store.call(Read())).record.revision == 21
        assert len(await store.history(5)) == 5


@pytest.mark.asyncio
async def test_cancelled_calls_leave_the_store_usable(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary)
    async with server, store_of(server.url, name) as store:
        await store.call(FIRST)
        for delay_ms in (0, 0, 0.05, 0.1, 0.2, 0.5, 1, 2):
            tasks = [
                asyncio.create_task(store.call(request))
                for request in (Read(), SetHold("ann", "why"), ReadAll())
            ]
            await asyncio.sleep(delay_ms / 1000)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        replies = await asyncio.gather(*(store.call(Read()) for _ in range(10)))
        assert all(isinstance(reply, View) for reply in replies)
        assert isinstance(await store.call(SetHold("ann", "last")), Done)
        assert (await store.call(Read())).record.hold.reason == "last"


@pytest.mark.asyncio
async def test_a_wrong_password_is_an_error(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary, password=PASSWORD)
    async with server, store_of(server.url.replace(PASSWORD, "wrong"), name) as store:
        for request in (Read(), SetHold("ann", "why")):
            with pytest.raises(ConfigError, match="refused the user name or password"):
                await store.call(request)
        with pytest.raises(ConfigError, match="refused the user name or password"):
            await store.history(1)


@pytest.mark.asyncio
async def test_rights_that_are_missing_are_an_error(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary, password=PASSWORD)
    async with (
        server,
        store_of(server.url, name) as store,
        raw_client(server.url, name) as raw,
    ):
        await store.call(FIRST)
        await raw.execute_command("ACL", "SETUSER", "default", "-evalsha")
        with pytest.raises(ConfigError, match="does not permit this user what is needed"):
            await store.call(Read())


@pytest.mark.parametrize(
    ("field", "text"), [("revision", "x"), ("acting", "?"), ("_quarantine_until_ms", "soon")]
)
@pytest.mark.asyncio
async def test_a_record_that_cannot_be_read_is_no_answer(tmp_path, binary, name, field, text):
    server = EmbeddedServer(tmp_path, binary=binary)
    async with (
        server,
        store_of(server.url, name) as store,
        raw_client(server.url, name) as raw,
    ):
        await store.call(FIRST)
        await raw.hset(Keys(name).record, field, text)
        reply = await store.call(ReadAll())
        assert isinstance(reply, Failed)
        assert field in reply.reason


@pytest.mark.asyncio
async def test_keys_of_another_kind_are_no_answer(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary)
    async with (
        server,
        store_of(server.url, name) as store,
        raw_client(server.url, name) as raw,
    ):
        await store.call(FIRST)
        await raw.set(Keys(name).members, "x")
        assert isinstance(await store.call(ADMIT), Failed)
        await raw.delete(Keys(name).members)
        await raw.hset(Keys(name).members, "a", "x")
        reply = await store.call(ReadAll())
        assert isinstance(reply, Failed)
        assert "a member in the store cannot be read" in reply.reason


@pytest.mark.asyncio
async def test_a_full_server_writes_nothing(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary)
    async with (
        server,
        store_of(server.url, name) as store,
        raw_client(server.url, name) as raw,
    ):
        commit, _ = await become_master(server.url, name, store)
        before = (await store.call(ReadAll())).snapshot
        await raw.config_set("maxmemory", 1)
        for request in (AGAIN, commit, SetHold("ann", "why")):
            reply = await store.call(request)
            assert isinstance(reply, Failed)
            assert "out of memory" in reply.reason
        await raw.config_set("maxmemory", 0)
        after = (await store.call(ReadAll())).snapshot
        assert replace(after, now_ms=before.now_ms) == before


@pytest.mark.parametrize("bad", ["", "a}b", "{a"])
def test_a_name_that_would_break_the_keys_is_refused(bad):
    with pytest.raises(ConfigError, match="cannot be part of a key"):
        Keys(bad)


# --- replicas -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def replicated(tmp_path, binary):
    """A primary and a replica that follows it."""
    at_once = ("repl-diskless-sync-delay 0",)
    primary = EmbeddedServer(
        tmp_path / "p", binary=binary, tcp=True, password=PASSWORD, extra_config=at_once
    )
    async with primary:
        port = primary.url.rpartition(":")[2].partition("/")[0]
        follow = (*at_once, f"replicaof 127.0.0.1 {port}", f"masterauth {PASSWORD}")
        replica = EmbeddedServer(
            tmp_path / "r", binary=binary, tcp=True, password=PASSWORD, extra_config=follow
        )
        async with replica, raw_client(replica.url, "x") as raw:
            async with asyncio.timeout(20):
                while (await raw.info("replication"))["master_link_status"] != "up":
                    await asyncio.sleep(0.05)
            yield primary, replica


@contextlib.contextmanager
def stopped(server):
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.asyncio
async def test_what_must_not_be_lost_is_durable_once_a_replica_has_it(tmp_path, binary, name):
    async with (
        replicated(tmp_path, binary) as (primary, replica),
        store_of(primary.url, name, wait_ms=WAIT_MS) as store,
    ):
        commit, claimed = await become_master(primary.url, name, store)
        assert claimed.durable
        assert (await store.call(commit)).durable
        assert (await store.call(SetHold("ann", "why"))).durable
        assert (await store.call(ReleaseHold("ann"))).durable
        with stopped(replica):
            reply = await store.call(SetHold("ann", "not seen"))
            assert isinstance(reply, Failed)  # R23
            assert "only 0 of 1 replicas have confirmed it" in reply.reason
            assert isinstance(await store.call(ReleaseHold("ann")), Failed)
            commit = raise_to(V2, await store.call(ReadAll()))
            done = await store.call(commit)
            assert isinstance(done, Done)
            assert not done.durable
            assert not (await store.call(Claim("m", "m1", 0))).durable
            begin_s = time.monotonic()
            assert isinstance(await store.call(replace(AGAIN, installed=V2)), Admitted)
            assert time.monotonic() - begin_s < WAIT_MS / 1000  # is not waited for
            known = (await store.call(ReadAll())).snapshot.members[AGAIN.id].incarnation
            assert isinstance(await store.call(TakeSlot(AGAIN.id, "ann", 9)), Failed)  # R29
            excluded = await store.call(Exclude(AGAIN.id, "ann", "dead", True, known))
            assert isinstance(excluded, Failed)  # S8: a failover could bring it back
        assert (await store.call(raise_to(V2, await store.call(ReadAll())))).durable


@pytest.mark.asyncio
async def test_without_replicas_nothing_is_durable_that_needs_them(tmp_path, binary, name):
    server = EmbeddedServer(tmp_path, binary=binary)
    async with server, store_of(server.url, name, min_replicas=1, wait_ms=WAIT_MS) as store:
        commit, claimed = await become_master(server.url, name, store)
        assert not claimed.durable
        assert not (await store.call(commit)).durable
        assert isinstance(await store.call(SetHold("ann", "why")), Failed)
        assert (await store.call(Read())).record.hold.reason == "why"
        # Asking what cannot be done waits for nobody.
        begin_s = time.monotonic()
        assert not isinstance(await store.call(commit), Done)
        assert time.monotonic() - begin_s < WAIT_MS / 1000


@pytest.mark.asyncio
async def test_a_promoted_replica_is_not_trusted(tmp_path, binary, name):
    async with replicated(tmp_path, binary) as (primary, replica):
        async with store_of(primary.url, name) as store:
            commit, _ = await become_master(primary.url, name, store)
            assert (await store.call(commit)).durable
            held = (await store.call(SetHold("ann", "why"))).view
        await primary.kill()
        async with (
            store_of(replica.url, name) as store,
            raw_client(replica.url, name) as raw,
        ):
            for request in (SetHold("ann", "why"), Read()):  # what a replica knows is old
                reply = await store.call(request)
                assert isinstance(reply, Failed)
                assert "is a read-only replica" in reply.reason
            await raw.execute_command("REPLICAOF", "NO", "ONE")
            view = await store.call(Read())
            assert view.record == held.record
            assert not view.verified
            assert isinstance(await store.call(AGAIN), Unverified)


@pytest.mark.asyncio
async def test_a_server_that_followed_another_is_not_trusted(tmp_path, binary, name):
    """The process is the same one; only its replication history tells."""
    async with (
        replicated(tmp_path, binary) as (primary, replica),
        store_of(replica.url, name) as store,
        raw_client(replica.url, name) as raw,
    ):
        await raw.execute_command("REPLICAOF", "NO", "ONE")
        await store.call(FIRST)
        assert (await store.call(Read())).verified
        run_id = (await raw.info("server"))["run_id"]
        saved = await raw.dump(Keys(name).record)
        port = primary.url.rpartition(":")[2].partition("/")[0]
        await raw.execute_command("REPLICAOF", "127.0.0.1", port)
        async with asyncio.timeout(20):
            while (await raw.info("replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.05)
        await raw.execute_command("REPLICAOF", "NO", "ONE")
        await raw.restore(Keys(name).record, 0, saved, replace=True)
        assert (await raw.info("server"))["run_id"] == run_id
        assert not (await store.call(Read())).verified


# --- a cluster ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_in_a_redis_cluster(tmp_path, binary, name):
    server = EmbeddedServer(
        tmp_path, binary=binary, tcp=True, password=PASSWORD, extra_config=["cluster-enabled yes"]
    )
    async with server, raw_client(server.url, name) as raw:
        await raw.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383) if binary.version >= (
            7,
        ) else await raw.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        async with asyncio.timeout(20):
            while (await raw.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":
                await asyncio.sleep(0.05)
        url = server.url.replace("redis://", "redis+cluster://").removesuffix("/0")
        async with store_of(url, name) as store:
            commit, _ = await become_master(url, name, store)
            assert isinstance(await store.call(commit), Done)
            assert [entry["kind"] for entry in await store.history(2)] == ["raised", "master"]


# --- in memory ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_store_in_memory_fails_the_same_way():
    cluster = MemoryCluster()
    store = cluster.store()
    await store.call(FIRST)
    assert isinstance(await store.call(ADMIT), Admitted)
    saved = cluster.state.copy()
    assert isinstance(await store.call(SetHold("ann", "why")), Done)
    cluster.down = True
    assert isinstance(await store.call(Read()), Failed)
    with pytest.raises(UnavailableError):
        await store.history(1)
    cluster.fail_over(saved)
    assert isinstance(await store.call(AGAIN), Unverified)
    assert (await store.call(Read())).record.hold is None
    cluster.wipe()
    assert (await store.call(Read())).record is None
    member = saved.members["a"]
    assert isinstance(await store.call(Attach(member, ClusterRecord("g"), 0)), Attached)
