"""The conversion of shared data, beside a bare pipelined loop and beside an application at rest.

Four things are measured, each on a server of its own:

- how many records a second are converted at full pace, and how many a bare loop of redis-py reads
  and writes over records of the same size, in pipelines of 500;
- what one record costs with a tenth, a hundredth of the records;
- the 99th percentile of an application's reads and writes at rest and during a conversion that
  follows its pace.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from redis.asyncio import Redis

import peerupgrade
from benchmarks.cluster import Place, place
from benchmarks.frame import Figures, Goal, Run, percentile

ABOUT = "conversion: throughput beside a bare loop, cost per record, what an application feels"
LASTS = "about 3 min"
TAKES = ()
GOALS = (
    Goal("throughput_ratio", at_least=0.5),
    Goal("cost_growth_ratio", at_most=1.5),
    Goal("paced_p99_ratio", at_most=2.0),
)
_RECORDS = 1_000_000
_PACED_RECORDS = 20_000
_REST_S = 4.0
_PIPELINE = 500
_BATCH = 1_000
_COMMAND_PAUSE_S = 0.002
_TEXT = "buy milk, and do not forget the bread"


async def run(run: Run) -> Figures:
    most = max(1000, round(_RECORDS * run.scale))
    sizes = sorted({max(500, most // 100), max(500, most // 10), most})
    costs = {}
    for size in sizes:
        async with place() as at:
            costs[size] = await _converted_s(at, size, "full") / size
    async with place() as at:
        bare_s = await _bare_s(at, sizes[-1])
    rest_p99_s, paced_p99_s, paced_s = await _felt(
        max(500, round(_PACED_RECORDS * min(1, run.scale)))
    )
    rate = 1 / costs[sizes[-1]]
    bare_rate = sizes[-1] / bare_s
    return {
        "records": float(sizes[-1]),
        "converted_per_s": rate,
        "bare_loop_per_s": bare_rate,
        "throughput_ratio": rate / bare_rate,
        **{f"us_per_record_of_{size}": cost * 1e6 for size, cost in costs.items()},
        "cost_growth_ratio": costs[sizes[-1]] / costs[sizes[0]],
        "rest_p99_ms": rest_p99_s * 1000,
        "paced_p99_ms": paced_p99_s * 1000,
        "paced_p99_ratio": paced_p99_s / rest_p99_s,
        "paced_conversion_s": paced_s,
    }


def register_1(node: peerupgrade.Node) -> None:
    node.collection("notes").format("1.0")


def register_2(node: peerupgrade.Node) -> None:
    register_1(node)
    node.collection("notes").format("2.0", upgrade=_upgrade, downgrade=_downgrade)


def _upgrade(text: str) -> dict[str, Any]:
    return {"text": text, "words": len(text.split())}


def _downgrade(note: dict[str, Any]) -> str:
    return str(note["text"])


async def _fill(at: Place, count: int) -> None:
    async with at.bare() as bare:
        await bare.config_set("appendonly", "no")
    async with at.node("1.0", register_1) as node:
        notes = node.collection("notes")
        for begin in range(0, count, _BATCH):
            batch = notes.batch()
            for number in range(begin, min(begin + _BATCH, count)):
                batch.put(f"note:{number}", _TEXT)
            await batch.commit()


@asynccontextmanager
async def _converting(at: Place, count: int, pace: str) -> AsyncIterator[peerupgrade.Node]:
    """A node of the new release, once all have settled: from now on it converts."""
    await _fill(at, count)
    async with at.node("2.0", register_2, pace) as node:
        await node.settled("2.0")
        yield node


async def _converted_s(at: Place, count: int, pace: str) -> float:
    """From all having settled until the data version has risen, proof included."""
    async with _converting(at, count, pace) as node:
        began_s = time.perf_counter()
        await _data_version(node, "2.0")
        return time.perf_counter() - began_s


async def _data_version(node: peerupgrade.Node, version: str) -> None:
    while True:
        record = node.status().record
        if record is not None and str(record.data) == version:
            return
        await node.wait_newer(record.revision if record is not None else 0, 60)


async def _bare_s(at: Place, count: int) -> float:
    """What anybody would write: read 500, change them, write 500."""
    async with at.bare() as bare:
        await bare.config_set("appendonly", "no")
        payload = msgspec.msgpack.encode(_TEXT)
        for begin in range(0, count, _BATCH):
            await bare.mset({f"note:{number}": payload for number in range(begin, begin + _BATCH)})
        began_s = time.perf_counter()
        for begin in range(0, count, _PIPELINE):
            await _bare_share(bare, range(begin, min(begin + _PIPELINE, count)))
        return time.perf_counter() - began_s


async def _bare_share(bare: Redis, numbers: range) -> None:
    pipeline = bare.pipeline(transaction=False)
    for number in numbers:
        pipeline.get(f"note:{number}")
    raws = await pipeline.execute()
    pipeline = bare.pipeline(transaction=False)
    for number, raw in zip(numbers, raws, strict=True):
        value = _upgrade(msgspec.msgpack.decode(raw))
        pipeline.set(f"note:{number}", msgspec.msgpack.encode(value))
    await pipeline.execute()


async def _felt(count: int) -> tuple[float, float, float]:
    """The application's p99 at rest and during a conversion, and how long that took; in seconds."""
    async with place() as at:
        await _fill(at, count)
        async with at.node("1.0", register_1) as node:
            await node.pause("bench", "at rest first")
        async with at.node("2.0", register_2) as node:
            await node.settled("2.0")
            at_rest = await _apply(node, asyncio.create_task(asyncio.sleep(_REST_S)))
            began_s = time.perf_counter()
            await node.resume("bench")
            paced = await _apply(node, asyncio.create_task(_data_version(node, "2.0")))
            took_s = time.perf_counter() - began_s
    return percentile(at_rest, 0.99), percentile(paced, 0.99), took_s


async def _apply(node: peerupgrade.Node, until: asyncio.Task[None]) -> list[float]:
    """Read and write as an application does; what each command took in seconds."""
    notes, took, number = node.collection("notes"), [], 0
    while not until.done():
        key, number = f"app:{number % 500}", number + 1
        began_s = time.perf_counter()
        if number % 2:
            await notes.get(key)
        else:
            await notes.put(key, _upgrade(_TEXT))
        took.append(time.perf_counter() - began_s)
        await asyncio.sleep(_COMMAND_PAUSE_S)
    await until
    return took
