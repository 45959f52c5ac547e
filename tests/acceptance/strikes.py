"""Rollouts in which something is killed: `scripts/strikes [--runs N] [--jobs N] [--only WORDS]`.

Three agents, each with a command for every step. In the middle of a step of one node, or as it
leaves or returns, that node, the master, the store, or two of them are killed at once, and started
again; on the way to the version, or on the way back, once somebody wants all to return. The rollout
must end as if nothing had been: every node at the version, no step run twice, never two nodes down.
Who is killed, on which way, in which step, and whether before or after the step has done its work,
goes round in a fixed order.
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
OWN = ("leave", "return")  # done by the node itself: no command runs
WAYS = ("there", "back")
VICTIMS = (("node",), ("master",), ("store",), ("node", "master"), ("node", "store"))
MOMENTS = ("before", "after")
_NAMES = ("a", "b", "c")
_WITHIN_S = 90.0
_AWAY_S = 0.3  # a store that is killed stays away for so long


@dataclass(frozen=True)
class Strike:
    """Who is killed, in which step, before or after that has done its work, and on which way."""

    victims: tuple
    step: str
    moment: str
    way: str

    def __str__(self):
        where = "" if self.way == "there" else ", on the way back"
        return f"{' and '.join(self.victims)}, {self.moment} the work of {self.step}{where}"

    @property
    def version(self):
        """Of the turns in which it strikes."""
        return "2.0" if self.way == "there" else "1.0"


STRIKES = tuple(
    Strike(victims, step, MOMENTS[(at + turn) % 2], way)
    for turn, way, victims, (at, step) in itertools.product(
        (0, 1), WAYS, VICTIMS, enumerate((*STEPS, *OWN))
    )
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
        if strike.step in OWN:
            agents.command = (sys.executable, "-m", "tests.acceptance.held")

    async def run(self):
        await self._form()
        if self.strike.way == "there":
            await self._asks("upgrade", "start", "2.0")
        else:
            await self._asks("upgrade", "start", "2.0", "--bake", "1h")
            await eventually(self._all_have_it, _WITHIN_S)
            await self._asks("upgrade", "abort", "--rollback")
        await eventually(lambda: asyncio.to_thread(self.within.exists), _WITHIN_S)
        await self._kill(self.within.read_text().strip())
        ended = await eventually(self._ended, _WITHIN_S)
        await eventually(self._at_version, _WITHIN_S)
        outcome = "done" if self.strike.way == "there" else "rolled back"
        if ended["outcome"] != outcome or ended["skipped"]:
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
            work = f'echo "{name} $PEERUPGRADE_STEP $PEERUPGRADE_VERSION" >> {self.told}'
            if step == "install":
                version = self.agents.directory / f"{name}.version"
                work = f'{work}; echo "$PEERUPGRADE_VERSION" > {version}'
            if step == self.strike.step:
                wait = (
                    f"[ $PEERUPGRADE_VERSION != {self.strike.version} ] || [ -e {self.once} ] ||"
                    f" (touch {self.once}; echo {name} > {self.within});"
                    f" while [ -e {self.within} ]; do sleep 0.05; done"
                )
                before = self.strike.moment == "before"
                work = f"{wait}; {work}" if before else f"{work}; {wait}"
            found[f"{step}_command"] = f"sh -c '{work}'"
        self.told.touch()
        done = f"{name} $PEERUPGRADE_STEP $PEERUPGRADE_VERSION"
        looks = f"sh -c 'grep -q \"{done}\" {self.told}'"
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

    async def _all_have_it(self):
        answer = await self._asks("upgrade", "status")
        return all(one["state"] == "done" for one in answer["rollout"]["members"])

    async def _at_version(self):
        answer, version = await self._asks("members"), self.strike.version
        found = {(one["installed"], one["operating"]) for one in answer["members"]}
        return found == {(version, version)}

    def _judge_steps(self):
        lines = [tuple(line.split()) for line in self.told.read_text().splitlines()]
        versions = ("2.0",) if self.strike.way == "there" else ("2.0", "1.0")
        ran, wanted = Counter(lines), set(itertools.product(_NAMES, STEPS, versions))
        again = {line: count for line, count in ran.items() if count > 1 and line[1] != "verify"}
        if again or set(ran) != wanted:
            self.problems.append(f"ran again: {again}, or not at all: {wanted - set(ran)}")
        turns = [turn for turn, _ in itertools.groupby(lines, key=lambda one: (one[0], one[2]))]
        if len(turns) != len(_NAMES) * len(versions):
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
        held = f"{strike.step} {strike.moment} {strike.version} {directory}"
        patch.setenv("HELD_AT", held)
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
    number, strike, keep = drawn
    began_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        home = keep and keep / str(number)
        home = home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strike-")))
        home.mkdir(parents=True, exist_ok=True)
        problems = asyncio.run(struck(strike, home))
    return strike, time.monotonic() - began_s, problems


def main():
    parser = argparse.ArgumentParser(prog="scripts/strikes", description=__doc__)
    parser.add_argument("--runs", type=int, help="how many rollouts; by default each strike once")
    parser.add_argument("--only", default="", help="strikes whose words have these in them")
    parser.add_argument("--jobs", type=int, default=2, help="how many at the same time")
    parser.add_argument("--keep", type=Path, help="a folder for what the runs leave behind")
    given = parser.parse_args()
    strikes = [strike for strike in STRIKES if given.only in str(strike)]
    if not strikes:
        parser.error(f"no strike has {given.only!r} in it; one is: {STRIKES[-1]}")
    count = len(strikes) if given.runs is None else given.runs
    drawn = [(n, strike, given.keep) for n, strike in zip(range(count), itertools.cycle(strikes))]
    took_s, failed = defaultdict(list), []
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        runs = pool.imap_unordered(_one, drawn)
        for done, (strike, run_s, problems) in enumerate(runs, start=1):
            took_s[" and ".join(strike.victims), strike.way, strike.step].append(run_s)
            failed += [f"{strike}: {'; '.join(problems)}"] if problems else []
            print(f"\r{done} of {count} runs, {len(failed)} failed", end="", flush=True)
    print(f"\n{'killed':<18}{'way':<8}{'in the step':<14}{'runs':>6}{'median s':>10}")
    for (victims, way, step), found in sorted(took_s.items()):
        print(f"{victims:<18}{way:<8}{step:<14}{len(found):>6}{statistics.median(found):>10.1f}")
    for problem in failed:
        print(f"FAILED  {problem}")
    print(f"{count - len(failed)} of {count} rollouts ended as they should")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
