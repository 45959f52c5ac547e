"""Packets for tests: some by hand, and any that hypothesis can think of."""

from hypothesis import strategies as st

from peerupgrade.core.gossip.packets import (
    Ack,
    Condition,
    Digest,
    Heartbeat,
    Ping,
    PingFor,
    Spread,
    Table,
)
from peerupgrade.core.record import (
    ClusterRecord,
    Completion,
    Downgrade,
    Hold,
    Rollout,
    RolloutEnd,
    Standing,
    Turn,
    Upgrade,
)
from peerupgrade.core.strategy import Strategy
from peerupgrade.wire.keyring import Key, Keyring
from tests.core.builders import V

KEY = Key(bytes(range(32)))
OTHER_KEY = Key(bytes(range(1, 33)))
KEYRING = Keyring([KEY])

DIGEST = Digest("c0ffee", 12, 3, 2**64 - 1)
QUIET = Heartbeat("a", 1, 2, V("1.0"), V("0"), "127.0.0.1:7946")
LOUD = Heartbeat(
    "node-b",
    70_000,
    2**40,
    V("2.0rc1"),
    V("1.10"),
    "[::1]:7946",
    Condition.FAILED,
    V("1.10"),
    Standing.AWAY,
    "a",
    "zone-1",
    {"rack": "r7", "größe": "xl"},
)
RECORD = ClusterRecord(
    "c0ffee",
    12,
    3,
    "a",
    acting=V("1.10"),
    floor=V("2.0"),
    hold=Hold("ann", "month-end closing", 1),
    bootstrap_expect=3,
)
PING = Ping("a", DIGEST, 7, "b", "127.0.0.1:1", (QUIET, LOUD))
PING_FOR = PingFor("a", DIGEST, 7, "b", "127.0.0.1:2", "127.0.0.1:1", (QUIET,))
ACK = Ack("b", DIGEST, 7, "b")
SPREAD = Spread("a", DIGEST, (LOUD,), RECORD, "node-z")
TABLE = Table("a", DIGEST, (QUIET, LOUD), None, "127.0.0.1:1")
PACKETS = [PING, PING_FOR, ACK, SPREAD, TABLE]


def heartbeats_of(packet):
    return packet.heartbeats if isinstance(packet, Table) else packet.news


def many(count, **changes):
    """As many heartbeats."""
    return tuple(
        Heartbeat(f"node-{n}", 1, n, V("1.0"), V("0"), f"127.0.0.1:{n % 65536}", **changes)
        for n in range(count)
    )


counts = st.integers(0, 2**53)
texts = st.text(max_size=20)
versions = st.sampled_from(["1.0", "1.0.0", "1.10", "2.0rc1", "3!1.2.post4.dev5+l.6"]).map(V)
digests = st.builds(Digest, texts, counts, counts, st.integers(0, 2**64 - 1))
heartbeats = st.builds(
    Heartbeat,
    texts,
    counts,
    counts,
    versions,
    versions,
    texts,
    st.sampled_from(Condition),
    st.none() | versions,
    st.sampled_from(Standing),
    texts,
    texts,
    st.dictionaries(texts, texts, max_size=3),
)
holds = st.builds(Hold, texts, texts, counts, counts)
records = st.builds(
    ClusterRecord,
    texts,
    counts,
    counts,
    texts,
    *[st.none() | versions] * 5,
    *[counts] * 5,
    hold=st.none() | holds,
    pause=st.none() | holds,
    upgrade=st.none() | st.builds(Upgrade, texts, counts),
    completion=st.none() | st.builds(Completion, texts, texts, counts, counts),
    rollout=st.none()
    | st.builds(
        Rollout,
        *[texts] * 4,
        counts,
        st.builds(
            Strategy,
            *[counts] * 4,
            st.booleans(),
            windows=st.lists(texts, max_size=2).map(tuple),
        ),
        turns=st.lists(st.builds(Turn, *[texts] * 3, counts, counts, counts), max_size=2).map(
            tuple
        ),
        pause=st.none() | holds,
    ),
    downgrade=st.none()
    | st.builds(
        Downgrade, texts, texts, texts, counts, st.lists(texts, max_size=2).map(tuple), counts
    ),
    downgrades=counts,
    downgraded_from=st.none() | versions,
    rollout_end=st.none() | st.builds(RolloutEnd, texts, texts, counts, counts, counts),
    bootstrap_expect=counts,
    created_at_ms=counts,
    identity=texts,
    doubt=counts,
)
news = st.lists(heartbeats, max_size=4).map(tuple)
maybe_records = st.none() | records
packets = st.one_of(
    st.builds(Ping, texts, digests, counts, texts, texts, news),
    st.builds(PingFor, texts, digests, counts, texts, texts, texts, news),
    st.builds(Ack, texts, digests, counts, texts, news),
    st.builds(Spread, texts, digests, news, maybe_records, texts),
    st.builds(Table, texts, digests, news, maybe_records, texts),
)
