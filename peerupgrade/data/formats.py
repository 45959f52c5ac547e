"""The formats of one collection, and the way from each to the next.

Theory of operation: a program works with values of the newest format that it knows. What it reads
is decoded by the format that the record is in and upgraded step by step; what it writes is
downgraded step by step to the format of the operating version and encoded by that one. The payload
of a record is msgpack of what `encode` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from peerupgrade.core.requests import Conversion, Stored
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import ConfigError, DataError

Step: TypeAlias = Callable[[Any], Any]

_ERROR_CHARS_MAX = 500


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Format:
    """One format. `upgrade` makes its value from the format before, `downgrade` the other way."""

    version: Version
    encode: Step
    decode: Step
    upgrade: Step | None
    downgrade: Step | None


class Formats:
    """The registered formats, oldest first."""

    def __init__(self, collection: str) -> None:
        self.collection = collection
        self._all: list[Format] = []

    def register(
        self,
        version: str,
        encode: Step | None,
        decode: Step | None,
        upgrade: Step | None,
        downgrade: Step | None,
    ) -> None:
        """Add the format that `version` introduced; each is newer than the one before.

        Raises:
            ConfigError: it is not newer, or nothing leads to it from the one before.
            VersionError: the version cannot be read.
        """
        parsed = parse_version(version)
        if self._all and parsed <= self._all[-1].version:
            raise ConfigError(
                f"format {version} of {self.collection!r} comes after {self._all[-1].version}",
                hint="register the formats in the order of their versions, each once",
            )
        if self._all and upgrade is None:
            raise ConfigError(
                f"format {version} of {self.collection!r} has no upgrade",
                hint=f"say how a value of format {self._all[-1].version} becomes one of {version}",
            )
        self._all.append(
            Format(parsed, encode or _as_it_is, decode or _as_it_is, upgrade, downgrade)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of all formats, oldest first."""
        return tuple(str(one.version) for one in self._all)

    def at(self, operating: Version) -> str:
        """The format that is written at an operating version.

        Raises:
            DataError: there was none yet.
        """
        fitting = [one for one in self._all if one.version <= operating]
        if not fitting:
            raise DataError(
                f"collection {self.collection!r} has no format for version {operating}",
                hint="register the one that was written then",
            )
        return str(fitting[-1].version)

    def encode(self, value: Any, given: str | None, wanted: str) -> bytes:
        """The payload of a value.

        Args:
            value: in format `given`; None: in the newest one.
            given: the format that the value has.
            wanted: the format to write.

        Raises:
            DataError: no downgrade leads there.
        """
        begin = len(self._all) - 1 if given is None else self._index(given)
        end = self._index(wanted)
        for one in self._all[begin + 1 : end + 1]:
            assert one.upgrade is not None
            value = one.upgrade(value)
        for one in reversed(self._all[end + 1 : begin + 1]):
            if one.downgrade is None:
                raise DataError(
                    f"format {one.version} of {self.collection!r} has no downgrade, and the node"
                    f" still writes format {wanted}",
                    hint=f"give the value in that format, with format={wanted!r}",
                )
            value = one.downgrade(value)
        return msgspec.msgpack.encode(self._all[end].encode(value))

    def decode(self, record: Stored) -> Any:
        """The value of a record, in the newest format.

        Raises:
            DataError: the format is not known here, or the payload cannot be read.
        """
        return self._decode(record, len(self._all) - 1)

    def convert(self, key: str, record: Stored, target: str) -> Conversion:
        """Bring one record to a newer format; what fails is part of the answer."""
        try:
            end = self._index(target)
            value = self._decode(record, end)
            payload = msgspec.msgpack.encode(self._all[end].encode(value))
        except Exception as error:  # noqa: BLE001 - whatever the codec raises parks the record
            why = f"{type(error).__name__}: {error}"[:_ERROR_CHARS_MAX]
            return Conversion(key, record.format, record.stamp, error=why)
        return Conversion(key, record.format, record.stamp, payload)

    def convert_all(
        self, records: Sequence[tuple[str, Stored]], target: str
    ) -> tuple[Conversion, ...]:
        """Bring records to a newer format."""
        return tuple(self.convert(key, record, target) for key, record in records)

    def has_way_back(self, newer: str, older: str) -> bool:
        """Whether every format on the way has a downgrade."""
        way = self._all[self._index(older) + 1 : self._index(newer) + 1]
        return all(one.downgrade is not None for one in way)

    def comes_back(self, newer: Stored, older: Stored) -> str:
        """Why a record that was converted does not come back as it was; "" if it does."""
        try:
            value = self._decode(newer, self._index(newer.format))
            payload = self.encode(value, newer.format, older.format)
        except Exception as error:  # noqa: BLE001 - whatever the codec raises
            return f"on the way back, {type(error).__name__}: {error}"[:_ERROR_CHARS_MAX]
        if msgspec.msgpack.decode(payload) == msgspec.msgpack.decode(older.payload):
            return ""
        return "the way back makes another value of it than it was"

    def _decode(self, record: Stored, end: int) -> Any:
        begin = self._index(record.format)
        try:
            value = self._all[begin].decode(msgspec.msgpack.decode(record.payload))
        except msgspec.MsgspecError as error:
            raise DataError(
                f"a record of {self.collection!r} is no msgpack ({error})",
                hint="see whether another program uses the same keys",
            ) from error
        for one in self._all[begin + 1 : end + 1]:
            assert one.upgrade is not None
            value = one.upgrade(value)
        return value

    def _index(self, name: str) -> int:
        version = _version(name)
        for index, one in enumerate(self._all):
            if one.version == version:
                return index
        known = ", ".join(self.names) or "none"
        raise DataError(
            f"format {name} of {self.collection!r} is not known here, known are: {known}",
            hint="a newer release wrote it, or its format is not registered",
        )


@lru_cache(maxsize=256)
def _version(name: str) -> Version:
    return parse_version(name)
