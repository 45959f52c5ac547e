"""Versioned collections, as applications see them.

notes = node.collection("notes")
notes.format("1.0")
notes.format("2.0", upgrade=lambda text: {"text": text}, downgrade=lambda note: note["text"])

async with node:
await notes.put("monday", {"text": "buy milk"})
record = await notes.get("monday")
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from peerupgrade.core.requests import (
    DataRequest,
    Delete,
    Failed,
    Fetch,
    Fetched,
    Mismatch,
    Origin,
    Put,
    Reply,
    Scan,
    Scanned,
    Stale,
    Stored,
    Write,
    Written,
)
from peerupgrade.core.versions import Version
from peerupgrade.data.formats import Formats, Step
from peerupgrade.data.latency import Latency
from peerupgrade.errors import ConflictError, DataError, StaleVersionError, UnavailableError
from peerupgrade.ports import Store

WriterNow: TypeAlias = Callable[[], tuple[Origin, Version] | None]

_AGAIN = "read again, decide again and write again, once the node operates"


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        key: of the record.
        value: in the newest format that this program knows.
        format: the version that introduced the format in which it is stored.
        stamp: changes with every write, and only then; for compare-and-set.
    """

    key: str
    value: Any
    format: str
    stamp: int


@dataclass(frozen=True, slots=True)
class Access:
    """What a collection needs of its node.

    Attributes:
        store: the shared storage area; fails while the node has not been started.
        writer_now: who would write at this moment, and the version it operates at; None: nobody.
        latency: of the application's own commands.
    """

    store: Callable[[], Store]
    writer_now: WriterNow
    latency: Latency


class Collection:
    """Records by key, all in the format of some version.

    Writes use the format of the operating version; reads take every format that is registered.
    Keys are text. All methods raise UnavailableError when the store does not answer: a write may
    then have been done or not.
    """

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self.formats = Formats(name)
        self._access = access

    def format(
        self,
        version: str,
        *,
        encode: Step | None = None,
        decode: Step | None = None,
        upgrade: Step | None = None,
        downgrade: Step | None = None,
    ) -> None:
        """Register the format that `version` introduced, before the node starts; oldest first.

        Args:
            version: of the release that brought it.
            encode: makes of a value what msgpack can hold; default: it is that already.
            decode: the way back.
            upgrade: makes a value of this format from one of the format before.
            downgrade: the way back, where there is one; without it the program gives values in the
                older format until the newer one is active.

        Raises:
            ConfigError: it is not newer than the last one, or has no upgrade.
        """
        self.formats.register(version, encode, decode, upgrade, downgrade)

    @property
    def active_format(self) -> str:
        """The format that a write would use now.

        Raises:
            StaleVersionError: the node does not operate now.
        """
        _, operating = self._writer()
        return self.formats.at(operating)

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, key: str) -> Record | None:
        """The record of a key; None if there is none.

        Raises:
            DataError: its format is not known here.
        """
        reply = await self._ask(Fetch(self.name, (key,)))
        assert isinstance(reply, Fetched)
        return self._record(key, reply.records[0]) if reply.records[0] is not None else None

    async def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """The records that there are of these keys, as they were at one moment.

        Raises:
            DataError: the format of one is not known here.
        """
        wanted = tuple(keys)
        reply = await self._ask(Fetch(self.name, wanted))
        assert isinstance(reply, Fetched)
        found = zip(wanted, reply.records, strict=True)
        return {key: self._record(key, one) for key, one in found if one is not None}

    async def scan(self, count: int = 100) -> AsyncIterator[Record]:
        """Every record that is there all the time, each once, in no order.

        Args:
            count: about how many are read at once.

        Raises:
            DataError: the format of one is not known here.
        """
        cursor, seen = "", set[str]()
        while cursor != "0":
            reply = await self._ask(Scan(self.name, cursor or "0", count))
            assert isinstance(reply, Scanned)
            cursor = reply.cursor
            for key, stored in reply.records:
                if key not in seen:
                    seen.add(key)
                    yield self._record(key, stored)

    # --- writing ----------------------------------------------------------------------------------

    async def put(
        self,
        key: str,
        value: Any,
        *,
        ttl_s: float = 0.0,
        expect: int | None = None,
        format: str | None = None,  # noqa: A002 - it is what it is
    ) -> int:
        """Write one record; one round trip.

        Args:
            key: of the record.
            value: in the newest format, or in `format`.
            ttl_s: it is gone after so long; 0: never.
            expect: write only if the record has this stamp; 0: only if there is none.
            format: the format that `value` is in.

        Returns:
            The stamp that the record has now.

        Raises:
            StaleVersionError: this node may not write, or no longer as it meant to; nothing was
                written.
            ConflictError: the record has another stamp; nothing was written.
            DataError: the value cannot be brought to the format of the operating version.
        """
        batch = self.batch()
        batch.put(key, value, ttl_s=ttl_s, expect=expect, format=format)
        (stamp,) = await batch.commit()
        return stamp

    async def delete(self, key: str, *, expect: int | None = None) -> None:
        """Remove one record, if there is one; `expect` and errors as for `put`."""
        batch = self.batch()
        batch.delete(key, expect=expect)
        await batch.commit()

    def batch(self) -> Batch:
        """Changes that are done together or not at all."""
        return Batch(self)

    async def write(self, changes: list[_Change]) -> tuple[int, ...]:
        """Do the changes of a batch; see `Batch.commit`."""
        origin, operating = self._writer()
        format_ = self.formats.at(operating)
        wire = tuple(change.at(self.formats, format_) for change in changes)
        reply = await self._ask(Write(origin, self.name, wire))
        match reply:
            case Written(stamps):
                return stamps
            case Mismatch(index, stamp):
                now = f"has stamp {stamp}" if stamp else "does not exist"
                raise ConflictError(
                    f"record {changes[index].key!r} of {self.name!r} {now},"
                    f" not {changes[index].expect}",
                    hint="read it again and decide again",
                )
            case Stale(reason):
                what = (
                    "the acting version has moved on" if reason == "acting" else "it is no member"
                )
                raise StaleVersionError(
                    f"node {origin.id!r} may not write at {operating} any more: {what}", hint=_AGAIN
                )
            case _:
                raise DataError(f"the store answered {reply!r}", hint="report this")

    # --- pieces -----------------------------------------------------------------------------------

    def _writer(self) -> tuple[Origin, Version]:
        writer = self._access.writer_now()
        if writer is None:
            raise StaleVersionError("the node does not operate now", hint=_AGAIN)
        return writer

    def _record(self, key: str, stored: Stored) -> Record:
        return Record(key, self.formats.decode(stored), stored.format, stored.stamp)

    async def _ask(self, request: DataRequest) -> Reply:
        began_s = time.perf_counter()
        reply = await self._access.store().call(request)
        self._access.latency.took(time.perf_counter() - began_s)
        if isinstance(reply, Failed):
            raise UnavailableError(
                reply.reason,
                hint="a write may or may not have been done: read before writing again",
            )
        return reply


