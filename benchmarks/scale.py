"""Simulated nodes, up to a hundred thousand: in how many rounds all of them know of one change.

A round is one hop of a packet: who changed is at 0, whoever hears of it from there at 1. The nodes
are the core's own gossip in virtual time, each with its own view of all others; nothing but loss is
in their way. Probes are left out, they only would repair what is lost here for good.
"""

from __future__ import annotations

import gc
from math import log2
from random import Random
from typing import TYPE_CHECKING

from benchmarks.frame import Figures, Goal, Run
from peerupgrade.core.gossip.packets import Packet
from peerupgrade.core.versions import parse_version
from peerupgrade.sim.crowd import Crowd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ABOUT = "simulated nodes: rounds and packets until everybody knows of one change, by their number"
LASTS = "about 6 min"
TAKES = ("nodes",)
GOALS = (
    Goal("rounds_of_log2_most", at_most=1.0),
    Goal("rounds_growth_of_log2_growth", at_most=1.0),
    Goal("packets_per_node_most", at_most=11.0),
    Goal("reached_least", at_least=0.999),
)
_SIZES = (10, 32, 100, 316, 1_000, 3_162, 10_000, 31_623, 100_000)
_LOSSES = (0.0, 0.01, 0.05)
_TRIALS_OF_NODES = 10_000  # so many nodes in all trials of one size
_V2 = parse_version("2.0")
_END_S = 5.0


async def run(run: Run) -> Figures:
    figures: dict[str, float] = {}
    usual = [size for size in _SIZES if size <= max(100, _SIZES[-1] * run.scale)]
    sizes = run.nodes(usual)
    packets, reached, of_log2 = [], [], []
    for loss in _LOSSES:
        for size in sizes:
            trials = max(1, min(20, _TRIALS_OF_NODES // size))
            found = [_change(size, loss, seed) for seed in range(trials)]
            rounds = sum(one[0] for one in found) / trials
            figures[f"rounds_{size}_loss_{loss * 100:g}"] = rounds
            figures[f"packets_per_node_{size}_loss_{loss * 100:g}"] = max(one[1] for one in found)
            packets += [one[1] for one in found]
            reached += [one[2] for one in found]
            of_log2.append(rounds / log2(size))
    first, last = sizes[0], sizes[-1]
    rose = figures[f"rounds_{last}_loss_0"] - figures[f"rounds_{first}_loss_0"]
    figures["rounds_growth_of_log2_growth"] = rose / (log2(last) - log2(first))
    figures["rounds_of_log2_most"] = max(of_log2)
    figures["packets_per_node_most"] = max(packets)
    figures["reached_least"] = min(reached)
    return figures


def _change(size: int, loss: float, seed: int) -> tuple[int, float, float]:
    """Rounds until the last one that hears of it, packets of each node, the share that heard."""
    gc.disable()  # it would look at millions of objects again and again, and find nothing
    crowd = Crowd(Random(seed), loss=loss)
    crowd.gather(size, probing=False)
    changed = f"n{seed % size:06}"
    rounds = {changed: 0}

    def hear(name: str, packet: Packet) -> None:
        if name not in rounds:
            rounds[name] = rounds[packet.sender] + 1

    crowd.hears = hear
    crowd.install(changed, _V2)
    crowd.run(_END_S)
    found = max(rounds.values()), sum(crowd.sent.values()) / size, len(rounds) / size
    del crowd
    gc.enable()
    gc.collect()
    return found


def plot(figures: Figures, axes: Axes) -> None:
    """Rounds against the number of nodes on a logarithmic axis, where a line is hoped for."""
    for loss in _LOSSES:
        end = f"_loss_{loss * 100:g}"
        rounds = {
            int(name.split("_")[1]): value
            for name, value in figures.items()
            if name.startswith("rounds_") and name.endswith(end)
        }
        axes.plot(list(rounds), list(rounds.values()), marker="o", label=f"{loss:.0%} lost")
    axes.set_xscale("log")
    axes.set_xlabel("nodes")
    axes.set_ylabel("rounds until the last one knows")
    axes.legend()
