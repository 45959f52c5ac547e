"""Shared data: Redis, Valkey and memory answer as `core.store` says, and hold the same records."""

import asyncio
import itertools
from dataclasses import replace

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerupgrade.core.record import Downgrade, Hold
from peerupgrade.core.requests import (
    Audit,
    Audited,
    Conversion,
    Convert,
    Delete,
    Done,
    Exclude,
    Fenced,
    Fetch,
    Fetched,
    Mismatch,
    NoShare,
    NotNow,
    Origin,
    Put,
    ReadAll,
    Refused,
    ReleaseHold,
    Resolve,
    Resolved,
    Scan,
    Scanned,
    SetHold,
    Share,
    Stale,
    Stored,
    Unverified,
    Write,
    Written,
)
from peerupgrade.core.store import converting
from tests.contract import test_store as base
from tests.contract.test_store import HOUR_MS, MemorySide, admit, commit, formed, told

V1, V2, V3 = base.V1, base.V2, base.V3
counter = itertools.count(1)


def origin(stage, node_id="a", *, raised=0, incarnation=0):
    state = stage.state
    known = state.members.get(node_id)
    return Origin(
        node_id,
        (known.incarnation if known else 0) + incarnation,
        state.record.generation if state.record else "",
        (state.record.raised_revision if state.record else 0) + raised,
    )


def put(key, payload=b"x", format_="1.0", **rest):
    return Put(key, format_, payload, **rest)


class Stage(base.Stage):
    """Compares the shared data, too; what a scan brings has no order."""

    async def call(self, request):
        expected = await super().call(request)
        for name, collection in self.state.collections.items():
            assert await self.scanned(name) == {
                key: _no_time(one)
                for key, one in collection.records.items()
                if not 0 < one.expires_at_ms <= base._now_ms()
            }
        return expected

    async def scanned(self, name):
        """Every record, a page at a time."""
        found, cursor = {}, ""
        while cursor != "0":
            page = await self.side.store.call(Scan(name, cursor or "0", 100))
            found |= {key: _no_time(one) for key, one in page.records}
            cursor = page.cursor
        return found

    def plain(self, value):
        return super().plain(_comparable(value))

    async def write(self, *changes, node_id="a", **stale):
        return await self.call(Write(origin(self, node_id, **stale), "notes", changes))

    async def let_records_expire(self):
        """As if their time had passed."""
        for state in self.states():
            notes = state.collections["notes"]
            for key, one in notes.records.items():
                if one.expires_at_ms:
                    notes.records[key] = replace(one, expires_at_ms=1)
        if isinstance(self.side, MemorySide):
            return
        raw, keys = self.side.raw, self.side.keys
        for key, text in (await raw.hgetall(keys.records("notes"))).items():
            header, _, payload = text.partition("\n")
            *first, expires = header.split(" ")
            if expires != "0":
                expired = f"{' '.join(first)} 1\n{payload}"
                await raw.hset(keys.records("notes"), key, expired)
                await raw.zadd(keys.data("notes")[2], {key: 1})

    async def let_share_end(self):
        """As if whoever has a share had been silent for long."""
        for state in self.states():
            notes = state.collections["notes"]
            notes.checkpoint = replace(notes.checkpoint, until_ms=1)
        if not isinstance(self.side, MemorySide):
            await self.side.raw.hset(self.side.keys.data("notes")[1], "until_ms", "1")

    def states(self):
        in_memory = isinstance(self.side, MemorySide)
        return [self.state, self.side.cluster.state] if in_memory else [self.state]


def _no_time(record):
    return replace(record, expires_at_ms=min(record.expires_at_ms, 2))


def _comparable(value):
    if isinstance(value, NoShare):
        return replace(value, wait_ms=round(value.wait_ms / 1000))
    if isinstance(value, Share | Scanned):
        return replace(value, records=tuple(sorted(value.records, key=lambda pair: pair[0])))
    return value


