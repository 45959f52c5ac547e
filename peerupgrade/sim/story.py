"""What the store did, in words that a person can follow."""

from __future__ import annotations

from peerupgrade.core.requests import (
    Commit,
    Done,
    Exclude,
    Refused,
    ReleaseHold,
    Reply,
    Request,
    SetHold,
)


def outcome(request: Request, reply: Reply) -> str:
    """What came of a request, to be read after the name of who asked; "" if it is no news."""
    match request, reply:
        case Commit(step=step), Done(view=view) if view.record is not None:
            record = view.record
            return (
                f"commits {step!r}: acting {record.acting}, floor {record.floor}, data"
                f" {record.data} (revision {record.revision}, epoch {record.epoch})"
            )
        case Commit(step=step), _:
            return f"may not commit {step!r}: {type(reply).__name__.lower()}"
        case _, Refused(rule=rule):
            return f"is refused {type(request).__name__.lower()}: {rule}"
        case SetHold() | ReleaseHold() | Exclude(), _:
            return f"asks {type(request).__name__}: {type(reply).__name__.lower()}"
        case _:
            return ""
