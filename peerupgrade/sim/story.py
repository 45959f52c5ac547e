"""What a person needs to follow a run, in sentences; the trace has everything."""

from __future__ import annotations

from peerupgrade.core.effects import Emit, Operate
from peerupgrade.core.requests import (
    Commit,
    Done,
    Exclude,
    Refused,
    ReleaseHold,
    Reply,
    Request,
    ReturnSlot,
    SaveStep,
    SetHold,
    TakeSlot,
)

_TOLD = ("admitted", "attached", "master", "master no more", "callback failed", "disk failed")


def of_effect(name: str, effect: Operate | Emit) -> str:
    """A node began or stopped operating, or says something; "" if the store tells of it."""
    match effect:
        case Operate(version, reason):
            return f"{name} operates at {version}" if version else f"{name} suspends: {reason}"
        case Emit(event, detail) if event in _TOLD:
            return f"{name} {event}: {detail}"
        case Emit():
            return ""


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
        case SaveStep(phase=phase, version=version, done=done, total=total), _:
            answer = type(reply).__name__.lower()
            return f"saves step {phase} {version}, {done} of {total}: {answer}"
        case SetHold() | ReleaseHold() | Exclude() | TakeSlot() | ReturnSlot(), _:
            return f"asks {type(request).__name__}: {type(reply).__name__.lower()}"
        case _:
            return ""
