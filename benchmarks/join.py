"""So many nodes join at once, until the last of them is admitted, and what that costs the store.

They join a cluster of one node, which is its master. Beside it, a bare loop over the same scripts:
one connection, one call after the other, as many members.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from secrets import token_hex

from redis.asyncio import Redis

from benchmarks.crowd import PROCESSES, Crowd, StorePlace, begin, gathered, store_place
from benchmarks.frame import Figures, Goal, Run, percentile
from benchmarks.rest import commands
from peerupgrade.adapters.redis_link import RedisLink, parse_store_url
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.adapters.redis_store import RedisStore
from peerupgrade.core.requests import Admit, Admitted, Init, Read
from peerupgrade.core.versions import parse_version

ABOUT = "nodes that join at once, to the last one admitted, beside a bare loop of the same scripts"
LASTS = "about 2 min"
TAKES = ("nodes", "trials", "processes", "store")
GOALS = (Goal("join_1000_of_bare_loop", at_most=3.0),)
_NODES = (10, 100, 1_000)
_TRIALS = 3
_VERSION = parse_version("1.0")


async def run(run: Run) -> Figures:
    figures: dict[str, float] = {}
    trials = run.trials(_TRIALS)
    for nodes in run.nodes(_NODES):
        joined, bare, asked, busy = [], [], [], []
        for _ in run.each(trials, f"{nodes} join"):
            async with store_place(run.store) as place:
                async with gathered(place, nodes + 1, run.processes(PROCESSES)) as crowd:
                    before = await _load(crowd.client)
                    joined.append(await _join(crowd))
                    after = await _load(crowd.client)
                asked.append((after[0] - before[0]) / nodes)
                busy.append(after[1] - before[1])
                bare.append(await _bare_loop(place, nodes))
        figures |= run.note(f"join_{nodes}", [one * 1000 for one in joined])
        figures |= run.note(f"bare_loop_{nodes}", [one * 1000 for one in bare])
        ratio = percentile(joined, 0.5) / percentile(bare, 0.5)
        figures[f"join_{nodes}_of_bare_loop"] = ratio
        figures[f"store_commands_per_node_{nodes}"] = percentile(asked, 0.5)
        figures[f"store_cpu_{nodes}_s"] = percentile(busy, 0.5)
    return figures


async def _join(crowd: Crowd) -> float:
    """Seconds until all but the first, which was there before, are admitted."""
    first = crowd.names[0]
    cluster = crowd.place.new_cluster()
    home = next(worker for worker in crowd.workers if first in worker.names)
    await begin(crowd, home, [first], cluster)
    await crowd.until(lambda: _is_master(crowd, first), "be master")
    began_s = time.monotonic()
    await asyncio.gather(
        *(
            begin(crowd, worker, [n for n in worker.names if n != first], cluster, at_once=True)
            for worker in crowd.workers
        )
    )

    async def admitted() -> bool:
        return all(at for share in await crowd.ask("admitted") for at in share)

    await asyncio.sleep(0.2)
    await crowd.until(admitted, "were admitted")
    return max(at for share in await crowd.ask("admitted") for at in share) - began_s


async def _is_master(crowd: Crowd, name: str) -> bool:
    masters = [one for share in await crowd.ask("masters") for one in share.items()]
    return any(at for one, at in masters if one == name)


async def _load(client: Redis) -> tuple[int, float]:
    """Commands of clients so far, and seconds of CPU."""
    used = await client.info("cpu")
    asked = sum((await commands(client)).values())
    return asked, float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


async def _bare_loop(place: StorePlace, nodes: int) -> float:
    cluster = place.new_cluster()
    link = RedisLink(parse_store_url(place.url), timeout_s=5.0, slot_key=Keys(cluster).record)
    async with aclosing(RedisStore(link, cluster, timeout_s=5.0)) as store:
        await store.call(Init(token_hex(8), 1, 0))
        asked = [_admit(f"n{number:04}") for number in range(nodes)]
        began_s = time.monotonic()
        await _ask_in_turn(store, asked)
        return time.monotonic() - began_s


async def _ask_in_turn(store: RedisStore, asked: Sequence[Admit]) -> None:
    for one in asked:
        await store.call(Read())
        reply = await store.call(replace(one, token=token_hex(16)))
        if not isinstance(reply, Admitted):
            raise RuntimeError(f"the store did not admit {one.id}: {reply}")  # noqa: TRY004


def _admit(name: str) -> Admit:
    return Admit(
        id=name, token="", earlier=(), incarnation=0, generation="", number=1,
        installed=_VERSION, lowest=parse_version("0"), lease_ms=0,
    )  # fmt: skip
