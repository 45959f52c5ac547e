"""Core types as text and bytes: what the store holds, what its channels say, what is on a disk.

Theory of operation: every value becomes a flat map of strings, one entry for each of its fields,
because that is what a hash of the store can hold and what a script there can compare. A version
takes two entries, the text and, for the scripts, its key; only the text is ever read back. A field
that is unknown here was written by a newer peerupgrade and is left out; a field that is missing was
left out by an older one and gets its default.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from peerupgrade.core.effects import Memory
from peerupgrade.core.record import ClusterRecord, Member, Slot, Standing, StepState, Tombstone
from peerupgrade.core.requests import (
    Beat,
    DoubtHeard,
    ExcludedHeard,
    Freed,
    Heard,
    MemberHeard,
    RecordHeard,
    Request,
)
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import DataError, VersionError

_T = TypeVar("_T")
_Fields = dict[str, str | dict[str, str]]

_HINT = "another program may use the same keys, or this peerupgrade is too old for the data"
_NESTED = (ClusterRecord, Member)
_BY_TEXT: Mapping[type, Callable[[str], object]] = {
    int: int,
    Version: parse_version,
    Standing: Standing,
}
# Found out once, because every message is read by everyone.
_READERS: dict[type, Mapping[str, tuple[Callable[[Any], object], bool]]] = {}
_OUTLINES: dict[type, Mapping[str, str]] = {}
_DECODER = msgspec.json.Decoder(_Fields)
_HEARD: Mapping[str, type[Heard]] = {
    "record": RecordHeard,
    "member": MemberHeard,
    "beat": Beat,
    "freed": Freed,
    "excluded": ExcludedHeard,
    "doubt": DoubtHeard,
}

# --- values as maps of strings --------------------------------------------------------------------


def record_to_fields(record: ClusterRecord) -> dict[str, str]:
    """The cluster record as a hash holds it."""
    return _flat(record)


def record_from_fields(fields: Mapping[str, str]) -> ClusterRecord:
    """The cluster record from its hash; fields of other names are ignored.

    Raises:
        DataError: a field cannot be read, or one without a default is missing.
    """
    return _from_fields(ClusterRecord, fields)


def member_to_fields(member: Member) -> dict[str, str]:
    """A member as a map of strings."""
    return _flat(member)


def member_from_fields(fields: Mapping[str, str]) -> Member:
    """A member from its map of strings.

    Raises:
        DataError: as for the record.
    """
    return _from_fields(Member, fields)


def tombstone_from_fields(fields: Mapping[str, str]) -> Tombstone:
    """A tombstone from its map of strings; only the store writes them.

    Raises:
        DataError: as for the record.
    """
    return _from_fields(Tombstone, fields)


def slot_from_fields(fields: Mapping[str, str]) -> Slot:
    """A slot from its map of strings; only the store writes them.

    Raises:
        DataError: as for the record.
    """
    return _from_fields(Slot, fields)


def step_from_fields(fields: Mapping[str, str]) -> StepState:
    """A step of an upgrade from its map of strings; only the store writes them.

    Raises:
        DataError: as for the record.
    """
    return _from_fields(StepState, fields)


def request_to_fields(request: Request) -> _Fields:
    """A request as a map of strings; a record or member in it is a map of its own."""
    return _to_fields(request)


def heard_from_text(text: str | bytes) -> Heard | None:
    """What a message on a channel says; None if it says nothing that is known here."""
    try:
        fields = _DECODER.decode(text)
        kind = _HEARD.get(str(fields.get("heard")))
        return None if kind is None else _from_fields(kind, fields)
    except (DataError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None  # whoever listens must go on listening


def _flat(value: object) -> dict[str, str]:
    fields = _to_fields(value)
    return {name: text for name, text in fields.items() if isinstance(text, str)}


def _to_fields(value: object) -> _Fields:
    fields: _Fields = {}
    for name, key_name in _outline(type(value)).items():
        item = getattr(value, name)
        if key_name:
            fields[name] = item.text if item else ""
            fields[key_name] = item.key if item else ""
        elif isinstance(item, _NESTED):
            fields[name] = _flat(item)
        else:
            fields[name] = _to_text(item)
    return fields


def _to_text(item: object) -> str:
    match item:
        case None:
            return ""
        case bool():
            return "1" if item else ""
        case int():
            return str(item)
        case str():
            # The store takes UTF-8 only; names of files may hold half a surrogate pair.
            return str(item) if item.isascii() else item.encode("utf-8", "replace").decode()
        case _:
            return msgspec.json.encode(item).decode()


def _outline(kind: type) -> Mapping[str, str]:
    """The names of the fields, with the name of the version's key where it is a version."""
    if kind not in _OUTLINES:
        _OUTLINES[kind] = {
            name: f"{name}_key" if Version in (hint, *get_args(hint)) else ""
            for name, hint in get_type_hints(kind).items()
        }
    return _OUTLINES[kind]


