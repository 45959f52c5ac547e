"""Gossip on real sockets, on both event loops that people use."""

import asyncio
import logging
import socket
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
import pytest_asyncio

from peerupgrade.adapters import gossip_link as module
from peerupgrade.adapters.gossip_link import STREAMS_MAX, GossipLink, gossip_link, resolve
from peerupgrade.adapters.keyring_file import KeyringFile
from peerupgrade.errors import ConfigError, FrameFault
from peerupgrade.ports import SendFault
from peerupgrade.settings import Settings
from peerupgrade.wire.frames import DATAGRAM_BYTES_MAX, STREAM_BYTES_MAX, Frames
from peerupgrade.wire.keyring import Key, Keyring
from tests.wire.packets import ACK, KEY, KEYRING, OTHER_KEY, PACKETS, PING, SPREAD, TABLE, many

pytestmark = pytest.mark.asyncio
LARGE = replace(TABLE, heartbeats=many(2000))


class Ear:
    """A link that remembers what it hears."""

    def __init__(self, link):
        self.link = link
        self.heard = []

    def hear(self, packet, source):
        self.heard.append((packet, source))

    @property
    def packets(self):
        return [packet for packet, _ in self.heard]

    async def hears(self, count):
        await until(lambda: len(self.heard) >= count)
        return self.packets

    async def refuses(self, fault, count=1):
        await until(lambda: self.link.traffic.refused[fault] >= count)


async def until(reached, timeout_s=20):
    async with asyncio.timeout(timeout_s):
        while not reached():
            await asyncio.sleep(0.005)


@pytest_asyncio.fixture
async def listen():
    """Makes links that are closed at the end."""
    async with AsyncExitStack() as stack:

        async def start(gossip="127.0.0.1:0", cluster="blue", **options):
            link = await GossipLink.bind(gossip, cluster, **options)
            stack.push_async_callback(link.aclose)
            ear = Ear(link)
            await link.start(ear.hear)
            return ear

        yield start


@pytest.fixture
def keyring_path(tmp_path):
    path = tmp_path / "keyring"
    KeyringFile(path).save(KEYRING)
    return str(path)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def port_of(ear):
    return int(ear.link.address.rpartition(":")[2])


@asynccontextmanager
async def stream_to(ear):
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(ear))
    yield reader, writer
    writer.close()


def datagrams_to(ear, *frames):
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        for frame in frames:
            sender.sendto(frame, ("127.0.0.1", port_of(ear)))


# --- packets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True])
async def test_every_packet_arrives_with_its_source(listen, keyring_path, sealed):
    options = {"keyring": keyring_path} if sealed else {}
    one, two = await listen(**options), await listen(**options)
    for packet in PACKETS:
        one.link.send(two.link.address, packet)
    assert await two.hears(len(PACKETS)) == PACKETS
    assert {source for _, source in two.heard} == {one.link.address}
    assert one.link.traffic.sent == two.link.traffic.heard == len(PACKETS)


async def test_a_table_that_fits_no_datagram_arrives_on_a_stream(listen, keyring_path):
    one, two = await listen(keyring=keyring_path), await listen(keyring=keyring_path)
    one.link.send(two.link.address, LARGE)
    assert await two.hears(1) == [LARGE]
    (_, source) = two.heard[0]
    assert source.startswith("127.0.0.1:")
    await until(lambda: one.link.traffic.sent == 1)


async def test_news_beyond_a_datagram_are_left_out(listen):
    one, two = await listen(), await listen()
    news = many(100)
    one.link.send(two.link.address, replace(PING, news=news))
    (heard,) = await two.hears(1)
    assert 0 < len(heard.news) < 100
    assert heard == replace(PING, news=news[: len(heard.news)])


async def test_one_may_send_before_it_hears(listen):
    two = await listen()
    one = await GossipLink.bind("127.0.0.1:0", "blue")
    one.send(two.link.address, ACK)
    assert await two.hears(1) == [ACK]
    await one.aclose()


async def test_within_a_burst_others_have_their_turn(listen, monkeypatch):
    monkeypatch.setattr(module, "_DATAGRAMS_AT_ONCE", 10)
    one, two = await listen(), await listen()
    turns, turns_at = 0, []

    async def count_turns():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    await two.link.start(lambda *_: turns_at.append(turns))
    counting = asyncio.create_task(count_turns())
    for _ in range(100):
        one.link.send(two.link.address, ACK)
    await until(lambda: len(turns_at) == 100)
    counting.cancel()
    assert len(set(turns_at)) >= 5  # each event loop has its own way


