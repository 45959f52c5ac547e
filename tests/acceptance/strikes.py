"""Rollouts in which something is killed: `scripts/strikes [--runs N] [--jobs N] [--keep DIR]`.

Three agents, each with a command for every step. In the middle of a step of one node that node, the
master, the store, or two of them are killed at once, and started again. The rollout must end as if
nothing had been: every node at the version, no step run twice, never two nodes down. Who is killed,
in which step, and whether before or after the step has done its work, goes round in a fixed order.
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import multiprocessing
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from peerupgrade.adapters.embedded import EmbeddedServer
from peerupgrade.errors import ExitCode
from tests.acceptance.agents import Agents, eventually

STEPS = ("drain", "install", "restart", "verify", "undrain")
VICTIMS = (("node",), ("master",), ("store",), ("node", "master"), ("node", "store"))
MOMENTS = ("before", "after")
_NAMES = ("a", "b", "c")
_WITHIN_S = 90.0
_AWAY_S = 0.3  # a store that is killed stays away for so long


@dataclass(frozen=True)
class Strike:
    """Who is killed, in which step, and before or after that has done its work."""

    victims: tuple
    step: str
    moment: str

    def __str__(self):
        return f"{' and '.join(self.victims)}, {self.moment} the work of {self.step}"


STRIKES = tuple(
    Strike(victims, step, MOMENTS[(at + turn) % 2])
    for turn, victims, (at, step) in itertools.product((0, 1), VICTIMS, enumerate(STEPS))
)


class Struck:
    """One rollout; `problems` is empty if it ended as it has to.

    Args:
        strike: what happens in it.
        server: the store, running.
        agents: of the cluster, none of them started.
    """

    def __init__(self, strike, server, agents):
        self.strike, self.server, self.agents = strike, server, agents
        self.told = agents.directory / "steps"  # by all nodes, in order
        self.within, self.once = agents.directory / "within", agents.directory / "once"
        self.problems = []

    async def run(self):
        await self._form()
        await self._asks("upgrade", "start", "2.0")
        await eventually(lambda: asyncio.to_thread(self.within.exists), _WITHIN_S)
        await self._kill(self.within.read_text().strip())
        ended = await eventually(self._ended, _WITHIN_S)
        await eventually(self._at_2, _WITHIN_S)
        if ended["outcome"] != "done" or ended["skipped"]:
            self.problems.append(f"it ended {ended}")
        self._judge_steps()
        return self.problems

    # --- the cluster ------------------------------------------------------------------------------

    def _start(self, name):
        self.agents.start(name, bootstrap_expect=str(len(_NAMES)), **self._commands(name))

    async def _form(self):
        for name in _NAMES:
            self._start(name)
        for name in _NAMES:

            async def operate(asked=name):
                found = await self.agents.members(asked)
                return all(found.get(one, {}).get("operating") for one in _NAMES)

            await eventually(operate, _WITHIN_S)

    def _commands(self, name):
        """A step says that it has run when it has; the one that is struck waits on the way."""
        found = {}
        for step in STEPS:
            work = f'echo "{name} $PEERUPGRADE_STEP" >> {self.told}'
            if step == "install":
                version = self.agents.directory / f"{name}.version"
                work = f'{work}; echo "$PEERUPGRADE_VERSION" > {version}'
            if step == self.strike.step:
                wait = (
                    f"[ -e {self.once} ] || (touch {self.once}; echo {name} > {self.within});"
                    f" while [ -e {self.within} ]; do sleep 0.05; done"
                )
                before = self.strike.moment == "before"
                work = f"{wait}; {work}" if before else f"{work}; {wait}"
            found[f"{step}_command"] = f"sh -c '{work}'"
        self.told.touch()
        looks = f"sh -c 'grep -q \"{name} $PEERUPGRADE_STEP\" {self.told}'"
        return found | {"look_command": looks}

    async def _kill(self, node):
        """All victims at the same moment; then what they are is started again."""
        _, shown, _ = await self.agents.ask(node, "master", "show")
        names = {{"node": node, "master": shown["master"]}.get(one) for one in self.strike.victims}
        names.discard(None)
        for name in names:
            self.agents.signal(name, signal.SIGKILL)
        if "store" in self.strike.victims:
            await self.server.kill()
            await asyncio.sleep(_AWAY_S)
            await self.server.start()
        self.within.unlink()
        for name in names:
            self._start(name)

    # --- what is asked ----------------------------------------------------------------------------

    async def _asks(self, *words):
        """Of whichever agent answers."""

        async def answered():
            for name in _NAMES:
                code, answer, _ = await self.agents.ask(name, *words)
                if code == ExitCode.OK:
                    return answer
            return None

        return await eventually(answered, _WITHIN_S)

    async def _ended(self):
        answer = await self._asks("upgrade", "status")
        return answer["ended"] if answer["rollout"] is None else None

    async def _at_2(self):
        answer = await self._asks("members")
        return all(one["operating"] == "2.0" for one in answer["members"])

    def _judge_steps(self):
        lines = [line.split() for line in self.told.read_text().splitlines()]
        for name in _NAMES:
            ran = Counter(step for who, step in lines if who == name)
            again = {step: count for step, count in ran.items() if count > 1 and step != "verify"}
            if again or set(ran) != set(STEPS):
                self.problems.append(f"{name} ran {dict(ran)}")
        turns = [who for who, _ in itertools.groupby(lines, key=lambda line: line[0])]
        if len(turns) != len(_NAMES):
            self.problems.append(f"the turns were not one after the other: {turns}")


class _Said:
    """What the commands print; they run in this process."""

    def __init__(self):
        self.out, self.err = io.StringIO(), io.StringIO()

    def readouterr(self):
        found = self.out.getvalue(), self.err.getvalue()
        for stream in (self.out, self.err):
            stream.seek(0)
            stream.truncate()
        return found


async def struck(strike, directory):
    """One whole run, with a store and agents of its own; gives its problems."""
    said = _Said()
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(said.out))
        stack.enter_context(contextlib.redirect_stderr(said.err))
        async with EmbeddedServer(directory / "store") as server:
            agents = Agents(server.url, directory, patch, said)
            run = Struck(strike, server, agents)
            try:
                return await run.run()
            except TimeoutError:
                _, answer, _ = await agents.ask("a", "why")
                return [f"it does not go on: {answer}"]
            finally:
                agents.end()


def _one(drawn):
    number, keep = drawn
    strike, began_s = STRIKES[number % len(STRIKES)], time.monotonic()
    with contextlib.ExitStack() as stack:
        home = keep and keep / str(number)
        home = home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strike-")))
        home.mkdir(parents=True, exist_ok=True)
        problems = asyncio.run(struck(strike, home))
    return strike, time.monotonic() - began_s, problems


def main():
    parser = argparse.ArgumentParser(prog="scripts/strikes", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many rollouts")
    parser.add_argument("--jobs", type=int, default=2, help="how many at the same time")
    parser.add_argument("--keep", type=Path, help="a folder for what the runs leave behind")
    given = parser.parse_args()
    took_s, failed = defaultdict(list), []
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        runs = pool.imap_unordered(_one, [(number, given.keep) for number in range(given.runs)])
        for done, (strike, run_s, problems) in enumerate(runs, start=1):
            took_s[" and ".join(strike.victims), strike.step].append(run_s)
            failed += [f"{strike}: {'; '.join(problems)}"] if problems else []
            print(f"\r{done} of {given.runs} runs, {len(failed)} failed", end="", flush=True)
    print(f"\n{'killed':<18}{'in the step':<14}{'runs':>6}{'median s':>10}")
    for (victims, step), found in sorted(took_s.items()):
        print(f"{victims:<18}{step:<14}{len(found):>6}{statistics.median(found):>10.1f}")
    for problem in failed:
        print(f"FAILED  {problem}")
    print(f"{given.runs - len(failed)} of {given.runs} rollouts ended as they should")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
