"""Collections through an upgrade, on a real server."""

import asyncio

import pytest
import pytest_asyncio

from peerupgrade import ConflictError, DataError, StaleVersionError, UnavailableError
from peerupgrade.core.requests import Scan
from tests.data.conftest import Cluster, register_1, register_2

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def cluster(server, tmp_path):
    cluster = Cluster(server, tmp_path)
    yield cluster
    await cluster.aclose()


def note(text):
    return {"text": text, "words": len(text.split())}


async def test_everything_that_a_collection_can(cluster):
    node = await cluster.start("a", "2.0", register_2)
    notes = node.collection("notes")
    assert notes.active_format == "2.0"
    stamp = await notes.put("k", note("one two"))
    record = await notes.get("k")
    assert (record.key, record.value, record.format, record.stamp) == (
        "k",
        note("one two"),
        "2.0",
        stamp,
    )
    assert await notes.get("nothing") is None
    with pytest.raises(ConflictError, match="'k' of 'notes' has stamp 1, not 0"):
        await notes.put("k", note("x"), expect=0)
    await notes.put("k", note("three"), expect=record.stamp)
    batch = notes.batch()
    batch.put("l", note("four"))
    batch.put("m", note("five"), ttl_s=0.05)
    batch.delete("k")
    assert await batch.commit() == (3, 4, 0)
    await asyncio.sleep(0.1)
    assert {one.key async for one in notes.scan()} == {"l"}
    assert list(await notes.get_many(["k", "l", "m"])) == ["l"]
    await notes.delete("l")
    assert [one async for one in notes.scan()] == []


async def test_both_releases_read_and_write_while_the_old_one_is_there(cluster):
    await cluster.start("a", "1.0", register_1)
    old, new = (cluster.nodes["a"], await cluster.start("b", "2.0", register_2))
    before, after = old.collection("notes"), new.collection("notes")
    await after.put("k", note("from the new one"))
    assert (await before.get("k")).value == "from the new one"
    await before.put("l", "from the old one")
    assert (await after.get("l")).value == note("from the old one")
    assert after.active_format == "1.0"


async def test_without_a_downgrade_the_old_format_is_given(cluster):
    await cluster.start("a", "1.0", register_1)

    def register(node):
        notes = register_1(node)
        notes.format("2.0", upgrade=note)

    notes = (await cluster.start("b", "2.0", register)).collection("notes")
    with pytest.raises(DataError, match="has no downgrade"):
        await notes.put("k", note("x"))
    await notes.put("k", "x", format=notes.active_format)
    assert (await notes.get("k")).value == note("x")


async def test_an_upgrade_converts_every_record(cluster):
    node = await cluster.start("a", "1.0", register_1)
    notes = node.collection("notes")
    for number in range(500):
        await notes.put(f"k{number}", f"note {number}")
    kept = await notes.put("kept", "as it was")
    await cluster.stop("a")
    node = await cluster.start("a", "2.0", register_2)
    await cluster.data_is("2.0")
    ledger = await node.ledger()
    assert ledger.snapshot.collections["notes"].counts == {"2.0": 501}
    raw = await node._ports.store.call(Scan("notes", "0", 10_000))
    assert {record.format for _, record in raw.records} == {"2.0"}
    record = await node.collection("notes").get("kept")
    assert (record.value, record.stamp) == (note("as it was"), kept)
    assert ledger.blockers == ()


async def test_an_agent_is_master_and_another_node_converts(cluster):
    node = await cluster.start("a", "1.0", register_1)
    agent = await cluster.start("agent", "2.0", lock_ttl_s=10.0)
    await node.collection("notes").put("k", "text")
    await cluster.stop("a")

    async def is_master():
        return agent.status().epoch > 0

    await cluster.until(is_master)  # and so it is until the end
    node = await cluster.start("a", "2.0", register_2)
    await cluster.data_is("2.0")
    assert agent.status().epoch > 0
    assert (await node.collection("notes").get("k")).format == "2.0"


