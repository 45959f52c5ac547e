"""Real node processes for the tests, and what they said."""

import asyncio
from pathlib import Path

from tests.support.observer import Observer
from tests.support.process import Process

WORKER = Path(__file__).with_name("worker.py")


class Cluster(Observer):
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
        super().__init__(url, self.settings["cluster"])

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for process in self.processes:
            await process.end()
        await self.aclose()

    async def start(self, name, installed, **settings):
        process = Process(name, WORKER)
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
