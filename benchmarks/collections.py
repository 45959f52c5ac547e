"""Reads and writes through a collection, beside bare redis-py on the same bytes.

The server writes nothing to its disk meanwhile: an fsync takes much longer than anything that is
compared here, and would hide the difference.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec

import peerupgrade
from benchmarks.cluster import place
from benchmarks.frame import Figures, Goal, Run, percentile

ABOUT = "get and put through a collection, beside bare redis-py GET and SET of the same bytes"
LASTS = "about 10 s"
TAKES = ()
GOALS = (
    Goal("get_ratio_median", at_most=1.5),
    Goal("put_ratio_median", at_most=1.5),
)
_COMMANDS = 5_000
_TURN = 50  # so many in a row, then the other's turn: whatever else the machine does hits both
_VALUE = {"text": "buy milk, and do not forget the bread " * 3, "words": 24}


async def run(run: Run) -> Figures:
    async with place() as at, at.node("1.0", _register) as node, at.bare() as bare:
        notes = node.collection("notes")
        await bare.config_set("appendonly", "no")
        await notes.put("k", _VALUE)
        raw = b"pu1 1.0 1 0\n" + msgspec.msgpack.encode(_VALUE)
        await bare.set("k", raw)
        count = max(_TURN, round(_COMMANDS * run.scale))
        get, bare_get = await _in_turns(count, lambda: notes.get("k"), lambda: bare.get("k"))
        put, bare_put = await _in_turns(
            count, lambda: notes.put("k", _VALUE), lambda: bare.set("k", raw)
        )
    return {
        "get_median_us": get,
        "bare_get_median_us": bare_get,
        "get_ratio_median": get / bare_get,
        "put_median_us": put,
        "bare_set_median_us": bare_put,
        "put_ratio_median": put / bare_put,
        "record_bytes": float(len(raw)),
    }


def _register(node: peerupgrade.Node) -> None:
    node.collection("notes").format("1.0")


async def _in_turns(
    count: int, ours: Callable[[], Awaitable[object]], bare: Callable[[], Awaitable[object]]
) -> tuple[float, float]:
    """The medians of both in microseconds."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(count // _TURN):
        for samples, command in zip(took, (ours, bare), strict=True):
            for _ in range(_TURN):
                began_s = time.perf_counter()
                await command()
                samples.append((time.perf_counter() - began_s) * 1e6)
    return percentile(took[0], 0.5), percentile(took[1], 0.5)
