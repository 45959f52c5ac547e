"""Packets as frames, and frames of whoever sends them."""

import struct
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerupgrade.core.gossip.packets import Ack, Condition, Digest, Ping, Spread
from peerupgrade.core.record import ClusterRecord, Hold, Standing
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import FrameError, FrameFault
from peerupgrade.wire import frames as frames_module
from peerupgrade.wire.frames import DATAGRAM_BYTES_MAX, STREAM_BYTES_MAX, Frames
from peerupgrade.wire.keyring import Keyring
from peerupgrade.wire.packets import (
    _CONDITIONS,
    _STANDINGS,
    HEARTBEATS_MAX,
    NAME_CHARS_MAX,
    TEXT_CHARS_MAX,
    packet_to_bytes,
)
from tests.wire.packets import (
    ACK,
    DIGEST,
    KEY,
    KEYRING,
    LOUD,
    OTHER_KEY,
    PACKETS,
    PING,
    QUIET,
    RECORD,
    SPREAD,
    TABLE,
    heartbeats_of,
    many,
    packets,
)

# Written by version 1 of the format in cluster "blue": every later version reads them.
GOLDEN = {
    "Ping": (
        "b701010024020d680196a16194a66330666665650c03cfffffffffffffffff07a162ab3132372e302e30"
        "2e313a319299a1610102a3312e30a130ae3132372e302e302e313a3739343600a0009ca66e6f64652d62"
        "ce00011170cf0000010000000000a6322e30726331a4312e3130aa5b3a3a315d3a3739343602a4312e31"
        "3002a161a67a6f6e652d3182a47261636ba27237a76772c3b6c39f65a2786c"
    ),
    "PingFor": (
        "b70101006c7e47620297a16194a66330666665650c03cfffffffffffffffff07a162ab3132372e302e30"
        "2e313a32ab3132372e302e302e313a319199a1610102a3312e30a130ae3132372e302e302e313a373934"
        "3600a000"
    ),
    "Ack": ("b7010100f78244d20395a16294a66330666665650c03cfffffffffffffffff07a16290"),
    "Spread": (
        "b7010100fb34389b0495a16194a66330666665650c03cfffffffffffffffff88aa67656e65726174696f"
        "6ea6633066666565a87265766973696f6ea23132a565706f6368a133a66d6173746572a161a661637469"
        "6e67a4312e3130a5666c6f6f72a3322e30a4686f6c64d9407b226279223a22616e6e222c22726561736f"
        "6e223a226d6f6e74682d656e6420636c6f73696e67222c2261745f6d73223a312c22756e74696c5f6d73"
        "223a307db0626f6f7473747261705f657870656374a133a66e6f64652d7a919ca66e6f64652d62ce0001"
        "1170cf0000010000000000a6322e30726331a4312e3130aa5b3a3a315d3a3739343602a4312e313002a1"
        "61a67a6f6e652d3182a47261636ba27237a76772c3b6c39f65a2786c"
    ),
    "Table": (
        "b7010100aa907e180595a16194a66330666665650c03cfffffffffffffffffc0ab3132372e302e302e31"
        "3a319299a1610102a3312e30a130ae3132372e302e302e313a3739343600a0009ca66e6f64652d62ce00"
        "011170cf0000010000000000a6322e30726331a4312e3130aa5b3a3a315d3a3739343602a4312e313002"
        "a161a67a6f6e652d3182a47261636ba27237a76772c3b6c39f65a2786c"
    ),
}
GOLDEN_SEALED_ACK = (
    "b70101018046120473657373696f6e73000000059f9c86c8d55063f1933b935a66716faaa1d197aa05f5"
    "da90ca681aaef7c5c98eda9edf0f0619d5dd1c33b9"
)


def refused(frames, frame, bytes_max=STREAM_BYTES_MAX):
    """The fault for which a frame is refused."""
    with pytest.raises(FrameError) as caught:
        frames.open(frame, bytes_max)
    return caught.value.fault


def plain_frame(payload, version=1, readable_by=1, cluster=b"blue"):
    header = bytes((0xB7, version, readable_by, 0))
    checksum = zlib.crc32(header + cluster + payload)
    return header + struct.pack(">I", checksum) + payload


