"""Real `peerupgrade node` processes, asked by real commands."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from peerupgrade.cli import main
from peerupgrade.errors import ExitCode
from tests.support.process import send_signal

COMMAND = (sys.executable, "-m", "peerupgrade")
_LOOK_AGAIN_S = 0.2


class Agents:
    """The agents of one cluster, each with its installed version in a file.

    Args:
        store: its URL.
        directory: for everything that they keep.
        monkeypatch: commands run in this process, so they find the agents by its environment.
        capsys: what the commands print.
    """

    def __init__(self, store, directory, monkeypatch, capsys):
        self.directory, self._capsys = directory, capsys
        for name in [name for name in os.environ if name.startswith("PEERUPGRADE_")]:
            monkeypatch.delenv(name)
        (directory / "run").mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory / "run"))
        monkeypatch.setenv("XDG_STATE_HOME", str(directory / "state"))
        monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
        self.settings = {"STORE": store, "LOCK_TTL_S": "0.9", "QUARANTINE_S": "0.5"}
        self.command = COMMAND
        self.running = {}
        self.others = []

    def start(self, name, **settings):
        """Start one; again once it has ended."""
        version = self.directory / f"{name}.version"
        if not version.exists():
            version.write_text("1.0")
        self.run(name, "--installed-command", f"cat {version}", **settings)

    def run(self, name, *arguments, cwd=None, **settings):
        """Start one by arguments of its own."""
        if name in self.running:
            self.running[name].wait(timeout=20)
        environment = {
            f"PEERUPGRADE_{key.upper()}": value for key, value in (self.settings | settings).items()
        }
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*self.command, "node", "--name", name, *arguments],
                cwd=cwd,
                env={**os.environ, **environment},
                stderr=log,
            )

    async def form(self, *names, **settings):
        """Start several, and wait until each operates and hears all others."""
        for name in names:
            self.start(name, bootstrap_expect=str(len(names)), **settings)
        await self.formed(*names)

    async def formed(self, *names):
        """Wait until each operates and hears all others."""
        for name in names:

            async def operate(asked=name):
                found = await self.members(asked)
                return {
                    other
                    for other, one in found.items()
                    if one["condition"] == "alive" and one["operating"]
                } >= set(names)

            await eventually(operate)

    def install(self, name, version):
        """Other software on a node."""
        (self.directory / f"{name}.version").write_text(version)
        self.signal(name, signal.SIGHUP)

    def signal(self, name, number):
        send_signal(self.running[name], number)

    async def ask(self, name, *words):
        """One command, asked of one agent: its exit code, its JSON, what it said beside that."""
        asked = (*words, "--node", name, "-o", "json")
        code = await asyncio.to_thread(main, asked)
        out, err = self._capsys.readouterr()
        return code, json.loads(out) if out else None, err

    async def members(self, name):
        """What one agent says of all, by name; empty while it says nothing."""
        code, answer, _ = await self.ask(name, "members")
        return {} if code != ExitCode.OK else {one["name"]: one for one in answer["members"]}

    async def until(self, asked, *wanted, timeout_s=20):
        """Wait until `members` of one agent shows each (name, condition); gives what it shows."""
        found = {}

        async def reached():
            nonlocal found
            found = await self.members(asked)
            shown = {(name, one["condition"]) for name, one in found.items()}
            return found if shown >= set(wanted) else None

        try:
            return await eventually(reached, timeout_s)
        except TimeoutError:
            raise AssertionError(f"{asked} does not show {wanted}: {found}") from None

    def watch(self, name):
        """Follow what happens, in a process of its own; gives a function for what it has told."""
        told = self.directory / f"{name}.watch"
        with told.open("wb") as file:
            self.others.append(
                subprocess.Popen([*COMMAND, "watch", "--node", name, "-o", "json"], stdout=file)
            )
        return lambda: [json.loads(line) for line in told.read_text().splitlines()]

    def end(self):
        for process in [*self.running.values(), *self.others]:
            send_signal(process, signal.SIGCONT)
            process.kill()
            process.wait()


async def eventually(reached, timeout_s=20):
    """Wait until `await reached()` is true; gives what it gave."""
    async with asyncio.timeout(timeout_s):
        while not (found := await reached()):
            await asyncio.sleep(_LOOK_AGAIN_S)
        return found
