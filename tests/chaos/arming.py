"""Arms crash points, one after another, and wakes up what stopped at one."""

import asyncio
from functools import partial

from tests.chaos.points import FLOOR_TAKEN_BACK, TURN, TURN_FAILED

_REACHED_WITHIN_S = 5.0
_PAUSE_S = 1.5
_HOLD_S = 1.0
# How many rare points are armed at a time: most need something that seldom happens.
_RARE_SLOTS = 3


class Arming:
    """Keeps points armed: a common one at one node, rare ones at whoever passes them first.

    Args:
        plan: says which comes next.
        places: of the run.
        operator: holds for a moment whenever a floor is reached, so that it must be taken back.
        journal: of the run.
    """

    def __init__(self, plan, places, operator, journal):
        self._plan, self._operator, self._journal = plan, operator, journal
        self._places = [place for place in places if place.has_points]
        self._waiting = {}  # slot -> (name, set once it was reached)
        self._following = set()
        for place in self._places:
            place.on_said = partial(self._hear, place)

    async def run(self):
        """Until cancelled."""
        rare = [self._keep_armed(f"rare {n}", "rare", self._everywhere) for n in range(_RARE_SLOTS)]
        await asyncio.gather(self._keep_armed("common", "common", self._one_place), *rare)

    async def expect(self, names, timeout_s):
        """Arm these everywhere until each was reached once: what brings them about comes now."""
        await asyncio.gather(
            *(
                self._arm_once(name, name, self._plan.action(name), self._places, timeout_s)
                for name in names
            )
        )

    def _everywhere(self, turn):
        del turn
        return self._places

    def _one_place(self, turn):
        return [self._places[turn % len(self._places)]]

    async def _keep_armed(self, slot, kind, where):
        turn = 0
        while True:
            name = self._plan.point(kind)
            turn += 1
            reached = False
            try:
                action = self._plan.action(name)
                places = where(turn)
                reached = await self._arm_once(slot, name, action, places, _REACHED_WITHIN_S)
            finally:
                (self._plan.reached if reached else self._plan.not_reached)(kind, name)

    async def _arm_once(self, slot, name, action, places, timeout_s):
        """Gives whether somebody came there in time."""
        reached = asyncio.Event()
        self._waiting[slot] = (name, reached)
        try:
            for place in places:
                place.arm(slot, name, action)
            async with asyncio.timeout(timeout_s):
                await reached.wait()
        except TimeoutError:
            pass
        finally:
            self._disarm(slot)
        return reached.is_set()

    def _disarm(self, slot):
        for place in self._places:
            place.disarm(slot)

    def _hear(self, place, said):
        """A worker has reached its point; if it stopped there, it must be woken up."""
        if "point" not in said:
            return
        for slot, (name, reached) in self._waiting.items():
            if name == said["point"] and not reached.is_set():
                self._disarm(slot)
                reached.set()
        if said["action"] == "pause":
            self._follow(self._continue(place.name, place.running))
        if said["point"] == "after commit floor":  # the next master finds a hold
            self._follow(self._operator.hold(_HOLD_S))
            self._follow(self.expect(FLOOR_TAKEN_BACK, _REACHED_WITHIN_S))

        if said["point"] in TURN and said["action"] == "fail":
            self._follow(self.expect(TURN_FAILED, _REACHED_WITHIN_S))

    def _follow(self, work):
        task = asyncio.create_task(work)
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _continue(self, name, running):
        self._journal.write("cut", node=name)
        running.stopped_itself()
        await asyncio.sleep(_PAUSE_S)
        running.resume()
        self._journal.write("healed", node=name)

    async def settle(self):
        """Wait until nothing stands at a point, and nobody holds because of one."""
        await asyncio.gather(*self._following)
