"""A script that upgrades node after node, with a slot for each (R29). Several may be at work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from peerupgrade.core.effects import Stop
from peerupgrade.core.requests import Done, Outcome, Refused, ReturnSlot, TakeSlot
from peerupgrade.sim.observed import TakenDown
from peerupgrade.sim.world import Machine, World

BUDGET = 1
_AGAIN_S = (0.2, 0.6)
_STOP_S = 1.5
_MISHAPS = 0.05  # odds that it dies, at each step
_LOST_ANSWERS = 0.2


@dataclass(slots=True, eq=False)
class Orchestrator:
    """One script. It dies now and then; a successor of its name adopts its slots."""

    world: World
    rng: Random
    name: str
    alive: bool = True

    def begin(self) -> None:
        """Bring to an end what a predecessor began, then go on with any other node."""
        slots = self.world.store.state.slots.values()
        adopted = next((slot.id for slot in slots if slot.by == self.name), None)
        machine = self.world.machines.get(adopted or "")
        self._later(self._ask if machine is None else lambda: self._take(machine))

    def _later(self, action: Callable[[], None]) -> None:
        if self.rng.random() < _MISHAPS:
            self.alive = False
        self.world.agenda.after(self.rng.uniform(*_AGAIN_S), lambda: self._go_on(action))

    def _go_on(self, action: Callable[[], None]) -> None:
        if self.alive:
            action()

    def _ask(self) -> None:
        machines = [m for m in self.world.machines.values() if self._may_get_newer(m)]
        if not machines or not self.world.store.up:
            self._later(self._ask)
            return
        self._take(self.rng.choice(machines))

    def _take(self, machine: Machine) -> None:
        given = self._is_given(machine) and self.rng.random() > _LOST_ANSWERS
        self._later((lambda: self._take_down(machine)) if given else self.begin)

    def _is_given(self, machine: Machine) -> bool:
        if not self.world.store.up:
            return False
        request = TakeSlot(machine.name, self.name, BUDGET)
        return isinstance(self.world.do(request, self.name), Done)

    def _may_get_newer(self, machine: Machine) -> bool:
        record = self.world.store.state.record
        named = self.world.machines.get(machine.name) is machine  # and no impostor
        if machine.node is None or not named or record is None or record.acting is None:
            return False
        installed = self.world.versions[machine.version]
        return installed == record.acting and machine.version + 1 < len(self.world.versions)

    def _take_down(self, machine: Machine) -> None:
        """Asked again at the last moment: the member may have been started anew meanwhile."""
        world = self.world
        if not self._is_given(machine):
            self._later(self.begin)
        elif not self._may_get_newer(machine):
            # A predecessor may have taken down what does not operate.
            operates = any(node.id == machine.name for node in world.operating())
            outcome = Outcome.UNUSED if operates else Outcome.UP
            self._later(lambda: self._wait_for(machine.name, outcome))
        else:
            world.observe(world, TakenDown(machine))
            world.feed(machine, Stop(leave=self.rng.random() < 0.5))
            world.agenda.after(_STOP_S, lambda: _install(world, machine))
            self._later(lambda: self._wait_for(machine.name))

    def _wait_for(self, node_id: str, outcome: Outcome = Outcome.UP) -> None:
        """The slot is taken back once the node operates again."""
        if self.world.store.up:
            reply = self.world.do(ReturnSlot(node_id, self.name, outcome), self.name)
            forgotten = isinstance(reply, Refused) and reply.rule == "no_slot"
            if isinstance(reply, Done) or forgotten:
                self._later(self._ask)
                return
        self._later(lambda: self._wait_for(node_id, outcome))


def _install(world: World, machine: Machine) -> None:
    """Its time to stop in order is over."""
    world.kill(machine)
    machine.version = min(machine.version + 1, len(world.versions) - 1)  # it may have got one since
    world.revive(machine)
