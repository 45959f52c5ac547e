"""What every fault is given: the world, chance of its own, and a few ways to use both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from peerupgrade.sim.world import Machine, World


@dataclass(slots=True)
class Hand:
    """The hand that strikes once."""

    world: World
    rng: Random

    def some(self, *, alive: bool = True) -> Machine | None:
        """A machine whose process runs, or does not."""
        found = [m for m in self.world.machines.values() if (m.node is not None) is alive]
        return self.rng.choice(found) if found else None

    def befall(self, happens: Callable[[Machine], None]) -> bool:
        """Let something happen to a machine whose process runs; False: there is none."""
        machine = self.some()
        if machine is None:
            return False
        happens(machine)
        return True

    def for_a_while(
        self, thing: object, name: str, value: object, low_s: float, high_s: float
    ) -> None:
        """Set an attribute whose usual value is nothing, and take that back after a while."""
        setattr(thing, name, value)
        self.later(low_s, high_s, lambda: setattr(thing, name, type(value)()))

    def later(self, low_s: float, high_s: float, action: Callable[[], None]) -> None:
        """Do something after a while."""
        self.world.agenda.after(self.rng.uniform(low_s, high_s), action)

    def revive_later(self, low_s: float, high_s: float, machine: Machine) -> None:
        """Start a machine's process again, after a while."""
        self.later(low_s, high_s, lambda: self.world.revive(machine))


Fault: TypeAlias = Callable[[Hand], bool]  # False: it could not strike