@pytest_asyncio.fixture
async def stage(place, name):
    async with base.staged(place, name, Stage) as stage:
        await formed(stage)
        yield stage


async def convert(stage, kind, *done, at="", then="", node_id="a", target="2.0", **stale):
    share = Convert(origin(stage, node_id, **stale), "notes", target, at, then, done)
    return await told(stage, share, kind)


async def raised(stage):
    """Everybody is at 2.0, and records may still be in format 1.0."""
    await stage.call(commit(stage, acting=V2, floor=V2))
    settled = stage.state.record.raised_revision
    await stage.call(commit(stage, settled_revision=settled))


def done(record, key, payload=b"new", **rest):
    return Conversion(key, record.format, record.stamp, payload, **rest)


def counts(stage):
    return stage.state.collections["notes"].counts


class TestWrite:
    @pytest.mark.asyncio
    async def test_puts_reads_and_deletes(self, stage):
        assert await stage.write(put("k", b"\n\0\xff"), put("l")) == Written((1, 2))
        assert counts(stage) == {"1.0": 2}
        fetched = await stage.call(Fetch("notes", ("k", "nothing")))
        assert fetched == Fetched((Stored("1.0", 1, b"\n\0\xff"), None))
        assert await stage.write(Delete("k"), Delete("nothing")) == Written((0, 0))
        assert await stage.call(Fetch("notes", ("k",))) == Fetched((None,))
        assert counts(stage) == {"1.0": 1}

    @pytest.mark.asyncio
    async def test_counts_by_format(self, stage):
        await stage.write(put("k"), put("l"))
        await stage.write(put("k", format_="2.0"), put("m", format_="2.0"))
        assert counts(stage) == {"1.0": 1, "2.0": 2}

    @pytest.mark.asyncio
    async def test_compares_and_sets_all_or_nothing(self, stage):
        assert await stage.write(put("k", expect=0)) == Written((1,))
        assert await stage.write(put("l"), put("k", expect=0)) == Mismatch(1, 1)
        assert await stage.write(put("k", expect=1)) == Written((2,))
        assert await stage.write(Delete("k", expect=1)) == Mismatch(0, 2)
        assert await stage.write(Delete("k", expect=2)) == Written((0,))
        assert await stage.call(Fetch("notes", ("k", "l"))) == Fetched((None, None))

    @pytest.mark.parametrize(
        ("stale", "why"),
        [({"raised": -1}, "acting"), ({"raised": 1}, "acting"), ({"incarnation": -1}, "member")],
    )
    @pytest.mark.asyncio
    async def test_refuses_what_is_stale(self, stage, stale, why):
        assert await stage.write(put("k"), **stale) == Stale(why)
        assert await stage.write(put("k"), node_id="b") == Stale("member")
        assert await stage.call(Fetch("notes", ("k",))) == Fetched((None,))

    @pytest.mark.asyncio
    async def test_a_node_that_was_paused_across_a_raise_writes_nothing(self, stage):
        before = Write(origin(stage), "notes", (put("k"),))
        await stage.call(commit(stage, acting=V2, floor=V2))
        assert await stage.call(before) == Stale("acting")

    @pytest.mark.asyncio
    async def test_an_excluded_node_writes_nothing(self, stage):
        late = Write(origin(stage), "notes", (put("k"),))
        incarnation = stage.state.members["a"].incarnation
        await told(stage, Exclude("a", "ann", "gone", True, incarnation), Done)
        assert await stage.call(late) == Stale("member")
        await stage.call(admit(token="a2", earlier=("a1",)))
        assert await stage.call(late) == Stale("member")

    @pytest.mark.asyncio
    async def test_an_empty_store_takes_nothing(self, stage):
        late = Write(origin(stage), "notes", (put("k"),))
        await stage.flush()
        assert await stage.call(late) == Stale("member")

    @pytest.mark.asyncio
    async def test_goes_on_while_the_store_is_in_doubt(self, stage):
        await stage.change_identity()
        assert await stage.write(put("k")) == Written((1,))

    @pytest.mark.asyncio
    async def test_expired_records_are_gone_and_not_counted(self, stage):
        await stage.write(put("k", ttl_ms=HOUR_MS), put("l"), put("m", ttl_ms=HOUR_MS))
        await stage.write(put("e", ttl_ms=HOUR_MS))
        await stage.write(put("m"))  # it does not expire any more
        await stage.let_records_expire()
        assert await stage.call(Fetch("notes", ("k", "l", "m")))
        assert await stage.write(put("n", expect=0), put("k", expect=0)) == Written((6, 7))
        assert counts(stage) == {"1.0": 4}


