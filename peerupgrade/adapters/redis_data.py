"""Shared data in Redis or Valkey: one hash for each collection.

Theory of operation: a read is one plain HGET (HMGET, HSCAN), a write is one script. A hash and not
a key for each record, because

- a scan (HSCAN) is of this collection alone, whatever else lies in the server, brings the values
  with it, and can be done inside a script, so that what is converted already is never sent;
- nothing vanishes by itself, so the counters that the scripts keep are exact at any time.

The price is that the server does not expire records: the header says when one is over, whoever
reads it leaves it out, and every write removes a few that are due. A reader compares with the
store's clock, of which it knows how far its own is away.

There are a few connections, so that a large answer is not in everybody's way; a request takes the
one with the fewest under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from peerupgrade.adapters.clock import unix_ms
from peerupgrade.adapters.redis_client import StoreClient
from peerupgrade.adapters.redis_line import Arg, Line
from peerupgrade.adapters.redis_link import RedisLink
from peerupgrade.adapters.redis_scripts import Keys, Script
from peerupgrade.core.requests import (
    Convert,
    DataReply,
    Fetch,
    Fetched,
    Mismatch,
    NoShare,
    NotNow,
    Origin,
    Put,
    Scan,
    Scanned,
    Share,
    Stale,
    Stored,
    Write,
    Written,
)
from peerupgrade.errors import DataError

_WRITE = Script("_clock", "_data", "write")
_CONVERT = Script("_clock", "_prelude", "_data", "convert")
_MAGIC = b"pu1"
_HINT = "see whether another program uses the same keys"
_CLOCK_FOR_MS = 60_000  # the store's clock is asked again after so long

_LANES = 4
_RECORDS = 2  # among the keys of `write`


@dataclass(slots=True)
class _Lane:
    """One connection, and how many requests are under way on it."""

    client: StoreClient
    under_way: int = 0


@dataclass(slots=True)
class _StoreClock:
    """How far the store's clock is ahead of this machine's."""

    ahead_ms: int = 0
    asked_at_ms: int = 0

    async def now_ms(self, line: Line) -> int:
        """The store's time, to about the time of a round trip."""
        here_ms = unix_ms()
        if abs(here_ms - self.asked_at_ms) > _CLOCK_FOR_MS:
            seconds, micros = map(int, await line.ask(b"TIME"))
            self.ahead_ms = seconds * 1000 + micros // 1000 - here_ms
            self.asked_at_ms = here_ms
        return here_ms + self.ahead_ms