async def test_without_a_codec_the_upgrade_waits_and_says_for_what(cluster):
    node = await cluster.start("a", "1.0", register_1, on_stop="leave")
    await cluster.start("agent", "2.0")
    await node.collection("notes").put("k", "text")
    await cluster.stop("a")

    async def waits():
        return ("no_codec", "notes") in await cluster.blockers()

    await cluster.until(waits)
    await cluster.start("a", "2.0", register_2)
    await cluster.data_is("2.0")


async def test_poison_blocks_by_name_until_it_is_resolved(cluster):
    node = await cluster.start("a", "1.0", register_1)
    notes = node.collection("notes")
    for key in ("fine", "mend", "skip"):
        await notes.put(key, key)
    await cluster.stop("a")

    def upgrade(text):
        if text != "fine":
            raise ValueError(f"no {text}")
        return note(text)

    node = await cluster.start("a", "2.0", lambda node: register_2(node, upgrade=upgrade))

    async def parked():
        wanted = {("parked", "notes/mend"), ("parked", "notes/skip")}
        return wanted <= set(await cluster.blockers())

    await cluster.until(parked)
    assert "ValueError: no mend" in (await cluster.blockers())["parked", "notes/mend"].evidence
    await node.collection("notes").put("mend", note("mended"))
    await node.resolve("notes", "skip", "skip", "ann")
    await cluster.data_is("2.0")
    view = (await node.ledger()).snapshot.collections["notes"]
    assert (view.counts, view.skipped) == ({"2.0": 2}, 1)


async def test_a_paused_conversion_waits(cluster):
    node = await cluster.start("a", "1.0", register_1)
    await node.collection("notes").put("k", "text")
    await node.pause("ann", "peak hour")
    await cluster.stop("a")
    node = await cluster.start("a", "2.0", register_2)

    async def waits():
        blocker = (await cluster.blockers()).get(("converting", "notes"))
        return blocker is not None and "paused by ann: peak hour" in blocker.evidence

    await cluster.until(waits)
    assert (await node.collection("notes").get("k")).format == "1.0"
    await node.resume("ann")
    await cluster.data_is("2.0")


async def test_a_write_under_an_acting_version_that_is_over_is_refused(cluster):
    node = await cluster.start("a", "1.0", register_1)
    notes = node.collection("notes")
    origin = node._writer_now()
    node._writer_now = None  # as a paused process, it does not notice
    notes._access = type(notes._access)(node._store, lambda: origin, node._latency)
    await cluster.stop("a")
    await cluster.start("a", "2.0", register_2)
    await cluster.data_is("2.0")
    (other,) = cluster.nodes.values()
    notes._access = type(notes._access)(other._store, lambda: origin, other._latency)
    with pytest.raises(StaleVersionError, match=r"may not write at 1\.0 any more"):
        await notes.put("k", "late")
    assert await other.collection("notes").get("k") is None


async def test_a_connection_that_breaks_is_one_error_for_everything_under_way_on_it(
    cluster, server
):
    node = await cluster.start("a", "1.0", register_1)
    notes = node.collection("notes")
    await notes.put("k", "text")
    lane = node._ports.store._data._lanes[0].client
    async with lane.use("wait") as line:
        waiting = asyncio.create_task(lane_read(lane))
        await asyncio.sleep(0.05)
        with pytest.raises(UnavailableError):
            async with lane.use("fail"):
                raise ConnectionError("broken")
        assert await line.ask("PING")  # it is closed only after the last
        assert await waiting is None
    assert lane._shared is None
    assert (await notes.get("k")).value == "text"


async def lane_read(lane):
    async with lane.use("read") as line:
        return await line.ask("BLPOP", "nothing", "0.2")


async def test_reading_through_a_node_that_has_ended_says_so(cluster):
    node = await cluster.start("a", "1.0", register_1)
    await cluster.stop("a")
    with pytest.raises(UnavailableError, match="the connection was closed"):
        await node.collection("notes").get("k")


async def test_nobody_writes_before_it_operates_or_after_its_end(cluster):
    node = await cluster.start("a", "1.0", register_1)
    await cluster.stop("a")
    with pytest.raises(StaleVersionError):
        await node.collection("notes").put("k", "text")