BARRED = Downgrade("1.0", "ann", "it is slow", 5, ("1.0",), 1)


class TestDowngrade:
    @pytest.mark.asyncio
    async def test_refuses_what_the_older_version_could_not_read(self, stage):
        await stage.call(commit(stage, acting=V2, floor=V2, data=V2))
        await told(stage, commit(stage, downgrade=BARRED), Done)
        assert await stage.write(put("k"), put("l", format_="2.0")) == Stale("acting")
        assert await stage.write(put("k"), Delete("l")) == Written((1, 0))
        await stage.call(commit(stage, downgrade=None))
        assert await stage.write(put("l", format_="2.0")) == Written((2,))

    @pytest.mark.asyncio
    async def test_does_not_begin_while_there_are_newer_records(self, stage):
        await stage.call(commit(stage, acting=V2, floor=V2, data=V2))
        await stage.write(put("k"))
        await stage.write(put("l", format_="2.0"))
        await told(stage, commit(stage, downgrade=replace(BARRED, barred=0)), Done)
        await told(stage, commit(stage, downgrade=BARRED), Refused, "newer_records")
        await stage.write(Delete("l"))
        await told(stage, commit(stage, downgrade=BARRED), Done)

    @pytest.mark.asyncio
    async def test_a_write_that_was_on_its_way_is_refused(self, stage):
        await stage.call(commit(stage, acting=V2, floor=V2, data=V2))
        await stage.call(commit(stage, downgrade=BARRED))
        back = {"acting": V1, "floor": V1, "data": V1, "downgrade": None, "downgrades": 1}
        late = Write(origin(stage), "notes", (put("k", format_="2.0"),))
        await told(stage, commit(stage, **back), Done)
        assert await stage.call(late) == Stale("acting")
        assert await stage.write(put("k")) == Written((1,))


