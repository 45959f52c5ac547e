"""The upgrade in the demo: what every way has in common, and the one by hand."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack

from peerupgrade.demo.cluster import NEW, Cluster, DemoNode
from peerupgrade.demo.load import Balancer
from peerupgrade.demo.screen import Screen

_PAUSE_S = 0.7
# Longer than the lock of a dead master lasts, so that another one takes over.
_DEAD_S = 4.0
_FINISH_S = 20.0


class Upgrade(ABC):
    """The replacement of release 1.0 by release 2.0, in whichever way.

    Attributes:
        killed: the node whose agent was killed while it was master; "" if none was.
    """

    def __init__(self, cluster: Cluster, balancer: Balancer, screen: Screen) -> None:
        self._cluster = cluster
        self._balancer = balancer
        self._screen = screen
        self.killed = ""

    @abstractmethod
    async def prepare(self, stack: AsyncExitStack) -> None:
        """Whatever must be there before the agents start; closed with the stack."""

    @abstractmethod
    async def run(self, *, kill_master: bool) -> None:
        """Replace it everywhere, and wait until the cluster has finished."""

    async def _finish(self, within_s: float) -> None:
        await self._cluster.until(
            self._finished, f"every node operates at {NEW.version}", within_s=within_s
        )
        self._screen.say(f"every node operates at {NEW.version}, and nothing is left to do")

    def _finished(self) -> bool:
        nodes = self._cluster.nodes
        operating = all(node.said and node.said["operating"] == NEW.version for node in nodes)
        return operating and not self._cluster.waits_for

    async def _kill_master(self) -> DemoNode:
        """The agent dies in the middle of the upgrade."""
        nodes = self._cluster.nodes
        await self._cluster.until(lambda: any(node.is_master for node in nodes), "a master")
        victim = next(node for node in nodes if node.is_master)
        await victim.agent.kill()
        self.killed = victim.name
        self._screen.say(f"{victim.name}: its agent, the master, was killed (SIGKILL)")
        return victim

    async def _start_again(self, victim: DemoNode) -> None:
        await asyncio.sleep(_DEAD_S)
        self._screen.say(f"{victim.name}: its agent is started again")
        await victim.start_agent()


class ByHand(Upgrade):
    """What an operator's own tooling would do: replace the software, node by node.

    It never tells the cluster that the upgrade is to be finished; each agent only learns by SIGHUP
    that other software is installed beside it.
    """

    async def prepare(self, stack: AsyncExitStack) -> None:
        """The agents need nothing."""

    async def run(self, *, kill_master: bool) -> None:
        """Replace it everywhere, and wait until the cluster has finished."""
        for node in self._cluster.nodes:
            await asyncio.sleep(_PAUSE_S)
            last = node is self._cluster.nodes[-1]
            await self._replace(node, kill_master=kill_master and last)
        self._screen.say(f"every node has {NEW.version}; the cluster is told nothing more")
        await self._finish(_FINISH_S)

    async def _replace(self, node: DemoNode, *, kill_master: bool) -> None:
        """One node; nothing is sent to it meanwhile, and it does not operate."""
        self._screen.say(f"{node.name}: drained, away, replacing its service by {NEW.version}")
        await self._balancer.drain(node.name)
        await node.command("/v1/away", {"away": True})
        await node.stop_service()
        node.install(NEW)
        await node.start_service()
        victim = await self._kill_master() if kill_master else None
        if victim is node:
            await self._start_again(node)
        else:
            await self._announce(node)
        await self._cluster.until(lambda: node.ready, f"{node.name} takes requests")
        self._balancer.add(node.name, node.url)
        if victim is not None and victim is not node:
            await self._start_again(victim)

    async def _announce(self, node: DemoNode) -> None:
        node.agent.reload()
        await self._cluster.until(
            lambda: node.said is not None and node.said["installed"] == NEW.version,
            f"the agent of {node.name} has read the installed version",
        )
        await node.command("/v1/away", {"away": False})
