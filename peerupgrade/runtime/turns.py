"""What is done on this node in its turn of a rollout: callbacks, step by step.

A step without a callback has nothing to do, but for `install`: then a person installs. What runs
may be cut short by the end of this process; the next one looks whether it was done, and never runs
again what was.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from peerupgrade.core.effects import Order, StepOutcome
from peerupgrade.core.record import TurnStep
from peerupgrade.core.turn import has_got
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import ConfigError

_T = TypeVar("_T")
_OURS = (TurnStep.LEAVE, TurnStep.RETURN)  # done by the node itself


@dataclass(frozen=True, slots=True)
class TurnContext:
    """What a callback is given.

    Attributes:
        step: that it is called for.
        version: that the node is to get.
        before: that it had when its turn began.
        attempt: 1, or more if somebody let the step run again after it had failed.
    """

    step: str
    version: str
    before: str
    attempt: int


RunStep: TypeAlias = Callable[[TurnContext], Awaitable[str | None] | str | None]
LookAtStep: TypeAlias = Callable[[TurnContext], Awaitable[bool | None] | bool | None]
ReadInstalled: TypeAlias = Callable[[], Awaitable[tuple[str, str]]]


async def call(callback: Callable[[TurnContext], Awaitable[_T] | _T], context: TurnContext) -> _T:
    """What a callback gives, be it async or not."""
    answer = callback(context)
    return await answer if inspect.isawaitable(answer) else answer


def limited(run: RunStep, where: str, timeout_s: float) -> RunStep:
    """The same step; one that takes longer is cancelled, and has failed.

    `where`: names it, for the message.
    """

    async def at_most(context: TurnContext) -> str | None:
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await call(run, context)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ConfigError(
                f"{where} did not end within {timeout_s:g} s", hint="step_timeout_s says how long"
            ) from None

    return at_most


@dataclass(frozen=True, slots=True)
class _Registered:
    run: RunStep
    look: LookAtStep | None


class ReadyMade(Protocol):
    """What the factory of an entry point `peerupgrade.steps` gives: some of these methods.

    Each may be async. A step that is missing, or None, is not its own. One that raises an exception
    has failed; it is cancelled after `step_timeout_s`. What it gives is as for `Node.on_turn`.
    """

    def drain(self, context: TurnContext) -> Awaitable[str | None] | str | None:
        """Take the program out of what sends it requests, and let those under way end."""

    def install(self, context: TurnContext) -> Awaitable[str | None] | str | None:
        """Put `context.version` in place, which may be lower than what is there."""

    def restart(self, context: TurnContext) -> Awaitable[str | None] | str | None:
        """Let the program run in what is installed now."""

    def verify(self, context: TurnContext) -> Awaitable[str | None] | str | None:
        """Make sure that it runs; changes nothing."""

    def undrain(self, context: TurnContext) -> Awaitable[str | None] | str | None:
        """Let requests come again."""

    def look(self, context: TurnContext) -> Awaitable[bool | None] | bool | None:
        """Whether one of its steps was done that was cut short, as for `Node.on_turn`."""

    def installed(self) -> Awaitable[str] | str:
        """The installed version; asked at the start, at SIGHUP and after each step."""


class TurnSteps:
    """All that was registered; `installed`: of the software that runs now."""

    def __init__(self, installed: Version) -> None:
        self._installed = installed
        self._all: dict[TurnStep, _Registered] = {}
        self._read: ReadInstalled | None = None

    @property
    def installs(self) -> bool:
        """False: a person installs."""
        return TurnStep.INSTALL in self._all

    def register(self, step: str, run: RunStep, look: LookAtStep | None) -> None:
        """One step.

        Raises:
            ConfigError: there is no such step, or it has a callback already.
        """
        known = [one for one in TurnStep if one not in _OURS]
        if step not in known:
            raise ConfigError(f"a turn has no step {step!r}", hint=f"give {', '.join(known)}")
        if TurnStep(step) in self._all:
            raise ConfigError(f"step {step!r} has a callback already", hint="give it one")
        self._all[TurnStep(step)] = _Registered(run, look)

    def read_by(self, read: ReadInstalled) -> None:
        """How the installed and the lowest supported version are found out, without a restart."""
        self._read = read

    async def read(self) -> tuple[str, str] | None:
        """What is installed now; None: that changes by a restart only.

        Raises:
            PeerUpgradeError: it cannot be found out.
        """
        return None if self._read is None else await self._read()

    async def run(self, order: Order) -> tuple[StepOutcome, str]:
        """Run a step, or look whether it was done.

        Returns:
            What became of it, and what it said.

        Raises:
            Exception: the callback's own; the step has failed.
        """
        work = order.work
        context = TurnContext(work.step, work.version, work.before, work.attempt)
        registered = self._all.get(work.step)
        if registered is None:
            return StepOutcome.DONE, ""
        if order.look:
            return await self._look(registered, context), ""
        return StepOutcome.DONE, await call(registered.run, context) or ""

    async def _look(self, registered: _Registered, context: TurnContext) -> StepOutcome:
        seen: bool | None
        if registered.look is not None:
            seen = await call(registered.look, context)
        else:
            seen = await self._seen(context)
        if seen is None:
            return StepOutcome.UNKNOWN
        return StepOutcome.DONE if seen else StepOutcome.NOT_DONE

    async def _seen(self, context: TurnContext) -> bool | None:
        match context.step:
            case TurnStep.INSTALL:
                versions = await self.read()
                installed = parse_version(versions[0]) if versions else self._installed
                return has_got(installed, context.version, context.before)
            case TurnStep.RESTART:  # this process is the program, and has started since
                return True if self._read is None else None
            case TurnStep.VERIFY:  # it changes nothing
                return False
            case _:
                return None
