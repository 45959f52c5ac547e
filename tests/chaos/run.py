"""A chaos run: real nodes, real servers, real faults, while upgrades go round and round.

Each round is one upgrade. Faults go on while the nodes get the new version, and for a while after;
then all of them are taken back, and the raise goes on while nodes still stop at crash points. When
that is over, too, the upgrade must end by itself within `FINISH_S`. Everybody keeps a
journal, and at the end the checker judges what it says there.
"""

import asyncio
from contextlib import AsyncExitStack, suppress

from tests.chaos.arming import Arming
from tests.chaos.checker import judge
from tests.chaos.driving import Driver
from tests.chaos.faults import Faults
from tests.chaos.journal import Journal, now_s, read_journals
from tests.chaos.nodes import AgentPlace, WorkerPlace
from tests.chaos.operators import History, Operator
from tests.chaos.plan import Plan
from tests.chaos.points import FIRST_POINTS, HOLD_ENDS, ROLLED_BACK, TURN
from tests.chaos.release import Release
from tests.chaos.servers import Servers, url_of

CLUSTER = "chaos"
FINISH_S = 60.0
_FORM_S = 60.0
_GHOSTS_AFTER_S = 5.0
_CRASH_POINTS_S = 10.0
_EXPECTED_WITHIN_S = 30.0
_DRIVEN_UNDER_FAULTS_S = 25.0
_PLACES = (
    (WorkerPlace, {}),
    (WorkerPlace, {}),
    (WorkerPlace, {"lease_s": 2.0}),
    (WorkerPlace, {"lease_s": 1.0}),
    (AgentPlace, {}),
)
_SETTINGS = {
    "cluster": CLUSTER,
    "bootstrap_expect": sum(kind is WorkerPlace for kind, _ in _PLACES),
    "lock_ttl_s": 0.9,
    "quarantine_s": 2.6,  # the longest lease of them, with its margin
    "guard_max_s": 0.5,
    "stop_timeout_s": 2.0,
    "on_stop": "stay",
}


