"""What is done to the cluster, drawn from a seed: faults, upgrades, crash points.

Each of the three has a stream of chances of its own, so that a change in one leaves the others as
they were. When each thing happens depends on the machine, so a seed repeats the plan, not the run.
"""

from collections import deque
from dataclasses import dataclass
from random import Random

from tests.chaos.points import COMMON_POINTS, RARE_POINTS, actions

# kind: how long it lasts, at least and at most.
FAULTS = {
    "node killed": (0.0, 1.5),
    "node paused": (0.3, 5.0),
    "node refused": (0.3, 5.0),
    "requests swallowed": (0.3, 5.0),
    "replies swallowed": (0.3, 5.0),
    "both ways swallowed": (0.3, 5.0),
    "bytes held back": (0.3, 5.0),
    "connections cut": (0.0, 0.0),
    "store killed": (0.0, 1.5),
    "store paused": (0.2, 2.0),
    "store clients paused": (0.2, 1.5),
    "store asleep": (0.2, 1.5),
    "store failed over": (0.3, 1.5),  # here: what is lost
    "store flushed": (0.0, 0.0),
    "subscribers killed": (0.0, 0.0),
    "scripts flushed": (0.0, 0.0),
    "lock server killed": (0.2, 3.0),
    "lock server paused": (0.2, 3.0),
    "master resigned": (0.0, 0.0),
    "node replaced": (0.0, 1.0),
    "disk lost": (0.0, 1.0),
    "node left": (0.0, 1.5),
    "paused node excluded": (0.2, 1.5),  # after its lease
}
_COPIES = (1, 3)  # of each kind in one deck
_GAP_S = (0.3, 1.5)
_STEP_S = (0.05, 0.8)
_CALM_BEFORE_END_S = (0.0, 3.0)
_ROLLED_BACK = 0.25
_DRIVEN = 0.4
_HELD = 0.3
_HOLD_S = (0.5, 4.0)  # of a hold that names its end
_WAYS = ("in place", "restarted", "killed")


@dataclass(frozen=True)
class Fault:
    """One fault; `target` picks among those that it may befall."""

    name: str
    target: float
    for_s: float
    gap_s: float  # until the next one begins


@dataclass(frozen=True)
class Upgrade:
    """One upgrade: in which order, how each node gets the new version, and what comes between."""

    order: tuple
    ways: tuple
    gaps_s: tuple
    rolled_back: bool
    hold_s: float | None  # None: no hold; 0: one that is released
    rest_s: float  # how long faults go on when every node has the new version
    driven: bool  # by a rollout; else somebody installs on one node after the other
    failures: int  # so many nodes may fail in a rollout before it pauses


class Plan:
    """Everything that is drawn."""

    def __init__(self, seed):
        self._for_faults = Random(f"{seed} faults")
        self._for_upgrades = Random(f"{seed} upgrades")
        self._for_points = Random(f"{seed} points")
        weights = Random(f"{seed} weights")
        self.copies = {name: weights.randint(*_COPIES) for name in FAULTS}
        self._deck = []
        self._points = {"common": deque(COMMON_POINTS), "rare": deque(RARE_POINTS)}
        for names in self._points.values():
            self._for_points.shuffle(names)
        self._rolled_back_due = self._driven_due = 0.0

    def fault(self):
        """The next one. Every kind comes once in each deck, so none is left out for long."""
        chance = self._for_faults
        if not self._deck:
            self._deck = [name for name, copies in self.copies.items() for _ in range(copies)]
            chance.shuffle(self._deck)
        name = self._deck.pop()
        for_s = chance.uniform(*FAULTS[name])
        return Fault(name, chance.random(), for_s, chance.uniform(*_GAP_S))

    def upgrade(self, nodes):
        """The next one. Exactly one in four is rolled back, and two in five are driven."""
        chance = self._for_upgrades
        order = list(range(nodes))
        chance.shuffle(order)
        self._rolled_back_due += _ROLLED_BACK
        rolled_back = self._rolled_back_due >= 1
        self._rolled_back_due -= rolled_back
        self._driven_due += _DRIVEN
        driven = self._driven_due >= 1
        self._driven_due -= driven
        return Upgrade(
            tuple(order),
            tuple(chance.choice(_WAYS) for _ in order),
            tuple(chance.uniform(*_STEP_S) for _ in order),
            rolled_back,
            self._hold_s(chance),
            chance.uniform(*_CALM_BEFORE_END_S),
            driven,
            chance.randint(0, 1),
        )

    def _hold_s(self, chance):
        if chance.random() >= _HELD:
            return None
        return chance.choice((0.0, chance.uniform(*_HOLD_S)))

    def point(self, kind):
        """The next crash point of this kind, `common` or `rare`."""
        return self._points[kind].popleft()

    def action(self, name):
        """What is done there."""
        return self._for_points.choice(actions(name))

    def reached(self, kind, name):
        """It comes last from here on."""
        self._points[kind].append(name)

    def not_reached(self, kind, name):
        """It comes again soon, but not at once: it may need what the next ones bring about."""
        self._points[kind].insert(len(self._points[kind]) // 2, name)
