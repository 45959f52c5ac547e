"""`python -m benchmarks` lists what can be measured; with a name it measures.

    python -m benchmarks NAME [--nodes 5,100] [--trials 20] [--processes 2] [--store URL] [--check]
    python -m benchmarks all --out DIR
    python -m benchmarks compare DIR DIR

With --check the exit code is 1 if a goal was not reached, and each that was not is named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.frame import Benchmark, Options, Run, benchmarks
from benchmarks.results import compare, keep

_APART = ("soak",)  # not one of `all`


def main(argv: Sequence[str] | None = None) -> int:
    known = benchmarks()
    parser = _parser([*known, "all"])
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["compare"]:
        return _compare(arguments[1:])
    given = parser.parse_args(arguments)
    if given.name is None:
        _list(known)
        return 0
    options = Options(given.scale, given.nodes, given.trials, given.processes, given.store)
    name = f"{given.name}_without_store" if given.without_store else given.name
    if name != "all" and name not in known:
        parser.error("--without-store is an option of convergence")
    chosen = [known[name]] if name != "all" else [known[one] for one in known if one not in _APART]
    for one in chosen:
        refused = one.refused(options)
        if refused:
            takes = ", ".join(f"--{option}" for option in one.takes) or "no option about its size"
            parser.error(f"--{refused[0]} means nothing to {one.name}, it takes {takes}")
    out: Path = given.out or Path("benchmark-results", time.strftime("%Y%m%d-%H%M%S"), name)
    folders = [out / one.name if given.name == "all" else out for one in chosen]
    missed = [
        _measure(one, options, folder, given.json)
        for one, folder in zip(chosen, folders, strict=True)
    ]
    return 1 if given.check and sum(missed) else 0


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", nargs="?", choices=names, help="which one to run; all: all but soak")
    add("--nodes", type=_sizes, default=(), metavar="N,...", help="sizes of the cluster")
    add("--trials", type=_positive, default=0, metavar="N", help="of each thing measured")
    add("--processes", type=_positive, default=0, metavar="N", help="that share the nodes")
    add("--store", default="", metavar="URL", help="measure with this store, not one of our own")
    add("--scale", type=float, default=1.0, help="of trials and lengths; default 1")
    add("--without-store", action="store_true", help="convergence by gossip alone")
    add("--out", type=Path, metavar="DIR", help="default: benchmark-results/, and the time")
    add("--json", action="store_true", help="one JSON object a benchmark")
    add("--check", action="store_true", help="fail if a goal is not reached")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_positive(one) for one in text.split(","))


def _list(known: dict[str, Benchmark]) -> None:
    for one in known.values():
        print(f"{one.name:<28}{one.about}")
        takes = "".join(f" --{option}" for option in one.takes)
        print(f"{'':<28}  lasts {one.lasts};{takes or ' --scale'}")
        for goal in one.goals:
            print(f"{'':<28}  goal: {goal}")


def _measure(benchmark: Benchmark, options: Options, folder: Path, as_json: bool) -> int:
    """Run one; gives how many goals were not reached."""
    run = Run(options)
    figures = asyncio.run(_run(benchmark, run))
    keep(benchmark, figures, run.samples, folder)
    missed = [goal for goal in benchmark.goals if not goal.met(figures)]
    if as_json:
        goals = {str(goal): goal not in missed for goal in benchmark.goals}
        print(json.dumps({"benchmark": benchmark.name, "figures": figures, "goals": goals}))
        return len(missed)
    for name, value in figures.items():
        print(f"{name:<52}{value:>14,.3f}")
    for goal in benchmark.goals:
        print(f"{goal.verdict(figures):<11}{goal}")
    print(f"all of it is in {folder}")
    return len(missed)


async def _run(benchmark: Benchmark, run: Run) -> dict[str, float]:
    return dict(await benchmark.run(run))


def _compare(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare", description="Judge two folders of one benchmark."
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    add = parser.add_argument
    add("--check", action="store_true", help="fail if a goal is not reached any more")
    given = parser.parse_args(argv)
    try:
        changes, lost = compare(given.before, given.after)
    except ValueError as error:
        parser.error(str(error))
    for change in changes:
        print(change)
    for goal in lost:
        print(f"not reached any more: {goal}")
    return 1 if given.check and lost else 0


if __name__ == "__main__":
    sys.exit(main())
