"""Real nodes through every fault, one seed at a time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from peerupgrade.core.effects import Memory, Remember
from peerupgrade.errors import ExitCode
from peerupgrade.sim import checker
from peerupgrade.sim.campaign import Campaign, run_seeds
from peerupgrade.sim.faults import FAULTS
from peerupgrade.sim.plan import draw_config
from peerupgrade.sim.run import run_seed
from peerupgrade.sim.shrink import shrink
from peerupgrade.sim.world import World

SEEDS = range(500)


def test_no_seed_breaks_an_invariant_or_fails_to_converge():
    campaign = Campaign()
    for outcome in run_seeds(SEEDS, nodes=5, processes=2):
        campaign.add(outcome)
    assert [f"seed {one.seed}: {one.problem}" for one in campaign.failed] == []
    assert campaign.never_fired == []
    assert campaign.never_exercised == []


def test_shrinking_leaves_what_matters(monkeypatch):
    """An invariant that four operating nodes break needs no fault at all."""
    broken = lambda operating: "S7: broken" if len(operating) == 4 else None  # noqa: E731
    monkeypatch.setattr(checker, "mutually_understood", broken)
    failed = run_seed(3)
    assert failed.problem == "S7: broken"
    smallest = shrink(3, 5)
    assert smallest.problem == "S7: broken"
    assert [one.kind for one in smallest.happened] == ["node started"] * 4
    assert any("operates at" in line for line in smallest.story)


@pytest.mark.parametrize(
    ("seed", "what"),
    [
        (920, "one that stood by was told to leave, and the store took it for serving"),
        (6690, "the version rose while a member was to return to an older one"),
        (8021, "a node of another generation went on by an old word of this store's"),
        (9042, "a script stopped a process whose name another one had"),
        (8392, "the same, and the version rose past it"),
        (301599, "pauses at crash points took nearly all of the time to converge"),
        (303216, "callbacks under way ended in a version that other software does not support"),
        (303960, "one left in its turn whose slot the wiped store had forgotten"),
        (307784, "one that an old primary admits is none whom the store could know of"),
        (308088, "a copy of a request reached another server than the request"),
        (20341, "older software was admitted before all had switched in a downgrade"),
    ],
)
def test_a_seed_that_broke_an_invariant_once(seed, what):
    assert run_seed(seed, 5).problem == "", what


def test_an_assertion_of_the_core_is_a_problem_of_the_seed(monkeypatch):
    def fail(*_):
        raise AssertionError("cannot be")

    monkeypatch.setattr(checker, "given_once", fail)
    assert run_seed(1).problem == "AssertionError: cannot be"


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
    assert run_seed(8, tracing=True).digest + "\n" not in digests


def test_the_readme_counts_the_kinds_of_faults():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"in virtual time: {len(FAULTS)} kinds of faults" in readme


@pytest.mark.parametrize("seed", range(10))
def test_a_machine_saves_in_the_order_in_which_it_was_decided(seed):
    """As the runtime does; else a memory that was given up would lie over the newer one."""
    world = World(draw_config(seed, 1), Random(seed), lambda *_: None)
    machine = world.add("a", 0)
    for number in range(20):
        world._remember(machine, Remember(Memory(str(number))))
    while world.agenda.step(1.0):
        pass
    assert machine.disk == Memory("19")


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_in_the_middle_it_leaves_no_process(number):
    command = [sys.executable, "-m", "peerupgrade", "sim", "--seeds", "100000", "--processes", "2"]
    campaign = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        listed = Path(f"/proc/{campaign.pid}/task/{campaign.pid}/children")
        until(lambda: len(listed.read_text().split()) >= 2)
        workers = [int(pid) for pid in listed.read_text().split()]
        campaign.send_signal(number)
        assert campaign.wait(60) == ExitCode.INTERRUPTED
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    finally:
        campaign.kill()
        campaign.wait()


def until(reached):
    deadline_s = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
