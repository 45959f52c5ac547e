"""Arms crash points, one after another, and brings back to life what stopped at one."""

import asyncio
import signal

_REACHED_WITHIN_S = 6.0
_PAUSE_S = 1.5


class Arming:
    """Keeps one point of each slot armed: of one node, and of whoever is master.

    Args:
        plan: says which comes next.
        places: of the run.
        journal: of the run.
    """

    def __init__(self, plan, places, journal):
        self._plan, self._places, self._journal = plan, places, journal
        self._reached = {"node": asyncio.Event(), "master": asyncio.Event()}
        self._names = {}
        self._continuing = set()
        for place in places:
            place.on_said = self._hear

    async def run(self):
        """Until cancelled."""
        await asyncio.gather(self._arm_all("node"), self._arm_all("master"))

    async def _arm_all(self, slot):
        turn = 0
        while True:
            name, action = self._plan.point(slot)
            self._names[slot] = name
            self._reached[slot].clear()
            turn += 1
            places = self._places if slot == "master" else [self._places[turn % len(self._places)]]
            try:
                self._tell(places, do="arm", slot=slot, name=name, action=action)
                async with asyncio.timeout(_REACHED_WITHIN_S):
                    await self._reached[slot].wait()
                self._plan.reached(slot, name)
            except TimeoutError:
                self._plan.not_reached(slot, name)
            except asyncio.CancelledError:
                self._plan.not_reached(slot, name)
                raise
            finally:
                self._tell(self._places, do="disarm", slot=slot)

    def _tell(self, places, **command):
        for place in places:
            place.running.tell(**command)

    def _hear(self, place, said):
        """A worker has reached its point; if it stopped there, it must be woken up."""
        if "point" not in said:
            return
        for slot, name in self._names.items():
            if name == said["point"]:
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
