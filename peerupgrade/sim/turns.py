"""What is done on each machine in its turn of a rollout, and what can be seen of it afterwards.

A step fails where a fault says so. A program is replaced by its restart, an agent reads what is
installed beside it. Whether a step was done is known here; whoever looks is sometimes told that
nothing can say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from peerupgrade.core.effects import (
    InstalledChanged,
    Order,
    RunTurnStep,
    StepOutcome,
    TurnStepEnded,
)
from peerupgrade.core.record import TurnStep
from peerupgrade.core.versions import parse_version
from peerupgrade.sim.observed import StepBegins, StepRan

if TYPE_CHECKING:
    from peerupgrade.sim.world import Machine, World

_STEP_S = (0.0, 0.6)
_RESTART_S = 0.3
_UNSEEN = 0.2  # odds that nothing can say whether a step was done


@dataclass(slots=True)
class TurnRunner:
    """All turns of a world; `ran`: the steps that were done, by machine, turn and attempt."""

    world: World
    rng: Random
    ran: set[tuple[str, str, TurnStep, int]] = field(default_factory=set)

    def begin(self, machine: Machine, effect: RunTurnStep) -> None:
        """Run it, or look at it."""
        if not effect.order.look:
            self.world.observe(self.world, StepBegins(machine, effect.order))
        wait_s = self.rng.uniform(*_STEP_S)
        action = partial(self._end, machine, effect)
        self.world.agenda.after(wait_s, partial(self._awake, machine, machine.life, action))

    def _awake(self, machine: Machine, life: int, action: Callable[[], None]) -> None:
        """Do it once the process is not paused, if it still lives."""
        if machine.life != life:
            return
        if machine.paused(self.world.agenda.now_s):
            machine.backlog.append(partial(self._awake, machine, life, action))
            return
        action()

    def _end(self, machine: Machine, effect: RunTurnStep) -> None:
        order = effect.order
        if order.look:
            outcome = self._seen(machine, order)
        elif machine.turn_fails > 0:
            machine.turn_fails -= 1
            outcome = StepOutcome.FAILED
        else:
            self._do(machine, order)
            outcome = StepOutcome.DONE
        if machine.node is not None:  # else it is being started anew
            self.world.conclude(machine, effect, TurnStepEnded(order, outcome))

    def _do(self, machine: Machine, order: Order) -> None:
        world, work = self.world, order.work
        self.ran.add(_key(machine, order))
        world.observe(world, StepRan(machine, order))
        if work.step is TurnStep.INSTALL:
            version = [str(one) for one in world.versions].index(work.version)
            back = parse_version(work.version) < parse_version(work.before)
            machine.version = version if back else max(machine.version, version)
            if not machine.has_program:
                installed = world.versions[machine.version]
                world.feed(machine, InstalledChanged(installed, world.lowest(machine.version)))
        elif work.step is TurnStep.RESTART and machine.has_program:
            world.kill(machine)
            world.agenda.after(_RESTART_S, partial(world.revive, machine))

    def _seen(self, machine: Machine, order: Order) -> StepOutcome:
        if order.work.step is TurnStep.VERIFY:
            return StepOutcome.NOT_DONE
        if order.work.step is not TurnStep.INSTALL and self.rng.random() < _UNSEEN:
            return StepOutcome.UNKNOWN
        return StepOutcome.DONE if _key(machine, order) in self.ran else StepOutcome.NOT_DONE


def _key(machine: Machine, order: Order) -> tuple[str, str, TurnStep, int]:
    return (machine.place, order.work.turn, order.work.step, order.work.attempt)