class TestConvert:
    @pytest.mark.asyncio
    async def test_waits_until_all_have_settled(self, stage):
        await stage.write(put("k"))
        await convert(stage, NotNow)
        await stage.call(commit(stage, acting=V2, floor=V2))
        await convert(stage, NotNow)
        settled = stage.state.record.raised_revision
        await stage.call(commit(stage, settled_revision=settled))
        await convert(stage, Share)
        await stage.call(commit(stage, data=V2))
        await convert(stage, NotNow)

    @pytest.mark.asyncio
    async def test_is_refused_when_paused_stale_or_in_doubt(self, stage):
        await stage.write(put("k"))
        await raised(stage)
        await convert(stage, Stale, raised=-1)
        await convert(stage, Stale, incarnation=-1)
        await told(stage, SetHold("ann", "peak hour", what="pause"), Done)
        assert stage.state.record.hold is None
        assert isinstance(stage.state.record.pause, Hold)
        await convert(stage, NotNow)
        await told(stage, ReleaseHold("ann", what="pause"), Done)
        await told(stage, ReleaseHold("ann", what="pause"), Refused, "no_pause")
        await convert(stage, Share)
        await stage.change_identity()
        await convert(stage, NotNow)

    @pytest.mark.asyncio
    async def test_writes_each_record_once_and_keeps_its_stamp(self, stage):
        await stage.write(put("k", ttl_ms=HOUR_MS), put("l"))
        await raised(stage)
        share = await convert(stage, Share)
        assert (share.at, share.then, len(share.records)) == ("0", "0", 2)
        work = [done(record, key) for key, record in share.records]
        assert await convert(stage, NoShare, *work, at="0", then="0") == NoShare("done")
        assert counts(stage) == {"2.0": 2}
        (record,) = (await stage.call(Fetch("notes", ("l",)))).records
        assert record == Stored("2.0", 2, b"new")
        again = [done(record, key, b"newer") for key, record in share.records]
        await convert(stage, NoShare, *again)
        assert (await stage.call(Fetch("notes", ("l",)))).records == (record,)
        assert stage.state.collections["notes"].checkpoint.converted == 2

    @pytest.mark.asyncio
    async def test_never_overwrites_what_was_written_meanwhile(self, stage):
        await stage.write(put("k"), put("l"))
        await raised(stage)
        share = await convert(stage, Share)
        await stage.write(put("k", b"mine", "2.0"), Delete("l"))
        work = [done(record, key) for key, record in share.records]
        await convert(stage, NoShare, *work, at="0", then="0")
        fetched = await stage.call(Fetch("notes", ("k", "l")))
        assert [one and one.payload for one in fetched.records] == [b"mine", None]

    @pytest.mark.asyncio
    async def test_one_at_a_time_and_the_next_when_it_is_silent(self, stage):
        await stage.write(put("k"), put("l"))
        await stage.call(admit("b", "b1", installed=V2))
        await raised(stage)
        share = await convert(stage, Share)
        taken = await convert(stage, NoShare, node_id="b")
        assert taken.why == "taken"
        assert 0 < taken.wait_ms <= 3000
        await stage.let_share_end()
        await convert(stage, Share, node_id="b")
        late = [done(record, key) for key, record in share.records]
        await convert(stage, NoShare, *late, at="0", then="0")  # what it has done counts
        assert counts(stage) == {"2.0": 2}
        assert stage.state.collections["notes"].checkpoint.converter == "b"

    @pytest.mark.asyncio
    async def test_parks_what_cannot_be_converted(self, stage, monkeypatch):
        await stage.write(put("k"), put("l"), put("m"))
        await raised(stage)
        share = await convert(stage, Share)
        work = [done(record, key, error="why") for key, record in share.records]
        assert await convert(stage, NoShare, *work, at="0", then="0") == NoShare("done")
        assert set(stage.state.collections["notes"].parked) == {"k", "l", "m"}
        assert counts(stage) == {"1.0": 3}
        await stage.write(put("k", format_="2.0"))
        assert await stage.call(Resolve("notes", "m", "skip", "ann")) == Resolved(1)
        assert await stage.call(Resolve("notes", "m", "skip", "ann")) == Resolved(0)
        await told(stage, Resolve("notes", "", "retry", "ann"), Resolved)
        again = await convert(stage, Share)
        assert [key for key, _ in again.records] == ["l"]
        work = [done(record, key, error="why") for key, record in again.records]
        await convert(stage, NoShare, *work)
        await told(stage, Resolve("notes", "l", "delete", "ann"), Resolved)
        assert counts(stage) == {"2.0": 1}
        assert list(stage.state.collections["notes"].skipped) == ["m"]

    @pytest.mark.asyncio
    async def test_a_defect_of_the_codec_stops_it(self, stage):
        number = converting.PARKED_MAX + 1
        await stage.write(*(put(f"k{n}") for n in range(number)))
        await raised(stage)
        notes = stage.state.collections["notes"]
        work = [done(one, key, error="why") for key, one in notes.records.items()]
        assert await convert(stage, NoShare, *work) == NoShare("full")
        assert len(notes.parked) == converting.PARKED_MAX

    @pytest.mark.asyncio
    async def test_a_pass_that_met_none_sets_the_counters_right(self, stage):
        await stage.write(put("k", format_="2.0"))
        await raised(stage)
        for state in stage.states():
            state.collections["notes"].count("1.0", 5)
        if not isinstance(stage.side, MemorySide):
            await stage.side.raw.hset(stage.side.keys.data("notes")[1], "count 1.0", "5")
        share = await convert(stage, Share)
        assert share.records == ()
        await convert(stage, NoShare, at=share.at, then=share.then)
        assert counts(stage) == {"2.0": 1}

    @pytest.mark.asyncio
    async def test_a_share_that_was_not_brought_back_is_given_again_and_then_the_next(self, stage):
        number = 1500  # so many that no server gives them all at once
        await stage.write(*(put(f"k{n}") for n in range(number)))
        await raised(stage)
        ask = Convert(origin(stage), "notes", "2.0", count=100)
        store = stage.side.store  # cursors are each store's own, so there is nothing to compare
        first = await store.call(ask)
        assert 0 < len(first.records) < number
        assert await store.call(ask) == first
        rounds, share, stopped_at = 0, first, first.at
        while isinstance(share, Share):
            assert share.at == stopped_at
            work = tuple(done(record, key) for key, record in share.records)
            rounds, stopped_at = rounds + 1, share.then
            share = await store.call(replace(ask, at=share.at, then=share.then, done=work))
        assert share == NoShare("done")
        assert rounds > 5
        view = (await store.call(ReadAll())).snapshot.collections["notes"]
        assert (view.counts, view.converted) == ({"2.0": number}, number)

    @pytest.mark.asyncio
    async def test_nothing_to_do_where_there_is_no_collection(self, stage):
        await raised(stage)
        assert await convert(stage, NoShare) == NoShare("done")


