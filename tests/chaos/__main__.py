"""`scripts/chaos`: a chaos run as a command."""

import argparse
import asyncio
import json
import logging
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.report import gaps, show, summary
from tests.chaos.run import Run

_PROGRESS_EVERY_S = 10.0


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/chaos", description="Real nodes, real faults.")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long [default: 5]")
    parser.add_argument("--seed", default="", help="the plan is drawn from it [default: any]")
    parser.add_argument("--keep", type=Path, help="keep journals and logs in this new directory")
    parser.add_argument("--json", action="store_true", help="print the result for programs")
    return parser.parse_args(arguments)


async def progress(run):
    """One line every now and then, on stderr."""
    while True:
        await asyncio.sleep(_PROGRESS_EVERY_S)
        print(run.progress(), file=sys.stderr, flush=True)


async def run_for(run, minutes):
    """Until the time is over, or until Ctrl-C; then it is judged all the same."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, run.interrupted.set)
    telling = asyncio.create_task(progress(run))
    try:
        return await run.go(minutes * 60)
    finally:
        telling.cancel()


def main(arguments=None):
    options = parse(arguments)
    logging.getLogger("peerupgrade").setLevel(logging.ERROR)  # the operator meets every fault, too
    seed = options.seed or secrets.token_hex(4)
    if options.keep is None:
        directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    else:
        directory = options.keep.absolute()
        directory.mkdir(parents=True)
    print(f"seed {seed}, in {directory}", file=sys.stderr, flush=True)
    run = Run(directory, seed)
    verdict = asyncio.run(run_for(run, options.minutes))
    missing = [] if run.interrupted.is_set() else gaps(verdict, options.minutes * 60)
    if options.json:
        print(json.dumps({"seed": seed, **summary(verdict), "missing": missing}, indent=2))
    else:
        show(verdict)
    for what in missing:
        print(f"missing: {what}", file=sys.stderr)
    if verdict.violations:
        print(f"the journals are in {directory}", file=sys.stderr)
    elif options.keep is None:
        shutil.rmtree(directory)
    return 1 if verdict.violations or verdict.values_lost or missing else 0


if __name__ == "__main__":
    sys.exit(main())
