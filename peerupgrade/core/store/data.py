"""Shared data: reading and writing the records of a collection.

Theory of operation: a record is its format, a stamp and a payload that only the codec understands.
A write says whose it is and under which acting version it was made (`Origin`), and is refused when
either is over (R8). So once every member has confirmed an acting version no record in an older
format can appear any more, whatever was on its way; that is what a conversion builds on.

R8 asks for nothing but that. In particular a write is not refused because the store is in doubt:
what a store has lost it has lost from the end, so what is left is a state that once was, the write
is checked against that state, and before anything is converted again the store is verified and
every member has confirmed again (`converting.py` refuses until then). Refusing would only keep
applications from writing for a whole quarantine.

Before the acting version goes back (`Downgrade`), nothing is written any more that the older one
could not read; what was on its way when it went back is refused by R8.

An expired record is as good as gone, whether or not it has been removed yet. Every write removes a
few that are due, so that the counters never count for long what is no more.
"""

from __future__ import annotations

from peerupgrade.core.requests import (
    Delete,
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
from peerupgrade.core.store.state import Collection, Step

PURGED_MAX = 20  # expired records that one request removes


def stale(step: Step, origin: Origin) -> Stale | None:
    """R8: refuse who is no member any more, and what was made under another acting version."""
    record = step.state.record
    if record is None or record.generation != origin.generation:
        return Stale("member")
    known = step.state.members.get(origin.id)
    if known is None or known.incarnation != origin.incarnation:
        return Stale("member")
    if record.raised_revision != origin.raised_revision:
        return Stale("acting")
    return None


def expired(step: Step, record: Stored) -> bool:
    """True once its time is over."""
    return 0 < record.expires_at_ms <= step.now_ms


def purge(step: Step, collection: Collection) -> None:
    """Remove some of the records that have expired, the oldest first."""
    due = sorted(
        (record.expires_at_ms, key)
        for key, record in collection.records.items()
        if expired(step, record)
    )
    for _, key in due[:PURGED_MAX]:
        collection.drop(key)


def write(step: Step, request: Write) -> Reply:
    """Change records: all of them, or none."""
    refused = stale(step, request.origin)
    if refused is not None:
        return refused
    if _is_barred(step, request):
        return Stale("acting")
    collection = step.state.collections.get(request.collection, Collection())
    purge(step, collection)
    for index, change in enumerate(request.changes):
        known = collection.records.get(change.key)
        stamp = known.stamp if known is not None and not expired(step, known) else 0
        if change.expect not in (None, stamp):
            return Mismatch(index, stamp)
    written = Written(tuple(_change(step, collection, change) for change in request.changes))
    if collection.stamps:
        step.state.collections[request.collection] = collection
    return written


def _is_barred(step: Step, request: Write) -> bool:
    """A downgrade has begun, and the version that it goes to could not read what is written."""
    record = step.state.record
    allowed = record.formats_allowed if record is not None else None
    if allowed is None:
        return False
    return any(isinstance(one, Put) and one.format not in allowed for one in request.changes)


def _change(step: Step, collection: Collection, change: Put | Delete) -> int:
    if isinstance(change, Delete):
        collection.drop(change.key)
        return 0
    collection.stamps += 1
    expires_at_ms = step.now_ms + change.ttl_ms if change.ttl_ms else 0
    record = Stored(change.format, collection.stamps, change.payload, expires_at_ms)
    collection.store(change.key, record)
    return record.stamp


def fetch(step: Step, request: Fetch) -> Fetched:
    """Read records by key."""
    collection = step.state.collections.get(request.collection, Collection())
    found = [collection.records.get(key) for key in request.keys]
    return Fetched(
        tuple(None if record is None or expired(step, record) else record for record in found)
    )


def scan(step: Step, request: Scan) -> Scanned:
    """Read some records."""
    collection = step.state.collections.get(request.collection, Collection())
    cursor, page = page_of(collection, request.cursor, request.count)
    return Scanned(cursor, tuple((key, one) for key, one in page if not expired(step, one)))


def page_of(
    collection: Collection, cursor: str, count: int
) -> tuple[str, list[tuple[str, Stored]]]:
    """About `count` records from `cursor` on, and the next cursor; "0" is both ends.

    A cursor of this store is the last key that was given out, after a dot.
    """
    after = cursor[1:] if cursor != "0" else None
    keys = sorted(key for key in collection.records if after is None or key > after)
    page = [(key, collection.records[key]) for key in keys[:count]]
    return (f".{keys[count - 1]}" if len(keys) > count else "0"), page
