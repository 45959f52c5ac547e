"""What a cluster costs in which nothing happens: each node, and the store.

Up to twenty nodes are each a process of their own; more share a few. They gossip and serve HTTP as
agents do. Of the agents themselves, `python -m peerupgrade node`, five are looked at, too.

The master prolongs its lease on the store three times in each ttl, and the store's script sends the
beat that all hear. Whatever else clients ask of the store is counted for the nodes, but for the
master's rare PING on the members' channel.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import resources

from redis.asyncio import Redis

from benchmarks.agents import agents, cpu_share, memory_mib
from benchmarks.crowd import Crowd, form, gathered, store_place
from benchmarks.frame import Figures, Goal, Run

ABOUT = "nothing happens: CPU, memory, packets and bytes of a node, and commands to the store"
LASTS = "about 5 min"
TAKES = ("nodes", "processes", "store")
GOALS = (
    Goal("agent_cpu_share", at_most=0.005),
    Goal("agent_memory_mib", at_most=60.0),
    Goal("store_commands_per_node_s_5", at_most=0.0),
    Goal("store_commands_per_node_s_200", at_most=0.0),
)
_NODES = (5, 20, 50, 100, 200)
_PROCESSES = 4
_SETTLE_S, _LENGTH_S = 8.0, 25.0
_AGENTS = 5
_TTL_S = 3.0
# Its lease, and now and then a PING where only the master listens, ten times as rare as elsewhere.
_OF_MASTER_PER_S = 3 / _TTL_S + 1 / (10 * _TTL_S / 2)


async def run(run: Run) -> Figures:
    figures: dict[str, float] = {}
    length_s, settle_s = (max(2.0, one * run.scale) for one in (_LENGTH_S, _SETTLE_S))
    sizes = run.nodes(_NODES)
    for turn in run.each(len(sizes), "at rest"):
        nodes = sizes[turn]
        async with (
            store_place(run.store) as place,
            gathered(place, nodes, run.processes(_PROCESSES), whole=True) as crowd,
        ):
            await form(crowd, whole=True, lock_ttl_s=_TTL_S)
            await asyncio.sleep(settle_s)
            for name, value in (await _measured(crowd, length_s)).items():
                figures[f"{name}_{nodes}"] = value
    async with agents(_AGENTS) as pids:
        await asyncio.sleep(settle_s)
        figures["agent_cpu_share"] = await cpu_share(pids, length_s)
        figures["agent_memory_mib"] = memory_mib(pids)
    return figures


async def _measured(crowd: Crowd, length_s: float) -> Figures:
    before, asked, began_s = await _vitals(crowd), await commands(crowd.client), time.monotonic()
    await asyncio.sleep(length_s)
    after, asked_then = await _vitals(crowd), await commands(crowd.client)
    took_s = time.monotonic() - began_s
    per_node_s = took_s * len(crowd.names)
    of_clients = sum((asked_then - asked).values()) / took_s
    return {
        "cpu_share_per_node": (after["cpu_s"] - before["cpu_s"]) / per_node_s,
        "memory_per_node_mib": after["memory_mib"] / len(crowd.names),
        "packets_per_node_s": (after["packets"] - before["packets"]) / per_node_s,
        "bytes_per_node_s": (after["bytes"] - before["bytes"]) / per_node_s,
        "store_commands_s": of_clients,
        # One more or less may fall into the time that was looked at.
        "store_commands_per_node_s": max(0.0, of_clients - _OF_MASTER_PER_S - 2 / took_s)
        / len(crowd.names),
    }


async def _vitals(crowd: Crowd) -> Mapping[str, float]:
    """Of all processes together."""
    total: Counter[str] = Counter()
    for one in await crowd.ask("vitals"):
        total.update(one)
    return total


async def commands(client: Redis) -> Counter[str]:
    """What clients have asked of the store so far, by command.

    Those that scripts call, too, are left out: no node sends them by itself.
    """
    found, of_scripts = await client.info("commandstats"), _called_by_scripts()
    asked = {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in found.items()}
    return Counter({name: n for name, n in asked.items() if name not in of_scripts})


@cache
def _called_by_scripts() -> frozenset[str]:
    scripts = (resources.files("peerupgrade.adapters") / "lua").iterdir()
    texts = "".join(script.read_text("utf-8") for script in scripts)
    return frozenset(name.lower() for name in re.findall(r"redis\.call\('(\w+)'", texts))
