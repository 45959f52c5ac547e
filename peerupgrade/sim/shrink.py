"""From a failing seed to the few events and faults that are enough."""

from __future__ import annotations

from peerupgrade.sim.run import Outcome, run_seed


def shrink(seed: int, nodes: int) -> Outcome:
    """Leave things out as long as the seed still breaks the same invariant.

    Args:
        seed: one that fails.
        nodes: as it failed.

    Returns:
        The outcome with the fewest nodes, upgrades and faults, and its story.
    """
    outcome = run_seed(seed, nodes)
    broken = _what(outcome)
    keep = frozenset(happening.number for happening in outcome.happened)
    size = max(1, len(keep) // 2)
    while True:
        smaller = _without_one_part(seed, nodes, keep, size, broken)
        if smaller is not None:
            keep = smaller
        elif size == 1:
            return run_seed(seed, nodes, tracing=True, keep=keep)
        else:
            size = max(1, size // 2)


def _without_one_part(
    seed: int, nodes: int, keep: frozenset[int], size: int, broken: str
) -> frozenset[int] | None:
    numbers = sorted(keep)
    for start in range(0, len(numbers), size):
        fewer = keep - frozenset(numbers[start : start + size])
        if fewer != keep and _what(run_seed(seed, nodes, keep=fewer)) == broken:
            return fewer
    return None


def _what(outcome: Outcome) -> str:
    """The name of the invariant."""
    return outcome.problem.partition(":")[0]
