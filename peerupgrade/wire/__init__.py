"""Bytes and core types: what the store holds and the disk keeps, what nodes tell each other.

`fields` is the store's and the disk's side; `packets`, `frames`, `keyring` and `guards` are
gossip's, and are imported by their own names.
"""

from peerupgrade.wire.fields import (
    MEMORY_HINT,
    heard_from_text,
    member_from_fields,
    member_to_fields,
    memory_from_bytes,
    memory_to_bytes,
    record_from_fields,
    record_to_fields,
    request_to_fields,
    slot_from_fields,
    step_from_fields,
    tombstone_from_fields,
)

__all__ = [
    "MEMORY_HINT",
    "heard_from_text",
    "member_from_fields",
    "member_to_fields",
    "memory_from_bytes",
    "memory_to_bytes",
    "record_from_fields",
    "record_to_fields",
    "request_to_fields",
    "slot_from_fields",
    "step_from_fields",
    "tombstone_from_fields",
]
