"""An upgrade with its conversion under load: `python -m tests.data.under_load --records 1000000`.

Some processes, each a node with a client that reads and writes at full speed. They are upgraded one
after the other; whoever is master is killed all the while, and started again. At the end no write
that was acknowledged is lost, none is stale, every record is in the new format, and the store's
counters and a scan agree.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from peerupgrade import Node, Settings
from peerupgrade.adapters.embedded import EmbeddedServer, die_with_parent
from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.adapters.redis_store import RedisStore
from peerupgrade.core.requests import ReadAll, Scan
from tests.data.client import FIRST, Journal, key_of
from tests.data.conftest import register_1

_ROOT = Path(__file__).parents[2]
_BATCH = 1000


@dataclass(frozen=True)
class Size:
    records: int
    kill_every_s: float
    lock_ttl_s: float = 3.0
    pace: str = "full"
    clients: int = 4
    within_s: float = 60.0


@dataclass
class Outcome:
    """What came of it; `problems` is empty if it is as it has to be."""

    records: int = 0
    kills: int = 0
    kills_while_converting: int = 0
    conversion_s: float = 0.0
    written: int = 0
    in_doubt: int = 0
    refused: int = 0
    formats: dict = field(default_factory=dict)
    counted: dict = field(default_factory=dict)
    problems: list = field(default_factory=list)


class Worker:
    """One node with its client; may be killed, and started again with what is installed."""

    def __init__(self, load, number):
        self.load, self.number, self.name = load, number, f"n{number}"
        self.installed, self.process, self.turn = "1.0", None, asyncio.Lock()

    @property
    def journal(self):
        return self.load.home / f"{self.name}.journal"

    async def start(self):
        given = {
            "settings": self.load.settings(self.name, self.installed),
            "number": self.number,
            "clients": self.load.size.clients,
            "records": self.load.size.records,
            "journal": str(self.journal),
        }
        with (self.load.home / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.data.client", json.dumps(given)),
                cwd=_ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                preexec_fn=die_with_parent(os.getpid()),
            )

    async def operates(self):
        line = await self.process.stdout.readline()
        assert line == b"operates\n", (self.load.home / f"{self.name}.log").read_text()[-2000:]

    async def end(self, how):
        self.process.send_signal(how)
        await self.process.wait()

    async def again(self, how, installed=None):
        async with self.turn:
            await self.end(how)
            self.installed = installed or self.installed
            await self.start()
            if how is signal.SIGTERM:  # whoever kills the master waits for its turn
                await self.operates()


class Load:
    """The whole of it, on a server of its own or a given one."""

    def __init__(self, home, url, cluster, size):
        self.home, self.url, self.cluster, self.size = home, url, cluster, size
        keys = Keys(cluster)
        link = RedisLink(parse_store_url(url), timeout_s=5.0, slot_key=keys.record)
        self.store = RedisStore(link, cluster, timeout_s=5.0)
        self.workers = [Worker(self, number) for number in range(size.clients)]
        self.outcome = Outcome(size.records)

    def settings(self, name, installed):
        return {
            "name": name,
            "installed": installed,
            "cluster": self.cluster,
            "store": self.url,
            "state_dir": str(self.home / name),
            "quarantine_s": 0.0,
            "lock_ttl_s": self.size.lock_ttl_s,
            "on_stop": "stay",
            "conversion_pace": self.size.pace,
        }

    async def snapshot(self):
        reply = await self.store.call(ReadAll())
        return reply.snapshot

    async def run(self):
        await self._fill()
        try:
            for worker in self.workers:
                await worker.start()
            for worker in self.workers:
                await worker.operates()
            killing = asyncio.create_task(self._kill_masters())
            async with asyncio.timeout(self.size.within_s):
                *others, last = self.workers
                for worker in others:
                    await worker.again(signal.SIGTERM, "2.0")
                while not self.outcome.kills and not killing.done():
                    await asyncio.sleep(0.05)  # with the last one the upgrade may soon be over
                await last.again(signal.SIGTERM, "2.0")
                await self._converted(killing)
            killing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await killing
            await asyncio.gather(*(worker.end(signal.SIGTERM) for worker in self.workers))
            await self._judge()
        finally:
            for worker in self.workers:
                if worker.process is not None and worker.process.returncode is None:
                    worker.process.kill()
                    await worker.process.wait()
            await self.store.aclose()
        return self.outcome

    async def _fill(self):
        node = Node(Settings(**self.settings("filler", "1.0") | {"on_stop": "leave"}))
        notes = register_1(node)
        async with node:
            for begin in range(0, self.size.records, _BATCH):
                batch = notes.batch()
                for number in range(begin, min(begin + _BATCH, self.size.records)):
                    batch.put(key_of(number), FIRST)
                await batch.commit()

    async def _kill_masters(self):
        while True:
            await asyncio.sleep(self.size.kill_every_s)
            record = (await self.snapshot()).record
            for worker in self.workers:
                if worker.name == record.master and not worker.turn.locked():
                    self.outcome.kills += 1
                    self.outcome.kills_while_converting += record.converting
                    await worker.again(signal.SIGKILL)

    async def _converted(self, killing):
        began_s = None
        while True:
            record = (await self.snapshot()).record
            if killing.done():
                await killing
            if began_s is None and record.converting:
                began_s = time.monotonic()
            if str(record.data) == "2.0":
                break
            await asyncio.sleep(0.05)
        self.outcome.conversion_s = time.monotonic() - (began_s or time.monotonic())

    # --- judging ----------------------------------------------------------------------------------

    async def _judge(self):
        outcome, found = self.outcome, {}
        cursor, formats = "", Counter()
        while cursor != "0":
            page = await self.store.call(Scan("notes", cursor or "0", 1000))
            for key, record in page.records:
                if key not in found:
                    formats[record.format] += 1
                    found[key] = msgspec.msgpack.decode(record.payload)
            cursor = page.cursor
        outcome.formats = dict(formats)
        outcome.counted = dict((await self.snapshot()).collections["notes"].counts)
        for worker in self.workers:
            self._judge_client(worker, found)
        for what, counts in (("a scan", outcome.formats), ("the store", outcome.counted)):
            if counts != {"2.0": outcome.records}:
                outcome.problems.append(f"{what} counts {counts}, there are {outcome.records}")

    def _judge_client(self, worker, found):
        journal = Journal(worker.journal, worker.number)
        kinds = Counter(line[0] for line in worker.journal.read_text().splitlines())
        self.outcome.written += kinds["a"]
        self.outcome.refused += kinds["x"]
        self.outcome.in_doubt += kinds["w"] - kinds["a"] - kinds["x"]
        self.outcome.problems += journal.problems
        for number in range(worker.number, self.size.records, self.size.clients):
            key = key_of(number)
            value = found.get(key)
            text = value["text"] if isinstance(value, dict) else value
            if text not in journal.may_be(key):
                self.outcome.problems.append(
                    f"{worker.name}: {key} is {value!r}, not {journal.may_be(key)}"
                )


async def _main(size):
    with tempfile.TemporaryDirectory(prefix="peerupgrade-load-") as home:
        server = EmbeddedServer(Path(home) / "store")
        await server.start()
        try:
            # Nobody kills the store here, and its disk would be all that is measured.
            async with Redis.from_url(server.url) as raw:
                await raw.config_set("appendonly", "no")
            return await Load(Path(home), server.url, "load", size).run()
        finally:
            await server.stop()


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.data.under_load", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--kill-every-s", type=float, default=5.0)
    parser.add_argument("--pace", choices=("full", "adaptive"), default="full")
    given = parser.parse_args()
    size = Size(given.records, given.kill_every_s, pace=given.pace, within_s=3600)
    outcome = asyncio.run(_main(size))
    for name, value in vars(outcome).items():
        print(f"{name:<24}{value if name != 'problems' else len(value)}")
    for problem in outcome.problems[:20]:
        print(f"FAILED: {problem}")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