def frame_of(kind, *array, **header):
    return plain_frame(bytes((kind,)) + msgspec.msgpack.encode(array), **header)


def version_texts(packet):
    """Versions that are equal may be written differently."""
    return [
        (beat.installed.text, beat.lowest.text, beat.operating and beat.operating.text)
        for beat in heartbeats_of(packet)
    ]


class TestRoundTrip:
    @settings(deadline=None)
    @given(packets, st.sampled_from([None, KEYRING]))
    def test_every_packet_comes_back(self, packet, keyring):
        sender, receiver = Frames("blue", keyring), Frames("blue", keyring)
        again = receiver.open(sender.stream(packet))
        assert again == packet
        assert version_texts(again) == version_texts(packet)

    def test_a_record_keeps_how_its_versions_are_written(self):
        sender, receiver = Frames("blue"), Frames("blue")
        for text in ("1.0", "1.0.0"):
            record = replace(RECORD, acting=parse_version(text))
            again = receiver.open(sender.stream(replace(SPREAD, record=record)))
            assert again.record.acting.text == text

    def test_a_record_may_go_and_come_again(self):
        sender, receiver = Frames("blue"), Frames("blue")
        for record in (RECORD, None, RECORD, ClusterRecord("", hold=Hold("a", "b", 1))):
            assert receiver.open(sender.stream(replace(SPREAD, record=record))).record == record


class TestDatagrams:
    @pytest.mark.parametrize("keyring", [None, KEYRING])
    @pytest.mark.parametrize("packet", [PING, ACK, SPREAD], ids=lambda p: type(p).__name__)
    def test_news_that_do_not_fit_are_left_out_from_the_end_on(self, keyring, packet):
        sender, receiver = Frames("blue", keyring), Frames("blue", keyring)
        news = many(100)
        datagram = sender.datagram(replace(packet, news=news))
        heard = receiver.open(datagram, DATAGRAM_BYTES_MAX)
        assert heard == replace(packet, news=news[: len(heard.news)])
        one_more = sender.stream(replace(packet, news=news[: len(heard.news) + 1]))
        assert len(datagram) <= DATAGRAM_BYTES_MAX < len(one_more) + 4

    @pytest.mark.parametrize("keyring", [None, KEYRING])
    def test_what_fits_exactly_is_whole(self, keyring):
        frames = Frames("blue", keyring)
        beat = replace(QUIET, address="x" * 250)
        sizes = set()
        for extra in range(500):
            packet = Ack("a" * extra, DIGEST, 7, "", (beat,) * 4)
            size = len(frames.stream(packet))
            datagram = frames.datagram(packet)
            assert len(datagram) == size if size <= DATAGRAM_BYTES_MAX else len(datagram) < size
            sizes.add(size)
        assert {DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX + 1} < sizes

    def test_a_table_is_told_as_a_whole_or_by_stream(self):
        frames = Frames("blue")
        assert frames.datagram(TABLE) == frames.stream(TABLE)
        assert frames.datagram(replace(TABLE, heartbeats=many(100))) is None

    def test_a_record_that_fits_no_datagram_needs_a_stream(self):
        long = replace(RECORD, hold=Hold("ann", "why " * 500, 1))
        frames = Frames("blue")
        packet = replace(SPREAD, record=long)
        assert frames.datagram(packet) is None
        assert Frames("blue").open(frames.stream(packet)) == packet

    def test_what_nobody_would_read_is_not_sent(self):
        labels = {f"label-{n}": "x" * TEXT_CHARS_MAX for n in range(30)}
        with pytest.raises(FrameError, match=r"takes .* bytes, more than 4,194,304") as caught:
            Frames("blue").stream(replace(TABLE, heartbeats=many(1000, labels=labels)))
        assert caught.value.fault is FrameFault.TOO_LARGE

    @pytest.mark.parametrize("change", [{"sender": "\udce9"}, {"sequence": 2**64}])
    def test_what_cannot_be_encoded_is_said(self, change):
        with pytest.raises(FrameError, match="cannot be encoded"):
            Frames("blue").datagram(replace(PING, **change))


