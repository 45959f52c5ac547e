"""Simulated nodes, up to a hundred thousand: convergence, messages and bytes by their number.

Three things, each under no, one and five per cent loss:

- a change of one node, by gossip: in how many rounds all know of it. A round is one hop of a
  packet: who changed is at 0, whoever hears of it from there at 1.
- a raise that gossip alone carries: the same for the record that the master has committed.
- a raise by the store: virtual milliseconds from the last old node's new version to the last node
  that operates at it, each message taking 0.2 to 1 ms; and what a raise costs the store.

The nodes are the core's own in virtual time, each with its own view of all others; nothing but
loss is in their way. Probes are left out of gossip, and gossip out of the raises by the store: each
would only repair what the other lost.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import log2
from random import Random
from typing import TYPE_CHECKING

from benchmarks.frame import Figures, Goal, Run
from peerupgrade.core.gossip.packets import Packet
from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.requests import (
    Beat,
    DoubtHeard,
    ExcludedHeard,
    Freed,
    Heard,
    LockRequest,
    MemberHeard,
    RecordHeard,
    Request,
    Subscribed,
)
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.sim.assembly import Assembly
from peerupgrade.sim.crowd import Crowd
from peerupgrade.wire.fields import member_to_fields, record_to_fields, request_to_fields
from peerupgrade.wire.packets import packet_to_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ABOUT = "simulated nodes: convergence, messages and bytes by their number, with and without a store"
LASTS = "about 20 min"
TAKES = ("nodes",)
GOALS = (
    Goal("rounds_of_log2_most", at_most=1.0),
    Goal("rounds_growth_of_log2_growth", at_most=1.0),
    Goal("packets_per_node_most", at_most=11.0),
    Goal("reached_least", at_least=0.999),
    Goal("raise_growth_of_linear", at_most=1.0),
    Goal("asked_per_node_most", at_most=4.0),
)
_SIZES = (10, 32, 100, 316, 1_000, 3_162, 10_000, 31_623, 100_000)
_LOSSES = (0.0, 0.01, 0.05)
_TRIALS_OF_NODES = 10_000  # so many nodes in all trials of one size
_V2 = parse_version("2.0")
_END_S = 60.0


async def run(run: Run) -> Figures:
    usual = [size for size in _SIZES if size <= max(100, _SIZES[-1] * run.scale)]
    sizes = run.nodes(usual)
    return {**_by_gossip(sizes), **_by_the_store(sizes)}


# --- by gossip ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Spread:
    """What became of one thing that one node tells the others.

    Attributes:
        rounds: node -> hops from there.
        arrived, arrived_bytes: packets, and the size of their payloads.
    """

    rounds: dict[str, int]
    arrived: int = 0
    arrived_bytes: int = 0
    _last: tuple[Packet | None, int] = (None, 0)

    def hear(self, name: str, packet: Packet) -> None:
        """A packet arrives; the same one goes to several."""
        if self._last[0] is not packet:
            self._last = (packet, len(packet_to_bytes(packet)))
        self.arrived += 1
        self.arrived_bytes += self._last[1]
        if name not in self.rounds:
            self.rounds[name] = self.rounds[packet.sender] + 1


def _by_gossip(sizes: Sequence[int]) -> Figures:
    figures: dict[str, float] = {}
    most: dict[str, list[float]] = {"of_log2": [], "packets": [], "reached": []}
    for loss in _LOSSES:
        for size in sizes:
            trials = max(1, min(20, _TRIALS_OF_NODES // size))
            end = f"{size}_loss_{loss * 100:g}"
            changes = [_spread(size, loss, seed) for seed in range(trials)]
            records = [_spread(size, loss, seed, _raised(size)) for seed in range(trials)]
            for what, found in (("", changes), ("without_store_", records)):
                rounds = sum(max(one.rounds.values()) for one in found) / trials
                figures[f"{what}rounds_{end}"] = rounds
                figures[f"{what}packets_per_node_{end}"] = max(one.arrived for one in found) / size
                sent_bytes = max(one.arrived_bytes for one in found) / size
                figures[f"{what}bytes_per_node_{end}"] = sent_bytes
                most["of_log2"].append(rounds / log2(size))
                most["packets"] += [one.arrived / size for one in found]
                # Of all trials: with loss one node may miss all that is sent to it, and hears of it
                # by the digest in the next heartbeat.
                most["reached"].append(sum(len(one.rounds) for one in found) / size / trials)
    first, last = sizes[0], sizes[-1]
    rose = figures[f"rounds_{last}_loss_0"] - figures[f"rounds_{first}_loss_0"]
    figures["rounds_growth_of_log2_growth"] = rose / (log2(last) - log2(first))
    figures["rounds_of_log2_most"] = max(most["of_log2"])
    figures["packets_per_node_most"] = max(most["packets"])
    figures["reached_least"] = min(most["reached"])
    return figures


def _raised(size: int) -> ClusterRecord:
    """What a master of so many nodes has just committed."""
    return ClusterRecord("generation", 2 * size, 3, "n000000", _V2, _V2, _V2, parse_version("1.0"))


def _spread(size: int, loss: float, seed: int, record: ClusterRecord | None = None) -> Spread:
    """One node has other software; or it is the master and commits this record."""
    gc.disable()  # it would look at millions of objects again and again, and find nothing
    crowd = Crowd(Random(seed), loss=loss)
    crowd.gather(size, probing=False)
    teller = f"n{seed % size:06}"
    spread = Spread({teller: 0})
    crowd.hears = spread.hear
    if record is None:
        crowd.install(teller, _V2)
    else:
        crowd.commit(teller, record)
    crowd.run(_END_S)
    del crowd
    gc.enable()
    gc.collect()
    return spread


# --- by the store ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Weight:
    """Bytes of what goes to the store and comes from its channels, as it is written there."""

    asked: int = 0
    told: int = 0
    _last: tuple[object, int] = field(default=(None, 0))

    def note(self, message: Request | LockRequest | Heard) -> None:
        """One more; a record goes to all as it is."""
        if self._last[0] is not message:
            self._last = (message, len(json.dumps(_fields(message))))
        if isinstance(message, RecordHeard | MemberHeard | Beat):
            self.told += self._last[1]
        else:
            self.asked += self._last[1]


def _fields(message: Request | LockRequest | Heard) -> object:
    match message:
        case RecordHeard(record):
            return record_to_fields(record)
        case MemberHeard(member=member) if member is not None:
            return member_to_fields(member)
        case MemberHeard() | Beat() | Freed() | ExcludedHeard() | DoubtHeard() | Subscribed():
            return asdict(message)
        case _ if isinstance(message, LockRequest):
            return asdict(message)
        case _:
            return request_to_fields(message)


def _by_the_store(sizes: Sequence[int]) -> Figures:
    figures: dict[str, float] = {}
    asked_most = 0.0
    for size in sizes:
        gc.disable()
        assembly = Assembly(Random(size))
        assembly.gather(size)
        for number, loss in enumerate(_LOSSES):
            end, weight = f"{size}_loss_{loss * 100:g}", Weight()
            assembly.loss, assembly.weighs = loss, weight.note
            took_s = _raise(assembly, parse_version(f"{2 + number}.0"))
            figures[f"store_raise_{end}_ms"] = took_s * 1000
            asked = sum(assembly.asked.values()) / size
            figures[f"store_asked_per_node_{end}"] = asked
            figures[f"store_told_per_node_{end}"] = sum(assembly.told.values()) / size
            figures[f"store_asked_bytes_per_node_{end}"] = weight.asked / size
            figures[f"store_told_bytes_per_node_{end}"] = weight.told / size
            asked_most = max(asked_most, asked if size >= sizes[-1] / 10 else 0.0)
        del assembly
        gc.enable()
        gc.collect()
    first, last = sizes[0], sizes[-1]
    rose = figures[f"store_raise_{last}_loss_0_ms"] / figures[f"store_raise_{first}_loss_0_ms"]
    figures["raise_growth_of_linear"] = rose / (last / first)
    figures["asked_per_node_most"] = asked_most
    return figures


def _raise(assembly: Assembly, version: Version) -> float:
    """All but one are upgraded, then that one is; seconds from there to the last that operates."""
    *others, last = assembly.nodes
    loss, assembly.loss = assembly.loss, 0.0
    assembly.upgrade(others, version)
    members = assembly.store.state.members
    assembly.run_until(lambda: all(members[name].installed == version for name in others))
    assembly.asked.clear()
    assembly.told.clear()
    assembly.loss, began_s = loss, assembly.agenda.now_s
    assembly.upgrade([last], version)
    assembly.run_until(lambda: assembly.all_operate(version))
    took_s = max(seen[version] for seen in assembly.operated_s.values()) - began_s
    assembly.run_until(lambda: assembly.has_settled(version))
    return took_s


def plot(figures: Figures, axes: Axes) -> None:
    """Rounds against the number of nodes on a logarithmic axis, where a line is hoped for."""
    for what, style in (("rounds", "o-"), ("without_store_rounds", "x--")):
        for loss in _LOSSES:
            end = f"_loss_{loss * 100:g}"
            rounds = {
                int(name.removeprefix(f"{what}_").removesuffix(end)): value
                for name, value in figures.items()
                if name.startswith(f"{what}_") and name.endswith(end)
            }
            label = f"{'a raise' if 'store' in what else 'a change'}, {loss:.0%} lost"
            axes.plot(list(rounds), list(rounds.values()), style, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("nodes")
    axes.set_ylabel("rounds until the last one knows")
    axes.legend()
