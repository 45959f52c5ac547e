"""Real node processes for the tests, and what they said."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.adapters.redis_store import RedisStore
from peerupgrade.core.requests import All, ReadAll

WORKER = Path(__file__).with_name("worker.py")


class Process:
    """One worker."""

    def __init__(self, name):
        self.name = name
        self.said = []
        self.changed = asyncio.Condition()

    async def start(self, settings):
        env = {**os.environ, "WORKER_SETTINGS": json.dumps(settings)}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(WORKER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=env,
        )
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self.process.stdout.readline():
            async with self.changed:
                self.said.append(json.loads(line))
                self.changed.notify_all()
        await self.process.wait()
        async with self.changed:
            self.said.append({"exit": self.process.returncode})
            self.changed.notify_all()

    def tell(self, **command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")

    async def hear(self, *keys, since=0, timeout_s=20.0):
        """The first thing said, from number `since` on, that has one of the keys."""

        def found():
            return next((what for what in self.said[since:] if any(k in what for k in keys)), None)

        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(found), timeout_s)
        return found()

    async def ask(self, answer, **command):
        since = len(self.said)
        self.tell(**command)
        return (await self.hear(answer, "exit", since=since)).get(answer)

    def signal(self, number):
        self.process.send_signal(number)

    @property
    def operated(self):
        """Every version that it was about to operate at, in order."""
        return [what["operates"] for what in self.said if "operates" in what]

    async def end(self):
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        await self.reading
        self.process.stdin.close()


class Cluster:
    """Several workers on one store, and a look into it."""

    def __init__(self, url, directory, **settings):
        self.url, self.directory = url, Path(directory)
        self.settings = {
            "cluster": self.directory.name[-40:],
            "lock_ttl_s": 0.9,
            "quarantine_s": 1.0,
            **settings,
        }
        self.processes = []
        keys = Keys(self.settings["cluster"])
        link = RedisLink(parse_store_url(url), timeout_s=2.0, slot_key=keys.record)
        self.store = RedisStore(link, self.settings["cluster"])

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for process in self.processes:
            await process.end()
        await self.store.aclose()

    async def start(self, name, installed, **settings):
        process = Process(name)
        self.processes.append(process)
        await process.start(
            {
                "name": name,
                "installed": installed,
                "store": self.url,
                "state_dir": str(self.directory / name),
                **self.settings,
                **settings,
            }
        )
        return process

    async def form(self, installed, *names, **settings):
        """Start several, and wait until all operate."""
        expect = {"bootstrap_expect": len(names), **settings}
        started = [await self.start(name, installed, **expect) for name in names]
        for process in started:
            assert await process.hear("ready", "error") == {"ready": installed}
        return started

    async def snapshot(self):
        reply = await self.store.call(ReadAll())
        return reply.snapshot if isinstance(reply, All) else None

    async def until(self, reached, timeout_s=20.0):
        """Wait until `reached(snapshot)`; gives the snapshot."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while True:
            snapshot = await self.snapshot()
            if snapshot is not None and snapshot.record is not None and reached(snapshot):
                return snapshot
            if asyncio.get_running_loop().time() > deadline_s:
                raise AssertionError(f"not reached within {timeout_s} s: {snapshot}")
            await asyncio.sleep(0.02)

    async def completed(self, version, timeout_s=20.0):
        """Wait until the upgrade to `version` has ended by itself."""
        return await self.until(
            lambda s: (
                s.verified
                and s.record.completion is not None
                and s.record.completion.version == version
                and s.record.upgrade is None
                and str(s.record.data) == version
            ),
            timeout_s,
        )

    async def master(self, *, other_than=""):
        """The process that holds the mastership."""
        while True:
            for process in self.processes:
                if process.name == other_than or process.process.returncode is not None:
                    continue
                status = await process.ask("status", do="status")
                if status and status["epoch"]:
                    return process
            await asyncio.sleep(0.05)

    async def history(self):
        """Oldest first."""
        return list(reversed(await self.store.history(1000)))
