"""The upgrade as the cluster drives it: `upgrade start`, and what a step does on each node here."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from aiohttp import web

from peerupgrade.demo.cluster import NEW, DemoNode
from peerupgrade.demo.notes import member_name
from peerupgrade.demo.process import DemoError
from peerupgrade.demo.rollout import Upgrade

_BY = "demo"
_FINISH_S = 90.0
_KILLED_AT = 2  # the turn in which the master dies


class Driven(Upgrade):
    """The demo only starts it; each agent asks for the steps of its turn."""

    async def prepare(self, stack: AsyncExitStack) -> None:
        """Listen for the steps, until the stack is closed."""
        app = web.Application()
        app.router.add_post("/{node}/{step}/{version}", self._step)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._cluster.steps_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._nodes = {node.name: node for node in self._cluster.nodes}
        self._drained = 0
        self._kill, self._victim = False, asyncio.Event()

    async def run(self, *, kill_master: bool) -> None:
        """Start the rollout, and wait until the cluster has finished."""
        self._kill = kill_master
        asked, *_ = self._cluster.nodes
        self._screen.say(f"peerupgrade upgrade start {NEW.version}")
        # A service embeds a member of its own, which comes along with its node.
        along = [member_name(node.name) for node in self._cluster.nodes]
        body = {"version": NEW.version, "by": _BY, "skip": along}
        await asked.command("/v1/upgrade/start", body)
        if kill_master:
            await self._cluster.until(self._victim.is_set, "the master dies")
            await self._start_again(self._nodes[self.killed])
        await self._finish(_FINISH_S)

    async def _step(self, request: web.Request) -> web.Response:
        """What an agent's command asks for."""
        node = self._nodes[request.match_info["node"]]
        step, version = request.match_info["step"], request.match_info["version"]
        try:
            await self._do(node, step, version)
        except DemoError as error:
            return web.Response(text=str(error), status=500)
        return web.Response(text=f"{step} done")

    async def _do(self, node: DemoNode, step: str, version: str) -> None:
        match step:
            case "drain":
                self._screen.say(f"{node.name}: its turn: drained, replaced by {version}, back")
                await self._balancer.drain(node.name)
                self._drained += 1
                if self._kill and self._drained == _KILLED_AT:
                    await self._kill_master()
                    self._victim.set()
            case "install":
                if version != NEW.version:
                    raise DemoError(f"there is no release {version}", hint="start another one")
                node.install(NEW)
            case "restart":
                await node.stop_service()
                await node.start_service()
            case "verify":
                if node.release != version:
                    raise DemoError(f"{node.name} runs {node.release}", hint="look at its log")
            case _:
                await self._cluster.until(lambda: node.ready, f"{node.name} takes requests")
                self._balancer.add(node.name, node.url)
