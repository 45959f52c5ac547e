"""The cluster of the demo: on each node an agent and, beside it, the little service.

Both are members: the agent, which could be beside a program in any language, and the node that the
service embeds to keep its notes in a collection.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import ClientError, ClientSession

from peerupgrade.adapters.redis_bus import RedisBus
from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.core.requests import Heard, MemberHeard
from peerupgrade.demo.notes import (
    QUARANTINE_S,
    STOP_TIMEOUT_S,
    STORE_VARIABLE,
    Json,
    member_name,
)
from peerupgrade.demo.process import DemoError, Process, Processes
from peerupgrade.http.discovery import Running, find

_RELEASES = Path(__file__).with_name("releases")
_STORE_TIMEOUT_S = 1.0
_LOOK_S = 0.1
_POLL_S = 0.01
# The store is new, so there is nothing that it may have forgotten.
_STEPS = ("drain", "install", "restart", "verify", "undrain")
_AGENT_OPTIONS = ("--quarantine-s", str(QUARANTINE_S), "--stop-timeout-s", str(STOP_TIMEOUT_S))


class Release:
    """One release of the little service: a directory with its code and its version."""

    def __init__(self, name: str) -> None:
        self.code = _RELEASES / name
        self.version = (self.code / "VERSION").read_text(encoding="utf-8").strip()


OLD, NEW = Release("v1"), Release("v2")


class DemoNode:
    """One node.

    Attributes:
        agent, service: its processes.
        said: what the agent said of itself last; None while it does not answer.
        release: of the service that runs; "" while none does.
        url: of the service; "" while none runs.
        ready: the service took requests when it was asked last.
    """

    agent: Process
    service: Process

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name = name
        self.said: Json | None = None
        self.release = ""
        self.url = ""
        self.ready = False
        self._cluster = cluster
        self._home = cluster.home / name
        self._current = self._home / "current"
        self._home.mkdir()

    @property
    def version_file(self) -> Path:
        """Says what is installed."""
        return self._current / "VERSION"

    @property
    def is_master(self) -> bool:
        """By the agent's word."""
        return self.said is not None and self.said["master"]

    def install(self, release: Release) -> None:
        """Put another code directory in the place of the current one, in one atomic step."""
        code = self._home / release.version
        shutil.copytree(release.code, code, ignore=shutil.ignore_patterns("__pycache__"))
        link = self._home / "next"
        link.symlink_to(code.name)
        link.replace(self._current)

    async def start_agent(self) -> None:
        """Start it; it finds its way into the cluster by itself."""
        cluster = self._cluster
        command = shlex.join(("cat", str(self.version_file)))
        argv = [sys.executable, "-m", "peerupgrade", "node"]
        argv += ["--name", self.name, "--cluster", cluster.name, "--installed-command", command]
        argv += ["--state-dir", str(self._home / "state")]
        argv += ["--bootstrap-expect", str(len(cluster.members)), *_AGENT_OPTIONS]
        if cluster.steps_url:
            step = [sys.executable, "-m", "peerupgrade.demo.step"]
            command = shlex.join([*step, f"{cluster.steps_url}/{self.name}"])
            for name in _STEPS:
                argv += [f"--{name}-command", command]
        self.agent = await cluster.processes.start(
            f"the agent of {self.name}",
            argv,
            log=self._home / "agent.log",
            environment=_environment(PEERUPGRADE_STORE=cluster.store_url),
        )

    async def start_service(self) -> None:
        """Start the release that is installed, and wait until it listens."""
        cluster = self._cluster
        argv = [sys.executable, str(self._current / "service.py")]
        argv += [cluster.name, self.name, str(len(cluster.members))]
        self.service = await cluster.processes.start(
            f"the service of {self.name}",
            argv,
            log=self._home / "service.log",
            environment=_environment(**{STORE_VARIABLE: cluster.store_url}),
        )
        self.url = await self.service.first_line()
        async with self._cluster.session.get(f"{self.url}/version") as response:
            self.release = (await response.json())["version"]

    async def stop_service(self) -> None:
        """End it in order."""
        self.release = self.url = ""
        self.ready = False
        await self.service.stop()

    async def look(self) -> None:
        """Ask both how they are."""
        try:
            self.said = await self.ask("/v1/node")
        except DemoError:
            self.said = None
        url = self.url
        if not url:
            return
        try:
            async with self._cluster.session.get(f"{url}/readyz") as response:
                ready = response.status == 200
        except (ClientError, TimeoutError):
            ready = False
        if url == self.url:  # else it was another process that answered
            self.ready = ready

    async def ask(self, path: str) -> Json:
        """A question to the agent.

        Raises:
            DemoError: it does not answer.
        """
        return await self._call("GET", path, None)

    async def command(self, path: str, body: Json) -> None:
        """A command to the agent.

        Raises:
            DemoError: it has not done it.
        """
        await self._call("POST", path, body)

    async def _call(self, method: str, path: str, body: Json | None) -> Json:
        running = self._running()
        try:
            async with self._cluster.session.request(
                method,
                running.url + path,
                json=body,
                headers={"Authorization": f"Bearer {running.token}"},
                raise_for_status=True,
            ) as response:
                answer: Json = await response.json()
                return answer
        except (ClientError, TimeoutError) as error:
            reason = str(error) or "it did not answer in time"
            raise DemoError(f"the agent of {self.name} fails at {path}", hint=reason) from error

    def _running(self) -> Running:
        for running in find():
            if (running.cluster, running.name) == (self._cluster.name, self.name):
                return running
        raise DemoError(f"the agent of {self.name} does not run")


