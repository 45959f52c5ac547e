"""The nodes of a run: each in a place that keeps one running, whatever it dies of.

A place has a way of its own to every server. What runs there is either a worker, which embeds the
node, or the `node` command as operators run it, whose journal is kept from the outside.
"""

import asyncio
import json
import os
import shlex
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from peerupgrade.adapters.embedded import die_with_parent
from tests.chaos.journal import Journal, now_s
from tests.chaos.release import read_installed, write_installed
from tests.chaos.servers import url_of
from tests.support.process import Process, send_signal

WORKER = Path(__file__).with_name("worker.py")
TELL = Path(__file__).with_name("tell.py")
INSTALL = Path(__file__).with_name("install.py")
# What a start of the interpreter costs, many at once on a small machine, is within this.
_END_S = 20.0
_RESTART_S = 0.2
_SAYS_WHY_S = 1.0
_POLL_S = 0.1


class Place:
    """Where one node runs.

    Attributes:
        leaves: it can be told to leave the cluster when it stops.
        has_points: it has crash points.

    Args:
        number: of the place.
        directory: for state and journals.
        servers: what it is to reach.
        settings: of the node, beside those that this knows by itself.
    """

    leaves = has_points = True

    def __init__(self, number, directory, servers, **settings):
        self.number, self.directory, self.servers = number, directory, servers
        self.settings = settings
        self.name = f"n{number}"
        self.software = directory / f"place{number}.version"  # a rollout changes it, too
        self.started = None  # the release
        self.writers = [self.name]
        self.starts = self.disk = 0
        self.changing = asyncio.Lock()  # one change of what runs here at a time
        self.wanted = False
        self.running = None
        self.on_said = None  # called with what a worker says
        self.armed = {}  # crash points: slot -> (name, action)
        self._stack = AsyncExitStack()

    async def __aenter__(self):
        self.proxies = await self.servers.proxies(self._stack)
        self._journal = Journal(self.directory / f"place{self.number}.journal")
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_):
        self.wanted = False
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        await self.kill()
        await self._stack.aclose()

    @property
    def has_lease(self):
        """It suspends itself when the store does not answer for so long."""
        return bool(self.settings.get("lease_s"))

    # --- life -------------------------------------------------------------------------------------

    @property
    def installed(self):
        """The release."""
        return read_installed(self.software)

    def install(self, release):
        """What is started from here on."""
        write_installed(self.software, release.version)

    async def start(self):
        """Start what is installed now."""
        release = self.started = self.installed
        self.wanted = True
        self.starts += 1
        start = self.number * 1000 + self.starts  # unique in the run
        running = self._made(start)
        await running.start(
            {
                "name": self.name,
                "installed": release.version,
                "lowest_supported": release.lowest,
                "store": url_of(self.proxies[0]),
                "lock_servers": [url_of(proxy) for proxy in self.proxies[1:]],
                "state_dir": str(self.directory / f"{self.name}-{self.disk}"),
                **self.settings,
            }
        )
        self.running = running
        self._tell_armed()  # it may have changed meanwhile

    async def kill(self):
        """SIGKILL; on return the process is certainly gone."""
        self.wanted = False
        if self.running is not None:
            await self.running.kill()

    async def stop(self, *, leave):
        """In order; killed if it takes too long, so on return it is certainly gone."""
        self.wanted = False
        try:
            await asyncio.wait_for(self.running.stop(leave), _END_S)
        except TimeoutError:
            self.running.note("hung")
            self.running.signal(signal.SIGUSR1)  # it writes into its log what it waits for
            await asyncio.sleep(_SAYS_WHY_S)
        await self.running.kill()

    def knows(self, release):
        """What runs here can become this without a restart: a program knows the formats that it
        was started with, and those of one release more.
        """
        return not self.has_points or release in (self.started, self.started.next)

    def upgrade_in_place(self, release):
        """Other software, without a restart."""
        self.install(release)
        self.running.install(release.version, release.lowest)

    def lose_disk(self):
        """What comes next remembers nothing; only while nothing runs."""
        self.disk += 1

    def arm(self, slot, name, action):
        """What runs here, and what will, stops at this point."""
        self.armed[slot] = (name, action)
        self._tell_armed()

    def disarm(self, slot):
        if self.armed.pop(slot, None):
            self._tell_armed()

    def _tell_armed(self):
        if self.running is not None:
            self.running.tell(do="arm", points=self.armed)

    def take_name(self, name):
        """What comes next is another node; only while nothing runs."""
        self.name, self.disk = name, self.disk + 1

    async def _keep(self):
        """Start again what ended and should not have: a crash point, a refusal."""
        while True:
            await asyncio.sleep(_RESTART_S)
            if self.changing.locked():
                continue
            async with self.changing:
                if self.wanted and self.running.ended:
                    await self.running.kill()
                    await self.start()

    def _made(self, start):
        raise NotImplementedError


class WorkerPlace(Place):
    """A node that is embedded in a program."""

    def _made(self, start):
        return _Worker(self, start, self._journal)


class AgentPlace(Place):
    """A node beside a program that is told by a command."""

    leaves = False  # its settings say that it stays
    has_points = False

    def _made(self, start):
        return _Agent(self, start, self._journal)


