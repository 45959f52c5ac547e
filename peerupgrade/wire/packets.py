"""Packets as bytes, before they are sealed.

Theory of operation: a payload is one byte for the kind of packet and one msgpack array. An array
has no names, so positions are what releases of peerupgrade agree on for ever: a newer one may only
add to the end of an array, which an older one ignores, and gives what an older one did not send its
default. A kind that is unknown here is refused by its own fault; any other change needs
`frames.READABLE_BY` to rise. Heartbeats, digests and records mostly come again and again, so their
bytes are the keys of caches.

Nothing here trusts a length: each array, map and text has a limit that is checked before anything
is kept, and msgspec allocates as bytes come, not as they are announced. It recurses, however, as
far as the process allows, and one that allows much would crash; so whatever is long enough to be
nested so deep is gone through by msgpack first, which has a stack of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar, assert_never

import msgspec
from msgpack import Unpacker, UnpackException  # type: ignore[import-untyped]
from msgspec import Meta, Raw, Struct

from peerupgrade.core.gossip.packets import (
    Ack,
    Condition,
    Digest,
    Heartbeat,
    Packet,
    Ping,
    PingFor,
    Spread,
    Table,
)
from peerupgrade.core.record import ClusterRecord, Standing
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import DataError, FrameError, FrameFault, VersionError
from peerupgrade.wire.fields import record_from_fields, record_to_fields

NAME_CHARS_MAX = 128  # of an id, and of a version
TEXT_CHARS_MAX = 256  # of any other text
LABELS_MAX = 32
NEWS_MAX = 256  # heartbeats in one packet that is not a table
HEARTBEATS_MAX = 16_384  # in a table
_COUNT_MAX = 2**63 - 1
_RECORD_BYTES_MAX = 64 * 1024
_SHALLOW_BYTES = 1_500  # so many levels do no harm
_CACHED_BYTES_MAX = 1_024  # larger ones are read anew each time, so that some MiB are kept at most

# Their order is part of the format: new ones go to the end, under a higher `READABLE_BY`.
_CONDITIONS = (Condition.ALIVE, Condition.SUSPECT, Condition.FAILED, Condition.LEFT)
_STANDINGS = (Standing.SERVING, Standing.STANDBY, Standing.AWAY)
_CONDITION_NUMBERS = {condition: number for number, condition in enumerate(_CONDITIONS)}
_STANDING_NUMBERS = {standing: number for number, standing in enumerate(_STANDINGS)}

_Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
_Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
_Count = Annotated[int, Meta(ge=0, le=_COUNT_MAX)]
_Bits = Annotated[int, Meta(ge=0)]  # 64 of them
_News = Annotated[list[Raw], Meta(max_length=NEWS_MAX)]

_T = TypeVar("_T")

_encode = msgspec.msgpack.Encoder().encode


def packet_to_bytes(packet: Packet) -> bytes:
    """A packet as a payload.

    Raises:
        FrameError: a text in it is no text, or a number takes more than 64 bits.
    """
    match packet:
        case Ping():
            body: tuple[object, ...] = (packet.sequence, packet.target, packet.address)
            kind = 1
        case PingFor():
            body = (packet.sequence, packet.target, packet.target_address, packet.address)
            kind = 2
        case Ack():
            body, kind = (packet.sequence, packet.target), 3
        case Spread():
            body, kind = (_record_to_raw(packet.record), packet.until), 4
        case Table():
            body, kind = (_record_to_raw(packet.record), packet.answer), 5
        case _:
            assert_never(packet)
    beats = packet.heartbeats if isinstance(packet, Table) else packet.news
    digest = packet.digest
    head = (digest.generation, digest.revision, digest.epoch, digest.table)
    try:
        return b"%c%b" % (
            kind,
            _encode((packet.sender, head, *body, [_heartbeat_to_array(beat) for beat in beats])),
        )
    except (UnicodeError, OverflowError) as error:
        raise FrameError(FrameFault.MALFORMED, f"a packet cannot be encoded ({error})") from error


def packet_from_bytes(payload: bytes) -> Packet:
    """The packet that a payload holds.

    Raises:
        FrameError: its kind is not known here, or it makes no sense.
    """
    if not payload:
        raise FrameError(FrameFault.TOO_SHORT, "a frame has no payload")
    kind = _KINDS.get(payload[0])
    if kind is None:
        raise FrameError(
            FrameFault.UNKNOWN_KIND, f"packets of kind {payload[0]} are not known to this version"
        )
    body = memoryview(payload)[1:]
    try:
        if len(body) > _SHALLOW_BYTES:
            _check_depth(body)
        return kind.build(kind.decode(body))
    # A wrong type, half a character, a number of 5,000 digits, arrays in arrays without end.
    except (DataError, VersionError, ValueError, RecursionError, UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise FrameError(
            FrameFault.MALFORMED, f"a packet of kind {payload[0]} makes no sense ({reason})"
        ) from error


def _check_depth(body: memoryview) -> None:
    unpacker = Unpacker(max_buffer_size=len(body))
    unpacker.feed(body)
    unpacker.skip()  # fails with more than 1,024 levels


def heartbeat_bytes(beat: Heartbeat) -> int:
    """How many bytes one heartbeat takes in a payload."""
    return len(_encode(_heartbeat_to_array(beat)))


# --- what comes again and again -------------------------------------------------------------------


def _remembering(read: Callable[[bytes], _T], count: int) -> Callable[[Raw], _T]:
    """`read`, which is called for bytes that are new only; so many are kept."""
    remembered = lru_cache(maxsize=count)(read)

    def read_or_remember(raw: Raw) -> _T:
        data = bytes(raw)
        return remembered(data) if len(data) <= _CACHED_BYTES_MAX else read(data)

    return read_or_remember


# --- heartbeats -----------------------------------------------------------------------------------


class _Beat(Struct, array_like=True, gc=False, frozen=True):
    id: _Name
    incarnation: _Count
    number: _Count
    installed: _Name
    lowest: _Name
    address: _Text
    condition: Annotated[int, Meta(ge=0, lt=len(_CONDITIONS))]
    operating: _Name
    standing: Annotated[int, Meta(ge=0, lt=len(_STANDINGS))]
    by: _Name = ""
    zone: _Text = ""
    labels: Annotated[dict[_Text, _Text], Meta(max_length=LABELS_MAX)] = {}


_decode_beat = msgspec.msgpack.Decoder(_Beat).decode


def _heartbeat_to_array(beat: Heartbeat) -> tuple[object, ...]:
    array = (
        beat.id,
        beat.incarnation,
        beat.number,
        beat.installed.text,
        beat.lowest.text,
        beat.address,
        _CONDITION_NUMBERS[beat.condition],
        _version_to_text(beat.operating),
        _STANDING_NUMBERS[beat.standing],
    )
    if beat.by or beat.zone or beat.labels:
        return (*array, beat.by, beat.zone, beat.labels)
    return array


def _heartbeat_from_bytes(data: bytes) -> Heartbeat:
    beat = _decode_beat(data)
    return Heartbeat(
        beat.id,
        beat.incarnation,
        beat.number,
        parse_version(beat.installed),
        parse_version(beat.lowest),
        beat.address,
        _CONDITIONS[beat.condition],
        parse_version(beat.operating) if beat.operating else None,
        _STANDINGS[beat.standing],
        beat.by,
        beat.zone,
        beat.labels,
    )


_heartbeat = _remembering(_heartbeat_from_bytes, 4096)


def _heartbeats(raw: list[Raw]) -> tuple[Heartbeat, ...]:
    return tuple([_heartbeat(one) for one in raw])


def _version_to_text(version: Version | None) -> str:
    return "" if version is None else version.text


# --- records --------------------------------------------------------------------------------------

_PLAIN_RECORD = record_to_fields(ClusterRecord(""))
_NO_RECORD = Raw(_encode(None))
_decode_fields = msgspec.msgpack.Decoder(dict[str, str] | None).decode


class _RecordEncoder:
    """Keeps the record that it encoded last: a decision goes to everyone, and stays for long."""

    def __init__(self) -> None:
        self._record: ClusterRecord | None = None
        self._raw = _NO_RECORD

    def __call__(self, record: ClusterRecord | None) -> Raw:
        if record is not self._record:  # equal ones may differ in the texts of their versions
            self._raw = _NO_RECORD if record is None else self._encode(record)
            self._record = record
        return self._raw

    def _encode(self, record: ClusterRecord) -> Raw:
        """As the store's hash, without what is as in any record; a version needs no key here."""
        texts = {
            name: text
            for name, text in record_to_fields(record).items()
            if text != _PLAIN_RECORD[name] and not name.endswith("_key")
        }
        return Raw(_encode(texts))


