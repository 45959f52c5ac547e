"""A rehearsal: a sample of the live records is converted, and back, into nothing.

Theory of operation: a scan goes through a hash in no order that means anything, so what it brings
first is a sample. Each record in an older format takes the way that a conversion would take, by the
very codecs, and then the way back, which a newer release takes with what it writes for older ones.
"""

from __future__ import annotations

import time

from peerupgrade.core.rehearsal import FAILURES_MAX, Failure, Rehearsal
from peerupgrade.core.requests import Failed, Scan, Scanned, Stored
from peerupgrade.core.versions import Version
from peerupgrade.data.formats import Formats
from peerupgrade.errors import UnavailableError
from peerupgrade.ports import Store

_PAGE_RECORDS = 100


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
