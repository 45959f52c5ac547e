"""The exhaustive search: `explore`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Self

from cyclopts import Parameter
from cyclopts.validators import Number

from peerupgrade.cli.interruption import interruptions
from peerupgrade.cli.show import print_json, print_message, print_table
from peerupgrade.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from peerupgrade.sim.explore import Result

_AT_LEAST_ONE = Number(gte=1)


def explore(
    *,
    world: Annotated[
        list[str] | None,
        Parameter(negative="", help="only the small world of this name; may be repeated."),
    ] = None,
    sample: Annotated[
        int, Parameter(validator=_AT_LEAST_ONE, help="recover from one state in so many.")
    ] = 1000,
    processes: Annotated[
        int | None, Parameter(validator=_AT_LEAST_ONE, help="by default one a core.")
    ] = None,
    json: Annotated[bool, Parameter(negative="", help="one JSON object at the end.")] = False,
) -> int:
    """Go through every order of everything in small worlds, and check every invariant.

    Two or three nodes of the real core are upgraded, in any order and at any
    moment, while a bounded number of faults strikes: crashes, pauses, a store that
    loses its last writes. A violation is told as the shortest path to it. The
    larger worlds take some minutes each.

    For example:

        peerupgrade explore
        peerupgrade explore --world "three versions"
    """
    from peerupgrade.sim.explore import WORLDS, explore_all

    unknown = [name for name in world or () if name not in WORLDS]
    if unknown:
        known = ", ".join(f'"{name}"' for name in WORLDS)
        raise ConfigError(f"no small world is called {unknown[0]!r}", hint=f"choose of {known}")
    names = world or list(WORLDS)
    with interruptions() as check, _Progress(names, check) as progress:
        searched = explore_all(names, sample, processes or os.cpu_count() or 1, progress.show)
        results = dict(_told(searched, json=json))
    if json:
        print_json({name: _as_json(result) for name, result in results.items()})
    else:
        _print(results)
    failed = any(result.problem or result.missing for result in results.values())
    return ExitCode.FAILURE if failed else ExitCode.OK


class _Progress:
    """One line for each world on stderr, if that is a terminal."""

    def __init__(self, names: Sequence[str], check: Callable[[], None]) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._check = check
        console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[states]:>9,} states, {task.fields[ahead]:,} ahead"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks = [self._bar.add_task(name, total=1, states=0, ahead=0) for name in names]

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, index: int, states: int, ahead: int) -> None:
        """How far one world is; here the search can be interrupted."""
        self._check()
        done = int(states > 0 and ahead == 0)
        self._bar.update(self._tasks[index], states=states, ahead=ahead, completed=done)


def _told(searched: Iterable[tuple[str, Result]], *, json: bool) -> Iterable[tuple[str, Result]]:
    """A violation is told as soon as it is found."""
    from peerupgrade.sim.explore import story

    for name, result in searched:
        if result.problem:
            print_message(f"{name}: {result.problem}")
            out = sys.stderr if json else sys.stdout
            print("\n".join([*story(result.config, result.path), result.problem]), file=out)
        yield name, result


def _print(results: dict[str, Result]) -> None:
    print_table(
        ("WORLD", "STATES", "TRANSITIONS", "DEPTH", "SECONDS", "RECOVERED", "FOUND"),
        (
            (
                name,
                f"{result.states:,}",
                f"{result.transitions:,}",
                result.depth,
                f"{result.seconds:.0f}",
                result.recovered,
                result.problem.partition(":")[0] or "nothing",
            )
            for name, result in results.items()
        ),
    )
    for name, result in results.items():
        for code, count in sorted(result.named.items()):
            print_message(f"{name}: {count} times an operator is needed: {code}")
        for what in result.missing:
            print_message(f"{name}: never reached: {what}")


def _as_json(result: Result) -> dict[str, object]:
    return {
        "states": result.states,
        "transitions": result.transitions,
        "depth": result.depth,
        "seconds": round(result.seconds, 1),
        "reached": dict(sorted(result.reached.items())),
        "never_reached": result.missing,
        "recovered": result.recovered,
        "operator_needed": dict(sorted(result.named.items())),
        "problem": result.problem,
    }
