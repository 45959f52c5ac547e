"""How long it takes to import the package and to get help, beside a Python that does nothing."""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks.frame import Figures, Goal, Run, percentile

ABOUT = "import peerupgrade, import what a node needs, and --help, each in a new process"
LASTS = "about 30 s"
TAKES = ("trials",)
GOALS = (
    Goal("import_over_asyncio_ms", at_most=80.0),
    Goal("help_median_ms", at_most=400.0),
)
_TRIALS = 20
_PROGRAMS = {
    "python": ("-c", "pass"),
    "asyncio": ("-c", "import asyncio"),
    "import": ("-c", "import asyncio, peerupgrade"),
    "import_node": ("-c", "import asyncio, peerupgrade; peerupgrade.Node"),
    "help": ("-m", "peerupgrade", "--help"),
}


async def run(run: Run) -> Figures:
    took_ms: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for _ in run.each(run.trials(_TRIALS), "starting"):
        for name, arguments in _PROGRAMS.items():  # in turns: the machine is the same for all
            took_ms[name].append(await _took_ms(*arguments))
    figures = {k: v for name, ms in took_ms.items() for k, v in run.note(name, ms).items()}
    medians = {name: percentile(ms, 0.5) for name, ms in took_ms.items()}
    for name in ("import", "import_node"):
        figures[f"{name}_over_asyncio_ms"] = medians[name] - medians["asyncio"]
    for name in ("import", "import_node", "help"):
        figures[f"{name}_of_python"] = medians[name] / medians["python"]
    return figures


async def _took_ms(*arguments: str) -> float:
    began_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise RuntimeError(f"python {' '.join(arguments)} failed: see its message above")
    return (time.monotonic() - began_s) * 1000