def _from_fields(kind: type[_T], fields: Mapping[str, Any]) -> _T:
    values: dict[str, object] = {}
    for name, (read, optional) in _readers(kind).items():
        text = fields.get(name)
        if text is None:
            continue
        try:
            values[name] = None if optional and text == "" else read(text)
        # A map where there should be text is a TypeError.
        except (ValueError, TypeError, VersionError, msgspec.MsgspecError, RecursionError) as error:
            raise DataError(
                f"field {name!r} of a {kind.__name__} cannot be read, it is {text!r:.200}",
                hint=_HINT,
            ) from error
    try:
        return kind(**values)
    except TypeError as error:
        raise DataError(f"a {kind.__name__} cannot be read ({error})", hint=_HINT) from error


def _readers(kind: type) -> Mapping[str, tuple[Callable[[Any], object], bool]]:
    """What reads the text of each field, and whether it may be absent: ""."""
    if kind not in _READERS:
        _READERS[kind] = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
    return _READERS[kind]


def _reader(hint: Any) -> tuple[Callable[[Any], object], bool]:
    optional = type(None) in get_args(hint)
    kind = next(arg for arg in get_args(hint) if arg is not type(None)) if optional else hint
    return _reader_of(kind), optional


def _reader_of(kind: Any) -> Callable[[Any], object]:
    if kind in _NESTED:
        return partial(_read_nested, kind)
    if kind is str:
        return _as_text
    # The scripts write numbers as text, because their own numbers are not exact.
    return _BY_TEXT.get(kind) or msgspec.json.Decoder(kind, strict=False).decode


def _read_nested(kind: type, fields: Any) -> object:
    if not isinstance(fields, Mapping):
        raise ValueError(f"{fields!r:.200} is not a map")  # noqa: TRY004 - the same
    return _from_fields(kind, fields)


def _as_text(text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{text!r:.200} is not text")  # noqa: TRY004 - it is data, no argument
    return text


# --- a node's memory, as bytes --------------------------------------------------------------------

_MAGIC = b"PEER"
_FORMAT = 1
_HEADER = struct.Struct(">4sBII")  # magic, format, length of what follows, its CRC-32
MEMORY_HINT = "restore the file from a backup, or remove it and start the node under a new id"


def memory_to_bytes(memory: Memory) -> bytes:
    """A node's memory for its disk: a header with a checksum, then msgpack."""
    payload = msgspec.msgpack.encode(_to_fields(memory))
    return _HEADER.pack(_MAGIC, _FORMAT, len(payload), zlib.crc32(payload)) + payload


def memory_from_bytes(data: bytes) -> Memory:
    """A node's memory from its disk.

    Raises:
        DataError: it was cut off, damaged, or written in another format.
    """
    if len(data) < _HEADER.size:
        raise DataError("the memory is cut off within its header", hint=MEMORY_HINT)
    magic, format_, size, checksum = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :]
    if magic != _MAGIC:
        raise DataError("this is not the memory of a node", hint=MEMORY_HINT)
    if format_ != _FORMAT:
        raise DataError(
            f"the memory has format {format_}, this peerupgrade reads format {_FORMAT}",
            hint="start the version of peerupgrade that wrote it",
        )
    if len(payload) != size:
        raise DataError(
            f"the memory has {len(payload)} bytes where {size} were written", hint=MEMORY_HINT
        )
    if zlib.crc32(payload) != checksum:
        raise DataError("the memory is damaged, its checksum differs", hint=MEMORY_HINT)
    try:
        fields = msgspec.msgpack.decode(payload, type=_Fields)
    except msgspec.MsgspecError as error:
        raise DataError(f"the memory cannot be read ({error})", hint=MEMORY_HINT) from error
    return _from_fields(Memory, fields)
