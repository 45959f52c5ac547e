"""The simulator: `sim`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, TextIO

from cyclopts import Parameter
from cyclopts.validators import Number

from peerupgrade.cli.interruption import interruptions
from peerupgrade.cli.show import print_json, print_message, print_table
from peerupgrade.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from peerupgrade.sim.campaign import Campaign
    from peerupgrade.sim.run import Outcome

_ENOUGH_SEEDS = 1000  # from so many on, a fault that never struck is a failure
_SHOWN_FAILURES = 5
_AT_LEAST_ONE = Number(gte=1)
_COUNT = Parameter(validator=_AT_LEAST_ONE)


def sim(
    *,
    seeds: Annotated[int, _COUNT, Parameter(help="how many.")] = 1000,
    first: Annotated[int, Parameter(validator=Number(gte=0), help="the first of them.")] = 0,
    seed: Annotated[int | None, Parameter(help="only this one, with its story.")] = None,
    only: Annotated[str, Parameter(help="of that seed only what has these numbers: 3,8,41.")] = "",
    nodes: Annotated[int, _COUNT, Parameter(help="at the start of each.")] = 5,
    processes: Annotated[
        int | None, Parameter(validator=_AT_LEAST_ONE, help="by default one a core.")
    ] = None,
    json: Annotated[bool, Parameter(negative="", help="one JSON object at the end.")] = False,
) -> int:
    """Drive the real core through every fault in virtual time, and check every invariant.

    One seed decides everything: who fails, when, and which message is lost. A seed
    that fails is printed as the command that repeats it, then shrunk to the fewest
    faults that still break the same invariant, and told as a story.

    For example:

        peerupgrade sim --seeds 200
        peerupgrade sim --seed 7
    """
    from peerupgrade.sim.campaign import Campaign, run_seeds
    from peerupgrade.sim.run import run_seed

    if seed is not None:
        outcome = run_seed(seed, nodes, tracing=True, keep=_numbers(only))
        print("\n".join(outcome.story))
        print(outcome.problem or "every invariant held, and it converged")
        return ExitCode.FAILURE if outcome.problem else ExitCode.OK
    campaign, began_s = Campaign(), time.monotonic()
    processes = processes or os.cpu_count() or 1
    with interruptions() as check:
        outcomes = run_seeds(range(first, first + seeds), nodes, processes, check)
        for outcome in _with_progress(outcomes, seeds):
            campaign.add(outcome)
    campaign.took_s = time.monotonic() - began_s
    if json:
        print_json(_as_json(campaign))
    else:
        _print(campaign)
    for failed in campaign.failed[:_SHOWN_FAILURES]:
        _explain(failed, nodes, sys.stderr if json else sys.stdout)
    return ExitCode.FAILURE if campaign.failed or _gaps(campaign) else ExitCode.OK


def _with_progress(outcomes: Iterable[Outcome], seeds: int) -> Iterable[Outcome]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(outcomes, "simulating", seeds, console=console, disable=not console.is_terminal)


def _gaps(campaign: Campaign) -> list[str]:
    """What was never tried, although there were seeds enough."""
    if campaign.seeds < _ENOUGH_SEEDS:
        return []
    return campaign.never_fired + campaign.never_exercised


def _print(campaign: Campaign) -> None:
    from peerupgrade.core.crashpoints import CRASH_POINTS
    from peerupgrade.sim.checker import INVARIANTS
    from peerupgrade.sim.faults import FAULTS

    for title, names, counts in (
        (("FAULT", "FIRED"), FAULTS, campaign.fired),
        (("CRASH POINT", "STRUCK"), CRASH_POINTS, campaign.sprung),
        (("INVARIANT", "EXERCISED"), INVARIANTS, campaign.exercised),
    ):
        print_table(title, ((name, counts[name]) for name in names))
        print()
    print(
        f"{campaign.seeds} seeds, {campaign.simulated_s:,.0f} simulated seconds,"
        f" {campaign.events:,} events, {campaign.raises:,} raises; {len(campaign.failed)} failed"
    )
    print(f"in {campaign.took_s:,.0f} s, {campaign.speed:,.0f} times as fast as real time")
    for gap in _gaps(campaign):
        print_message(f"never tried: {gap}")


def _explain(failed: Outcome, nodes: int, story: TextIO) -> None:
    from peerupgrade.sim.shrink import shrink

    print_message(f"{failed.problem}")
    print_message(f"reproduce: python -m peerupgrade sim --seed {failed.seed} --nodes {nodes}")
    smallest = shrink(failed.seed, nodes)
    faults = sum(happening.is_fault for happening in smallest.happened)
    print_message(f"left of it: {faults} faults, {len(smallest.happened) - faults} other events")
    numbers = ",".join(str(happening.number) for happening in smallest.happened)
    again = f"--seed {failed.seed} --nodes {nodes} --only {numbers}"
    print_message(f"that is: python -m peerupgrade sim {again}")
    print("\n".join([*smallest.story, smallest.problem]), file=story)


def _numbers(only: str) -> frozenset[int] | None:
    """Read `3,8,41`; None for everything.

    Raises:
        ConfigError: it is no list of numbers.
    """
    if not only:
        return None
    try:
        return frozenset(map(int, only.split(",")))
    except ValueError:
        raise ConfigError(f"--only {only!r} is no list of numbers", hint="--only 3,8,41") from None


def _as_json(campaign: Campaign) -> dict[str, object]:
    return {
        "seeds": campaign.seeds,
        "simulated_s": campaign.simulated_s,
        "took_s": campaign.took_s,
        "events": campaign.events,
        "raises": campaign.raises,
        "fired": dict(sorted(campaign.fired.items())),
        "crash_points": dict(sorted(campaign.sprung.items())),
        "exercised": dict(sorted(campaign.exercised.items())),
        "failed": [{"seed": one.seed, "problem": one.problem} for one in campaign.failed],
        "never_tried": _gaps(campaign),
    }
