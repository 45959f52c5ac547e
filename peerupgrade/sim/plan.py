"""What happens in a run, drawn before it begins: starts, upgrades, faults.

Each happening has chance of its own, so leaving one out shifts no other. That is what makes it
possible to shrink a run that fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from random import Random

from peerupgrade.core.health import Probing
from peerupgrade.sim.faults import FAULTS, Hand
from peerupgrade.sim.world import World, WorldConfig

FAULTS_S = 40.0
_UPGRADES_S = (7.0, 22.0)
_SYNC_S = (0.2, 2.0)  # how often the store's disk or replica gets what was written
_ODDS = 0.4  # that a seed uses a kind of fault
_TIMES_MAX = 4
_PROBING = Probing(interval_s=0.3, failures=2, successes=1, wait_s=4.0)
_WRITES = 0.7  # of the worlds have shared data, and steps of their own
_GOSSIP_S = (*(0.0,) * 9, 2.0, 2.0, 0.5)  # it makes for many events
_ARMED = (6, 14)  # crash points of each seed

START, UPGRADE = "node started", "node upgraded"


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that is planned; `subject` names a machine where it is not chance's to choose."""

    number: int
    kind: str
    at_s: float
    seed: int
    subject: str = ""

    @property
    def is_fault(self) -> bool:
        """False for what every cluster goes through."""
        return self.kind in FAULTS


def child(seed: int, name: str) -> Random:
    """Randomness of one purpose: adding a purpose does not shift the others."""
    return Random(int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big"))


def draw_config(seed: int, nodes: int) -> WorldConfig:
    """The size and the policies of a seed's world."""
    shape = child(seed, "shape")
    writes = child(seed, "writes").random() < _WRITES
    config = WorldConfig(
        nodes=nodes,
        lock_servers=shape.choice((1, 1, 3)),
        lease_s=shape.choice((0.0, 0.0, 6.0)),
        with_replica=shape.random() < 0.5,
        bootstrap_expect=shape.choice((1, nodes)),
        gossip_s=shape.choice(_GOSSIP_S),
        probing=shape.choice((None, _PROBING)),
        writes=writes,
    )
    return config if writes else replace(config, before=(), migrations=())


def draw_plan(seed: int, nodes: int) -> list[Happening]:
    """A swarm: each seed draws which kinds of faults it uses, and how often."""
    rng = child(seed, "plan")
    drawn: list[tuple[str, float, str]] = []
    for index in range(nodes):
        drawn.append((START, rng.uniform(0.0, 1.0), f"n{index}"))
        drawn.append((UPGRADE, rng.uniform(*_UPGRADES_S), f"n{index}"))
    for kind in FAULTS:
        times = rng.randint(1, _TIMES_MAX) if rng.random() < _ODDS else 0
        if kind == "crash point armed":
            times = rng.randint(*_ARMED)
        drawn += [(kind, rng.uniform(1.0, FAULTS_S), "") for _ in range(times)]
    return [
        Happening(number, kind, at_s, rng.getrandbits(64), subject)
        for number, (kind, at_s, subject) in enumerate(drawn)
    ]


@dataclass(slots=True)
class Director:
    """Makes the plan happen."""

    world: World
    plan: Sequence[Happening]
    fired: Counter[str] = field(default_factory=Counter)
    happened: list[Happening] = field(default_factory=list)

    def play(self) -> None:
        """Everything that is planned, in virtual time."""
        agenda = self.world.agenda
        for happening in self.plan:
            agenda.at(happening.at_s, partial(self._happen, happening))
        self._sync(Random(self.world.rng.getrandbits(64)))
        while agenda.step(FAULTS_S):
            pass

    def _happen(self, happening: Happening) -> None:
        world = self.world
        match happening.kind:
            case "node started":
                world.start(world.add(happening.subject, world.config.first_version))
                done = True
            case "node upgraded":
                done = self._upgrade(happening.subject)
            case kind:
                if world.tracing:
                    world.tell(f"fault: {kind}")
                done = FAULTS[kind](Hand(world, Random(happening.seed)))
        if done:
            self.fired[happening.kind] += 1
            self.happened.append(happening)

    def _upgrade(self, name: str) -> bool:
        """Somebody upgrades all the while, one machine after another."""
        machine = self.world.machines.get(name)
        newer = self.world.config.first_version + 1
        if machine is None or machine.version >= newer:
            return False
        self.world.kill(machine)
        machine.version = newer
        self.world.agenda.after(0.3, partial(self.world.revive, machine))
        return True

    def _sync(self, rng: Random) -> None:
        if self.world.store.up and self.world.store.replica_up:
            self.world.store.replicate()
        self.world.agenda.after(rng.uniform(*_SYNC_S), partial(self._sync, rng))