class TestVersions:
    @pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)
    def test_version_1_is_read_for_ever(self, packet):
        assert Frames("blue").open(bytes.fromhex(GOLDEN[type(packet).__name__])) == packet

    def test_sealed_version_1_is_read_for_ever(self):
        assert Frames("blue", KEYRING).open(bytes.fromhex(GOLDEN_SEALED_ACK)) == ACK

    @pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)
    def test_this_release_writes_version_1(self, packet):
        assert Frames("blue").stream(packet).hex() == GOLDEN[type(packet).__name__]

    def test_the_numbers_of_conditions_and_standings_never_change(self):
        assert [one.value for one in _CONDITIONS] == ["alive", "suspect", "failed", "left"]
        assert [one.value for one in _STANDINGS] == ["serving", "standby", "away"]
        assert (set(_CONDITIONS), set(_STANDINGS)) == (set(Condition), set(Standing))

    def test_what_a_newer_release_added_is_ignored(self):
        beat = ["a", 1, 2, "1.0", "0", "127.0.0.1:7946", 0, "", 0, "", "", {}, ["new"], 7]
        digest = ["c0ffee", 12, 3, 2**64 - 1, {"new": b"x"}]
        frame = frame_of(3, "b", digest, 7, "b", [beat], "new", version=2)
        assert Frames("blue").open(frame) == replace(ACK, news=(QUIET,))

    def test_a_record_of_a_newer_release_too(self):
        record = {"generation": "g", "revision": "4", "new": "x", "acting": "1.0", "acting_key": ""}
        digest = ["c0ffee", 12, 3, 2**64 - 1]
        frame = frame_of(4, "a", digest, record, "", [], version=2)
        expected = ClusterRecord("g", 4, acting=parse_version("1.0"))
        assert Frames("blue").open(frame) == Spread("a", DIGEST, (), expected)

    def test_what_an_older_release_did_not_send_has_its_default(self):
        beat = ["a", 1, 2, "1.0", "0", "127.0.0.1:7946", 0, "", 0]
        frame = frame_of(3, "b", ["c0ffee", 12, 3, 2**64 - 1], 7, "b", [beat])
        assert Frames("blue").open(frame) == replace(ACK, news=(QUIET,))

    @pytest.mark.parametrize("kind", [0, 6, 255])
    def test_a_packet_that_only_a_newer_release_knows(self, kind):
        assert refused(Frames("blue"), frame_of(kind, "a", version=2)) is FrameFault.UNKNOWN_KIND

    def test_a_frame_that_only_a_newer_release_can_read(self):
        frame = frame_of(3, "b", version=3, readable_by=2)
        with pytest.raises(FrameError, match="version 3 can be read by version 2 and newer, this"):
            Frames("blue").open(frame)
        assert refused(Frames("blue"), frame) is FrameFault.NEWER_VERSION

    def test_a_newer_release_is_understood_by_this_one(self, monkeypatch):
        monkeypatch.setattr(frames_module, "_SEALED_HEADER", bytes((0xB7, 2, 1, 1)))
        frame = Frames("blue", KEYRING).stream(PING)
        assert frame[1] == 2
        monkeypatch.undo()
        assert Frames("blue", KEYRING).open(frame) == PING


