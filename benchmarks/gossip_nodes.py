"""Several nodes that only gossip, in one process, with real sockets: see `workers`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from random import Random

from benchmarks.workers import obey
from peerupgrade.adapters.gossip_link import GossipLink
from peerupgrade.core.effects import Effect, Emit, SetTimer, Tell, Timer, TimerFired
from peerupgrade.core.gossip.machine import Gossip, GossipConfig
from peerupgrade.core.gossip.packets import Condition, Heartbeat, Packet
from peerupgrade.core.timers import Timers
from peerupgrade.core.versions import parse_version

_V1 = parse_version("1.0")


class VirtualNode:
    """The core's gossip and a transport; no store, no disk."""

    def __init__(self, name: str, link: GossipLink, loss: float, interval_s: float) -> None:
        self.name, self._link, self._loss = name, link, loss
        self._random = Random()
        self.gossip = Gossip(
            GossipConfig(link.address, interval_s=interval_s), self._random, Timers()
        )
        self._loop = asyncio.get_running_loop()
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self.installed_s: dict[tuple[str, str], float] = {}
        self.failed_s: dict[str, float] = {}
        self.events: Counter[str] = Counter()

    def meet(self, beats: list[Heartbeat]) -> None:
        """Know everybody from the beginning."""
        for beat in beats:
            self.gossip.roster.hear(beat)
        self.gossip.me = self.gossip.roster.heartbeats[self.name]
        self.gossip.detector.begin(self._loop.time())
        due_s = self.gossip.detector.due_s
        assert due_s is not None
        self._carry_out([self.gossip.timers.set(Timer.PROBE, due_s)])

    def heard(self, packet: Packet, _source: str) -> None:
        """A packet came; some are lost on purpose."""
        if self._loss and self._random.random() < self._loss:
            return
        news = packet.heartbeats if hasattr(packet, "heartbeats") else packet.news  # type: ignore[union-attr]
        self._carry_out(self.gossip.heard(self._loop.time(), packet))
        for beat in news:
            known = self.gossip.roster.heartbeats.get(beat.id)
            if known is not None:
                self.installed_s.setdefault((beat.id, known.installed.text), time.monotonic())

    def install(self, version: str) -> float:
        """Say that other software is installed; gives the moment."""
        me = self.gossip.me
        assert me is not None
        began_s = time.monotonic()
        said = replace(me, installed=parse_version(version))
        self._carry_out(self.gossip.says(self._loop.time(), said))
        return began_s

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Tell(to, packet):
                    self._link.send(to, packet)
                case SetTimer(timer, at_s):
                    if timer in self._timers:
                        self._timers[timer].cancel()
                    self._timers[timer] = self._loop.call_at(at_s, self._fire, effect)
                case Emit(event, detail):
                    self.events[event] += 1
                    if event == "node failed":
                        self.failed_s.setdefault(detail.split()[0], time.monotonic())
                case _:
                    pass

    def _fire(self, timer: SetTimer) -> None:
        now, gossip = self._loop.time(), self.gossip
        if not gossip.timers.due(TimerFired(timer.timer, timer.token)):
            return
        match timer.timer:
            case Timer.PROBE:
                self._carry_out(gossip.probe(now))
            case Timer.SUSPICION:
                self._carry_out(gossip.suspicion_over(now))
            case Timer.HAND_ON:
                self._carry_out(gossip.hand_on(now))
            case _:
                self._carry_out(gossip.second_way())


class Worker:
    """What the lines ask for."""

    def __init__(self) -> None:
        self._nodes: dict[str, VirtualNode] = {}
        self._links: dict[str, GossipLink] = {}

    async def make(self, names: list[str], loss: float, interval_s: float) -> dict[str, str]:
        """Nodes with sockets; gives their addresses."""
        for name in names:
            link = await GossipLink.bind("127.0.0.1:0", "bench")
            node = VirtualNode(name, link, loss, interval_s)
            await link.start(node.heard)
            self._nodes[name], self._links[name] = node, link
        return {name: link.address for name, link in self._links.items()}

    async def meet(self, addresses: dict[str, str]) -> int:
        """All of them know everybody from now on."""
        beats = [Heartbeat(name, 1, 1, _V1, _V1, address) for name, address in addresses.items()]
        for node in self._nodes.values():
            node.meet(beats)
        return len(beats)

    async def install(self, name: str, version: str) -> float:
        """One of them has other software; gives the moment."""
        return self._nodes[name].install(version)

    async def seen(self, name: str, version: str) -> list[float | None]:
        """When each node here knew of an installed version; None: not yet."""
        key = (name, version)
        return [n.installed_s.get(key) for n in self._nodes.values() if n.name != name]

    async def failed(self, name: str) -> list[float | None]:
        """When each node here knew that one has failed; None: not yet."""
        return [node.failed_s.get(name) for node in self._nodes.values()]

    async def counts(self) -> dict[str, float]:
        """Since the beginning, of all nodes here."""
        events: Counter[str] = Counter()
        for node in self._nodes.values():
            events += node.events
        traffic = [link.traffic for link in self._links.values()]
        alive = sum(
            beat.condition is Condition.ALIVE
            for node in self._nodes.values()
            for beat in node.gossip.roster.heartbeats.values()
        )
        return {
            "packets": sum(one.sent for one in traffic),
            "bytes": sum(one.sent_bytes for one in traffic),
            "suspected": events["node suspected"],
            "failed": events["node failed"],
            "alive": alive,
            "cpu_s": time.process_time(),
        }


if __name__ == "__main__":
    obey(Worker)
