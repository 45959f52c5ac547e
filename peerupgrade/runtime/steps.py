"""The application's own steps of an upgrade: what it registers, and how a job of them is run.

Theory of operation: a job runs on the master, step after step, each from the checkpoint that the
store has. What a step saves carries the epoch of this mastership, so one that was superseded is
refused. A job has succeeded only once the store has taken that of each of its steps; until then the
next master begins with what is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import msgspec

from peerupgrade.core.effects import RunSteps
from peerupgrade.core.record import Phase, StepState
from peerupgrade.core.requests import (
    All,
    Conflict,
    Done,
    Failed,
    Fenced,
    ReadAll,
    Refused,
    Reply,
    SaveStep,
)
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import (
    ConfigError,
    DataError,
    PeerUpgradeError,
    RefusedError,
    UnavailableError,
)
from peerupgrade.ports import Store
from peerupgrade.settings import check_name

_CHECKPOINT_BYTES_MAX = 64 * 1024
_ERROR_CHARS_MAX = 500
_END = "let this error end the step: it begins again from the last checkpoint that was saved"


class StepContext:
    """What a step is given.

    Attributes:
        version: what it runs for, as it was registered.
        name: of the step.
        checkpoint: what was saved last, by whichever master; None when it begins.
    """

    def __init__(self, store: Store, run: RunSteps, state: StepState) -> None:
        self._store, self._run, self._state = store, run, state
        self.version = str(state.version)
        self.name = state.name
        self.checkpoint: Any = msgspec.json.decode(state.checkpoint)

    async def save(self, checkpoint: Any, *, done: int = 0, total: int = 0) -> None:
        """Remember how far it is, in the store.

        Args:
            checkpoint: whatever JSON can hold; the step begins again from it.
            done: of how much, in units of the step's own; everyone sees that.
            total: of these units; 0: it cannot be said.

        Raises:
            RefusedError: another node is master now, or the step is not due any more; nothing was
                saved.
            UnavailableError: the store does not answer; it may or may not have been saved.
            DataError: the checkpoint cannot be stored.
        """
        text = _encoded(checkpoint, self.name)
        await self._save(checkpoint=text, done=max(0, done), total=max(0, total), failure="")
        self.checkpoint = checkpoint

    async def begun(self) -> None:
        """Everyone sees that it runs."""
        if not self._state.number:
            await self._save()

    async def finished(self) -> None:
        """It has succeeded, and never runs again."""
        await self._save(finished=1, failure="")

    async def failed(self, error: Exception) -> None:
        """Everyone sees why; should the store not take it, this node's log has it."""
        with contextlib.suppress(PeerUpgradeError):
            await self._save(failure=f"{type(error).__name__}: {error}"[:_ERROR_CHARS_MAX])

    async def _save(self, **changes: Any) -> None:
        state = self._state = replace(self._state, number=self._state.number + 1)
        new = replace(state, **changes)
        request = SaveStep(
            self._run.token,
            self._run.epoch,
            new.phase,
            new.version,
            new.name,
            new.checkpoint,
            new.done,
            new.total,
            new.number,
            finished=bool(new.finished),
            failure=new.failure,
        )
        reply = await self._store.call(request)
        if not isinstance(reply, Done):
            raise self._refusal(reply)
        self._state = new

    def _refusal(self, reply: Reply) -> PeerUpgradeError:
        what = f"step {self.name!r} for {self.version} was not saved: "
        match reply:
            case Failed(reason):
                return UnavailableError(what + reason, hint=_END)
            case Fenced(view):
                master = view.record.master if view.record else ""
                why = f"this node is not master any more, {master or 'nobody'} is"
                return RefusedError(what + why, rule="fenced", hint=_END)
            case Refused(rule="step_finished" as rule):
                return RefusedError(what + "it has succeeded already", rule=rule, hint=_END)
            case Refused(rule=rule):
                why = "it is not due any more: the raise was withdrawn, or it was paused"
                return RefusedError(what + why, rule=rule, hint=_END)
            case Conflict():
                return RefusedError(what + "a later run of it has saved", rule="late", hint=_END)
            case _:
                why = "the store has changed, and is not verified yet"
                return RefusedError(what + why, rule="unverified", hint=_END)


def _encoded(checkpoint: Any, name: str) -> str:
    try:
        raw = msgspec.json.encode(checkpoint)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise DataError(
            f"the checkpoint of step {name!r} cannot be stored ({error})",
            hint="save what JSON can hold: numbers, texts, lists and dicts of these",
        ) from error
    if len(raw) > _CHECKPOINT_BYTES_MAX:
        raise DataError(
            f"the checkpoint of step {name!r} has {len(raw)} bytes, at most"
            f" {_CHECKPOINT_BYTES_MAX} are kept",
            hint="save where to go on, not what was done",
        )
    return raw.decode()


StepFunction: TypeAlias = Callable[[StepContext], Awaitable[None]]
Register: TypeAlias = Callable[[StepFunction], StepFunction]


@dataclass(frozen=True, slots=True)
class _Registered:
    version: Version
    name: str
    run: StepFunction


class Steps:
    """All that the application has registered."""

    def __init__(self) -> None:
        self._all: dict[Phase, list[_Registered]] = {phase: [] for phase in Phase}

    def register(self, phase: Phase, version: str, name: str) -> Register:
        """A decorator for one step; without a name it has that of the function.

        Raises:
            ConfigError: the name cannot be used, or is that of another step of the version.
        """
        parsed = parse_version(version)

        def add(step: StepFunction) -> StepFunction:
            named = name or getattr(step, "__name__", "")
            check_name("step", named.strip("_"))
            if any((one.version, one.name) == (parsed, named) for one in self._all[phase]):
                raise ConfigError(
                    f"{phase} {version} has two steps of the name {named!r}",
                    hint="give one of them another name: progress is kept under it",
                )
            self._all[phase].append(_Registered(parsed, named, step))
            return step

        return add

    @property
    def versions(self) -> Mapping[Phase, frozenset[Version]]:
        """For each phase the versions that have steps."""
        return {
            phase: frozenset(one.version for one in found) for phase, found in self._all.items()
        }

    async def run(self, effect: RunSteps, store: Store) -> None:
        """Run what is left of a job; the first step that fails ends it with its exception."""
        reply = await store.call(ReadAll())
        if not isinstance(reply, All):
            raise UnavailableError("the steps cannot begin: the store does not answer")
        job, known = effect.job, reply.snapshot.steps
        due = [one for one in self._all[job.phase] if job.covers(job.phase, one.version)]
        for one in sorted(due, key=lambda one: one.version):  # of one version: as registered
            fresh = StepState(job.phase, one.version, one.name)
            state = known.get(fresh.key, fresh)
            if not state.finished:
                await _run(one.run, StepContext(store, effect, state))


async def _run(step: StepFunction, context: StepContext) -> None:
    await context.begun()
    try:
        await step(context)
    except Exception as error:
        await context.failed(error)
        raise
    await context.finished()