class TestSeal:
    def test_every_bit_counts(self):
        frame = Frames("blue", KEYRING).stream(PING)
        faults = Counter()
        for position in range(len(frame)):
            for bit in range(8):
                changed = bytearray(frame)
                changed[position] ^= 1 << bit
                faults[refused(Frames("blue", KEYRING), bytes(changed))] += 1
        assert faults[FrameFault.UNKNOWN_KEY] == 4 * 8  # the id of the key
        assert faults[FrameFault.NOT_AUTHENTIC] >= 8 * (len(frame) - 8)
        assert FrameFault.MALFORMED not in faults
        assert FrameFault.UNKNOWN_KIND not in faults

    def test_every_cut_is_noticed(self):
        frame = Frames("blue", KEYRING).stream(ACK)
        for size in range(len(frame)):
            fault = refused(Frames("blue", KEYRING), frame[:size])
            assert fault in (FrameFault.TOO_SHORT, FrameFault.NOT_AUTHENTIC, FrameFault.UNKNOWN_KEY)

    def test_nothing_of_a_packet_can_be_read(self):
        frame = Frames("blue", KEYRING).stream(SPREAD)
        assert b"zone" not in frame
        assert b"month-end" not in frame
        assert b"blue" not in frame

    @pytest.mark.parametrize("keyring", [None, KEYRING])
    def test_frames_of_another_cluster_are_refused(self, keyring):
        frame = Frames("green", keyring).stream(ACK)
        assert refused(Frames("blue", keyring), frame) is FrameFault.NOT_AUTHENTIC

    def test_with_a_keyring_plain_frames_are_refused(self):
        frame = Frames("blue").stream(ACK)
        assert refused(Frames("blue", KEYRING), frame) is FrameFault.PLAIN

    def test_sealed_frames_are_refused_without_a_keyring_or_the_key(self):
        frame = Frames("blue", KEYRING).stream(ACK)
        for keyring in (None, Keyring([OTHER_KEY])):
            assert refused(Frames("blue", keyring), frame) is FrameFault.UNKNOWN_KEY

    def test_the_first_key_seals_and_all_open(self):
        both = Frames("blue", Keyring([KEY, OTHER_KEY]))
        assert Frames("blue", KEYRING).open(both.stream(ACK)) == ACK
        assert both.open(Frames("blue", Keyring([OTHER_KEY])).stream(ACK)) == ACK

    def test_the_keyring_may_be_replaced(self):
        sender, receiver = Frames("blue", KEYRING), Frames("blue", KEYRING)
        assert receiver.open(sender.stream(ACK)) == ACK
        sender.keyring = receiver.keyring = Keyring([OTHER_KEY, KEY])
        assert receiver.open(sender.stream(PING)) == PING

    def test_no_nonce_comes_twice(self):
        frames = [Frames("blue", KEYRING) for _ in range(3)]
        nonces = {sender.stream(ACK)[8:20] for _ in range(500) for sender in frames}
        assert len(nonces) == 1500

    def test_a_new_session_begins_when_the_numbers_are_used_up(self):
        sender, receiver = Frames("blue", KEYRING), Frames("blue", KEYRING)
        first = sender.stream(ACK)
        sender._counter = 2**32 - 1
        last, next_one = sender.stream(ACK), sender.stream(ACK)
        assert (last[16:20], next_one[16:20]) == (b"\xff" * 4, bytes(4))
        assert first[8:16] == last[8:16] != next_one[8:16]
        assert [receiver.open(frame) for frame in (first, last, next_one)] == [ACK] * 3

    @pytest.mark.parametrize("kind", ["datagram", "stream"])
    def test_a_replayed_frame_is_refused(self, kind):
        frame = getattr(Frames("blue", KEYRING), kind)(ACK)
        receiver = Frames("blue", KEYRING)
        assert receiver.open(frame) == ACK
        assert refused(receiver, frame) is FrameFault.REPLAYED

    def test_frames_may_overtake_each_other(self):
        sender, receiver = Frames("blue", KEYRING), Frames("blue", KEYRING)
        frames = [sender.stream(replace(ACK, sequence=n)) for n in range(20)]
        assert [receiver.open(frame).sequence for frame in reversed(frames)] == list(range(20))[
            ::-1
        ]
        assert {refused(receiver, frame) for frame in frames} == {FrameFault.REPLAYED}


HEAD = ("b", ["c0ffee", 12, 3, 5])


