"""One node of a chaos run, embedded in a process of its own.

It does guarded operations all the time, on the shared store, and keeps a journal. Commanded by
lines of JSON:

    {"do": "installed", "installed": "1.2", "lowest": "1.1"}
    {"do": "arm", "points": {"common": ["before admit", "die"]}}
    {"do": "resign"}
    {"do": "stop", "leave": true}
"""

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path

from redis.exceptions import RedisError

sys.path[0] = str(Path(__file__).parents[2])  # it is started as a file

from peerupgrade import Node, Settings  # noqa: E402
from peerupgrade.errors import (  # noqa: E402
    DataError,
    PeerUpgradeError,
    StaleVersionError,
    SuspendedError,
    UnavailableError,
)
from tests.chaos import points as crash_points  # noqa: E402
from tests.chaos.client import Values, connect  # noqa: E402
from tests.chaos.journal import Journal, now_s  # noqa: E402
from tests.chaos.notes import Notes  # noqa: E402
from tests.chaos.release import Release, write_installed  # noqa: E402

_BETWEEN_OPERATIONS_S = 0.03
_WAIT_RECORD_S = 60.0
_RELEASES = 3  # so many before and after the installed one have steps


async def _prepare(_context):
    """A step before a raise; there is a crash point on either side of it."""
    await asyncio.sleep(0)


def say(**what):
    print(json.dumps(what), flush=True)


class Worker:
    """The node, its operations, and what is written down about both."""

    def __init__(self, given):
        self.name, self.start = given["settings"]["name"], given["start"]
        self.journal = Journal(given["journal"], node=self.name, start=self.start)
        self.points = crash_points.Points(self._reached, given["armed"])
        self.settings = Settings(**given["settings"])
        self.writers = given["writers"]
        self.software = Path(given["software"])
        self.drained = False
        self.disk = given["disk"]
        self.stopped = asyncio.Event()
        self.lease_until_s = 0.0

    def _reached(self, name, action):
        self.journal.write("point", name=name, action=action)
        say(point=name, action=action)

    def _installed(self, kind, installed, lowest, **more):
        self.journal.write(kind, installed=installed, lowest=lowest, **more)

    async def run(self):
        settings = self.settings
        self._installed(
            "began",
            settings.installed,
            settings.lowest_supported,
            lease_s=settings.lease_s,
            disk=self.disk,
        )
        crash_points.install(self.points)
        self.node = Node(settings)
        self.notes = Notes(
            self.node,
            self.journal,
            self.name,
            self.start,
            settings.installed,
            settings.lowest_supported,
        )
        self._take_turns()
        newest = Release.of(settings.installed).number
        for number in range(max(0, newest - _RELEASES), newest + _RELEASES):
            self.node.before(f"1.{number}")(_prepare)

        @self.node.on_acting
        def _(version, previous):
            self._note_lease()
            self.journal.write("operates", version=version)

        events = self.node.events()
        await self.node.start()
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._obey(),
                self._note_suspensions(events),
                self._note_records(),
                self._operate(),
            )
        ]
        ended = asyncio.create_task(self.node.ended())
        stopped = asyncio.create_task(self.stopped.wait())
        await asyncio.wait((ended, stopped, *tasks), return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()  # raises what it died of
        if not self.stopped.is_set():
            raise ended.result()

    # --- its turn in a rollout --------------------------------------------------------------------

    def _take_turns(self):
        """It is drained, gets other software, ends, and is started in that."""
        turn = self.node.on_turn

        # A process that has just started is not drained.
        @turn("drain", look=lambda _: self.drained)
        def _(_):
            self.drained = True

        @turn("install")
        def _(context):
            if self.node.operating is not None:
                self.journal.write("unsafe", version=context.version)
            write_installed(self.software, context.version)

        @turn("restart")
        def _(_):
            os._exit(0)

        @turn("undrain", look=lambda _: not self.drained)
        def _(_):
            self.drained = False

    # --- the journal ------------------------------------------------------------------------------

    def _note_lease(self):
        """How long it operates without a further word from the store."""
        until_s = self.node._core.membership.lease_deadline_s
        if self.settings.lease_s and until_s != self.lease_until_s:
            self.lease_until_s = until_s
            self.journal.write("lease", until_s=until_s)

    async def _note_suspensions(self, events):
        async for event in events:
            if event.event == "suspended":
                self.journal.write("suspended", reason=event.detail)

    async def _note_records(self):
        revision, held = 0, 0
        while True:
            record = await self.node.wait_newer(revision, _WAIT_RECORD_S)
            if record is None or record.revision <= revision:
                continue
            revision = record.revision
            hold = record.hold.at_ms if record.hold is not None else 0
            if hold != held:
                held = hold
                self.journal.write("remembers", hold=hold)

    # --- operations -------------------------------------------------------------------------------

    async def _operate(self):
        timeout_s = self.settings.guard_max_s
        client = connect(self.settings.store, timeout_s)
        values = Values(client, self.journal, self.settings.cluster, self.name, self.start)
        while True:
            await asyncio.sleep(_BETWEEN_OPERATIONS_S * random.uniform(0.5, 1.5))
            if self.drained:
                continue
            try:
                async with asyncio.timeout(timeout_s):
                    await self._operation(values)
            except SuspendedError:
                pass  # it says so in the journal by itself
            except (StaleVersionError, UnavailableError):
                pass  # the collection could not: refused, or no answer
            except DataError as error:
                self.journal.write("unreadable", error=str(error))
            except (RedisError, OSError, TimeoutError):
                await values.reconnect()

    async def _operation(self, values):
        self._note_lease()
        began_s = now_s()
        async with self.node.guard() as version:
            incarnation = self.node.status().incarnation
            self.journal.write(
                "operation", began_s=began_s, version=version, incarnation=incarnation
            )
            await values.write(version)
            await values.read(random.choice(self.writers))
            await self.notes.write(version)
            await self.notes.read(random.choice(self.writers))

    # --- commands ---------------------------------------------------------------------------------

    async def _obey(self):
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            await self._obey_one(json.loads(line))
        os._exit(0)  # whoever commanded it is gone

    async def _obey_one(self, command):
        match command["do"]:
            case "installed":
                self._installed("installed", command["installed"], command["lowest"])
                self.node.installed_changed(command["installed"], command["lowest"])
            case "arm":
                self.points.arm(command["points"])
            case "resign":
                await self.node.resign()
            case "stop":
                await self.node.stop(leave=command["leave"])
                self.stopped.set()


def show_tasks():
    """SIGUSR1: what everything waits for, to find out why it does not end."""
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, show_tasks)
    worker = Worker(json.loads(os.environ["WORKER_SETTINGS"]))
    try:
        await worker.run()
    except PeerUpgradeError as error:
        say(error=str(error), rule=getattr(error, "rule", ""))
        worker.journal.write("suspended", reason=str(error))
        await worker.node.stop(leave=False)
        os._exit(error.exit_code)
    os._exit(0)


asyncio.run(main())