_record_to_raw = _RecordEncoder()


def _record_from_bytes(data: bytes) -> ClusterRecord | None:
    if len(data) > _RECORD_BYTES_MAX:
        raise DataError(f"the record has {len(data):,} bytes, more than {_RECORD_BYTES_MAX:,}")
    texts = _decode_fields(data)
    if texts is None:
        return None
    record = record_from_fields({"generation": "", **texts})
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, int) and not 0 <= value <= _COUNT_MAX:
            raise DataError(f"field {one.name!r} of the record is {value!s:.40}")
    return record


_record = _remembering(_record_from_bytes, 16)


# --- packets --------------------------------------------------------------------------------------


class _Digest(Struct, array_like=True, gc=False, frozen=True):
    generation: _Text
    revision: _Count
    epoch: _Count
    table: _Bits


_decode_digest = msgspec.msgpack.Decoder(_Digest).decode


def _digest_from_bytes(data: bytes) -> Digest:
    digest = _decode_digest(data)
    return Digest(digest.generation, digest.revision, digest.epoch, digest.table)


_digest = _remembering(_digest_from_bytes, 256)


class _Head(Struct, array_like=True, gc=False, frozen=True):
    sender: _Name
    digest: Raw


class _Ping(_Head, array_like=True, gc=False, frozen=True):
    sequence: _Count
    target: _Name
    address: _Text
    news: _News