def _environment(**more: str) -> dict[str, str]:
    """This process's own, without settings that were meant for other nodes."""
    kept = {key: text for key, text in os.environ.items() if not key.startswith("PEERUPGRADE_")}
    return {**kept, **more}


class Cluster:
    """All nodes, and what the demo knows of them.

    Attributes:
        home: a directory of its own.
        members: names of the agents, and of the nodes that the services embed.
        installed_at_ms: member -> when the store recorded that it has the new version installed.
        operating_at_ms: member -> when the store recorded that it operates at the new version.
        waits_for: why the upgrade has not finished, as the cluster itself says.
        steps_url: where the demo does the steps of a rollout; "": the agents have none.
    """

    def __init__(self, home: Path, store_url: str, session: ClientSession, count: int) -> None:
        self.home = home
        self.store_url = store_url
        self.session = session
        self.name = f"demo-{os.getpid()}"
        self.processes = Processes()
        self.nodes = [DemoNode(f"n{number}", self) for number in range(1, count + 1)]
        names = [node.name for node in self.nodes]
        self.members = [*names, *map(member_name, names)]
        self.installed_at_ms: dict[str, int] = {}
        self.operating_at_ms: dict[str, int] = {}
        self.waits_for: list[str] = []
        self.steps_url = ""

    async def start(self) -> None:
        """Start everything, and wait until every service takes requests."""
        for node in self.nodes:
            node.install(OLD)
            await node.start_agent()
        # So that it is an agent: a service that is killed could not answer its clients.
        await self.until(lambda: any(node.is_master for node in self.nodes), "an agent is master")
        await asyncio.gather(*(node.start_service() for node in self.nodes))
        await self.until(
            lambda: all(node.ready for node in self.nodes), "every service takes requests"
        )

    async def until(self, reached: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
        """Wait for something.

        Raises:
            DemoError: it took too long, or a process has ended meanwhile.
        """
        deadline_s = time.monotonic() + within_s
        while not reached():
            self.processes.check()
            if time.monotonic() > deadline_s:
                hint = "; ".join(self.waits_for) or "the cluster names no reason"
                raise DemoError(f"after {within_s:g} s still not: {what}", hint=hint)
            await asyncio.sleep(_POLL_S)

    # --- watching ---------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Keep what is known of the nodes up to date, until cancelled."""
        while True:
            await asyncio.gather(*(node.look() for node in self.nodes))
            await self._ask_why()
            await asyncio.sleep(_LOOK_S)

    async def _ask_why(self) -> None:
        for node in self.nodes:
            if node.said is not None:
                try:
                    why = await node.ask("/v1/why")
                except DemoError:
                    continue
                self.waits_for = [blocker["evidence"] for blocker in why["blockers"]]
                return

    async def listen(self) -> None:
        """Note when the store recorded what, by its own clock, until cancelled.

        Asking the nodes would come too late: what a member said is overwritten by what it says
        next, a few milliseconds later.
        """
        url = parse_store_url(self.store_url)
        link = RedisLink(url, timeout_s=_STORE_TIMEOUT_S, slot_key=Keys(self.name).record)
        await RedisBus(link, self.name).listen(self._heard, members=True)

    def _heard(self, heard: Heard) -> None:
        if not isinstance(heard, MemberHeard) or heard.member is None:
            return
        member = heard.member
        if str(member.installed) == NEW.version:
            self.installed_at_ms.setdefault(member.id, member.changed_at_ms)
        if str(member.operating) == NEW.version:
            self.operating_at_ms.setdefault(member.id, member.changed_at_ms)