class TestAudit:
    def audit(self, stage, epoch=0):
        record = stage.state.record
        return Audit(stage.state.master_token, record.epoch + epoch, "notes", "2.0", 100)

    @pytest.mark.asyncio
    async def test_finds_what_is_left(self, stage):
        await stage.write(put("k"), put("l", format_="2.0"))
        await raised(stage)
        assert await stage.call(self.audit(stage)) == Audited(False, 1)
        await stage.write(put("k", format_="2.0"))
        assert await stage.call(self.audit(stage)) == Audited(True, 0)
        assert await stage.call(self.audit(stage)) == Audited(True, 0)

    @pytest.mark.asyncio
    async def test_proves_nothing_before_all_have_settled(self, stage):
        await stage.write(put("k", format_="2.0"))
        await stage.call(commit(stage, acting=V2, floor=V2))
        assert await stage.call(self.audit(stage)) == Audited(False, 0)
        settled = stage.state.record.raised_revision
        await stage.call(commit(stage, settled_revision=settled))
        assert await stage.call(self.audit(stage)) == Audited(True, 0)

    @pytest.mark.asyncio
    async def test_is_about_one_raise_and_one_server_process(self, stage):
        await stage.write(put("k", format_="2.0"))
        await raised(stage)
        assert await stage.call(self.audit(stage)) == Audited(True, 0)
        await stage.call(commit(stage, acting=V3, floor=V3))
        await stage.call(commit(stage, settled_revision=stage.state.record.raised_revision))
        await stage.write(put("l"))
        assert await stage.call(self.audit(stage)) == Audited(False, 1)

    @pytest.mark.asyncio
    async def test_another_master_goes_on_where_the_last_one_stopped(self, stage):
        keys = [f"k{number}" for number in range(600)]  # more than a server keeps in one piece
        await stage.write(*(put(key, format_="2.0") for key in keys))
        await raised(stage)
        calls = 1
        while not (await stage.side.store.call(self.audit(stage))).ended:
            calls += 1
            if calls == 3:
                await stage.ask_lock(base.Release("m1"))
                await stage.ask_lock(base.Acquire("m2", HOUR_MS))
                await stage.call(base.Claim("a", "m2", 0))
        assert 4 < calls < 8

    @pytest.mark.asyncio
    async def test_sets_a_counter_right_that_knows_nothing(self, stage):
        await stage.write(put("k"))
        for state in stage.states():
            state.collections["notes"].counts.clear()
        if not isinstance(stage.side, MemorySide):
            await stage.side.raw.hdel(stage.side.keys.data("notes")[1], "count 1.0")
        await stage.call(self.audit(stage))
        assert counts(stage) == {"1.0": 1}

    @pytest.mark.asyncio
    async def test_is_the_masters(self, stage):
        await told(stage, self.audit(stage, epoch=-1), Fenced)
        await stage.change_identity()
        await told(stage, self.audit(stage), Unverified)
        await told(stage, Resolve("notes", "", "retry", "ann"), Unverified)


