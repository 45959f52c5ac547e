"""Arms crash points, one after another, and wakes up what stopped at one."""

import asyncio
import signal
from functools import partial

_REACHED_WITHIN_S = 5.0
_PAUSE_S = 1.5
# How many rare points are armed at a time: most need something that seldom happens.
_RARE_SLOTS = 3


class Arming:
    """Keeps points armed: a common one at one node, rare ones at whoever passes them first.

    Args:
        plan: says which comes next.
        places: of the run.
        journal: of the run.
    """

    def __init__(self, plan, places, journal):
        self._plan, self._journal = plan, journal
        self._places = [place for place in places if place.has_points]
        self._waiting = {}  # slot -> (name, set once it was reached)
        self._continuing = set()
        for place in self._places:
            place.on_said = partial(self._hear, place)

    async def run(self):
        """Until cancelled."""
        rare = [self._keep_armed(f"rare {n}", "rare", self._everywhere) for n in range(_RARE_SLOTS)]
        await asyncio.gather(self._keep_armed("common", "common", self._one_place), *rare)

    def _everywhere(self, turn):
        del turn
        return self._places

    def _one_place(self, turn):
        return [self._places[turn % len(self._places)]]

    async def _keep_armed(self, slot, kind, where):
        turn = 0
        while True:
            name, action = self._plan.point(kind)
            turn += 1
            reached = asyncio.Event()
            self._waiting[slot] = (name, reached)
            try:
                for place in where(turn):
                    place.arm(slot, name, action)
                async with asyncio.timeout(_REACHED_WITHIN_S):
                    await reached.wait()
            except TimeoutError:
                pass
            finally:
                self._disarm(slot)
                (self._plan.reached if reached.is_set() else self._plan.not_reached)(kind, name)

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
            task = asyncio.create_task(self._continue(place.name, place.running))
            self._continuing.add(task)
            task.add_done_callback(self._continuing.discard)

    async def _continue(self, name, running):
        self._journal.write("cut", node=name)
        await asyncio.sleep(_PAUSE_S)
        running.signal(signal.SIGCONT)
        self._journal.write("healed", node=name)

    async def settle(self):
        """Wait until nothing stands at a point."""
        await asyncio.gather(*self._continuing)