@dataclass(frozen=True, slots=True)
class _Change:
    """One change, its value not yet encoded; `value` None with `delete`."""

    key: str
    value: Any
    format: str | None
    ttl_ms: int
    expect: int | None
    delete: bool = False

    def at(self, formats: Formats, wanted: str) -> Put | Delete:
        if self.delete:
            return Delete(self.key, self.expect)
        payload = formats.encode(self.value, self.format, wanted)
        return Put(self.key, wanted, payload, self.ttl_ms, self.expect)


class Batch:
    """Changes of one collection that are done together or not at all."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._changes: list[_Change] = []

    def put(
        self,
        key: str,
        value: Any,
        *,
        ttl_s: float = 0.0,
        expect: int | None = None,
        format: str | None = None,  # noqa: A002 - it is what it is
    ) -> None:
        """As `Collection.put`, once the batch is committed."""
        ttl_ms = max(1, round(ttl_s * 1000)) if ttl_s else 0
        self._changes.append(_Change(key, value, format, ttl_ms, expect))

    def delete(self, key: str, *, expect: int | None = None) -> None:
        """As `Collection.delete`, once the batch is committed."""
        self._changes.append(_Change(key, None, None, 0, expect, delete=True))

    async def commit(self) -> tuple[int, ...]:
        """Do all of it, in one round trip; every `expect` is about what was there before.

        Returns:
            The stamps that the records have now, in the order of the changes; 0 where one was
            deleted.

        Raises:
            StaleVersionError, ConflictError, DataError: as for `Collection.put`; nothing was
                written.
        """
        changes, self._changes = self._changes, []
        return await self._collection.write(changes)
