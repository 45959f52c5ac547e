"""The demo as people run it: a process that starts processes and leaves none behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

NODES = 3
# The store, an agent and two releases of the service for each node.
PROCESSES = 1 + 3 * NODES


@pytest.fixture
def start(tmp_path):
    """Starts a demo whose files are all in a directory of the test's own."""
    started = []

    def start_one(*options, **variables):
        env = {**os.environ, "TMPDIR": str(tmp_path), **variables}
        env.pop("XDG_RUNTIME_DIR", None)
        demo = subprocess.Popen(
            [sys.executable, "-m", "peerupgrade", "demo", "--nodes", str(NODES), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        started.append(demo)
        return demo

    yield start_one
    for demo in started:
        demo.terminate()
        demo.communicate()


def outcome(demo, code):
    """What it prints for programs; stdout has nothing else."""
    out, err = demo.communicate(timeout=120)
    assert demo.returncode == code, out + err
    return json.loads(out)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def children(pid):
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=True)
    pairs = [line.split() for line in listed.stdout.decode().splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


def until(condition, within_s=60.0):
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def homes(tmp_path):
    return [path.parent for path in tmp_path.glob("peerupgrade-*/n1")]


def check_success(said):
    assert said["ok"]
    assert said["problems"] == []
    assert said["requests"]["served"] > 0
    assert said["requests"]["failed"] == 0
    assert 0 < said["records"]["count"] == said["records"]["kept"]
    assert said["records"]["in_new_format"] == said["records"]["count"]
    assert said["records"]["counted_by_format"] == {"2.0": said["records"]["count"]}
    assert said["operating"] == {f"n{number}": "2.0" for number in range(1, NODES + 1)}
    steps = [entry["kind"] for entry in said["history"]]
    assert steps == ["upgrade began", "floor", "raised", "settled", "converted", "completed"]


@pytest.mark.parametrize("way", [(), ("--manual",)], ids=["driven", "manual"])
def test_every_node_is_upgraded_and_the_cluster_finishes_by_itself(start, tmp_path, way):
    said = outcome(start("--json", *way), 0)
    check_success(said)
    assert said["killed_master"] is None
    assert 0 < said["switch_s"] < 2
    assert len(said["pids"]) == PROCESSES
    assert not any(alive(pid) for pid in said["pids"])
    assert not homes(tmp_path)


@pytest.mark.parametrize("way", [(), ("--manual",)], ids=["driven", "manual"])
def test_another_master_finishes_what_a_killed_one_began(start, way):
    said = outcome(start("--json", "--kill-master", *way), 0)
    check_success(said)
    masters = [entry["by"] for entry in said["history"]]
    assert masters[0] == said["killed_master"]
    if way:  # else it is back before the end, and may become master again
        assert said["killed_master"] not in masters[1:]
    assert len(said["pids"]) == PROCESSES + 1  # the agent that was killed, again
    assert not any(alive(pid) for pid in said["pids"])


def test_a_release_that_does_not_ask_what_is_active_makes_the_demo_fail(start):
    said = outcome(start("--json", NOTES_UNGATED="1"), 1)
    assert not said["ok"]
    assert said["requests"]["failed"] > 0
    assert any("release 1.0 cannot read" in problem for problem in said["problems"])
    assert not any(alive(pid) for pid in said["pids"])


def test_a_node_that_dies_makes_the_demo_fail_at_once(start):
    demo = start("--json")
    until(lambda: len(children(demo.pid)) > 2 * NODES)
    agent = children(demo.pid)[1]  # the store was started first
    os.kill(agent, signal.SIGKILL)
    said = outcome(demo, 1)
    assert said["problems"][0].startswith("the agent of n1 has ended with status -9")
    assert not any(alive(pid) for pid in said["pids"])


@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_ends_every_process(start, tmp_path, times):
    demo = start("--keep")
    until(lambda: len(children(demo.pid)) > 2 * NODES)
    processes = children(demo.pid)
    for _ in range(times):  # the impatient
        demo.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, err = demo.communicate(timeout=30)
    assert demo.returncode == 130, err
    assert not any(alive(pid) for pid in processes)
    assert not homes(tmp_path)


def test_left_running_it_says_what_to_try_until_ctrl_c(start):
    demo = start("--keep")
    hints = []
    while not hints or "kill -HUP" not in hints[-1]:
        hints.append(demo.stdout.readline())
        assert hints[-1], demo.stderr.read()
    processes = children(demo.pid)
    assert len(processes) == 2 * NODES + 1
    assert any("peerupgrade status --cluster demo-" in hint for hint in hints)
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode == 0
    assert not any(alive(pid) for pid in processes)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no signal tells a child")
def test_killed_it_leaves_no_process(start):
    demo = start()
    until(lambda: len(children(demo.pid)) > 2 * NODES)
    processes = children(demo.pid)
    demo.kill()
    until(lambda: not any(alive(pid) for pid in processes))
