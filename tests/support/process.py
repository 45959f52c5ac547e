"""A child process that is told things in lines of JSON, and says what happens in the same way."""

import asyncio
import json
import os
import signal
import sys
from contextlib import nullcontext, suppress


def send_signal(process, number):
    """The library looks first whether the process has ended, and thereby takes its exit status away
    from whoever waits for it.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


class Process:
    """One worker: a Python program that finds its settings in WORKER_SETTINGS.

    Args:
        name: of the worker.
        program: path of the program.
        log: path of a file for what it says on stderr; None: where ours goes.
    """

    def __init__(self, name, program, log=None):
        self.name = name
        self.program = program
        self.log = log
        self.said = []
        self.changed = asyncio.Condition()

    async def start(self, settings):
        env = {**os.environ, "WORKER_SETTINGS": json.dumps(settings)}
        with self.log.open("ab") if self.log else nullcontext() as stderr:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(self.program),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=env,
                start_new_session=True,  # a Ctrl-C is for whoever runs the tests
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
        send_signal(self.process, number)

    @property
    def operated(self):
        """Every version that it was about to operate at, in order."""
        return [what["operates"] for what in self.said if "operates" in what]

    async def end(self):
        if self.process.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        await self.reading
        self.process.stdin.close()