async def test_another_one_may_hear(listen):
    one, two = await listen(), await listen()
    heard = []
    await two.link.start(lambda packet, _: heard.append(packet))
    one.link.send(two.link.address, ACK)
    await until(lambda: heard == [ACK])
    assert two.heard == []
    assert len(two.link._tasks) == 1  # nothing was begun twice


async def test_a_defect_in_what_hears_does_not_end_the_hearing(listen):
    two = await listen()
    defects = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: defects.append(context["exception"])
    )

    def fail(packet, source):
        two.hear(packet, source)
        raise LookupError("a defect")

    await two.link.start(fail)
    one = await listen()
    for packet in (ACK, LARGE, PING):
        one.link.send(two.link.address, packet)
    await two.hears(3)
    await until(lambda: len(defects) == 3)
    assert {type(defect) for defect in defects} == {LookupError}


# --- addresses ------------------------------------------------------------------------------------


async def test_port_0_is_one_port_for_both(listen):
    ear = await listen()
    assert port_of(ear) > 0
    async with stream_to(ear) as (_, writer):
        writer.write(Frames("blue").stream(ACK))
    assert await ear.hears(1) == [ACK]


async def test_a_port_that_is_taken_for_udp_is_tried_again(listen, monkeypatch):
    bound, taken = module._bound, []

    def bind(kind, host, port):
        if kind is socket.SOCK_DGRAM and len(taken) < 2:
            other = bound(socket.SOCK_DGRAM, host, port)
            taken.append(other)
        return bound(kind, host, port)

    monkeypatch.setattr(module, "_bound", bind)
    ear = await listen()
    for other in taken:
        assert other.getsockname()[1] != port_of(ear)
        other.close()
    assert len(taken) == 2


async def test_a_named_port_that_is_taken_is_said(listen):
    ear = await listen()
    with pytest.raises(ConfigError, match=r"cannot listen on 127.0.0.1:\d+ \(Address already in"):
        await listen(ear.link.address)


