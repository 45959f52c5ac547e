"""Every place between two effects that must survive a crash, by name.

An effect that leaves something behind (on the disk, in the store, on a lock server, in the
application) has two such places: before it is done, and after it is done and before the node has
been told. The simulator and the runs with real processes crash, pause or fail there.
"""

from __future__ import annotations

from typing import get_args

from peerupgrade.core.acting import StepName
from peerupgrade.core.effects import (
    CallLock,
    CallStore,
    ConvertRecords,
    Drain,
    Effect,
    Remember,
    RunSteps,
    RunTurnStep,
    Switch,
)
from peerupgrade.core.requests import (
    Admit,
    Attach,
    Claim,
    Commit,
    Convert,
    Exclude,
    Init,
    Leave,
    LockRequest,
    Report,
    Request,
)

_WRITES = (
    Init,
    Admit,
    Attach,
    Report,
    Leave,
    Claim,
    Convert,
    Exclude,
)  # what a node writes, but for commits
_LOCAL = {
    Remember: "remember",
    Switch: "switch",
    Drain: "drain",
    RunSteps: "preparation",
    ConvertRecords: "codec",
    RunTurnStep: "turn",
}


def _called(kind: type) -> str:
    return kind.__name__.lower()


DEEDS = (
    *_LOCAL.values(),
    *map(_called, _WRITES),
    *(f"commit {step}" for step in StepName),
    *(f"lock {_called(kind)}" for kind in get_args(LockRequest)),
)
CRASH_POINTS = tuple(f"{when} {deed}" for deed in DEEDS for when in ("before", "after"))


def deed(effect: Effect) -> str:
    """The name of what an effect leaves behind, one of `DEEDS`; "" if it leaves nothing."""
    match effect:
        case CallStore(request=request):
            return stored_deed(request)
        case CallLock(request=request):
            return lock_deed(request)
        case _:
            return _LOCAL.get(type(effect), "")


def stored_deed(request: Request) -> str:
    """The same for a request to the store."""
    if isinstance(request, Commit):
        return f"commit {request.step}"
    return _called(type(request)) if isinstance(request, _WRITES) else ""


def lock_deed(request: LockRequest) -> str:
    """The same for a request to a lock server."""
    return f"lock {_called(type(request))}"
