"""Shared data on its way from older formats to the newest: what the store checks and remembers.

Theory of operation: a converter takes a share of a collection (some records in older formats),
converts them outside of the store, and brings them back with the next request. Each record is
written only if it still has the format and the stamp with which it was read (R28): so it is
converted exactly once, and whatever an application has written meanwhile stays.

The checkpoint moves in the very step that writes the share that it covers, so it is never ahead of
the work. It says where to begin, no more; that all is converted is known from the counters, which
every write keeps, and from the scan of a master (`audit`). Where a scan and the counters differ the
scan is right: within one server process no record in an older format can appear behind it (R8), so
a whole pass that has met none sets the counters right, and an audit that meets one does, too. For
the same reason several masters may share one pass of an audit, each from where the last stopped, if
it began when all had settled.
"""

from __future__ import annotations

from dataclasses import replace

from peerupgrade.core.record import Parked
from peerupgrade.core.requests import (
    Audit,
    Audited,
    Conversion,
    Convert,
    Fenced,
    NoShare,
    NotNow,
    Reply,
    Resolve,
    Resolved,
    Share,
    Stored,
    Unverified,
)
from peerupgrade.core.store.data import expired, page_of, purge, stale
from peerupgrade.core.store.state import Checkpoint, Collection, Pass, Step

PARKED_MAX = 1000  # so many failures are a defect of the codec, not of the records


def convert(step: Step, request: Convert) -> Reply:
    """Write what was converted, move the checkpoint, give the next share."""
    refused = stale(step, request.origin)
    if refused is not None:
        return refused
    record = step.state.record
    assert record is not None
    if not record.converting or record.identity != step.identity:  # R13, R16
        return NotNow()
    collection = step.state.collections.get(request.collection)
    if collection is None:
        return NoShare("done")
    purge(step, collection)
    at = _checkpoint(step, collection.checkpoint, record.raised_revision)
    converted = sum(_bring(step, collection, request.target, one) for one in request.done)
    at = collection.checkpoint = replace(at, converted=at.converted + converted)
    mine = (at.converter, at.incarnation) == (request.origin.id, request.origin.incarnation)
    if not mine and step.now_ms < at.until_ms:
        return NoShare("taken", at.until_ms - step.now_ms)
    if not all(_dealt_with(collection, one) for one in request.done):
        return NoShare("full")
    if request.at == at.cursor:
        at = collection.checkpoint = _moved(collection, at, request)
    older = sum(_older_counts(collection, request.target).values())
    if older <= len(collection.parked):
        return NoShare("done")
    return _give(step, collection, at, request)


def _checkpoint(step: Step, known: Checkpoint | None, raised_revision: int) -> Checkpoint:
    """Where it stopped. A cursor is good for one server process only."""
    if known is None or known.raised_revision != raised_revision:
        return Checkpoint(raised_revision, step.identity, began_at_ms=step.now_ms)
    if known.identity != step.identity:
        return replace(known, identity=step.identity, cursor="0", older=False)
    return known


def _as_read(collection: Collection, one: Conversion) -> Stored | None:
    """The record, if nobody has touched it since it was read."""
    record = collection.records.get(one.key)
    same = record is not None and (record.format, record.stamp) == (one.format, one.stamp)
    return record if same else None


def _bring(step: Step, collection: Collection, target: str, one: Conversion) -> bool:
    """R28: write one converted record, or park it; False if it is not as it was read."""
    record = _as_read(collection, one)
    if record is None:
        return False
    if one.error:
        if len(collection.parked) < PARKED_MAX:
            collection.parked[one.key] = Parked(one.format, one.error, step.now_ms)
        return False
    collection.store(one.key, replace(record, format=target, payload=one.payload))
    return True


def _dealt_with(collection: Collection, one: Conversion) -> bool:
    return not one.error or one.key in collection.parked or _as_read(collection, one) is None


def _moved(collection: Collection, at: Checkpoint, request: Convert) -> Checkpoint:
    """The checkpoint behind the share that was just written."""
    if request.then != "0":
        return replace(at, cursor=request.then)
    if not at.older:  # a whole pass has met none
        for format_ in _older_counts(collection, request.target):
            real = sum(parked.format == format_ for parked in collection.parked.values())
            collection.count(format_, real - collection.counts[format_])
    return replace(at, cursor="0", older=False)


def _older_counts(collection: Collection, target: str) -> dict[str, int]:
    return {format_: n for format_, n in collection.counts.items() if format_ != target}


def _give(step: Step, collection: Collection, at: Checkpoint, request: Convert) -> Share:
    """The next share, for a while nobody else's."""
    then, page = page_of(collection, at.cursor, request.count)
    share = tuple(
        (key, record)
        for key, record in page
        if record.format != request.target
        and key not in collection.parked
        and not expired(step, record)
    )
    collection.checkpoint = replace(
        at,
        older=at.older or bool(share),
        converter=request.origin.id,
        incarnation=request.origin.incarnation,
        until_ms=step.now_ms + request.lease_ms,
    )
    return Share(at.cursor, then, share)


def audit(step: Step, request: Audit) -> Reply:
    """The master's scan: whether anything is left in an older format."""
    state, record = step.state, step.state.record
    if record is None or step.is_fenced(request.epoch, request.token):  # R1
        return Fenced(step.view)
    if record.identity != step.identity:  # R16
        return Unverified(step.view)
    collection = state.collections.get(request.collection, Collection())
    purge(step, collection)
    at, now = collection.audit, Pass(record.raised_revision, step.identity)
    if at is None or (at.raised_revision, at.identity) != (now.raised_revision, now.identity):
        at = now
    if at.ended:
        return Audited(True, 0)
    then, page = page_of(collection, at.cursor, request.count)
    older = [
        record.format
        for _, record in page
        if record.format != request.target and not expired(step, record)
    ]
    for format_ in set(older) - set(collection.counts):
        collection.count(format_, older.count(format_))
    if not record.settled:  # R13: behind it an older record could still appear
        return Audited(False, len(older))
    collection.audit = now if older else replace(at, cursor=then, ended=then == "0")
    return Audited(collection.audit.ended, len(older))


def resolve(step: Step, request: Resolve) -> Reply:
    """An operator's word about parked records; none of them is dropped without it."""
    record = step.state.record
    if record is None or record.identity != step.identity:  # R16
        return Unverified(step.view)
    collection = step.state.collections.get(request.collection, Collection())
    keys = [key for key in collection.parked if request.key in ("", key)]
    for key in keys:
        if request.verdict == "retry":
            del collection.parked[key]
            continue
        stored = collection.drop(key)
        if request.verdict == "skip" and stored is not None:
            collection.skipped[key] = stored
    if keys:
        what = request.key or f"{len(keys)} records"
        step.note(f"parked: {request.verdict}", request.by, f"{request.collection}/{what}", record)
    return Resolved(len(keys))
