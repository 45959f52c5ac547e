"""Arms crash points, one after another, and wakes up what stopped at one."""

import asyncio
import signal

_REACHED_WITHIN_S = 6.0
_PAUSE_S = 1.5


class Arming:
    """Keeps two points armed: a common one at one node, a rare one at whoever passes it first.

    Args:
        plan: says which comes next.
        places: of the run.
        journal: of the run.
    """

    def __init__(self, plan, places, journal):
        self._plan, self._journal = plan, journal
        self._places = [place for place in places if place.has_points]
        self._reached = {"common": asyncio.Event(), "rare": asyncio.Event()}
        self._names = {}
        self._continuing = set()
        for place in self._places:
            place.on_said = self._hear

    async def run(self):
        """Until cancelled."""
        await asyncio.gather(self._arm_all("common"), self._arm_all("rare"))

    async def _arm_all(self, slot):
        turn = 0
        while True:
            name, action = self._plan.point(slot)
            self._names[slot] = name
            self._reached[slot].clear()
            turn += 1
            places = self._places if slot == "rare" else [self._places[turn % len(self._places)]]
            try:
                for place in places:
                    place.arm(slot, name, action)
                async with asyncio.timeout(_REACHED_WITHIN_S):
                    await self._reached[slot].wait()
                self._plan.reached(slot, name)
            except TimeoutError:
                self._plan.not_reached(slot, name)
            except asyncio.CancelledError:
                self._plan.not_reached(slot, name)
                raise
            finally:
                self._disarm(slot)

    def _disarm(self, slot):
        for place in self._places:
            place.disarm(slot)

    def _hear(self, place, said):
        """A worker has reached its point; if it stopped there, it must be woken up."""
        if "point" not in said:
            return
        for slot, name in self._names.items():
            if name == said["point"]:
                self._disarm(slot)
                self._reached[slot].set()
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