class TestHostile:
    @pytest.mark.parametrize(
        ("frame", "fault"),
        [
            (b"", FrameFault.TOO_SHORT),
            (b"\xb7\x01\x01\x00", FrameFault.TOO_SHORT),
            (b"GET / HTTP/1.1\r\n\r\n", FrameFault.NOT_A_FRAME),
            (b"\xb7\x01\x01\x02" + bytes(40), FrameFault.NOT_A_FRAME),
            (b"\xb7\x01\x02\x00" + bytes(40), FrameFault.NOT_A_FRAME),
            (b"\xb7\x01\x01\x00" + bytes(40), FrameFault.NOT_AUTHENTIC),
            (b"\xb7\x01\x01\x01" + bytes(40), FrameFault.UNKNOWN_KEY),
            (plain_frame(b""), FrameFault.TOO_SHORT),
            (plain_frame(b"\x03"), FrameFault.MALFORMED),
            (plain_frame(b"\x03\x90"), FrameFault.MALFORMED),
            (plain_frame(b"\x03" + b"\x91" * 1000), FrameFault.MALFORMED),
            (plain_frame(packet_to_bytes(ACK) + b"x"), FrameFault.MALFORMED),
            (frame_of(3, *HEAD, -1, "b", []), FrameFault.MALFORMED),
            (frame_of(3, *HEAD, 2**63, "b", []), FrameFault.MALFORMED),
            (frame_of(3, *HEAD, 7.0, "b", []), FrameFault.MALFORMED),
            (frame_of(3, *HEAD, 7, "b", {}), FrameFault.MALFORMED),
            (frame_of(3, *HEAD, 7, "b", None), FrameFault.MALFORMED),
            (frame_of(3, *HEAD, 7, "b", [[]]), FrameFault.MALFORMED),
            (frame_of(3, *HEAD, 7, "b" * (NAME_CHARS_MAX + 1), []), FrameFault.MALFORMED),
            (frame_of(3, *HEAD, 7, b"\xff", []), FrameFault.MALFORMED),
            (frame_of(4, *HEAD, {"revision": "x"}, "", []), FrameFault.MALFORMED),
            (frame_of(4, *HEAD, {"revision": "9" * 5000}, "", []), FrameFault.MALFORMED),
            (frame_of(4, *HEAD, {"revision": "9" * 50}, "", []), FrameFault.MALFORMED),
            (frame_of(4, *HEAD, {"epoch": "-1"}, "", []), FrameFault.MALFORMED),
            (frame_of(4, *HEAD, {"acting": "one"}, "", []), FrameFault.MALFORMED),
            (frame_of(4, *HEAD, {"hold": "[" * 10_000}, "", []), FrameFault.MALFORMED),
            (frame_of(4, *HEAD, {"master": "x" * 70_000}, "", []), FrameFault.MALFORMED),
            (frame_of(4, *HEAD, {1: 2}, "", []), FrameFault.MALFORMED),
            (frame_of(4, *HEAD, [], "", []), FrameFault.MALFORMED),
            (frame_of(5, *HEAD, None, "", [0] * (HEARTBEATS_MAX + 1)), FrameFault.MALFORMED),
            (frame_of(3, *HEAD, 7, "b", [0] * 257), FrameFault.MALFORMED),
        ],
    )
    def test_nonsense_is_refused_by_name(self, frame, fault):
        assert refused(Frames("blue"), frame) is fault

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (0, None),
            (0, "x" * (NAME_CHARS_MAX + 1)),
            (1, -1),
            (3, ""),
            (3, "one"),
            (3, "1" * (NAME_CHARS_MAX + 1)),
            (5, "x" * (TEXT_CHARS_MAX + 1)),
            (6, 4),
            (6, -1),
            (7, "two"),
            (8, 3),
            (11, {"x": "y" * (TEXT_CHARS_MAX + 1)}),
            (11, {f"{n}": "" for n in range(33)}),
            (11, {"x": {}}),
            (11, []),
        ],
    )
    def test_a_heartbeat_of_nonsense_is_refused(self, field, value):
        beat = ["a", 1, 2, "1.0", "0", "127.0.0.1:7946", 0, "", 0, "", "", {}]
        good = frame_of(3, *HEAD, 7, "b", [beat])
        assert heartbeats_of(Frames("blue").open(good)) == (QUIET,)
        beat[field] = value
        assert refused(Frames("blue"), frame_of(3, *HEAD, 7, "b", [beat])) is FrameFault.MALFORMED

    @pytest.mark.parametrize(
        "tail",
        [
            b"\xdd\xff\xff\xff\xff",  # an array of 4 billion
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",  # a text of 4 GB
            b"\xc6\xff\xff\xff\xff",
            b"\xc9\xff\xff\xff\xff\x01",
            b"\xdc\xff\xff",
            b"\x91" * 200_000,
            b"\x81" * 200_000,
            b"\xc1",
        ],
        ids=lambda tail: tail[:6].hex(),
    )
    @pytest.mark.parametrize("place", ["news", "a heartbeat", "its labels", "beyond", "record"])
    def test_what_announces_more_than_it_has_is_refused(self, tail, place):
        head = msgspec.msgpack.encode(("b", ["c0ffee", 12, 3, 5], 7, "b"))
        beat = msgspec.msgpack.encode(("a", 1, 2, "1.0", "0", "x", 0, "", 0, "", ""))
        payload = {
            "news": b"\x03\x95" + head[1:] + tail,
            "a heartbeat": b"\x03\x95" + head[1:] + b"\x91" + tail,
            "its labels": b"\x03\x95" + head[1:] + b"\x91\x9c" + beat[1:] + tail,
            "beyond": b"\x03\x96" + head[1:] + b"\x90" + tail,
            "record": b"\x04\x95" + msgspec.msgpack.encode(HEAD)[1:] + tail,
        }[place]
        assert refused(Frames("blue"), plain_frame(payload)) is FrameFault.MALFORMED

    def test_nesting_does_not_crash_a_process_that_allows_much(self):
        program = f"""
import sys
sys.setrecursionlimit(10**7)
from peerupgrade.errors import FrameError
from peerupgrade.wire.frames import Frames
from tests.wire.test_frames import plain_frame
head = bytes.fromhex({packet_to_bytes(ACK).hex()!r})
for depth in (1_000, 100_000, 4_000_000):
    for start in (b"\\x03", head[:1] + b"\\x96" + head[2:]):
        try:
            Frames("blue").open(plain_frame(start + b"\\x91" * depth))
        except FrameError as error:
            print(error.fault)
"""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout.split(), done.returncode) == (["malformed"] * 6, 0)

    @pytest.mark.parametrize("bytes_max", [DATAGRAM_BYTES_MAX, STREAM_BYTES_MAX])
    def test_larger_ones_are_refused_unseen(self, bytes_max):
        frames = Frames("blue")
        assert refused(frames, bytes(bytes_max + 1), bytes_max) is FrameFault.TOO_LARGE
        assert refused(frames, bytes(bytes_max), bytes_max) is FrameFault.NOT_A_FRAME

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_any_bytes_give_a_packet_or_the_one_error(self, data):
        for frame in (data, plain_frame(data), b"\xb7\x01\x01\x01" + KEY.id + data):
            for frames in (Frames("blue"), Frames("blue", KEYRING)):
                with pytest.raises(FrameError):
                    frames.open(frame)

    @settings(deadline=None)
    @given(packets, st.data())
    def test_a_payload_changed_anywhere_gives_a_packet_or_the_one_error(self, packet, data):
        payload = bytearray(packet_to_bytes(packet))
        for _ in range(data.draw(st.integers(1, 4))):
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        frame = plain_frame(bytes(payload))
        try:
            again = Frames("blue").open(frame)
        except FrameError:
            faults = (FrameFault.MALFORMED, FrameFault.UNKNOWN_KIND)
            assert refused(Frames("blue"), frame) in faults
        else:
            # What was let in can be told to others, and they read the same.
            assert Frames("blue").open(Frames("blue").stream(again)) == again

    def test_errors_say_nothing_of_keys(self):
        for secret in (KEY, KEYRING, Frames("blue", KEYRING)):
            assert KEY.to_text() not in repr(secret)
        with pytest.raises(FrameError) as caught:
            Frames("blue", KEYRING).open(Frames("green", KEYRING).stream(ACK))
        assert KEY.to_text() not in str(caught.value)


def test_all_fields_travel():
    """A field that is added to a packet is added here, and to the format."""
    assert [f.name for f in fields(Ping)][2:] == ["sequence", "target", "address", "news"]
    assert [f.name for f in fields(Digest)] == ["generation", "revision", "epoch", "table"]
    assert len(fields(QUIET)) == 12
    assert all(getattr(LOUD, f.name) != getattr(QUIET, f.name) for f in fields(QUIET))
