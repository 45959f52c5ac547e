"""The demo from beginning to end.

Whatever happens, every process is ended: in order where the demo ends or is interrupted, and by the
kernel should the demo itself be killed.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout

from peerupgrade.adapters.embedded import EmbeddedServer
from peerupgrade.demo.cluster import OLD, Cluster
from peerupgrade.demo.driven import Driven
from peerupgrade.demo.load import Balancer, Client
from peerupgrade.demo.outcome import Outcome
from peerupgrade.demo.process import DemoError
from peerupgrade.demo.rollout import ByHand
from peerupgrade.demo.screen import Lines, LiveTable
from peerupgrade.errors import ExitCode

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_REQUEST_S = 5.0
_BEFORE_S = 1.0
_AFTER_S = 2.0
_TRY = ("status", "members", "why", "history", "hold --reason lunch", "release")


@dataclass(frozen=True, slots=True)
class _Options:
    nodes: int
    as_json: bool
    kill_master: bool
    keep: bool
    manual: bool


def run_demo(*, nodes: int, as_json: bool, kill_master: bool, keep: bool, manual: bool) -> int:
    """Upgrade a small cluster while it serves.

    Args:
        nodes: how many.
        as_json: one JSON object on stdout, at the end.
        kill_master: kill the agent that is master in the middle of it.
        keep: leave the cluster running until interrupted.
        manual: replace the software from outside; else the cluster drives that itself.

    Returns:
        0 only if everything was as it has to be.
    """
    return asyncio.run(_until_interrupted(_Options(nodes, as_json, kill_master, keep, manual)))


async def _until_interrupted(options: _Options) -> int:
    async with AsyncExitStack() as stack:  # no interruption reaches it: it always ends everything
        demo = _Demo(options)
        work = asyncio.create_task(demo.run(stack))
        for number in _INTERRUPTIONS:
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        await asyncio.wait((work,))
    if not work.cancelled():
        return work.result()
    # Nothing is left to interrupt: an impatient second signal must not replace the exit code.
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)
    if demo.code is not None:  # it was left running, and has been told to end
        return demo.code
    print("peerupgrade: interrupted, every process of the demo has ended", file=sys.stderr)
    return ExitCode.INTERRUPTED


class _Demo:
    """One run; what it opens goes onto the stack of whoever ends it."""

    def __init__(self, options: _Options) -> None:
        self._options = options
        self.code: ExitCode | None = None  # once the outcome is known
        self._cluster: Cluster
        self._client: Client
        self._balancer = Balancer()

    async def run(self, stack: AsyncExitStack) -> ExitCode:
        enter = stack.enter_async_context
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peerupgrade-")))
        store = await enter(EmbeddedServer(home / "store"))
        session = await enter(ClientSession(timeout=ClientTimeout(_REQUEST_S)))
        self._cluster = Cluster(home, store.url, session, self._options.nodes)
        stack.push_async_callback(self._cluster.processes.stop)
        self._client = Client(session, self._balancer)
        outcome = Outcome(self._cluster.name)
        try:
            await self._show(outcome, stack)
        except* DemoError as errors:
            outcome.problems += map(str, errors.exceptions)
        outcome.count(self._client)
        outcome.pids = [store.pid, *self._cluster.processes.pids]
        return await self._report(outcome)

    async def _show(self, outcome: Outcome, stack: AsyncExitStack) -> None:
        """The upgrade, while a client works and everything is watched."""
        cluster, client, balancer = self._cluster, self._client, self._balancer
        on_terminal = sys.stdout.isatty() and not self._options.as_json
        screen = LiveTable(cluster, balancer, client) if on_terminal else Lines()
        with screen:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(cluster.watch()), group.create_task(cluster.listen())]
                screen.say(
                    f"starting a store and {len(cluster.nodes)} nodes: an agent and a service"
                    f" {OLD.version} each"
                )
                way = ByHand if self._options.manual else Driven
                upgrade = way(cluster, balancer, screen)
                await upgrade.prepare(stack)
                await cluster.start()
                for node in cluster.nodes:
                    balancer.add(node.name, node.url)
                screen.say("a client writes and reads notes through all of them, until the end")
                loading = group.create_task(client.run())
                await asyncio.sleep(_BEFORE_S)
                await upgrade.run(kill_master=self._options.kill_master)
                outcome.killed = upgrade.killed
                await asyncio.sleep(_AFTER_S)
                client.end()
                await loading
                screen.say("reading every note through every node")
                await outcome.examine(cluster, client)
                for task in watching:
                    task.cancel()

    async def _report(self, outcome: Outcome) -> ExitCode:
        self.code = ExitCode.FAILURE if outcome.problems else ExitCode.OK
        as_json = self._options.as_json
        print(json.dumps(outcome.to_json()) if as_json else "\n".join(outcome.lines()), flush=True)
        if self._options.keep:
            out = sys.stderr if as_json else sys.stdout
            print(self._hints(), file=out, flush=True)
            await asyncio.Event().wait()
        return self.code

    def _hints(self) -> str:
        name, node = self._cluster.name, self._cluster.nodes[0]
        command = "peerupgrade"
        if shutil.which(command) is None:
            command = f"{sys.executable} -m peerupgrade"
        lines = [
            f"the cluster {name} goes on running until Ctrl-C; in another terminal try",
            *(f"  {command} {words} --cluster {name}" for words in _TRY),
            "and begin another upgrade, which then waits for the other nodes:",
            f"  echo 3.0 > {shlex.quote(str(node.version_file))} && kill -HUP {node.agent.pid}",
        ]
        return "\n".join(lines)
