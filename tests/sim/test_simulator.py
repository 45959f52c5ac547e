"""Real nodes through every fault, one seed at a time."""

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

from peerupgrade.sim.faults import Faults
from peerupgrade.sim.run import run_seed
from peerupgrade.sim.world import World, WorldConfig

SEEDS = range(500)


def test_no_seed_breaks_an_invariant_or_fails_to_converge():
    fired, exercised, failed = Counter(), Counter(), []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for outcome in pool.map(run_seed, SEEDS, chunksize=10):
            fired += outcome.fired
            exercised += outcome.exercised
            if outcome.problem:
                failed.append(f"seed {outcome.seed}: {outcome.problem}")
    assert not failed, "\n".join(failed)
    world = World(WorldConfig(), Random(0), lambda *_: None)
    assert set(fired) == set(Faults(world, Random(0)).kinds)
    assert {"S1", "S2", "S3", "S4", "S5", "S7", "S8", "S16"} <= set(exercised)


def test_the_same_seed_is_the_same_run_in_every_process():
    command = "from peerupgrade.sim.run import run_seed; print(run_seed(7, tracing=True).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1
    assert run_seed(8).digest + "\n" not in digests