class _PingFor(_Head, array_like=True, gc=False, frozen=True):
    sequence: _Count
    target: _Name
    target_address: _Text
    address: _Text
    news: _News


class _Ack(_Head, array_like=True, gc=False, frozen=True):
    sequence: _Count
    target: _Name
    news: _News


class _Spread(_Head, array_like=True, gc=False, frozen=True):
    record: Raw
    until: _Name
    news: _News


class _Table(_Head, array_like=True, gc=False, frozen=True):
    record: Raw
    answer: _Text
    heartbeats: Annotated[list[Raw], Meta(max_length=HEARTBEATS_MAX)]


def _ping(p: _Ping) -> Ping:
    return Ping(p.sender, _digest(p.digest), p.sequence, p.target, p.address, _heartbeats(p.news))


def _ping_for(p: _PingFor) -> PingFor:
    return PingFor(
        p.sender,
        _digest(p.digest),
        p.sequence,
        p.target,
        p.target_address,
        p.address,
        _heartbeats(p.news),
    )


def _ack(p: _Ack) -> Ack:
    return Ack(p.sender, _digest(p.digest), p.sequence, p.target, _heartbeats(p.news))


def _spread(p: _Spread) -> Spread:
    return Spread(p.sender, _digest(p.digest), _heartbeats(p.news), _record(p.record), p.until)


def _table(p: _Table) -> Table:
    return Table(
        p.sender, _digest(p.digest), _heartbeats(p.heartbeats), _record(p.record), p.answer
    )


class _Kind(NamedTuple):
    decode: Callable[[memoryview], Any]
    build: Callable[[Any], Packet]


def _kind(shape: type[Struct], build: Callable[[Any], Packet]) -> _Kind:
    return _Kind(msgspec.msgpack.Decoder(shape).decode, build)


_Kinds: TypeAlias = dict[int, _Kind]

_KINDS: _Kinds = {
    1: _kind(_Ping, _ping),
    2: _kind(_PingFor, _ping_for),
    3: _kind(_Ack, _ack),
    4: _kind(_Spread, _spread),
    5: _kind(_Table, _table),
}