class RedisData:
    """The part of the store that holds shared data.

    Args:
        link: to the server.
        cluster: the name of the cluster.
        timeout_s: for each answer.
    """

    def __init__(self, link: RedisLink, cluster: str, *, timeout_s: float) -> None:
        self._keys = Keys(cluster)
        self._lanes = [
            _Lane(StoreClient(link, timeout_s=timeout_s, binary=True)) for _ in range(_LANES)
        ]
        self._clock = _StoreClock()
        self._named: dict[str, tuple[bytes, ...]] = {}  # the library takes bytes faster than text

    async def call(self, request: Write | Fetch | Scan | Convert) -> DataReply:
        """Do one request, at most once.

        Raises:
            UnavailableError: no answer; a write may or may not have been done.
            DataError: what is there cannot be read.
            ConfigError: the server will never answer as things are set.
        """
        lane = next((one for one in self._lanes if not one.under_way), None)
        if lane is None:
            lane = min(self._lanes, key=lambda one: one.under_way)
        lane.under_way += 1
        try:
            async with lane.client.use(type(request).__name__.lower()) as line:
                return await self._ask(line, request)
        finally:
            lane.under_way -= 1

    async def _ask(self, line: Line, request: Write | Fetch | Scan | Convert) -> DataReply:
        match request:
            case Fetch():
                return await self._fetch(line, request)
            case Write():
                return await self._write(line, request)
            case Scan():
                return await self._scan(line, request)
            case Convert():
                return await self._convert(line, request)

    async def aclose(self) -> None:
        """Close the connections."""
        for lane in self._lanes:
            await lane.client.aclose()

    async def _fetch(self, line: Line, request: Fetch) -> Fetched:
        name = self._names(request.collection)[_RECORDS]
        if len(request.keys) == 1:
            raws = [await line.ask(b"HGET", name, request.keys[0])]
        else:
            raws = await line.ask(b"HMGET", name, *request.keys) if request.keys else []
        found = [None if raw is None else _stored(raw) for raw in raws]
        return Fetched(tuple([await self._unless_over(line, one) for one in found]))

    async def _unless_over(self, line: Line, record: Stored | None) -> Stored | None:
        if record is None or not record.expires_at_ms:
            return record
        return record if await self._clock.now_ms(line) < record.expires_at_ms else None

    async def _scan(self, line: Line, request: Scan) -> Scanned:
        name = self._names(request.collection)[_RECORDS]
        cursor, flat = await line.ask(b"HSCAN", name, request.cursor, b"COUNT", request.count)
        found = []
        for key, raw in zip(flat[::2], flat[1::2], strict=True):
            record = await self._unless_over(line, _stored(raw))
            if record is not None:
                found.append((key.decode(), record))
        return Scanned(cursor.decode(), tuple(found))

    async def _write(self, line: Line, request: Write) -> DataReply:
        args: list[Arg] = [" ".join((*_origin(request.origin), request.collection))]
        for change in request.changes:
            expect: Arg = "" if change.expect is None else change.expect
            if isinstance(change, Put):
                args += (change.key, change.format, change.payload, change.ttl_ms, expect)
            else:
                args += (change.key, "", "", 0, expect)
        answer = await line.run(_WRITE, self._names(request.collection), *args)
        match answer:
            case [b"written", *stamps]:
                return Written(tuple(stamps))
            case [b"mismatch", index, stamp]:
                return Mismatch(index, int(stamp))
            case _:
                return _refusal(answer)

    def _names(self, collection: str) -> tuple[bytes, ...]:
        if collection not in self._named:
            keys = (self._keys.record, self._keys.members, *self._keys.data(collection))
            self._named[collection] = tuple(key.encode() for key in keys)
        return self._named[collection]

    async def _convert(self, line: Line, request: Convert) -> DataReply:
        keys = (*self._keys.control, *self._keys.data(request.collection))
        names = [key.encode() for key in keys]
        ask = {
            "collection": request.collection,
            "target": request.target,
            "at": request.at,
            "then": request.then,
            "count": str(request.count),
            "lease_ms": str(request.lease_ms),
        }
        origin = ("id", "incarnation", "generation", "raised_revision")
        ask |= dict(zip(origin, _origin(request.origin), strict=True))
        channels = (self._keys.record_channel, self._keys.members_channel)
        args: list[Arg] = [*channels, msgspec.json.encode(ask)]
        for one in request.done:
            args += (one.key, one.format, one.stamp, one.payload, one.error)
        answer = await line.run(_CONVERT, names, *args)
        match answer:
            case [b"share", at, then, *flat]:
                records = tuple(
                    (key.decode(), _stored(raw))
                    for key, raw in zip(flat[::2], flat[1::2], strict=True)
                )
                return Share(at.decode(), then.decode(), records)
            case [b"no_share", why, wait_ms]:
                return NoShare(why.decode(), wait_ms)
            case [b"not_now"]:
                return NotNow()
            case _:
                return _refusal(answer)


def _origin(origin: Origin) -> tuple[str, str, str, str]:
    """As a script takes it."""
    return (origin.id, str(origin.incarnation), origin.generation, str(origin.raised_revision))


def _refusal(answer: Sequence[Any]) -> Stale:
    if answer[0] != b"stale":
        raise DataError(f"a script answered {answer[0]!r}", hint="report this")
    return Stale(answer[1].decode())


def _stored(raw: bytes) -> Stored:
    header, _, payload = raw.partition(b"\n")
    try:
        magic, format_, stamp, expires_at_ms = header.split(b" ")
        record = Stored(format_.decode(), int(stamp), payload, int(expires_at_ms))
    except ValueError:
        magic = b""
    if magic != _MAGIC:
        raise DataError(f"a record begins with {raw[:40]!r}", hint=_HINT)
    return record