class _Running:
    """One start of a node."""

    def __init__(self, place, start, journal):
        self.place, self.start_number, self.journal = place, start, journal
        self.name = place.name
        self._stops = 0  # how many things keep it stopped at this moment

    def pause(self):
        """Stop it; it goes on when everybody who did so has resumed it."""
        self.stopped_itself()
        self.signal(signal.SIGSTOP)

    def stopped_itself(self):
        """Or is about to: a signal of ours could come before its own, and be one too many."""
        self._stops += 1

    def resume(self):
        self._stops -= 1
        if not self._stops:
            self.signal(signal.SIGCONT)

    def signal(self, number):
        raise NotImplementedError

    def note(self, kind, **what):
        self.journal.write(kind, node=self.name, start=self.start_number, **what)


class _Worker(_Running):
    async def start(self, settings):
        place = self.place
        self._process = Process(self.name, WORKER, place.directory / f"{self.name}.log")
        self._noted = False
        await self._process.start(
            {
                "settings": settings,
                "start": self.start_number,
                "software": str(place.software),
                "disk": place.disk,
                "journal": str(place.directory / f"{self.name}.journal"),
                "writers": place.writers,
                "armed": place.armed,
            }
        )
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self):
        """Tell the place what the worker says, until it ends."""
        heard = 0
        while True:
            async with self._process.changed:
                while len(self._process.said) == heard:
                    await self._process.changed.wait()
            said = self._process.said[heard]
            heard += 1
            if "exit" in said:
                return
            if self.place.on_said is not None:
                self.place.on_said(said)

    @property
    def ended(self):
        return self._listening.done()

    def signal(self, number):
        self._process.signal(number)

    def tell(self, **command):
        if not self._process.process.stdin.is_closing():  # else it has died by itself
            self._process.tell(**command)

    def install(self, installed, lowest):
        self.tell(do="installed", installed=installed, lowest=lowest)

    async def stop(self, leave):
        self.tell(do="stop", leave=leave)
        await asyncio.shield(self._listening)  # giving up on it does not end it

    async def kill(self):
        await self._process.end()
        await self._listening
        if not self._noted:
            self._noted = True
            self.note("ended", status=self._process.process.returncode)


class _Agent(_Running):
    """`python -m peerupgrade node`, and its journal."""

    async def start(self, settings):
        place = self.place
        self._files = place.directory / f"agent-{self.start_number}"
        (self._files / "run").mkdir(mode=0o700, parents=True)
        self._settings = settings
        self._noted = False
        journal = place.directory / f"{self.name}.journal"
        who = [str(journal), self.name, str(self.start_number)]
        told = [sys.executable, "-IS", str(TELL), *who]
        lowest = settings["lowest_supported"]
        steps = [sys.executable, "-IS", str(INSTALL), *who, str(place.software), lowest]
        settings = {
            **settings,
            "installed_command": f"cat {place.software}",
            "on_acting_command": shlex.join(told),
            "install_command": shlex.join(steps),
        }
        self._install(settings, settings.pop("installed"), settings["lowest_supported"])
        self._note_installed("began", lease_s=settings.get("lease_s", 0), disk=place.disk)
        self._log = (self._files / "log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "peerupgrade", "node"),
            *("--config", str(self._files / "node.toml")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "XDG_RUNTIME_DIR": str(self._files / "run")},
            start_new_session=True,  # a Ctrl-C is for whoever runs this
            preexec_fn=die_with_parent(os.getpid()),
        )
        self._watching = asyncio.create_task(self._watch())

    def _install(self, settings, installed, lowest):
        """What the node reads at its start and at SIGHUP."""
        self._settings = {**settings, "lowest_supported": lowest}
        self._versions = (installed, lowest)
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in self._settings.items()]
        path = self._files / "node.toml"
        path.touch(mode=0o600)
        path.write_text("".join(lines))

    def _note_installed(self, kind, **more):
        installed, lowest = self._versions
        self.note(kind, installed=installed, lowest=lowest, **more)

    async def _watch(self):
        """Note when it says that it does not operate."""
        said = None
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await asyncio.sleep(_POLL_S)
                began_s = now_s()
                node = await self._get_node(session)
                if node is None:
                    continue
                if node["operating"] is None and said is not None:
                    self.note("suspended", reason=node["reason"])
                elif node["operating"] is not None:
                    version, incarnation = node["operating"], node["incarnation"]
                    self.note(
                        "operation", began_s=began_s, version=version, incarnation=incarnation
                    )
                said = node["operating"]

    async def _get_node(self, session):
        """What it says about itself; None while it does not answer."""
        found = next((self._files / "run").glob("peerupgrade/*.json"), None)
        try:
            url = json.loads(found.read_bytes())["url"] if found else ""
            async with session.get(f"{url}/v1/node") as answer:
                return await answer.json()
        except (OSError, ValueError, TimeoutError, aiohttp.ClientError):
            return None

    @property
    def ended(self):
        return self._process.returncode is not None

    def signal(self, number):
        send_signal(self._process, number)

    def tell(self, **command):
        """Nothing: it is commanded as operators do it."""

    def install(self, installed, lowest):
        self._install(self._settings, installed, lowest)
        self._note_installed("installed")
        self.signal(signal.SIGHUP)

    async def stop(self, leave):
        del leave  # as its settings say
        self.signal(signal.SIGTERM)
        await self._process.wait()

    async def kill(self):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        await self._process.wait()
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        self._log.close()
        if not self._noted:
            self._noted = True
            self.note("ended", status=self._process.returncode)
