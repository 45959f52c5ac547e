"""The application's own steps on each machine: in units, saved one by one, begun again elsewhere.

A step fails where a fault says so, and whenever the store does not take what it saves. What was
under way goes on when nobody wants it any more: its saves must be refused, or the checker tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from peerupgrade.core.effects import RunSteps, StepsDone, StepsFailed
from peerupgrade.core.record import Phase, StepState
from peerupgrade.core.requests import All, Done, ReadAll, Reply, SaveStep
from peerupgrade.core.versions import Version, parse_version

if TYPE_CHECKING:
    from peerupgrade.sim.world import Machine, World, WorldConfig

NAME = "fill"
_UNITS = 3
_UNIT_S = (0.0, 0.3)


def registered(config: WorldConfig) -> dict[Phase, frozenset[Version]]:
    """The versions that every program has steps for."""
    return {
        Phase.BEFORE: frozenset(map(parse_version, config.before)),
        Phase.MIGRATION: frozenset(map(parse_version, config.migrations)),
    }


@dataclass(frozen=True, slots=True)
class _Run:
    machine: Machine
    life: int
    effect: RunSteps


@dataclass(slots=True)
class StepRunner:
    """All runs of a world."""

    world: World
    rng: Random

    def begin(self, machine: Machine, effect: RunSteps) -> None:
        """Go on from what the store knows."""
        run = _Run(machine, machine.life, effect)
        self.world.network.ask_store(machine, ReadAll(), partial(self._loaded, run))

    def _loaded(self, run: _Run, reply: Reply) -> None:
        if not isinstance(reply, All):
            self._fail(run, "the store does not answer")
            return
        job, known = run.effect.job, reply.snapshot.steps
        todo = []
        for version in sorted(registered(self.world.config)[job.phase]):
            fresh = StepState(job.phase, version, NAME)
            state = known.get(fresh.key, fresh)
            if job.covers(job.phase, version) and not state.finished:
                todo.append(state)
        self._next(run, todo)

    def _next(self, run: _Run, todo: list[StepState]) -> None:
        if not todo:
            result = StepsDone(run.effect.job, run.effect.epoch)
            self.world.conclude_later(run.machine, 0.0, run.effect, result)
        elif run.machine.step_fails > 0:
            run.machine.step_fails -= 1
            self._fail(run, "the step failed")
        else:
            took_s = self.rng.uniform(*_UNIT_S) + run.machine.callback_hangs_s
            self.world.agenda.after(
                took_s, partial(self._awake, run, partial(self._save, run, todo))
            )

    def _awake(self, run: _Run, action: Callable[[], None]) -> None:
        """Do it once the process is not paused, if it still lives."""
        machine = run.machine
        if machine.life != run.life:
            return
        if machine.paused(self.world.agenda.now_s):
            machine.backlog.append(partial(self._awake, run, action))
            return
        action()

    def _save(self, run: _Run, todo: list[StepState]) -> None:
        (state, *rest), effect = todo, run.effect
        done, number = state.done + 1, state.number + 1
        finished = done >= _UNITS
        request = SaveStep(
            effect.token,
            effect.epoch,
            effect.job.phase,
            state.version,
            NAME,
            str(done),
            done,
            _UNITS,
            number,
            finished=finished,
        )
        then = rest if finished else [replace(state, done=done, number=number), *rest]

        def answered(reply: Reply) -> None:
            if isinstance(reply, Done):
                self._next(run, then)
            else:
                self._fail(run, f"not saved: {type(reply).__name__.lower()}")

        self.world.network.ask_store(run.machine, request, answered)

    def _fail(self, run: _Run, why: str) -> None:
        result = StepsFailed(run.effect.job, run.effect.epoch, why)
        self.world.conclude_later(run.machine, 0.0, run.effect, result)
