"""Every request and every refusal: Redis, Valkey and memory answer as `core.store` says.

`Stage` does each request twice, on what is tested and on a plain `StoreState`, and compares the
answers, the whole states, the histories and what was published. So a test only has to lead to the
place that it is about.
"""

import asyncio
import contextlib
import itertools
import json
import time
from dataclasses import asdict, fields, is_dataclass, replace

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerupgrade.adapters.memory import MemoryCluster
from peerupgrade.adapters.redis_bus import RedisBus
from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_lock import RedisLockServer
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.adapters.redis_store import RedisStore
from peerupgrade.core.record import (
    ClusterRecord,
    Completion,
    Downgrade,
    Health,
    HealthState,
    Hold,
    Member,
    Rollout,
    Standing,
    Turn,
    TurnStep,
    Upgrade,
    Work,
    WorkState,
)
from peerupgrade.core.requests import (
    Acquire,
    Admit,
    Admitted,
    Attach,
    Attached,
    Beat,
    Claim,
    Claimed,
    Commit,
    Conflict,
    Done,
    Exclude,
    Extend,
    Fenced,
    Init,
    Leave,
    MemberHeard,
    NotMember,
    Outcome,
    Read,
    ReadAll,
    Refused,
    Release,
    ReleaseHold,
    Report,
    ReturnSlot,
    Seeds,
    SeedsFound,
    SetDowngrade,
    SetHold,
    SetRollout,
    Subscribed,
    TakeSlot,
    Unverified,
    View,
)
from peerupgrade.core.store import StoreState, execute, execute_lock, snapshot
from peerupgrade.core.strategy import Strategy
from peerupgrade.core.versions import Version, parse_version

SELF = "this server process"
GONE = "another server process"
HOUR_MS = 3_600_000
V1, V1_0, V11, V2, V3 = map(parse_version, ("1.0", "1.0.0", "1.1", "2.0", "3.0"))
VERSIONS = (V1, V1_0, V11, V2, V3)


# --- comparing ------------------------------------------------------------------------------------


def plain(value, identity):
    """Without what may differ: times by the clock, the server's identity, ids of entries."""
    if isinstance(value, Version):
        return value.text
    if is_dataclass(value):
        return type(value).__name__, {
            f.name: plain(getattr(value, f.name), identity) for f in fields(value)
        }
    if isinstance(value, dict):
        return {key: plain(item, identity) for key, item in value.items() if key != "id"}
    if isinstance(value, list | tuple):
        return [plain(item, identity) for item in value]
    if isinstance(value, str) and value.isdecimal() and len(value) == 13:
        value = int(value)
    if isinstance(value, int) and value > 10**12:
        return f"now + {round((value / 1000 - time.time()) / 600)} * 10 min"
    if isinstance(value, int) and value > 10**6:
        return f"{round(value / 600_000)} * 10 min"
    return SELF if value == identity else value


