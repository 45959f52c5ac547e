"""The lock on one server."""

from __future__ import annotations

from typing import assert_never

from peerupgrade.core.requests import (
    Acquire,
    Beat,
    Extend,
    Freed,
    Heard,
    LockReply,
    LockRequest,
    Release,
)
from peerupgrade.core.store.state import LockState, StoreState


def execute_lock(
    lock: LockState, request: LockRequest, now_ms: int, store: StoreState | None = None
) -> tuple[LockReply, list[Heard]]:
    """Do one request of a lock server; `store` if it is the store itself, whose beat is heard."""
    held = bool(lock.token) and now_ms < lock.until_ms
    match request:
        case Acquire(token, ttl_ms):
            if held and lock.token != token:
                return LockReply(False, lock.until_ms - now_ms, lock.epoch), []
            lock.token, lock.until_ms = token, now_ms + ttl_ms
            return LockReply(True, 0, lock.epoch), []
        case Extend(token, ttl_ms, epoch):
            if not held or lock.token != token:
                return LockReply(False, 0, lock.epoch), []
            lock.until_ms = now_ms + ttl_ms
            lock.epoch = max(lock.epoch, epoch)
            record = store.record if store else None
            known = (record.epoch, record.revision) if record else (0, 0)
            members_revision = store.members_revision if store else 0
            beat = Beat(epoch, *known, members_revision, ttl_ms)
            return LockReply(True, 0, lock.epoch), [beat]
        case Release(token):
            if not held or lock.token != token:
                return LockReply(False, 0, lock.epoch), []
            lock.token, lock.until_ms = "", 0
            return LockReply(True, 0, lock.epoch), [Freed()]
        case _:
            assert_never(request)
