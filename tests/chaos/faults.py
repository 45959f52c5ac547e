"""Injects faults, and takes each back by itself."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

from peerupgrade.adapters.redis_scripts import Keys
from tests.chaos.journal import now_s
from tests.support.proxy import Way


class Faults:
    """What can be done to the servers and the places.

    Args:
        servers: of the run.
        places: of the run.
        operator: who excludes.
        history: what the store wrote down, which some faults make it forget.
        journal: of the run.
    """

    def __init__(self, servers, places, operator, history, journal):
        self._servers, self._places, self._operator = servers, places, operator
        self._history, self._journal = history, journal
        self._store_changing = asyncio.Lock()  # one thing at a time befalls the store
        self._lock_changing = asyncio.Lock()
        self._cutting = {place: asyncio.Lock() for place in places}
        self._replaced = 0
        self._table = {
            "node killed": self._kill_node,
            "node paused": self._pause_node,
            "node refused": partial(self._cut_off, lambda proxy: proxy.refuse()),
            "requests swallowed": partial(self._cut_off, lambda p: p.swallow(Way.REQUESTS)),
            "replies swallowed": partial(self._cut_off, lambda p: p.swallow(Way.REPLIES)),
            "both ways swallowed": partial(self._cut_off, lambda p: p.swallow(Way.BOTH)),
            "bytes held back": partial(self._cut_off, lambda proxy: proxy.hold()),
            "connections cut": partial(self._cut_off, lambda proxy: proxy.cut()),
            "store killed": self._kill_store,
            "store paused": self._pause_store,
            "store clients paused": self._pause_clients,
            "store asleep": self._sleep_store,
            "store failed over": self._fail_over,
            "store flushed": self._flush,
            "subscribers killed": partial(self._tell_store, "CLIENT", "KILL", "TYPE", "pubsub"),
            "scripts flushed": partial(self._tell_store, "SCRIPT", "FLUSH"),
            "lock server killed": self._kill_lock,
            "lock server paused": self._pause_lock,
            "master resigned": self._resign,
            "node replaced": self._replace_node,
            "disk lost": self._lose_disk,
            "node left": self._leave,
            "paused node excluded": self._exclude_paused,
        }

    async def inject(self, fault):
        """From its beginning to its end; nothing is left of it then."""
        await self._table[fault.name](fault)

    def _note(self, fault, target):
        self._journal.write("fault", name=fault.name, target=target, for_s=round(fault.for_s, 3))

    def _place(self, fault, among=None):
        places = among or self._places
        return places[int(fault.target * len(places))]

    # --- nodes ------------------------------------------------------------------------------------

    async def _kill_node(self, fault):
        place = self._place(fault)
        async with place.changing:
            self._note(fault, place.name)
            await place.kill()
            await asyncio.sleep(fault.for_s)
            await place.start()

    async def _pause_node(self, fault):
        place = self._place(fault)
        async with self._cutting[place]:
            name, running = place.name, place.running
            self._note(fault, name)
            async with self._unreachable(name):
                running.pause()
                await asyncio.sleep(fault.for_s)
                running.resume()

    async def _cut_off(self, how, fault):
        """Half of the time from the store alone."""
        place = self._place(fault)
        store_only = int(fault.target * 1000) % 2
        async with self._cutting[place]:
            self._note(fault, place.name)
            proxies = place.proxies[:1] if store_only else place.proxies
            async with self._unreachable(place.name):
                for proxy in proxies:
                    how(proxy)
                await asyncio.sleep(fault.for_s)
                for proxy in proxies:
                    proxy.heal()

    @asynccontextmanager
    async def _unreachable(self, name):
        self._journal.write("cut", node=name)
        try:
            yield
        finally:
            self._journal.write("healed", node=name)

    async def _replace_node(self, fault):
        """Its machine is gone; another one with another name takes its place."""

        def rename(place):
            self._replaced += 1
            place.take_name(f"n{place.number}r{self._replaced}")

        await self._begin_anew(fault, rename)

    async def _lose_disk(self, fault):
        """Its machine is gone; an empty one with its name takes its place."""
        await self._begin_anew(fault, lambda place: place.lose_disk())

    async def _begin_anew(self, fault, prepare):
        place = self._place(fault)
        async with place.changing:
            self._note(fault, place.name)
            await place.kill()
            await self._operator.exclude(place.name)
            prepare(place)
            await asyncio.sleep(fault.for_s)
            await place.start()

    async def _leave(self, fault):
        place = self._place(fault, [place for place in self._places if place.leaves])
        async with place.changing:
            self._note(fault, place.name)
            await place.stop(leave=True)
            await asyncio.sleep(fault.for_s)
            await place.start()

    async def _exclude_paused(self, fault):
        """It has a lease, so nobody needs to say that it is stopped; then it wakes up."""
        place = self._place(fault, [place for place in self._places if place.has_lease])
        async with place.changing, self._cutting[place]:
            name, running = place.name, place.running
            self._note(fault, name)
            async with self._unreachable(name):
                running.pause()
                await self._operator.exclude(name, confirm_stopped=False)
                await asyncio.sleep(fault.for_s)
                running.resume()

    async def _resign(self, fault):
        self._note(fault, "master")
        for place in self._places:
            place.running.tell(do="resign")

    # --- servers ----------------------------------------------------------------------------------

    async def _kill_store(self, fault):
        async with self._store_changing:
            self._note(fault, "store")
            await self._servers.store.restart(fault.for_s)
            await self._servers.replicate()

    async def _pause_store(self, fault):
        async with self._store_changing:
            self._note(fault, "store")
            await self._servers.store.pause(fault.for_s)

    async def _pause_clients(self, fault):
        async with self._store_changing:
            self._note(fault, "store")
            for_ms = round(fault.for_s * 1000)
            await self._servers.store.ask("CLIENT", "PAUSE", for_ms, "ALL")
            await asyncio.sleep(fault.for_s)

    async def _sleep_store(self, fault):
        async with self._store_changing:
            self._note(fault, "store")
            await self._servers.store.ask("DEBUG", "SLEEP", fault.for_s)

    async def _fail_over(self, fault):
        async with self._store_changing:
            self._note(fault, "store")
            began_s = now_s()
            old = await self._servers.fail_over(lag_s=fault.for_s)
            await self._history.read(old)
            forgotten = await self._members(old) - await self._members(self._servers.store)
            self._lost(fault, began_s, forgotten)
            await self._servers.replicate()

    async def _flush(self, fault):
        async with self._store_changing:
            self._note(fault, "store")
            began_s = now_s()
            members = await self._history.read_and_flush(self._servers.store)
            self._lost(fault, began_s, members)

    async def _members(self, server):
        return set(await server.ask("HKEYS", Keys(self._operator.cluster).members))

    def _lost(self, fault, began_s, forgotten):
        self._journal.write("lost", fault=fault.name, began_s=began_s, forgotten=sorted(forgotten))

    async def _tell_store(self, *command_and_fault):
        *command, fault = command_and_fault
        async with self._store_changing:
            self._note(fault, "store")
            await self._servers.store.ask(*command)

    async def _kill_lock(self, fault):
        async with self._lock_changing:
            number = int(fault.target * len(self._servers.locks))
            self._note(fault, f"lock{number + 1}")
            await self._servers.locks[number].restart(fault.for_s)

    async def _pause_lock(self, fault):
        async with self._lock_changing:
            number = int(fault.target * len(self._servers.locks))
            self._note(fault, f"lock{number + 1}")
            await self._servers.locks[number].pause(fault.for_s)