async def test_a_foreign_address_is_said(listen):
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:0 \(Cannot assign.*give an address of"):
        await listen("192.0.2.1:0")


async def test_a_name_is_resolved_at_the_start(listen):
    ear = await listen("localhost:0")
    assert ear.link.address in (f"127.0.0.1:{port_of(ear)}", f"[::1]:{port_of(ear)}")


@pytest.mark.parametrize("host", ["no.invalid", "x" * 300])
async def test_a_name_that_nobody_knows_is_said(listen, host):
    with pytest.raises(ConfigError, match=rf"gossip is {host}:0, which has no address \("):
        await listen(f"{host}:0")


@pytest.mark.parametrize(
    ("advertise", "address"),
    [("192.0.2.7:9999", "192.0.2.7:9999"), ("192.0.2.7:0", "192.0.2.7:{port}")],
)
async def test_the_advertised_address_is_what_others_are_told(listen, advertise, address):
    ear = await listen(advertise=advertise)
    port = ear.link._udp.getsockname()[1]
    assert ear.link.address == address.format(port=port)


@needs_ipv6
async def test_ipv6(listen):
    one, two = await listen("[::1]:0"), await listen("[::1]:0")
    assert one.link.address == f"[::1]:{port_of(one)}"
    for packet in (ACK, LARGE):
        one.link.send(two.link.address, packet)
    assert sorted(await two.hears(2), key=len_of) == [ACK, LARGE]
    assert two.heard[0][1] == one.link.address


def len_of(packet):
    return len(Frames("blue").stream(packet))


@needs_ipv6
async def test_one_that_listens_everywhere_speaks_both(listen, keyring_path):
    both = await listen("[::]:0", keyring=keyring_path, advertise="127.0.0.1:0")
    four, six = [await listen(a, keyring=keyring_path) for a in ("127.0.0.1:0", "[::1]:0")]
    for ear in (four, six):
        both.link.send(ear.link.address, ACK)
        both.link.send(ear.link.address, LARGE)
        await ear.hears(2)
    four.link.send(f"127.0.0.1:{port_of(both)}", ACK)
    await both.hears(1)
    assert both.heard == [(ACK, four.link.address)]


@needs_ipv6
async def test_ipv6_is_no_way_from_ipv4(listen):
    one = await listen()
    one.link.send("[::1]:7946", ACK)
    assert one.link.traffic.unsent == {SendFault.NO_ROUTE: 1}


@pytest.mark.parametrize("to", ["", "localhost:7946", "127.0.0.1", "127.0.0.1:x", "x" * 1000])
async def test_no_address_is_counted_and_never_looked_up(listen, to, monkeypatch):
    one = await listen()
    monkeypatch.setattr(socket, "getaddrinfo", None)
    one.link.send(to, ACK)
    assert one.link.traffic.unsent == {SendFault.NO_ADDRESS: 1}


async def test_what_cannot_be_encoded_is_counted(listen):
    one = await listen()
    one.link.send(one.link.address, replace(ACK, sender="\udce9"))
    assert one.link.traffic.unsent == {SendFault.UNENCODABLE: 1}


async def test_port_0_of_a_peer_is_no_route(listen):
    one = await listen()
    one.link.send("127.0.0.1:0", ACK)
    assert one.link.traffic.unsent == {SendFault.NO_ROUTE: 1}


async def test_nobody_there_is_no_failure(listen):
    one, two = await listen(), await listen()
    gone = two.link.address
    await two.link.aclose()
    for _ in range(3):
        one.link.send(gone, ACK)
        one.link.send(gone, LARGE)
    await until(lambda: one.link.traffic.unsent[SendFault.NO_STREAM] == 3)
    three = await listen()
    three.link.send(one.link.address, ACK)
    assert await one.hears(1) == [ACK]


async def test_a_full_socket_drops_and_counts(listen, monkeypatch):
    one = await listen()

    class Full:
        family = socket.AF_INET

        def fileno(self):
            return 0

        def sendto(self, *_):
            raise BlockingIOError

    real = one.link._udp
    one.link._udp = Full()
    one.link.send("127.0.0.1:7946", ACK)
    one.link._udp = real
    assert one.link.traffic.unsent == {SendFault.FULL: 1}


async def test_after_the_end_nothing_is_sent_or_heard(listen):
    one, two = await listen(), await listen()
    two.link.send(one.link.address, LARGE)
    address = one.link.address
    await one.link.aclose()
    one.link.send(two.link.address, ACK)
    await one.link.aclose()
    again = await listen(address)  # its port is free
    assert (one.heard, two.heard, again.heard) == ([], [], [])


# --- streams that misbehave -----------------------------------------------------------------------


async def test_a_stream_that_does_not_end_is_cut_off(listen, monkeypatch):
    monkeypatch.setattr(module, "STREAM_S", 0.2)
    ear = await listen()
    async with stream_to(ear) as (reader, writer):
        writer.write(b"\xb7")
        assert await reader.read() == b""
    await ear.refuses(FrameFault.TOO_SLOW)


async def test_a_stream_that_is_too_large_is_cut_off(listen):
    ear = await listen()
    async with stream_to(ear) as (_, writer):
        writer.write(bytes(4 * STREAM_BYTES_MAX))
        with pytest.raises(ConnectionError):
            await writer.drain()
    await ear.refuses(FrameFault.TOO_LARGE)


async def test_a_stream_that_was_cut_off_is_refused(listen, keyring_path):
    ear = await listen(keyring=keyring_path)
    frame = Frames("blue", KEYRING).stream(LARGE)
    async with stream_to(ear) as (_, writer):
        writer.write(frame[:-1])
    await ear.refuses(FrameFault.NOT_AUTHENTIC)


async def test_streams_wait_for_a_free_place(listen):
    ear = await listen()
    idle = [await asyncio.open_connection("127.0.0.1", port_of(ear)) for _ in range(STREAMS_MAX)]
    await until(ear.link._places.locked)
    one = await listen()
    one.link.send(ear.link.address, LARGE)
    await until(lambda: one.link.traffic.sent == 1)  # the kernel has it
    assert ear.heard == []
    for _, writer in idle:
        writer.close()
    assert await ear.hears(1) == [LARGE]
    await ear.refuses(FrameFault.TOO_SHORT, STREAMS_MAX)


async def test_one_source_has_a_few_streams_only(listen, monkeypatch):
    monkeypatch.setattr(module, "_is_here", lambda host: False)
    ear = await listen()
    idle = [await asyncio.open_connection("127.0.0.1", port_of(ear)) for _ in range(5)]
    await ear.refuses(FrameFault.TOO_MANY)
    for _, writer in idle:
        writer.close()
    await until(lambda: not ear.link._open)
    async with stream_to(ear) as (_, writer):
        writer.write(Frames("blue").stream(ACK))
    assert await ear.hears(1) == [ACK]


async def test_more_streams_than_may_be_sent_are_dropped_and_counted(listen):
    one, two = await listen(), await listen()
    for _ in range(STREAMS_MAX + 5):
        one.link.send(two.link.address, LARGE)
    assert one.link.traffic.unsent == {SendFault.BUSY: 5}
    await two.hears(STREAMS_MAX)
    one.link.send(two.link.address, LARGE)
    await two.hears(STREAMS_MAX + 1)


class NobodyReads:
    """An event loop whose peers' buffers are full."""

    def __getattr__(self, name):
        return getattr(asyncio.get_running_loop(), name)

    async def sock_sendall(self, stream, data):
        await asyncio.Event().wait()


async def test_a_peer_that_does_not_read_costs_a_while_only(listen, monkeypatch):
    monkeypatch.setattr(module, "STREAM_S", 0.2)
    one, two = await listen(), await listen()
    one.link._loop = NobodyReads()
    one.link.send(two.link.address, LARGE)
    await until(lambda: one.link.traffic.unsent[SendFault.NO_STREAM] == 1)


# --- hostile datagrams ----------------------------------------------------------------------------


async def test_what_was_refused_is_counted_by_reason(listen, keyring_path):
    ear = await listen(keyring=keyring_path)
    frames = Frames("blue", KEYRING)
    good, changed = frames.datagram(ACK), bytearray(frames.datagram(ACK))
    changed[-1] ^= 1
    datagrams_to(
        ear,
        *[b"", b"x", b"GET / HTTP/1.1\r\n", bytes(changed), good, good],
        Frames("blue").datagram(ACK),
        Frames("blue", Keyring([OTHER_KEY])).datagram(ACK),
        Frames("green", KEYRING).datagram(ACK),
        bytes(DATAGRAM_BYTES_MAX + 1),
        bytes(60_000),
    )
    await ear.refuses(FrameFault.TOO_LARGE, 2)
    assert ear.link.traffic.refused == {
        FrameFault.TOO_SHORT: 2,
        FrameFault.NOT_A_FRAME: 1,
        FrameFault.NOT_AUTHENTIC: 2,
        FrameFault.REPLAYED: 1,
        FrameFault.PLAIN: 1,
        FrameFault.UNKNOWN_KEY: 1,
        FrameFault.TOO_LARGE: 2,
    }
    assert ear.packets == [ACK]


async def test_each_reason_is_logged_once_aloud(listen, caplog):
    ear = await listen()
    with caplog.at_level(logging.INFO):
        datagrams_to(ear, b"x", b"y", b"z" * 50)
        await ear.refuses(FrameFault.NOT_A_FRAME)
    said = [record.message for record in caplog.records]
    assert [message.partition("was refused: ")[2] for message in said] == [
        "1 bytes are no frame",
        "it begins with b'zzzz'",
    ]


async def test_a_flood_is_held_off(listen):
    ear = await listen()
    ear.link._limits = module.SourceLimits(per_s=0, burst=10)
    datagrams_to(ear, *[b"x"] * 30)
    await ear.refuses(FrameFault.TOO_MANY, 20)
    assert ear.link.traffic.refused == {FrameFault.TOO_SHORT: 10, FrameFault.TOO_MANY: 20}


async def test_a_flood_of_strangers_does_not_silence_who_is_known(listen):
    ear, friend = await listen(), await listen()
    ear.link._limits = module.SourceLimits(per_s=0, burst=10)
    friend.link.send(ear.link.address, ACK)
    await ear.hears(1)
    with socket.socket(type=socket.SOCK_DGRAM) as stranger:
        try:
            stranger.bind(("127.0.0.2", 0))
        except OSError:
            pytest.skip("this machine has one loopback address")
        for _ in range(30):
            stranger.sendto(b"x", ("127.0.0.1", port_of(ear)))
    await ear.refuses(FrameFault.TOO_MANY, 21)
    friend.link.send(ear.link.address, PING)
    assert await ear.hears(2) == [ACK, PING]


# --- keys -----------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def nodes(listen, tmp_path, monkeypatch):
    """Three nodes with a keyring file each."""
    monkeypatch.setattr(module, "KEYRING_S", 0.02)
    nodes = []
    for number in range(3):
        file = KeyringFile(tmp_path / f"keyring-{number}")
        file.save(KEYRING)
        ear = await listen(keyring=str(file.path))
        ear.file = file
        nodes.append(ear)
    return nodes


async def chatter(nodes, sent):
    while True:
        for one in nodes:
            for other in nodes:
                if one is not other:
                    for packet in (PING, ACK, SPREAD):
                        one.link.send(other.link.address, packet)
                        sent[other] += 1
        one.link.send(nodes[0].link.address, LARGE)
        sent[nodes[0]] += 1
        await asyncio.sleep(0.005)


async def change_keys(node, step):
    """Until the node has seen it, and has heard others since."""
    keyring = step(node.file.load())
    node.file.save(keyring)
    await until(lambda: repr(node.link._frames.keyring) == repr(keyring))
    heard = len(node.heard)
    await until(lambda: len(node.heard) > heard + 10)


async def test_a_key_is_replaced_without_a_packet_refused(nodes):
    sent, new = Counter(), Key.new()
    steps = (
        lambda keyring: keyring.adding(new),
        lambda keyring: keyring.using(new.name),
        lambda keyring: keyring.removing(KEY.name),
    )
    for step in steps:
        talking = asyncio.create_task(chatter(nodes, sent))
        for node in nodes:  # one after the other, and they go on talking in between
            await change_keys(node, step)
        talking.cancel()
        # What is under way on a busy machine is of this step: a person's next one comes later.
        await until(lambda: all(node.link.traffic.heard == sent[node] for node in nodes))
    for node in nodes:
        assert node.link.traffic.refused == {}
        assert node.link.traffic.unsent == {}
        assert node.link._frames.keyring.sealing.name == new.name
        assert len(node.link._frames.keyring.keys) == 1


async def test_a_key_that_was_removed_opens_nothing(nodes):
    one, two, _ = nodes
    two.file.save(Keyring([OTHER_KEY]))
    await until(lambda: two.link._frames.keyring.sealing.name == OTHER_KEY.name)
    one.link.send(two.link.address, ACK)
    await two.refuses(FrameFault.UNKNOWN_KEY)


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (lambda path: path.write_text("no key\n"), "this is no key"),
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.chmod(0o644), "others may read the keyring"),
    ],
)
async def test_a_broken_file_leaves_the_keys_and_is_said_once(nodes, caplog, breaks, said):
    one, two, _ = nodes
    breaks(two.file.path)
    await until(lambda: "the keys stay as they were" in caplog.text)
    await asyncio.sleep(0.2)
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert said in errors[0]
    one.link.send(two.link.address, ACK)
    assert await two.hears(1) == [ACK]
    two.file.save(Keyring([KEY, OTHER_KEY]))
    await until(lambda: len(two.link._frames.keyring.keys) == 2)