# --- any sequence ---------------------------------------------------------------------------------

KEYS = st.sampled_from(["k", "l", "m"])
FORMATS = st.sampled_from(["1.0", "2.0"])
EXPECTED = st.sampled_from([None] * 4 + [0, 1, 2, 3])


class Sequence(base.Sequence):
    """The requests of the store, with those about shared data among them."""

    ACTIONS = (
        *["write"] * 12,
        *["convert"] * 8,
        *["raise_"] * 3,
        *["audit", "resolve", "pause", "go_on", "admit", "exclude", "commit"],
        *["save", "restore", "change_identity", "attach", "claim"],
    )

    def __init__(self, stage, draw):
        super().__init__(stage, draw)
        self.share = None

    def origin(self):
        return origin(self.stage, self.draw(base.IDS), raised=self.draw(base.HITS))

    def change(self):
        key, expect = self.draw(KEYS), self.draw(EXPECTED)
        if self.draw(st.integers(0, 4)) == 0:
            return Delete(key, expect)
        ttl_ms = self.draw(st.sampled_from([0, 0, HOUR_MS]))
        return Put(key, self.draw(FORMATS), b"%d" % next(counter), ttl_ms, expect)

    def write(self):
        changes = tuple(self.change() for _ in range(self.draw(st.integers(1, 3))))
        return Write(self.origin(), "notes", changes)

    async def convert(self):
        share = self.share if self.draw(st.booleans()) else None
        fails = self.draw(st.sampled_from(["", "", "why"]))
        work = [done(one, key, error=fails) for key, one in share.records] if share else []
        request = Convert(
            self.origin(),
            "notes",
            "2.0",
            share.at if share else "",
            share.then if share else "",
            tuple(work),
        )
        reply = await self.stage.call(request)
        self.share = reply if isinstance(reply, Share) else self.share

    async def raise_(self):
        record = self.state.record
        if record is not None and record.acting is not None and record.identity == base.SELF:
            await raised(self.stage)

    def audit(self):
        record = self.state.record
        epoch = record.epoch if record else 0
        return Audit(self.state.master_token or "m1", epoch, "notes", "2.0", 100)

    def resolve(self):
        verdict = self.draw(st.sampled_from(["retry", "skip", "delete"]))
        return Resolve("notes", self.draw(st.sampled_from(["", "k"])), verdict, "ann")

    def pause(self):
        return SetHold("ann", "why", what="pause")

    def go_on(self):
        return ReleaseHold("bob", "over", what="pause")


async def _play(place, name, draw):
    async with base.staged(place, name, Stage) as stage:
        sequence = Sequence(stage, draw)
        await formed(stage, V1, admit(installed=V2), admit("b", "b1", installed=V2))
        for _ in range(draw(st.integers(1, 4)) * 8):
            await sequence.step()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(data=st.data())
def test_any_sequence_of_requests(place, data):
    asyncio.run(_play(place, f"data-{next(counter)}", data.draw))
