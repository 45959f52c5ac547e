"""A rehearsal: a sample of the live records is converted, and back, into nothing.

Theory of operation: a scan goes through a hash in no order that means anything, so what it brings
first is a sample. Each record in an older format takes the way that a conversion would take, by the
very codecs, and then the way back, which a newer release takes with what it writes for older ones.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from peerupgrade.core.requests import Failed, Scan, Scanned, Stored
from peerupgrade.core.versions import Version
from peerupgrade.data.formats import Formats
from peerupgrade.errors import UnavailableError
from peerupgrade.ports import Store

FAILURES_MAX = 20  # so many are named; all are counted
_PAGE_RECORDS = 100
_TRIPS = 2  # a conversion reads a record and writes it


@dataclass(frozen=True, slots=True)
class Failure:
    """One record that cannot be converted, or does not come back as it was."""

    key: str
    format: str
    error: str


@dataclass(slots=True)
class Rehearsal:
    """What became of the sample of one collection.

    Attributes:
        collection: its name.
        target: the format that its records would get.
        records: how many there are, by format, as the store has counted them.
        sampled: those of the sample that are in another format.
        converted: those of them that could be converted.
        failed: those of them that failed, there or back; `failures` names some.
        way_back: every format on the way has a downgrade.
        bytes_before, bytes_after: payloads of those that could be converted.
        codec_s: what that took, there alone.
        store_s: what reading the sample took.
        looked_at: records that were read for it.
    """

    collection: str
    target: str
    records: dict[str, int]
    sampled: int = 0
    converted: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    way_back: bool = True
    bytes_before: int = 0
    bytes_after: int = 0
    codec_s: float = 0.0
    store_s: float = 0.0
    looked_at: int = 0

    @property
    def to_convert(self) -> int:
        """Records that are in another format."""
        return sum(self.records.values()) - self.records.get(self.target, 0)

    @property
    def estimated_s(self) -> float | None:
        """How long the conversion would take at full pace; None if nothing was measured."""
        if not self.to_convert:
            return 0.0
        if not self.sampled:
            return None
        each_s = self.codec_s / self.sampled + _TRIPS * self.store_s / self.looked_at
        return self.to_convert * each_s


async def rehearse(
    formats: Formats, store: Store, version: Version, records: dict[str, int], sample: int
) -> Rehearsal:
    """Convert up to `sample` records of one collection to the format of `version`, into nothing.

    Raises:
        UnavailableError: the store does not answer.
        DataError: the program has no format for this version.
    """
    found = Rehearsal(formats.collection, formats.at(version), records)
    cursor = ""
    while cursor != "0" and found.sampled < sample:
        began_s = time.perf_counter()
        reply = await store.call(Scan(formats.collection, cursor or "0", _PAGE_RECORDS))
        if not isinstance(reply, Scanned):
            reason = reply.reason if isinstance(reply, Failed) else repr(reply)
            raise UnavailableError(f"{formats.collection!r} cannot be read: {reason}")
        found.store_s += time.perf_counter() - began_s
        found.looked_at += len(reply.records)
        for key, record in reply.records:
            if record.format != found.target and found.sampled < sample:
                _there_and_back(found, formats, key, record)
        cursor = reply.cursor
    return found


def _there_and_back(found: Rehearsal, formats: Formats, key: str, record: Stored) -> None:
    found.sampled += 1
    began_s = time.perf_counter()
    there = formats.convert(key, record, found.target)
    found.codec_s += time.perf_counter() - began_s
    error = there.error
    if not error:
        found.converted += 1
        found.bytes_before += len(record.payload)
        found.bytes_after += len(there.payload)
        if formats.has_way_back(found.target, record.format):
            error = formats.comes_back(Stored(found.target, 0, there.payload), record)
        else:
            found.way_back = False
    if error:
        found.failed += 1
        if len(found.failures) < FAILURES_MAX:
            found.failures.append(Failure(key, record.format, error))