async def test_a_keyring_that_cannot_be_read_is_said_at_the_start(listen, tmp_path):
    with pytest.raises(ConfigError, match=r"keyring .*/none cannot be read .*make one with"):
        await listen(keyring=str(tmp_path / "none"))


# --- by settings ----------------------------------------------------------------------------------


async def test_a_link_by_settings(keyring_path):
    settings = Settings(name="a", installed="1.0", keyring=keyring_path, cluster="blue")
    async with gossip_link(settings) as link:
        ear = Ear(link)
        await link.start(ear.hear)
        datagrams_to(ear, Frames("blue", KEYRING).datagram(ACK))
        assert await ear.hears(1) == [ACK]


async def test_no_gossip_no_link():
    async with gossip_link(Settings(name="a", installed="1.0", gossip="")) as link:
        assert link is None


async def test_addresses_are_resolved_once_each():
    entries = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1", "[::1]:3"]
    assert await resolve(entries) == ["127.0.0.1:1", "127.0.0.1:2", "[::1]:3"]
    assert await resolve([]) == []


async def test_a_name_may_have_several_addresses(monkeypatch):
    async def look_up(host, port):
        assert (host, port) == ("seeds", 7)
        return ["192.0.2.1:7", "192.0.2.2:7"]

    monkeypatch.setattr(module, "_look_up", look_up)
    assert await resolve(["seeds:7"]) == ["192.0.2.1:7", "192.0.2.2:7"]


async def test_names_that_nobody_knows_are_logged(caplog):
    assert await resolve(["no.invalid:1", "127.0.0.1:2", "x" * 300 + ":3"]) == ["127.0.0.1:2"]
    assert "xx:3 cannot be joined: no address found" in caplog.text
    assert "no.invalid:1 cannot be joined: no address found" in caplog.text


async def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch, caplog):
    async def look_up(host, port):
        if host == "slow":
            await asyncio.Event().wait()
        return [f"192.0.2.1:{port}"]

    monkeypatch.setattr(module, "_look_up", look_up)
    assert await resolve(["slow:1", "fast:2"], timeout_s=0.1) == ["192.0.2.1:2"]
    assert "slow:1 cannot be joined: no address found (no answer in time)" in caplog.text


async def test_an_entry_without_a_port_is_said():
    with pytest.raises(ConfigError, match="give HOST:PORT"):
        await resolve(["127.0.0.1"])