class Listener:
    """What both channels say."""

    def __init__(self, bus):
        self.record, self.members = [], []
        self.tasks = [
            asyncio.create_task(bus.listen(self.record.append, members=False)),
            asyncio.create_task(bus.listen(self.members.append, members=True)),
        ]

    def take(self):
        taken = self.record[:], self.members[:]
        self.record.clear()
        self.members.clear()
        return taken

    async def aclose(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class MemorySide:
    """The adapter in memory."""

    def __init__(self):
        self.cluster = MemoryCluster()
        self.store, self.lock = self.cluster.store(), self.cluster.lock_server(0)
        self.listener = Listener(self.cluster.bus())

    async def published(self):
        await asyncio.sleep(0.001)
        return self.listener.take()

    async def identity(self):
        return self.cluster.identity

    async def flush(self):
        self.cluster.wipe()

    async def save(self):
        return self.cluster.state.copy()

    async def restore(self, saved):
        self.cluster.state = saved.copy()

    async def aclose(self):
        await self.listener.aclose()


class RedisSide:
    """The adapters for a server."""

    def __init__(self, url, name):
        keys = self.keys = Keys(name)
        self.link = RedisLink(parse_store_url(url), timeout_s=5.0, slot_key=keys.record)
        self.store = RedisStore(self.link, name, timeout_s=5.0)
        self.lock = RedisLockServer(self.link, name, ttl_s=3.0, is_store=True)
        self.listener = Listener(RedisBus(self.link, name))
        self.marks = itertools.count(10**9)

    async def start(self):
        self.raw = await self.link.connect()

    async def published(self):
        """Everything that came before a message of our own."""
        mark = Beat(next(self.marks), 0, 0, 0, 0)
        fields_ = {name: str(value) for name, value in asdict(mark).items()}
        for channel in (self.keys.record_channel, self.keys.members_channel):
            await self.raw.publish(channel, json.dumps({"heard": "beat", **fields_}))
        listener = self.listener
        async with asyncio.timeout(10):
            while not (listener.record[-1:] == [mark] == listener.members[-1:]):
                await asyncio.sleep(0)
        record, members = listener.take()
        return record[:-1], members[:-1]

    async def identity(self):
        info = await self.raw.info()
        return f"{info['run_id']}:{info['master_replid']}"

    async def flush(self):
        names = await self.names()
        if names:
            await self.raw.delete(*names)

    async def names(self):
        prefix = self.keys.record.removesuffix("record")
        return [name async for name in self.raw.scan_iter(f"{prefix}*")]

    async def save(self):
        return {key: await self.raw.dump(key) for key in await self.names()}

    async def restore(self, saved):
        await self.flush()
        for key, dump in saved.items():
            if dump is not None:
                ttl_ms = HOUR_MS if key == self.keys.lock else 0
                await self.raw.restore(key, ttl_ms, dump)

    async def aclose(self):
        await self.listener.aclose()
        await self.store.aclose()
        await self.lock.aclose()
        await self.raw.aclose()


class Stage:
    """What is tested, beside the reference."""

    def __init__(self, side):
        self.side = side
        self.state = StoreState()

    async def start(self):
        self.identity = await self.side.identity()
        listener = self.side.listener
        while not (listener.record and listener.members):
            await asyncio.sleep(0)
        assert await self.side.published() == ([Subscribed()], [Subscribed()])

    async def call(self, request):
        """Ask both; the answer of what is tested, its identity made comparable."""
        expected, heard = execute(self.state, request, _now_ms(), SELF)
        actual = await self.side.store.call(request)
        assert self.plain(actual) == self.plain(expected)
        await self.compare(heard)
        if isinstance(request, Init):
            await self.make_young()
        return expected

    async def ask_lock(self, request):
        expected, heard = execute_lock(self.state.lock, request, _now_ms(), self.state)
        actual = await self.side.lock.call(request)
        assert self.plain(actual) == plain(expected, SELF)
        await self.compare(heard)
        return expected

    async def compare(self, heard):
        record, members = await self.side.published()
        assert self.plain(record) == [
            plain(h, SELF) for h in heard if not isinstance(h, MemberHeard)
        ]
        assert self.plain(members) == [plain(h, SELF) for h in heard if isinstance(h, MemberHeard)]
        everything = await self.side.store.call(ReadAll())
        assert self.plain(everything.snapshot) == plain(snapshot(self.state, _now_ms(), SELF), SELF)
        history = await self.side.store.history(1000)
        assert self.plain(history) == plain(list(reversed(self.state.history)), SELF)
        await asyncio.sleep(0.002)  # so that no two requests have the same time

    def plain(self, value):
        return plain(value, self.identity)

    async def make_young(self):
        """Where the age is no matter of chance the epoch after a doubt is none, too."""
        later_ms = _now_ms() + HOUR_MS
        self.state.record = replace(self.state.record, created_at_ms=later_ms)
        if isinstance(self.side, MemorySide):
            self.side.cluster.state.record = replace(
                self.side.cluster.state.record, created_at_ms=later_ms
            )
            return
        await self.side.raw.hset(self.side.keys.record, "created_at_ms", str(later_ms))

    # --- faults -----------------------------------------------------------------------------------

    async def change_identity(self):
        """As if another server process had written all that is there."""
        _other_process(self.state, SELF)
        if isinstance(self.side, MemorySide):
            _other_process(self.side.cluster.state, self.identity)
            return
        record = self.side.keys.record
        for name in ("identity", "_suspect"):
            if await self.side.raw.hget(record, name) == self.identity:
                await self.side.raw.hset(record, name, GONE)

    async def let_time_pass(self):
        """As if every lease and quarantine had ended, and every health had been so for long."""
        _end_all(self.state)
        if isinstance(self.side, MemorySide):
            _end_all(self.side.cluster.state)
            return
        raw, keys = self.side.raw, self.side.keys
        if await raw.hget(keys.record, "_quarantine_until_ms") is not None:
            await raw.hset(keys.record, "_quarantine_until_ms", "1")
        for node_id, text in (await raw.hgetall(keys.members)).items():
            member = json.loads(text)
            ended = {"health_since_ms": "1"}
            if member["lease_until_ms"] != "0":
                ended["lease_until_ms"] = "1"
            await raw.hset(keys.members, node_id, json.dumps(member | ended))

    async def flush(self):
        self.state = StoreState()
        await self.side.flush()

    async def save(self):
        return self.state.copy(), await self.side.save()

    async def restore(self, saved):
        """Everything since then is lost."""
        self.state = saved[0].copy()
        await self.side.restore(saved[1])


def _other_process(state, identity):
    if state.record is not None and state.record.identity == identity:
        state.record = replace(state.record, identity=GONE)
    if state.suspect == identity:
        state.suspect = GONE


def _end_all(state):
    if state.record is not None:
        state.quarantine_until_ms = 1
    for member in state.members.values():
        until_ms = 1 if member.lease_until_ms else 0
        ended = replace(member, lease_until_ms=until_ms, health_since_ms=1)
        state.members[member.id] = ended


def _now_ms():
    return time.time_ns() // 1_000_000


@contextlib.asynccontextmanager
async def staged(place, name, kind=Stage):
    if place is None:
        side = MemorySide()
    else:
        side = RedisSide(place.url, name)
        await side.start()
    stage = kind(side)
    try:
        await stage.start()
        yield stage
    finally:
        await side.aclose()


# --- requests -------------------------------------------------------------------------------------


numbers = itertools.count(1)  # as one node counts its requests


def admit(node_id="a", token="a1", installed=V1, lowest=V1, **rest):
    defaults = {"earlier": (), "incarnation": 0, "generation": "", "number": next(numbers)}
    return Admit(node_id, token, installed=installed, lowest=lowest, **(defaults | rest))


def report(stage, node_id="a", **rest):
    member = stage.state.members[node_id]
    defaults = {
        "incarnation": member.incarnation,
        "generation": stage.state.record.generation,
        "number": next(numbers),
        "standing": member.standing,
        "seen": member.seen,
        "operating": member.operating,
        "operating_revision": member.operating_revision,
    }
    return Report(node_id, **(defaults | rest))


def commit(stage, *, token="m1", step="step", repair=False, moved=(0, 0, 0), **changes):
    """A commit of the record as it is with `changes`; `moved`: epoch, revision, members."""
    record = stage.state.record
    return Commit(
        token,
        record.epoch + moved[0],
        record.revision + moved[1],
        stage.state.members_revision + moved[2],
        replace(record, **changes),
        step,
        "inputs",
        repair,
    )


def acting(version):
    return {"acting": version, "floor": version, "before": version, "data": version}


def attach(stage, node_id="a", memory="as the store", quarantine_ms=0, **rest):
    if memory == "as the store":
        memory = stage.state.record
    member = stage.state.members.get(node_id) or Member(node_id, 1, f"{node_id}1", V1, V1)
    rest = {"number": next(numbers)} | rest
    return Attach(replace(member, **rest), memory, quarantine_ms)


async def formed(stage, version=V1, *nodes):
    """A cluster at `version` with a master m and its members."""
    await stage.call(Init("g", 1, 0))
    for request in nodes or (admit(),):
        await stage.call(request)
    await stage.ask_lock(Acquire("m1", HOUR_MS))
    await stage.call(Claim("m", "m1", 0))
    await stage.call(commit(stage, step="formed", **acting(version)))


def serves(stage, node_id, incarnation, **rest):
    """A member's word that it operates as the record says."""
    rest = {
        "standing": Standing.SERVING,
        "seen": 2,
        "operating": V1,
        "operating_revision": 2,
    } | rest
    return Report(node_id, incarnation, "g", next(numbers), **rest)


async def told(stage, request, kind, rule=None):
    reply = await stage.call(request)
    assert isinstance(reply, kind), reply
    if rule is not None:
        assert reply.rule == rule
    return reply


@pytest_asyncio.fixture
async def stage(place, name):
    async with staged(place, name) as stage:
        yield stage


class TestInit:
    @pytest.mark.asyncio
    async def test_makes_the_record_once(self, stage):
        assert await told(stage, Read(), View) == View(None, SELF)
        first = await told(stage, Init("g", 3, HOUR_MS), View)
        assert (first.record.revision, first.record.bootstrap_expect) == (1, 3)
        again = await told(stage, Init("other", 1, 0), View)
        assert (again.record.generation, again.record.revision) == ("g", 1)

    @pytest.mark.asyncio
    async def test_begins_anew_where_none_had_formed_on_this_server(self, stage):
        await stage.call(Init("g", 1, HOUR_MS))
        await stage.call(admit())
        await stage.call(SetHold("ann", "not today"))
        await stage.change_identity()
        assert (await told(stage, Init("h", 2, 0), View)).record.hold.by == "ann"
        assert stage.state.members == {}

    @pytest.mark.asyncio
    async def test_leaves_a_formed_cluster_alone(self, stage):
        await formed(stage)
        await stage.change_identity()
        assert (await told(stage, Init("h", 2, 0), View)).record.generation == "g"


class TestAdmit:
    @pytest.mark.asyncio
    async def test_needs_a_verified_store(self, stage):
        await told(stage, admit(), Unverified)
        await formed(stage)
        await stage.change_identity()
        await told(stage, admit(), Unverified)

    @pytest.mark.asyncio
    async def test_before_the_cluster_has_formed(self, stage):
        await stage.call(Init("g", 1, HOUR_MS))
        await told(stage, admit(), Admitted, "forming")
        await told(stage, admit("b", "b1", V3, V2, lease_ms=HOUR_MS, labels={"ä": '"'}), Admitted)

    @pytest.mark.asyncio
    async def test_serves_once_it_has_formed(self, stage):
        await formed(stage)
        again = await told(stage, admit(generation="g"), Admitted, "")
        assert (again.incarnation, again.standing) == (1, Standing.SERVING)
        newcomer = admit("b", "b1", V2, address="h:1", zone="z", incarnation=7)
        assert (await told(stage, newcomer, Admitted, "")).incarnation == 8

    @pytest.mark.asyncio
    async def test_again_keeps_what_it_operates_at(self, stage):
        await formed(stage)
        await stage.call(admit())
        await stage.call(report(stage, operating=V1, operating_revision=2, failure="none"))
        await told(stage, admit(installed=V2), Admitted, "")
        assert stage.state.members["a"].operating == V1
        await told(stage, admit(token="a2", earlier=("a1",)), Admitted, "")
        assert stage.state.members["a"].operating is None

    @pytest.mark.parametrize(
        ("request_", "rule"),
        [
            (admit(generation="h"), "other_generation"),
            (admit(token="x"), "name_taken"),
            (admit(token="x", earlier=("y", "z")), "name_taken"),
            (admit("b", "b1", V1_0), "installed_below_acting"),
            (admit("b", "b1", V3, V3), "lowest_above_acting"),
            (admit("b", "b1", V11), "installed_below_acting"),
        ],
    )
    @pytest.mark.asyncio
    async def test_refuses(self, stage, request_, rule):
        await formed(stage, V2, admit(installed=V2))
        await told(stage, request_, Refused, rule)

    @pytest.mark.parametrize(
        ("record", "request_", "rule"),
        [
            ({"floor": V2}, admit("b", "b1", V1), "installed_below_floor"),
            ({"acting": V2, "floor": V2}, admit("b", "b1", V2, V2), "lowest_above_data"),
            ({}, admit("b", "b1", V2, V11), "lowest_above_acting"),
        ],
    )
    @pytest.mark.asyncio
    async def test_a_newcomer_is_refused_where_a_member_stands_by(
        self, stage, record, request_, rule
    ):
        await formed(stage)
        await stage.call(commit(stage, **record))
        await told(stage, request_, Refused, rule)
        member = replace(request_, id="a", token="a1", number=next(numbers))
        await told(stage, member, Admitted, rule)
        assert stage.state.members["a"].standing is Standing.STANDBY

    @pytest.mark.asyncio
    async def test_an_excluded_start_never_returns(self, stage):
        await formed(stage)
        await stage.call(Exclude("a", "ann", "dead", True, 1))
        refused = await told(stage, admit(), Refused, "excluded")
        assert refused.tombstone.by == "ann"
        assert (await told(stage, admit(token="a2"), Admitted)).incarnation == 2


class TestSeeds:
    """Chance draws them, so the answers are not compared one by one."""

    @pytest.mark.asyncio
    async def test_are_where_other_members_gossip(self, stage):
        store = stage.side.store
        assert await store.call(Seeds("a", 0)) == SeedsFound(())
        names = [f"n{number}" for number in range(12)]
        await formed(stage, V1, *(admit(n, n, gossip=f"127.0.0.1:{n[1:]}") for n in names))
        await stage.call(admit("silent", "silent"))
        drawn = set()
        for draw in range(100):
            found = (await store.call(Seeds("n0", draw))).addresses
            assert len(set(found)) == len(found) <= 6
            drawn |= set(found)
        assert drawn == {f"127.0.0.1:{number}" for number in range(1, 12)}

    @pytest.mark.asyncio
    async def test_a_member_keeps_its_gossip_through_a_doubt_about_the_store(self, stage):
        await formed(stage, V1, admit("a", "a1", gossip="127.0.0.1:1"), admit("b", "b1"))
        await stage.change_identity()
        await told(stage, attach(stage, "a", gossip="127.0.0.1:2"), Attached)
        assert await stage.side.store.call(Seeds("b", 0)) == SeedsFound(("127.0.0.1:2",))


class TestReport:
    @pytest.mark.asyncio
    async def test_tells_only_what_is_new(self, stage):
        await formed(stage, V1, admit(lease_ms=HOUR_MS))
        before = stage.state.members_revision
        await told(stage, report(stage), Done)
        assert stage.state.members_revision == before
        await stage.let_time_pass()
        await told(stage, report(stage), Done)
        for change in (
            {"standing": Standing.SERVING},
            {"seen": 2},
            {"operating": V1},
            {"operating_revision": 2},
            {"failure": 'a "b" \\ \u20ac \n \x00 \x7f'},
        ):
            before = stage.state.members_revision
            await told(stage, report(stage, **change), Done)
            assert stage.state.members_revision == before + 1
        before = stage.state.members_revision
        member = stage.state.members["a"]
        await told(stage, report(stage, operating=V1_0, failure=member.failure), Done)
        assert stage.state.members_revision == before

    @pytest.mark.asyncio
    async def test_refuses(self, stage):
        await told(stage, Report("a", 1, "g", 1, Standing.SERVING, 0, None, 0), Unverified)
        await formed(stage)
        await told(stage, report(stage, generation="h"), Refused, "other_generation")
        await told(stage, report(stage, incarnation=2), NotMember)
        await told(stage, replace(report(stage), id="b"), NotMember)
        late = report(stage)
        await stage.call(Exclude("a", "ann", "dead", True, 1))
        assert (await told(stage, late, NotMember)).tombstone.reason == "dead"
        await stage.change_identity()
        await told(stage, late, Unverified)


class TestLeave:
    @pytest.mark.asyncio
    async def test_removes(self, stage):
        await told(stage, Leave("a", 1, "g"), Unverified)
        await formed(stage)
        await told(stage, Leave("a", 1, "h"), Unverified)
        await told(stage, Leave("a", 2, "g"), NotMember)
        await told(stage, Leave("b", 1, "g"), NotMember)
        await told(stage, Leave("a", 1, "g"), Done)
        assert stage.state.members == {}
        await told(stage, Leave("a", 1, "g"), NotMember)

    @pytest.mark.asyncio
    async def test_needs_no_verified_store(self, stage):
        await formed(stage)
        await stage.change_identity()
        await told(stage, Leave("a", 1, "g"), Done)


class TestExclude:
    @pytest.mark.asyncio
    async def test_needs_the_end_of_a_lease_or_an_operators_word(self, stage):
        await told(stage, Exclude("a", "ann", "dead", True, 1), Unverified)
        await formed(stage, V1, admit(), admit("b", "b1", lease_ms=HOUR_MS))
        judged = Exclude("a", "ann", "dead", False, 1)
        await told(stage, judged, Refused, "may_be_alive")
        await told(stage, replace(judged, incarnation=2), Conflict)
        await told(stage, replace(judged, id="c"), NotMember)
        leased = Exclude("b", "m", "silent", False, 2)
        await told(stage, leased, Refused, "lease_runs")
        await told(stage, replace(judged, confirm_stopped=True), Done)
        await stage.let_time_pass()
        await told(stage, leased, Done)
        assert (await told(stage, leased, NotMember)).tombstone.incarnation == 2

    @pytest.mark.asyncio
    async def test_for_a_master_by_its_mastership_and_the_lease_that_it_saw(self, stage):
        await formed(stage, V1, admit(), admit("b", "b1", lease_ms=HOUR_MS))
        epoch, until_ms = stage.state.record.epoch, stage.state.members["b"].lease_until_ms
        judged = Exclude("b", "m", "silent", False, 2, "m1", epoch, until_ms)
        await told(stage, replace(judged, token="another"), Fenced)
        await told(stage, replace(judged, epoch=epoch + 1), Fenced)
        await told(stage, judged, Refused, "lease_runs")
        await stage.let_time_pass()
        await told(stage, replace(judged, lease_until_ms=2), Refused, "lease_runs")
        await told(stage, replace(judged, id="a", incarnation=1), Refused, "may_be_alive")
        judged = replace(judged, lease_until_ms=stage.state.members["b"].lease_until_ms)
        await told(stage, judged, Done)

    @pytest.mark.asyncio
    async def test_for_a_master_only_once_the_store_is_verified(self, stage):
        await formed(stage, V1, admit(), admit("b", "b1", lease_ms=HOUR_MS))
        epoch, until_ms = stage.state.record.epoch, stage.state.members["b"].lease_until_ms
        judged = Exclude("b", "m", "silent", False, 2, "m1", epoch, until_ms)
        await stage.change_identity()
        await stage.call(attach(stage, quarantine_ms=HOUR_MS))
        await stage.let_time_pass()
        await told(stage, judged, Unverified)
        await told(stage, replace(judged, token="", epoch=0), Done)  # a person may

    @pytest.mark.asyncio
    async def test_waits_for_the_end_of_a_quarantine(self, stage):
        await formed(stage)
        exclude = Exclude("a", "ann", "dead", True, 1)
        await stage.change_identity()
        await told(stage, exclude, Unverified)
        await stage.call(attach(stage, quarantine_ms=HOUR_MS))
        await told(stage, exclude, Unverified)
        await stage.let_time_pass()
        await told(stage, exclude, Done)


class TestSlot:
    """R29: at most so many members are down by permission."""

    @pytest.mark.asyncio
    async def test_is_given_within_the_budget_and_once(self, stage):
        await told(stage, TakeSlot("a", "ann", 1), Unverified)
        await formed(stage, V1, admit(), admit("b", "b1"), admit("c", "c1"))
        for incarnation, node_id in enumerate(("a", "b", "c"), 1):
            await stage.call(serves(stage, node_id, incarnation))
        await told(stage, TakeSlot("d", "ann", 1), NotMember)
        await told(stage, TakeSlot("a", "ann", 1), Done)
        await told(stage, TakeSlot("a", "ann", 1), Done)
        await told(stage, TakeSlot("a", "bob", 9), Refused, "slot_taken")
        await told(stage, TakeSlot("b", "ann", 1), Refused, "budget_spent")
        await told(stage, TakeSlot("b", "bob", 2), Done)
        assert list(stage.state.slots) == ["a", "b"]

    @pytest.mark.asyncio
    async def test_members_that_are_down_anyway_count(self, stage):
        await formed(stage, V1, admit(), admit("b", "b1"))
        await stage.call(serves(stage, "b", 2))
        await told(stage, TakeSlot("b", "ann", 1), Refused, "budget_spent")
        await told(stage, TakeSlot("a", "ann", 1), Done)
        await stage.change_identity()
        await told(stage, TakeSlot("a", "ann", 1), Unverified)
        await told(stage, ReturnSlot("a", "ann"), Unverified)

    @pytest.mark.asyncio
    async def test_is_returned_once_the_member_has_been_away_and_operates(self, stage):
        await formed(stage)
        await stage.call(serves(stage, "a", 1))
        await told(stage, ReturnSlot("a", "ann"), Refused, "no_slot")
        await told(stage, TakeSlot("a", "ann", 1), Done)
        await told(stage, ReturnSlot("a", "ann"), Refused, "slot_in_use")
        await stage.call(serves(stage, "a", 1, standing=Standing.AWAY))
        for outcome in Outcome:
            await told(stage, ReturnSlot("a", "ann", outcome), Refused, "slot_in_use")
        await stage.call(serves(stage, "a", 1, operating_revision=0))
        await told(stage, ReturnSlot("a", "ann"), Refused, "slot_in_use")
        await stage.call(serves(stage, "a", 1))
        await told(stage, ReturnSlot("a", "bob"), Done)
        assert stage.state.slots == {}

    @pytest.mark.asyncio
    async def test_is_returned_once_a_later_incarnation_operates(self, stage):
        await formed(stage)
        await stage.call(serves(stage, "a", 1))
        await stage.call(TakeSlot("a", "ann", 1))
        await stage.call(admit("a", "a2", earlier=("a1",)))
        await told(stage, ReturnSlot("a", "ann"), Refused, "slot_in_use")
        await stage.call(serves(stage, "a", 2))
        await told(stage, ReturnSlot("a", "ann"), Done)

    @pytest.mark.asyncio
    async def test_what_came_before_it_was_asked_for_again_proves_nothing(self, stage):
        await formed(stage)
        await stage.call(serves(stage, "a", 1))
        await stage.call(TakeSlot("a", "ann", 1))
        await stage.call(admit("a", "a2", earlier=("a1",)))
        await stage.call(serves(stage, "a", 2))
        await told(stage, TakeSlot("a", "ann", 1), Done)
        await told(stage, ReturnSlot("a", "ann"), Refused, "slot_in_use")

    @pytest.mark.asyncio
    async def test_is_returned_unused_by_the_word_of_its_holder(self, stage):
        await formed(stage)
        await stage.call(serves(stage, "a", 1))
        await stage.call(TakeSlot("a", "ann", 1))
        await told(stage, ReturnSlot("a", "ann", Outcome.GONE), Refused, "slot_in_use")
        await told(stage, ReturnSlot("a", "ann", Outcome.UNUSED), Done)

    @pytest.mark.asyncio
    async def test_outlives_the_member_unless_that_is_gone_for_good(self, stage):
        await formed(stage, V1, admit(), admit("b", "b1"))
        for incarnation, node_id in enumerate(("a", "b"), 1):
            await stage.call(serves(stage, node_id, incarnation))
        await told(stage, TakeSlot("a", "ann", 1), Done)
        await stage.call(Leave("a", 1, "g"))
        await told(stage, ReturnSlot("a", "ann"), Refused, "slot_in_use")
        await told(stage, TakeSlot("b", "ann", 1), Refused, "budget_spent")
        await told(stage, ReturnSlot("a", "ann", Outcome.GONE), Done)
        await told(stage, TakeSlot("b", "ann", 1), Done)
        await told(stage, Exclude("b", "ann", "dead", True, 2), Done)
        assert list(stage.state.slots) == ["b"]

    @pytest.mark.asyncio
    async def test_is_forgotten_together_with_the_members(self, stage):
        await formed(stage)
        await stage.call(TakeSlot("a", "ann", 1))
        memory = stage.state.record
        await stage.flush()
        await stage.call(Init("h", 1, 0))
        await stage.call(attach(stage, "b", memory))
        assert stage.state.slots == {}

    @pytest.mark.asyncio
    async def test_a_superseded_master_takes_and_returns_none(self, stage):
        await formed(stage)
        await stage.call(serves(stage, "a", 1))
        epoch, token = stage.state.record.epoch, stage.state.master_token
        revision = stage.state.record.revision
        for stale in ((token, epoch - 1), ("m2", epoch)):
            await told(stage, TakeSlot("a", "rollout 1.1", 1, *stale, revision), Fenced)
        decided = TakeSlot("a", "rollout 1.1", 1, token, epoch, revision)
        await told(stage, replace(decided, revision=revision - 1), Conflict)  # R2
        await told(stage, decided, Done)
        for stale in ((token, epoch - 1), ("m2", epoch)):
            await told(stage, ReturnSlot("a", "rollout 1.1", Outcome.UNUSED, *stale), Fenced)
        await told(stage, ReturnSlot("a", "rollout 1.1", Outcome.UNUSED, token, epoch), Done)

    @pytest.mark.asyncio
    async def test_a_master_that_asks_again_keeps_what_the_member_has_said_since(self, stage):
        await formed(stage)
        await stage.call(serves(stage, "a", 1))
        record = stage.state.record
        mastership = (stage.state.master_token, record.epoch, record.revision)
        take = TakeSlot("a", "rollout 1.1", 1, *mastership)
        await told(stage, take, Done)
        await stage.call(serves(stage, "a", 1, standing=Standing.AWAY))
        await stage.call(serves(stage, "a", 1))
        await told(stage, take, Done)
        await told(stage, ReturnSlot("a", "rollout 1.1"), Done)

    @pytest.mark.asyncio
    async def test_a_member_that_attaches_as_away_has_been_away(self, stage):
        await formed(stage)
        await stage.call(serves(stage, "a", 1))
        await stage.call(TakeSlot("a", "ann", 1))
        memory = stage.state.record
        await stage.change_identity()
        await stage.call(attach(stage, "a", memory, standing=Standing.AWAY))
        assert stage.state.slots["a"].away == 1


ROLLOUT = Rollout(
    "2.3", "2.0", "ann", "new", 1_780_000_000_000, turns=(Turn("2.4", "a", "2.0", 1),)
)


class TestRollout:
    @pytest.mark.asyncio
    async def test_is_written_if_the_record_has_not_moved(self, stage):
        request = SetRollout(3, ROLLOUT, "rollout to 2.0", "ann", "new")
        await told(stage, request, Unverified)
        await formed(stage)
        revision = stage.state.record.revision
        await told(stage, replace(request, revision=revision - 1), Conflict)
        await told(stage, replace(request, revision=revision), Done)
        assert stage.state.record.rollout == ROLLOUT
        await stage.call(commit(stage, rollout=None))
        await stage.change_identity()
        await told(stage, replace(request, revision=revision + 2), Unverified)

    @pytest.mark.asyncio
    async def test_what_a_member_says_of_its_turn_outlives_its_start(self, stage):
        await formed(stage)
        work = Work("2.4", "2.0", "1.0", TurnStep.RESTART, WorkState.RUNS, 2, "it said")
        before = stage.state.members_revision
        await stage.call(serves(stage, "a", 1, work=work))
        assert stage.state.members["a"].work == work
        assert stage.state.members_revision == before + 1
        await stage.call(admit("a", "a2", earlier=("a1",)))
        assert stage.state.members["a"].work == work
        await stage.call(serves(stage, "a", 2))
        assert stage.state.members["a"].work is None

    @pytest.mark.asyncio
    async def test_what_a_member_says_of_its_health_ends_with_its_process(self, stage):
        await formed(stage)
        ill = Health(HealthState.UNHEALTHY, "503")
        before = stage.state.members_revision
        for _ in range(2):  # only a change is told
            await stage.call(serves(stage, "a", 1, health=ill))
            assert stage.state.members["a"].health == ill
            assert stage.state.members_revision == before + 1
        await stage.call(admit("a", "a1"))
        assert stage.state.members["a"].health == ill
        await stage.call(admit("a", "a2", earlier=("a1",)))
        assert stage.state.members["a"].health is None

    @pytest.mark.asyncio
    async def test_since_when_it_is_unhealthy_is_remembered_and_its_words_are_the_newest(
        self, stage
    ):
        await formed(stage)

        async def says(state, note=""):
            await stage.call(serves(stage, "a", 1, health=Health(state, note)))
            one = stage.state.members["a"]
            assert one.health.note == note
            return one.health_since_ms, one.changed_at_ms

        since_ms, changed_at_ms = await says(HealthState.UNHEALTHY, "503")
        assert since_ms == changed_at_ms
        await stage.let_time_pass()
        assert (await says(HealthState.UNHEALTHY, "503"))[0] == 1
        since_ms, changed_at_ms = await says(HealthState.UNHEALTHY, "no answer within 2 s")
        assert (since_ms, changed_at_ms > 1) == (1, True)
        await stage.call(admit("a", "a1"))
        assert stage.state.members["a"].health_since_ms == 1
        since_ms, changed_at_ms = await says(HealthState.HEALTHY)
        assert since_ms == changed_at_ms > 1
        await stage.let_time_pass()
        await stage.call(admit("a", "a2", earlier=("a1",)))
        assert stage.state.members["a"].health_since_ms > 1


BARRED = Downgrade("1.0", "ann", "it is slow", 5, ("1.0",), 1)


async def went_back(stage):
    """A cluster that acted at 2.0, and acts at 1.0 now."""
    await formed(stage, V2, admit(installed=V2))
    await stage.call(commit(stage, downgrade=BARRED))
    how = {**acting(V1), "downgrade": None, "downgrades": 1, "downgraded_from": V2}
    await told(stage, commit(stage, **how), Done)


class TestDowngrade:
    @pytest.mark.asyncio
    async def test_older_software_stands_by_until_all_have_confirmed(self, stage):
        await went_back(stage)
        older = (admit(token="a2", earlier=("a1",)), admit("b", "b1", V11))
        for request in older:
            await told(stage, request, Admitted, "downgrade_unconfirmed")
            assert stage.state.members[request.id].standing is Standing.STANDBY
        await told(stage, admit("c", "c1", V2), Admitted, "")
        await told(stage, admit("d", "d1", V11, V11), Refused, "lowest_above_acting")
        await told(stage, commit(stage, downgraded_from=None), Done)
        for request in older:
            again = replace(request, number=next(numbers))
            await told(stage, again, Admitted, "")
            assert stage.state.members[request.id].standing is Standing.SERVING

    @pytest.mark.asyncio
    async def test_is_asked_for_if_the_record_has_not_moved(self, stage):
        asked = replace(BARRED, formats=(), barred=0)
        request = SetDowngrade(3, asked, "downgrade to 1.0", "ann", "it is slow")
        await told(stage, request, Unverified)
        await formed(stage, V2, admit(installed=V2))
        revision = stage.state.record.revision
        await told(stage, replace(request, revision=revision - 1), Conflict)
        await told(stage, replace(request, revision=revision), Done)
        assert stage.state.record.downgrade == asked

    @pytest.mark.asyncio
    async def test_goes_back_once_and_moves_the_raise(self, stage):
        await went_back(stage)
        record = stage.state.record
        assert (record.reached, record.raised_revision) == ((1, V1.key), record.revision)
        await told(stage, commit(stage, **acting(V2)), Done)
        await told(stage, commit(stage, **acting(V1)), Refused, "acting_lower")
        await told(stage, commit(stage, downgrades=0), Refused, "acting_lower")

    @pytest.mark.parametrize(
        ("asked", "how"),
        [
            (None, {}),
            (replace(BARRED, barred=0), {}),
            (BARRED, {"downgrade": BARRED}),
            (BARRED, {"downgrades": 2}),
            (BARRED, acting(V11)),
            (BARRED, acting(V2)),
            (replace(BARRED, version="3.0"), acting(V3)),
        ],
    )
    @pytest.mark.asyncio
    async def test_goes_back_only_as_asked(self, stage, asked, how):
        await formed(stage, V2, admit(installed=V3))
        await stage.call(commit(stage, downgrade=asked))
        how = {**acting(V1), "downgrade": None, "downgrades": 1} | how
        await told(stage, commit(stage, **how), Refused, "no_downgrade")

    @pytest.mark.asyncio
    async def test_a_hold_does_not_forbid_it_and_may_begin_with_it(self, stage):
        await formed(stage, V2, admit(installed=V2))
        await stage.call(SetHold("ann", "why"))
        await stage.call(commit(stage, downgrade=BARRED))
        back = {**acting(V1), "downgrade": None, "downgrades": 1}
        await told(stage, commit(stage, **back, hold=Hold("ann", "went back", 5)), Done)
        await told(stage, commit(stage, **acting(V2)), Refused, "held")

    @pytest.mark.asyncio
    async def test_is_brought_back_to_a_store_that_lost_it(self, stage):
        await formed(stage, V2, admit(installed=V2))
        before = await stage.save()
        await stage.call(commit(stage, downgrade=BARRED))
        await stage.call(commit(stage, **acting(V1), downgrade=None, downgrades=1))
        memory = stage.state.record
        await stage.restore(before)
        for _ in range(4):  # what the store does meanwhile has higher revisions
            await stage.call(commit(stage))
        await told(stage, attach(stage, memory=memory), Attached)
        record = stage.state.record
        assert (record.reached, record.floor, record.data) == ((1, V1.key), V1, V1)
        assert record.revision == record.raised_revision > memory.revision
        assert record.downgraded_from == V2  # some may follow what the store did meanwhile

    @pytest.mark.asyncio
    async def test_is_not_taken_back_by_who_remembers_what_was_before(self, stage):
        await formed(stage, V2, admit(installed=V2))
        memory = stage.state.record
        await stage.call(commit(stage, downgrade=BARRED))
        await stage.call(commit(stage, **acting(V1), downgrade=None, downgrades=1))
        await told(stage, attach(stage, memory=memory), Attached)
        assert stage.state.record.identity  # nothing was lost
        await stage.change_identity()
        memory = replace(memory, revision=memory.revision + 9)
        await told(stage, attach(stage, memory=memory), Attached)
        assert stage.state.record.reached == (1, V1.key)
        assert stage.state.record.revision > memory.revision


class TestHold:
    @pytest.mark.asyncio
    async def test_is_set_and_released(self, stage):
        await told(stage, SetHold("ann", "why"), Unverified)
        await formed(stage)
        await told(stage, ReleaseHold("ann"), Refused, "no_hold")
        await told(stage, SetHold('a "b" \\ € \n', "not\x00today", 2**53), Done)
        await told(stage, SetHold("bob", "", 5), Done)
        await told(stage, ReleaseHold("ann", "over"), Done)
        await stage.change_identity()
        await told(stage, SetHold("ann", "why"), Unverified)
        await told(stage, ReleaseHold("ann"), Unverified)


class TestClaim:
    @pytest.mark.asyncio
    async def test_gives_the_next_epoch_to_who_holds_the_lock(self, stage):
        await told(stage, Claim("m", "m1", 0), Unverified)
        await stage.call(Init("g", 1, 0))
        await told(stage, Claim("m", "m1", 0), Refused, "not_held")
        await stage.ask_lock(Acquire("m1", HOUR_MS))
        await told(stage, Claim("n", "n1", 0), Refused, "not_held")
        assert (await told(stage, Claim("m", "m1", 0), Claimed)).epoch == 1
        assert (await told(stage, Claim("m", "m1", 5), Claimed)).epoch == 1
        await stage.ask_lock(Release("m1"))
        await told(stage, Claim("m", "m1", 0), Refused, "not_held")
        await stage.ask_lock(Acquire("n1", HOUR_MS))
        assert (await told(stage, Claim("n", "n1", 41), Claimed)).epoch == 42

    @pytest.mark.asyncio
    async def test_waits_until_somebody_has_attached(self, stage):
        await formed(stage)
        await stage.change_identity()
        await told(stage, Claim("m", "m1", 0), Unverified)
        await stage.call(attach(stage, quarantine_ms=HOUR_MS))
        await told(stage, Claim("m", "m1", 0), Claimed)


class TestCommit:
    @pytest.mark.asyncio
    async def test_writes_and_stamps(self, stage):
        await formed(stage)
        assert stage.state.record.raised_revision == stage.state.record.revision == 2
        await told(stage, commit(stage, floor=V2), Done)
        assert (stage.state.record.floor_revision, stage.state.record.raised_revision) == (3, 2)
        await told(stage, commit(stage, **acting(V2), upgrade=Upgrade("1.0", 5)), Done)
        await told(stage, commit(stage, upgrade=None, completion=Completion("1", "2", 3, 4)), Done)
        await told(stage, commit(stage, acting=parse_version("2.0.0"), lowest=V1), Done)
        assert stage.state.record.raised_revision == 4

    @pytest.mark.parametrize(
        ("how", "kind", "rule"),
        [
            ({"generation": "h"}, Unverified, None),
            ({"moved": (1, 0, 0)}, Fenced, None),
            ({"moved": (-1, 0, 0)}, Fenced, None),
            ({"token": "m2"}, Fenced, None),
            ({"moved": (0, -1, 0)}, Conflict, None),
            ({"moved": (0, 0, -1)}, Conflict, None),
            ({"acting": V1}, Refused, "acting_lower"),
            ({"acting": None}, Refused, "acting_lower"),
        ],
    )
    @pytest.mark.asyncio
    async def test_refuses(self, stage, how, kind, rule):
        await formed(stage, V2, admit(installed=V2))
        await told(stage, commit(stage, **how), kind, rule)

    @pytest.mark.asyncio
    async def test_refuses_where_there_is_no_record(self, stage):
        await told(stage, Commit("m1", 1, 1, 1, ClusterRecord("g"), "step", ""), Unverified)

    @pytest.mark.asyncio
    async def test_refuses_what_moved_after_it_was_decided(self, stage):
        await formed(stage)
        decided = commit(stage, **acting(V2))
        await stage.call(admit("b", "b1", V1))
        await told(stage, decided, Conflict)
        decided = commit(stage, **acting(V2))
        await stage.call(SetHold("ann", "why"))
        await told(stage, decided, Conflict)
        await told(stage, commit(stage, **acting(V2)), Refused, "held")
        await stage.call(ReleaseHold("ann"))
        for changes in (
            {"rollback": 1},
            {"returning": ("b",)},
            {"strategy": Strategy(bake_ms=1)},
        ):
            await told(stage, commit(stage, rollout=replace(ROLLOUT, **changes)), Done)
            await told(stage, commit(stage, **acting(V2), rollout=None), Refused, "rollout_stays")
        await told(stage, commit(stage, rollout=ROLLOUT), Done)
        await told(stage, commit(stage, floor=V2), Done)
        decided = commit(stage, hold=None)
        await stage.ask_lock(Release("m1"))
        await stage.ask_lock(Acquire("n1", HOUR_MS))
        await stage.call(Claim("n", "n1", 0))
        await told(stage, decided, Fenced)

    @pytest.mark.asyncio
    async def test_a_hold_does_not_keep_a_cluster_from_forming(self, stage):
        await stage.call(Init("g", 1, 0))
        await stage.call(SetHold("ann", "why"))
        await stage.ask_lock(Acquire("m1", HOUR_MS))
        await stage.call(Claim("m", "m1", 0))
        await told(stage, commit(stage, **acting(V1)), Done)

    @pytest.mark.asyncio
    async def test_repairs_after_the_quarantine(self, stage):
        await formed(stage)
        await stage.change_identity()
        await told(stage, commit(stage), Unverified)
        await told(stage, commit(stage, repair=True), Unverified)
        await stage.call(attach(stage, quarantine_ms=HOUR_MS))
        await told(stage, commit(stage), Unverified)
        await told(stage, commit(stage, repair=True), Unverified)
        await stage.let_time_pass()
        await told(stage, commit(stage), Unverified)
        await told(stage, commit(stage, repair=True), Done)
        await told(stage, commit(stage), Done)


class TestAttach:
    @pytest.mark.asyncio
    async def test_brings_back_what_the_store_has_lost(self, stage):
        await formed(stage)
        attaching = attach(stage, quarantine_ms=HOUR_MS, lease_ms=HOUR_MS)
        await stage.flush()
        await told(stage, attaching, Attached)
        assert stage.state.record.epoch == attaching.memory.epoch + 1000
        await told(stage, attaching, Conflict)
        await told(stage, attach(stage, memory=attaching.memory), Attached)

    @pytest.mark.asyncio
    async def test_the_epoch_is_past_any_that_an_old_cluster_can_have_given(self, stage):
        await formed(stage)
        old = replace(stage.state.record, created_at_ms=1)
        attaching = attach(stage, memory=old)
        await stage.flush()
        await told(stage, attaching, Attached)
        assert stage.state.record.epoch > _now_ms() - HOUR_MS

    @pytest.mark.asyncio
    async def test_replaces_a_cluster_that_has_not_formed(self, stage):
        await formed(stage)
        attaching = attach(stage)
        await stage.flush()
        await stage.call(Init("h", 1, HOUR_MS))
        await stage.call(admit("b", "b1"))
        await told(stage, attaching, Attached)
        assert stage.state.members.keys() == {"a"}

    @pytest.mark.asyncio
    async def test_refuses(self, stage):
        await formed(stage)
        await stage.change_identity()
        await told(stage, attach(stage, memory=ClusterRecord("h")), Refused, "other_generation")
        await told(stage, attach(stage, incarnation=0, token="x"), Refused)
        late = attach(stage)
        await stage.call(attach(stage, quarantine_ms=0))
        await stage.let_time_pass()
        await stage.call(Exclude("a", "ann", "dead", True, 1))
        await told(stage, late, Refused)
        await told(stage, attach(stage, token="a2"), Attached)

    @pytest.mark.asyncio
    async def test_who_remembers_nothing_may_stand_by(self, stage):
        nothing = attach(stage, memory=None, standing=Standing.STANDBY)
        await told(stage, nothing, Unverified)
        await formed(stage)
        await told(stage, attach(stage, "b", memory=None), Attached)
        await stage.change_identity()
        await told(stage, attach(stage, "b", memory=None, installed=V1), Attached)
        await stage.let_time_pass()
        await stage.call(Claim("m", "m1", 0))
        await told(stage, commit(stage, repair=True), Done)
        await stage.call(commit(stage, **acting(V2)))
        await told(stage, admit("b", "b1", V1), Refused, "installed_below_acting")
        assert stage.state.members.keys() == {"a"}

    @pytest.mark.asyncio
    async def test_says_so_where_nothing_was_lost(self, stage):
        await formed(stage)
        await told(stage, attach(stage), Attached)
        assert stage.state.record.identity == SELF

    @pytest.mark.asyncio
    async def test_doubts_a_store_that_knows_less(self, stage):
        await formed(stage, V1, admit(installed=V2), admit("b", "b1", V2))
        saved = await stage.save()
        await stage.call(commit(stage, **acting(V2)))
        await stage.call(SetHold("ann", "why"))
        memory = stage.state.record
        await stage.restore(saved)
        await told(stage, attach(stage, memory=memory, quarantine_ms=HOUR_MS), Attached)
        assert stage.state.record.acting == V2
        await told(stage, attach(stage, "b", memory=saved[0].record), Attached)

    @pytest.mark.asyncio
    async def test_a_raise_counts_more_than_the_number_of_the_revision(self, stage):
        await formed(stage, V1, admit(installed=V2))
        saved = await stage.save()
        await stage.call(commit(stage, **acting(V2)))
        memory = stage.state.record
        await stage.restore(saved)
        for _ in range(3):
            await stage.call(SetHold("ann", "why"))
        await told(stage, attach(stage, memory=memory), Attached)
        assert stage.state.record.acting == V2
        assert stage.state.record.hold is not None

    @pytest.mark.asyncio
    async def test_leaves_nobody_behind(self, stage):
        await formed(stage, V1, admit(installed=V2))
        saved = await stage.save()
        await stage.call(commit(stage, **acting(V2)))
        memory = stage.state.record
        await stage.restore(saved)
        await stage.call(admit("b", "b1", V1))
        await told(stage, attach(stage, memory=memory), Refused, "left_behind")

    @pytest.mark.asyncio
    async def test_an_older_memory_is_only_a_doubt(self, stage):
        await formed(stage)
        old = stage.state.record
        await stage.call(commit(stage, **acting(V2)))
        await stage.change_identity()
        await told(stage, attach(stage, memory=old), Attached)
        await told(stage, attach(stage, memory=replace(old, epoch=5000)), Attached)
        assert (stage.state.record.acting, stage.state.record.epoch) == (V2, 5000)
        await stage.change_identity()
        await told(stage, attach(stage, memory=old), Attached)

    @pytest.mark.asyncio
    async def test_a_start_that_was_never_admitted_gets_an_incarnation(self, stage):
        await formed(stage)
        await stage.change_identity()
        started = {"token": "a2", "standing": Standing.STANDBY, "operating": None}
        await told(stage, attach(stage, **started), Attached)
        operating = {"token": "b1", "standing": Standing.SERVING, "operating": V1}
        await told(stage, attach(stage, "b", incarnation=9, **operating), Attached)


class TestLock:
    @pytest.mark.asyncio
    async def test_one_token_at_a_time(self, stage):
        await stage.ask_lock(Extend("m1", HOUR_MS, 1))
        await stage.ask_lock(Acquire("m1", HOUR_MS))
        await stage.ask_lock(Extend("m1", HOUR_MS, 7))
        await stage.call(Init("g", 1, 0))
        await stage.call(admit())
        await stage.ask_lock(Extend("m1", HOUR_MS, 5))
        assert not (await stage.ask_lock(Acquire("n1", HOUR_MS))).granted
        assert (await stage.ask_lock(Acquire("m1", HOUR_MS))).epoch == 7
        await stage.ask_lock(Release("n1"))
        await stage.ask_lock(Extend("n1", HOUR_MS, 9))
        assert (await stage.ask_lock(Release("m1"))).granted
        assert not (await stage.ask_lock(Release("m1"))).granted

    @pytest.mark.asyncio
    async def test_ends_by_itself(self, stage):
        await stage.ask_lock(Acquire("m1", 100))
        await asyncio.sleep(0.15)
        assert not (await stage.ask_lock(Extend("m1", HOUR_MS, 3))).granted
        assert not (await stage.ask_lock(Release("m1"))).granted
        assert (await stage.ask_lock(Acquire("n1", HOUR_MS))).granted


# --- any sequence of requests ---------------------------------------------------------------------

IDS = st.sampled_from("abc")
STARTS = st.sampled_from("1112")
GENERATIONS = st.sampled_from(["g"] * 8 + ["h", ""])
SOME_VERSIONS = st.sampled_from(VERSIONS)
QUARANTINES = st.sampled_from([0, HOUR_MS])
LEASES = st.sampled_from([0, HOUR_MS])
HITS = st.sampled_from([0] * 10 + [1, -1])  # mostly what the store has, sometimes beside it


class Sequence:
    """Draws one request after the other, mostly such as would be sent in the state that is."""

    def __init__(self, stage, draw):
        self.stage, self.draw = stage, draw
        later_ms = _now_ms() + HOUR_MS
        first = ClusterRecord("g", revision=3, epoch=2, created_at_ms=later_ms, **acting(V11))
        self.records = [first]
        self.saved = None

    async def step(self):
        action = self.draw(st.sampled_from(self.ACTIONS))
        request = getattr(self, action)()
        if asyncio.iscoroutine(request):
            await request
        elif isinstance(request, Acquire | Extend | Release):
            await self.stage.ask_lock(request)
        else:
            await self.stage.call(request)
        record = self.stage.state.record
        if record is not None:
            self.records.append(record)

    ACTIONS = (
        *["admit", "report", "commit", "attach"] * 5,
        *["exclude", "hold", "release_hold", "claim", "let_time_pass"] * 2,
        *["take_slot", "return_slot"] * 2,
        *["set_rollout", "set_downgrade", "go_back"],
        *["init", "leave", "acquire", "extend", "give_back"],
        *["save", "restore", "change_identity", "flush"],
    )

    @property
    def state(self):
        return self.stage.state

    def incarnation(self, node_id):
        known = self.state.members.get(node_id)
        return (known.incarnation if known else self.draw(st.integers(0, 4))) + self.draw(HITS)

    def init(self):
        return Init(
            self.draw(GENERATIONS.filter(bool)), self.draw(st.integers(1, 3)), self.quarantine
        )

    @property
    def quarantine(self):
        return self.draw(QUARANTINES)

    def versions(self):
        installed = self.draw(SOME_VERSIONS)
        return installed, self.draw(SOME_VERSIONS.filter(lambda version: version <= installed))

    def number(self):
        return next(numbers) - self.draw(st.sampled_from([0, 0, 0, 3]))

    def admit(self):
        installed, lowest = self.versions()
        node_id = self.draw(IDS)
        return Admit(
            node_id,
            node_id + self.draw(STARTS),
            tuple(node_id + start for start in self.draw(st.lists(STARTS, max_size=2))),
            self.draw(st.integers(0, 4)),
            self.draw(GENERATIONS),
            self.number(),
            installed,
            lowest,
            self.draw(LEASES),
        )

    def report(self):
        node_id = self.draw(IDS)
        return Report(
            node_id,
            self.incarnation(node_id),
            self.draw(GENERATIONS),
            self.number(),
            self.draw(st.sampled_from(Standing)),
            self.draw(st.integers(0, 3)),
            self.draw(st.none() | SOME_VERSIONS),
            self.draw(st.integers(0, 3)),
            self.draw(st.sampled_from(["", "why"])),
            self.draw(st.sampled_from([None, Work("2.4", "2.0", "1.0")])),
            self.draw(st.sampled_from([None, Health(HealthState.HEALTHY)])),
        )

    def leave(self):
        node_id = self.draw(IDS)
        return Leave(node_id, self.incarnation(node_id), self.draw(GENERATIONS))

    def exclude(self):
        node_id = self.draw(IDS)
        confirm = self.draw(st.booleans())
        return Exclude(node_id, "ann", "dead", confirm, self.incarnation(node_id))

    def hold(self):
        return SetHold("ann", self.draw(st.sampled_from(["", "why"])), self.draw(LEASES))

    def release_hold(self):
        return ReleaseHold("bob", "over")

    def take_slot(self):
        by = self.draw(st.sampled_from(["ann", "bob"]))
        return TakeSlot(self.draw(IDS), by, self.draw(st.integers(1, 3)), *self.mastership())

    def return_slot(self):
        outcome = self.draw(st.sampled_from(Outcome))
        return ReturnSlot(self.draw(IDS), "ann", outcome, *self.mastership())

    def mastership(self):
        """A person's, or a master's."""
        if self.state.record is None or self.draw(st.booleans()):
            return ()
        return self.state.master_token or "m1", self.state.record.epoch + self.draw(HITS)

    def set_rollout(self):
        revision = self.state.record.revision if self.state.record is not None else 3
        return SetRollout(revision + self.draw(HITS), ROLLOUT, "rollout to 2.0", "ann", "new")

    def set_downgrade(self):
        revision = self.state.record.revision if self.state.record is not None else 3
        return SetDowngrade(revision + self.draw(HITS), BARRED, "downgrade", "ann", "slow")

    def go_back(self):
        record = self.state.record or self.records[0]
        times = record.downgrades + self.draw(st.sampled_from([1, 1, 1, 0, 2]))
        kept = self.draw(st.sampled_from([None, None, BARRED]))
        how = {**acting(V1), "downgraded_from": self.draw(st.sampled_from([None, V2]))}
        record = replace(record, **how, downgrade=kept, downgrades=times)
        revision = (record.revision, self.state.members_revision)
        return Commit(
            self.state.master_token or "m1", record.epoch, *revision, record, "step", "inputs"
        )

    def acquire(self):
        return Acquire(self.draw(st.sampled_from(["m1", "n1"])), HOUR_MS)

    def extend(self):
        return Extend(self.state.lock.token or "m1", HOUR_MS, self.draw(st.integers(0, 9)))

    def give_back(self):
        return Release(self.state.lock.token or "m1")

    def claim(self):
        token = self.draw(st.sampled_from([self.state.lock.token or "m1", "n1"]))
        return Claim(token[0], token, self.draw(st.sampled_from([0, 0, 7])))

    def commit(self):
        record = self.state.record or self.records[0]
        if self.draw(st.booleans()):
            version = self.draw(SOME_VERSIONS)
            record = replace(record, **acting(version))
        elif record.acting is not None:
            changed = self.draw(st.sampled_from(["acting", "floor", "data", "before", "hold"]))
            value = None if changed == "hold" else self.draw(SOME_VERSIONS)
            record = replace(record, **{changed: value})
        return Commit(
            self.state.master_token or "m1",
            record.epoch + self.draw(HITS),
            record.revision + self.draw(HITS),
            self.state.members_revision + self.draw(HITS),
            replace(record, generation=self.draw(GENERATIONS.filter(bool))),
            "step",
            "inputs",
            record.identity != SELF,
        )

    def attach(self):
        memory = self.draw(st.sampled_from([*self.records, None]))
        if memory is not None and self.draw(st.booleans()):
            memory = replace(
                memory,
                generation=self.draw(GENERATIONS.filter(bool)),
                revision=memory.revision + self.draw(st.integers(0, 2)),
                epoch=memory.epoch + self.draw(st.integers(0, 2)),
            )
        node_id = self.draw(IDS)
        installed, lowest = self.versions()
        operating = self.draw(st.none() | SOME_VERSIONS)
        member = Member(
            node_id,
            max(0, self.incarnation(node_id)),
            node_id + self.draw(STARTS),
            installed,
            lowest,
            self.draw(st.sampled_from(Standing)),
            operating=operating,
            operating_revision=self.draw(st.integers(0, 3)),
            number=self.number(),
            lease_ms=self.draw(LEASES),
        )
        known = self.state.members.get(node_id)
        if known is not None and self.draw(st.booleans()):
            member = replace(known, number=self.number())
        return Attach(member, memory, self.quarantine)

    async def flush(self):
        await self.stage.flush()

    async def save(self):
        self.saved = await self.stage.save()

    async def restore(self):
        if self.saved is not None:
            await self.stage.restore(self.saved)

    async def change_identity(self):
        await self.stage.change_identity()

    async def let_time_pass(self):
        await self.stage.let_time_pass()


async def _play(place, name, draw):
    async with staged(place, name) as stage:
        sequence = Sequence(stage, draw)
        if draw(st.integers(0, 4)):
            await formed(stage)
        for _ in range(draw(st.integers(1, 4)) * 8):
            await sequence.step()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(data=st.data())
def test_any_sequence_of_requests(place, data):
    asyncio.run(_play(place, f"any-{next(numbers)}", data.draw))