class Run:
    """One run; `go` does it.

    Args:
        directory: for everything; the journals stay there.
        seed: the plan is drawn from it.
        faults: whether there are any.
    """

    def __init__(self, directory, seed, *, faults=True):
        self.directory = directory
        self._plan = Plan(seed)
        self._with_faults = faults
        self._journal = Journal(directory / "run.journal")
        self._release = Release(0)
        self.interrupted = asyncio.Event()
        self._began_s = now_s()
        self._doing = "setting up"

    def progress(self):
        """One line."""
        return f"{now_s() - self._began_s:5.0f} s: {self._release.version}, {self._doing}"

    async def go(self, duration_s):
        """Until the time is over or `interrupted` is set; the round under way is finished.

        Returns:
            The verdict.
        """
        async with AsyncExitStack() as stack:
            await self._set_up(stack)
            await self._form()
            deadline_s = now_s() + duration_s
            while now_s() < deadline_s and not self.interrupted.is_set():
                try:
                    await self._round()
                except TimeoutError:
                    self._stuck("an operator's command stayed without an answer")
            await self._take_down()
        return judge(read_journals(self.directory))

    # --- set up and take down ---------------------------------------------------------------------

    async def _set_up(self, stack):
        self._servers = await stack.enter_async_context(Servers(self.directory))
        proxies = await self._servers.proxies(stack)
        self._operator = Operator(url_of(proxies[0]), CLUSTER, self._journal)
        stack.push_async_callback(self._operator.aclose)
        self._history = History(CLUSTER, self._journal)
        self._places = [
            await stack.enter_async_context(
                kind(number, self.directory, self._servers, **_SETTINGS, **settings)
            )
            for number, (kind, settings) in enumerate(_PLACES, start=1)
        ]
        self._faults = Faults(
            self._servers, self._places, self._operator, self._history, self._journal
        )
        self._arming = Arming(self._plan, self._places, self._operator, self._journal)
        watching = [
            asyncio.create_task(work)
            for work in (self._operator.watch_members(), self._operator.ask_acting())
        ]
        stack.push_async_callback(_cancel, watching)

    async def _form(self):
        """Those with crash points form the cluster: whoever commits that has them."""
        arming = asyncio.create_task(self._expect(FIRST_POINTS))
        names = [place.name for place in self._places]
        for place in sorted(self._places, key=lambda place: not place.has_points):
            place.writers = names
            if not place.has_points:
                await self._operator.until(lambda s: s.record.acting is not None, _FORM_S)
            async with place.changing:
                place.install(self._release)
                await place.start()
        await self._operator.until(lambda s: len(s.members) == len(names), _FORM_S)
        await _cancel([arming])
        await self._arming.settle()

    async def _take_down(self):
        self._doing = "reading everything back"
        for place in self._places:
            async with place.changing:
                await place.stop(leave=False)
        await self._history.read(self._servers.store)
        keys = {line["key"] for line in read_journals(self.directory) if line["kind"] == "wrote"}
        await self._operator.read_all_values(keys)

    # --- one round --------------------------------------------------------------------------------

    async def _round(self):
        upgrade = self._plan.upgrade(len(self._places))
        old, self._release = self._release, self._release.next
        driver = self._driver(upgrade) if upgrade.driven else None
        driving = asyncio.create_task(driver.run() if driver else _nothing())
        arming = asyncio.create_task(self._arming.run() if self._with_faults else _nothing())
        try:
            self._doing = "under faults"
            await self._upgrade_under_faults(upgrade, old, driver)
            # Most of a raise is still to come: here nodes only stop at crash points.
            self._doing = "finishing"
            ended = await self._completed(_CRASH_POINTS_S)
        finally:
            await _cancel([arming])
            await self._arming.settle()
        if not ended:
            await self._finish()
        await _cancel([driving])

    def _driver(self, upgrade):
        half = len(self._places) // 2 if upgrade.rolled_back else 0
        version = self._release.version
        return Driver(self._operator, self._journal, version, upgrade.failures, half)

    async def _upgrade_under_faults(self, upgrade, old, driver):
        held = upgrade.hold_s is not None
        expecting = [asyncio.create_task(self._expect(HOLD_ENDS))] if upgrade.hold_s else []
        holding = asyncio.create_task(self._operator.hold(upgrade.hold_s)) if held else None
        storm = asyncio.create_task(self._storm() if self._with_faults else _nothing())
        try:
            if driver is not None:
                expecting.append(asyncio.create_task(self._expect(TURN)))
                with suppress(TimeoutError):
                    await asyncio.wait_for(driver.all_have_it(), _DRIVEN_UNDER_FAULTS_S)
            elif upgrade.rolled_back:
                half = upgrade.order[: len(self._places) // 2]
                await self._install(upgrade, self._release, half)
                expecting.append(asyncio.create_task(self._expect(ROLLED_BACK)))
                await self._install(upgrade, old, half)
                self._journal.write("rolled back", version=self._release.version)
            if driver is None:
                await self._install(upgrade, self._release, upgrade.order)
            await asyncio.sleep(upgrade.rest_s)
        finally:
            await _cancel([storm, *expecting])
        if holding is not None:
            await self._without_ghosts(holding)
            if not upgrade.hold_s:
                await self._without_ghosts(asyncio.create_task(self._operator.release()))

    async def _without_ghosts(self, commanding):
        """What is commanded once the faults are over: ghosts may keep the store in doubt."""
        try:
            while not commanding.done():
                await asyncio.wait([commanding], timeout=_GHOSTS_AFTER_S)
                await self._exclude_ghosts()
            await commanding
        finally:
            commanding.cancel()

    async def _exclude_ghosts(self):
        await self._operator.exclude_ghosts({place.name for place in self._places})

    async def _expect(self, names):
        if self._with_faults:
            await self._arming.expect(names, _EXPECTED_WITHIN_S)

    async def _install(self, upgrade, release, order):
        for index in order:
            place = self._places[index]
            async with place.changing:
                await _install_one(place, release, upgrade.ways[index])
            await asyncio.sleep(upgrade.gaps_s[index])

    async def _storm(self):
        """Faults until cancelled; every fault that began comes to its end."""
        running = set()
        try:
            while True:
                fault = self._plan.fault()
                task = asyncio.create_task(self._faults.inject(fault))
                running.add(task)
                await asyncio.sleep(fault.gap_s)
        finally:
            await asyncio.gather(*running)

    async def _completed(self, timeout_s):
        """Has the upgrade ended by then?"""
        with suppress(AssertionError):
            await self._operator.completed(self._release.version, timeout_s)
            return True
        return False

    async def _finish(self):
        """The upgrade must end by itself; only ghosts are for the operator."""
        version, deadline_s = self._release.version, now_s() + FINISH_S
        while now_s() < deadline_s:
            await self._exclude_ghosts()
            if await self._completed(_GHOSTS_AFTER_S):
                return
        self._stuck(f"{version}: {await self._operator.snapshot()}")

    def _stuck(self, why):
        """A violation; nothing that comes after it would say more."""
        self._journal.write("stuck", why=why)
        self.interrupted.set()


async def _install_one(place, release, way):
    """In place only upwards: going back is a restart, so that nobody is told it too late."""
    goes_back = place.installed.number > release.number
    if way == "in place" and not goes_back and place.knows(release):
        place.upgrade_in_place(release)
        return
    if way == "killed":
        await place.kill()
    else:
        await place.stop(leave=False)
    place.install(release)
    await place.start()


async def _nothing():
    await asyncio.Event().wait()


async def _cancel(tasks):
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
