"""`python -m benchmarks [NAME] [--scale 0.1] [--out DIR] [--json] [--check]`; else it lists them.

With --check the exit code is 1 if a goal was not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.frame import Benchmark, Figures, benchmarks


def main(argv: Sequence[str] | None = None) -> int:
    known = benchmarks()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(known), help="which one to run")
    parser.add_argument("--scale", type=float, default=1.0, help="of the size; default 1")
    parser.add_argument("--out", type=Path, metavar="DIR", help="leave figures and plot there")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--check", action="store_true", help="fail if a goal is not reached")
    options = parser.parse_args(argv)
    if options.name is None:
        for one in known.values():
            print(f"{one.name:<14}{one.about}")
            for goal in one.goals:
                print(f"{'':<14}  goal: {goal}")
        return 0
    benchmark = known[options.name]
    figures = asyncio.run(_run(benchmark, options.scale))
    missed = [goal for goal in benchmark.goals if not goal.met(figures)]
    if options.out is not None:
        benchmark.keep(figures, options.out)
    if options.json:
        goals = {str(goal): goal not in missed for goal in benchmark.goals}
        print(json.dumps({"benchmark": benchmark.name, "figures": figures, "goals": goals}))
    else:
        for name, value in figures.items():
            print(f"{name:<40}{value:>14,.3f}")
        for goal in benchmark.goals:
            print(f"{'missed' if goal in missed else 'reached':<9}{goal}")
    return 1 if options.check and missed else 0


async def _run(benchmark: Benchmark, scale: float) -> Figures:
    return await benchmark.run(scale)


if __name__ == "__main__":
    sys.exit(main())
