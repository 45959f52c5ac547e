"""What every request does to the store: the rules of the shared storage area, in memory.

Theory of operation: `execute` is one atomic step, a function of the state, the request, the time of
the store's clock and the identity of the server process. The scripts that run inside Redis do the
same (`adapters/lua`), and one contract suite compares the two, answer by answer and state by state.

No decision is made here. The store only re-checks what a decision was made from, and refuses.
Rule names (R1..R30) are explained in the README.
"""

from __future__ import annotations

from typing import assert_never

from peerupgrade.core.requests import (
    Admit,
    All,
    Attach,
    Audit,
    Claim,
    Commit,
    ControlRequest,
    Convert,
    Exclude,
    Fetch,
    Heard,
    Init,
    Leave,
    OperatorRequest,
    Read,
    ReadAll,
    ReleaseHold,
    Reply,
    Report,
    Request,
    Resolve,
    ReturnSlot,
    SaveStep,
    Scan,
    Seeds,
    SetDowngrade,
    SetHold,
    SetRollout,
    TakeSlot,
    Write,
)
from peerupgrade.core.store.admission import admit, exclude, init, leave, report, seeds
from peerupgrade.core.store.converting import audit, convert, resolve
from peerupgrade.core.store.data import fetch, scan, write
from peerupgrade.core.store.decisions import claim, commit, hold, steer
from peerupgrade.core.store.lock import execute_lock
from peerupgrade.core.store.regression import attach
from peerupgrade.core.store.slots import return_slot, take_slot
from peerupgrade.core.store.state import LockState, Step, StoreState, snapshot
from peerupgrade.core.store.steps import save_step

__all__ = ["LockState", "StoreState", "execute", "execute_lock", "snapshot"]


def execute(
    state: StoreState, request: Request, now_ms: int, identity: str
) -> tuple[Reply, list[Heard]]:
    """Do one request.

    Args:
        state: changed in place.
        request: what to do.
        now_ms: the store's clock.
        identity: of the server process and its replication history.

    Returns:
        The answer, and what is published, in order.
    """
    step = Step(state, now_ms, identity)
    reply = _reply(step, request)
    return reply, step.heard


def _reply(step: Step, request: Request) -> Reply:
    match request:
        case Write():
            return write(step, request)
        case Fetch():
            return fetch(step, request)
        case Scan():
            return scan(step, request)
        case Convert():
            return convert(step, request)
        case Audit():
            return audit(step, request)
        case Resolve():
            return resolve(step, request)
        case _:
            return _control_reply(step, request)


def _control_reply(step: Step, request: ControlRequest) -> Reply:
    match request:
        case Read():
            return step.view
        case ReadAll():
            return All(snapshot(step.state, step.now_ms, step.identity))
        case Seeds():
            return seeds(step, request)
        case Init():
            return init(step, request)
        case Admit():
            return admit(step, request)
        case Report():
            return report(step, request)
        case Leave():
            return leave(step, request)
        case Claim() | Commit() | SaveStep():
            return _masters_reply(step, request)
        case Attach():
            return attach(step, request)
        case _:
            return _operator_reply(step, request)


def _masters_reply(step: Step, request: Claim | Commit | SaveStep) -> Reply:
    match request:
        case Claim():
            return claim(step, request)
        case Commit():
            return commit(step, request)
        case SaveStep():
            return save_step(step, request)
        case _:
            assert_never(request)


def _operator_reply(step: Step, request: OperatorRequest) -> Reply:
    match request:
        case Exclude():
            return exclude(step, request)
        case SetHold() | ReleaseHold():
            return hold(step, request)
        case SetRollout() | SetDowngrade():
            return steer(step, request)
        case TakeSlot():
            return take_slot(step, request)
        case ReturnSlot():
            return return_slot(step, request)
        case _:
            assert_never(request)
