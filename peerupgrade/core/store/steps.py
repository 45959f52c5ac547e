"""The application's own steps of an upgrade: what the store checks and remembers of them.

Theory of operation: a step is code of the application, so what it does elsewhere nobody can fence.
What the store can is this: only the newest mastership saves a checkpoint or says that a step has
succeeded (R1), only while the step is due (R13), and never again once it has. So a master that was
superseded hears of it at its next save, and a step begins again from what the newest one has saved.
"""

from __future__ import annotations

from dataclasses import replace

from peerupgrade.core.record import StepState
from peerupgrade.core.requests import Conflict, Done, Fenced, Refused, Reply, SaveStep, Unverified
from peerupgrade.core.store.state import Step


def save_step(step: Step, request: SaveStep) -> Reply:
    """Take a master's word of how far a step is."""
    state, record = step.state, step.state.record
    if record is None or step.is_fenced(request.epoch, request.token):  # R1
        return Fenced(step.view)
    if record.identity != step.identity:  # R16
        return Unverified(step.view)
    saved = StepState(
        request.phase,
        request.version,
        request.name,
        request.checkpoint,
        request.done,
        request.total,
        began_at_ms=step.now_ms,
        saved_at_ms=step.now_ms,
        finished=int(request.finished),
        failure=request.failure,
        number=request.number,
    )
    known = state.steps.get(saved.key)
    due = record.job is not None and record.job.covers(request.phase, request.version)
    if not due or record.job_paused:  # R13
        return Refused("step_not_due", step.view)
    if known is not None:
        if known.finished:
            return Refused("step_finished", step.view)
        if request.number <= known.number:  # it was sent long ago
            return Conflict(step.view)
        saved = replace(saved, began_at_ms=known.began_at_ms)
    state.steps[saved.key] = saved
    return Done(step.view)
