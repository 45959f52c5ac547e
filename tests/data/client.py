"""One node with a client in it, as a process: `python -m tests.data.client JSON`.

The client reads and writes its own keys as fast as it can. Its journal survives SIGKILL:

    w KEY N   about to write value N          a KEY N   the store has taken it
    x KEY N   refused, nothing was written    ! KEY ... a read that cannot be

What is neither taken nor refused may have been written. It checks what it reads against that.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from random import Random

from peerupgrade import ConflictError, Node, Settings, StaleVersionError, UnavailableError
from tests.data.conftest import register_1, register_2

FIRST = "first"


class Journal:
    """What one client knows of its keys: the last value that was taken, and what may be since."""

    def __init__(self, path, client):
        self.client, self.taken, self.maybe, self.count = client, {}, {}, 0
        self.problems = []
        for line in path.read_text().splitlines() if path.exists() else ():
            self._apply(*line.split(" ", 2))
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, kind, key, what):
        os.write(self._file, f"{kind} {key} {what}\n".encode())
        self._apply(kind, key, str(what))

    def _apply(self, kind, key, what):
        match kind:
            case "w":
                self.count = int(what)
                self.maybe.setdefault(key, set()).add(self.value(what))
            case "a":
                self.taken[key] = self.value(what)
                self.maybe.pop(key, None)  # one writer: what came before it is over
            case "x":
                self.maybe[key].discard(self.value(what))
            case "!":
                self.problems.append(f"{key}: {what}")

    def value(self, number):
        return f"{self.client} {number}"

    def may_be(self, key):
        """What a read of a key may answer."""
        return {self.taken.get(key, FIRST), *self.maybe.get(key, ())}


def key_of(number):
    return f"k{number}"


class Client:
    """Reads and writes, until it is told to end."""

    def __init__(self, given, node, journal):
        self.node, self.journal, self.ended = node, journal, asyncio.Event()
        self.notes = node.collection("notes")
        self.old = given["settings"]["installed"] == "1.0"
        self.rng = Random()
        self.numbers = range(given["number"], given["records"], given["clients"])

    async def run(self):
        while not self.ended.is_set():
            await self.write(key_of(self.rng.choice(self.numbers)))
            await self.read(key_of(self.rng.choice(self.numbers)))

    async def write(self, key):
        number = self.journal.count + 1
        text = self.journal.value(number)
        self.journal.note("w", key, number)
        try:
            await self.notes.put(key, text if self.old else {"text": text, "words": 2})
        except (StaleVersionError, ConflictError):
            self.journal.note("x", key, number)
            await asyncio.sleep(0.002)
        except UnavailableError:
            await asyncio.sleep(0.01)
        else:
            self.journal.note("a", key, number)

    async def read(self, key):
        try:
            record = await self.notes.get(key)
        except UnavailableError:
            return
        found = record and (record.value if self.old else record.value["text"])
        if found not in self.journal.may_be(key):
            self.journal.note("!", key, f"reads {found!r}, not {self.journal.may_be(key)}")


async def main(given):
    node = Node(Settings(**given["settings"]))
    (register_1 if given["settings"]["installed"] == "1.0" else register_2)(node)
    client = Client(given, node, Journal(Path(given["journal"]), given["number"]))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.ended.set)
    async with node:
        print("operates", flush=True)
        await client.run()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
