"""A program that the agent runs: when it runs, what it is told, and in which release."""

import json
import os
import shlex
import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from peerupgrade.errors import ExitCode
from tests.acceptance.agents import eventually

pytestmark = pytest.mark.asyncio

PROGRAM = Path(__file__).with_name("program.py")


def run(agents, name):
    return shlex.join([sys.executable, str(PROGRAM), str(agents.directory / name), "{version}"])


def told(agents, name):
    """What the program said, without its process ids."""
    path = agents.directory / name
    lines = path.read_text().splitlines() if path.exists() else []
    return [" ".join(line.split()[:5]) if " runs at " in line else line for line in lines]


def pid(agents, name):
    lines = (agents.directory / name).read_text().splitlines()
    return int([line for line in lines if " runs at " in line][-1].split()[-1])


async def says(agents, name, *lines, timeout_s=20):
    async def said():
        return told(agents, name) == [*lines]

    try:
        await eventually(said, timeout_s)
    except TimeoutError:
        raise AssertionError(f"it said {told(agents, name)}, not {lines}") from None


async def gone(process_id):
    async def ended():
        stat = Path(f"/proc/{process_id}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    await eventually(ended)


async def form(agents, *names, **settings):
    for name in names:
        expected = str(len(names))
        agents.start(name, bootstrap_expect=expected, run=run(agents, name), **settings)
    for name in names:
        await says(agents, name, "1.0 runs at 1.0 1.0")


async def test_it_runs_once_the_node_operates_and_is_told_the_acting_version(agents):
    agents.start("a", bootstrap_expect="2", run=run(agents, "a"))
    await agents.until("a", ("a", "alive"))
    assert told(agents, "a") == []
    agents.start("b", bootstrap_expect="2", run=run(agents, "b"))
    await says(agents, "a", "1.0 runs at 1.0 1.0")
    environment = Path(f"/proc/{pid(agents, 'a')}/environ").read_bytes().decode()
    given = dict(one.partition("=")[::2] for one in environment.split("\0"))
    with urllib.request.urlopen(given["PEERUPGRADE_URL"] + "/v1/acting?wait=0") as answer:
        assert json.load(answer)["operating"] == "1.0"
    assert "out of 1.0" in (agents.directory / "a.log").read_text().splitlines()


async def test_when_it_dies_it_is_started_again_and_that_is_said(agents):
    await form(agents, "a")
    watched = agents.watch("a")
    await eventually(lambda: _true(watched()))
    (agents.directory / "a.die").touch()
    await says(agents, "a", "1.0 runs at 1.0 1.0", "1.0 died", "1.0 runs at 1.0 1.0")
    details = [one["detail"] for one in watched() if one["event"] == "program"]
    assert "has ended with status 4; it may start again in 0.5 s" in details
    assert "has ended with status 4" in (agents.directory / "a.log").read_text()


async def _true(found):
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_before_the_agent_leaves(agents, number):
    await form(agents, "a")
    agents.signal("a", number)
    assert agents.running["a"].wait(timeout=20) == ExitCode.OK
    assert told(agents, "a")[-1] == "1.0 told to end"
    log = (agents.directory / "a.log").read_text()
    assert log.index("was stopped: with status 0") < log.index("suspended it was told not to serve")


async def test_one_that_does_not_end_is_killed(agents):
    (agents.directory / "a.deaf").touch()
    await form(agents, "a", run_stop_s="0.3")
    agents.signal("a", signal.SIGTERM)
    assert agents.running["a"].wait(timeout=20) == ExitCode.OK
    assert "was stopped: killed after 0.3 s" in (agents.directory / "a.log").read_text()
    await gone(pid(agents, "a"))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells the child")
async def test_it_does_not_outlive_an_agent_that_is_killed(agents):
    await form(agents, "a")
    agents.signal("a", signal.SIGKILL)
    await gone(pid(agents, "a"))


async def test_it_does_not_run_while_the_node_is_suspended(agents, store):
    await form(agents, "a", lease_s="2", guard_max_s="0.2")
    os.kill(store.pid, signal.SIGSTOP)
    try:
        await says(agents, "a", "1.0 runs at 1.0 1.0", "1.0 told to end")
    finally:
        os.kill(store.pid, signal.SIGCONT)
    await says(agents, "a", "1.0 runs at 1.0 1.0", "1.0 told to end", "1.0 runs at 1.0 1.0")


async def test_what_somebody_installs_is_started_once_the_agent_is_told(agents):
    await form(agents, "a", "b")
    agents.install("a", "2.0")
    await says(agents, "a", "1.0 runs at 1.0 1.0", "1.0 told to end", "2.0 runs at 1.0 1.0")
    agents.install("b", "2.0")
    await eventually(lambda: _acts_at(agents, "a", "2.0"))
    assert len(told(agents, "a")) == 3  # it reads it in its file


async def _acts_at(agents, name, version):
    environment = Path(f"/proc/{pid(agents, name)}/environ").read_bytes().decode()
    given = dict(one.partition("=")[::2] for one in environment.split("\0"))
    return Path(given["PEERUPGRADE_ACTING_FILE"]).read_text() == f"{version}\n"


def installs(agents, name):
    script = f"echo installing >> {agents.directory / name};"
    script += f' echo "$PEERUPGRADE_VERSION" > {agents.directory / name}.version'
    return {"install_command": f"sh -c '{script}'"}


async def form_that_installs(agents, **others):
    for name in "ab":
        settings = installs(agents, name) | others.get(name, {})
        agents.start(name, bootstrap_expect="2", run=run(agents, name), **settings)
    for name in "ab":
        await says(agents, name, "1.0 runs at 1.0 1.0")


async def test_a_rollout_restarts_it_in_the_new_release(agents):
    await form_that_installs(agents)
    code, _, said = await agents.ask("a", "upgrade", "start", "2.0", "--wait")
    assert code == ExitCode.OK, said
    for name in "ab":
        assert told(agents, name) == [
            "1.0 runs at 1.0 1.0",
            "1.0 told to end",
            "installing",
            "2.0 runs at 1.0 1.0",
        ]
        await eventually(lambda asked=name: _acts_at(agents, asked, "2.0"))


async def test_a_release_that_ends_at_once_fails_its_turn(agents):
    (agents.directory / "b.broken-2.0").touch()
    await form_that_installs(agents)
    code, answer, _ = await agents.ask("a", "upgrade", "start", "2.0", "--wait")
    assert code == ExitCode.NOT_SETTLED
    (failed,) = [one for one in answer["blockers"] if one["code"] == "step_failed"]
    assert failed["subject"] == "b"
    assert "has ended with status 3" in failed["evidence"]
    (agents.directory / "b.broken-2.0").unlink()
    code, _, said = await agents.ask("a", "upgrade", "retry", "b", "--wait")
    assert code == ExitCode.OK, said
    assert told(agents, "b")[-1] == "2.0 runs at 1.0 1.0"


async def test_an_agent_that_is_killed_in_the_turn_goes_on_with_it(agents):
    hangs = {"verify_command": f"sh -c 'test -e {agents.directory}/go || sleep 60'"}
    await form_that_installs(agents, a=hangs)
    await agents.ask("b", "upgrade", "start", "2.0")
    before = ["1.0 runs at 1.0 1.0", "1.0 told to end", "installing", "2.0 runs at 1.0 1.0"]
    await says(agents, "a", *before)
    agents.signal("a", signal.SIGKILL)
    (agents.directory / "go").touch()
    agents.start("a", bootstrap_expect="2", run=run(agents, "a"), **installs(agents, "a"), **hangs)

    async def ended():
        _, answer, _ = await agents.ask("b", "upgrade", "status")
        return answer and answer["rollout"] is None

    await eventually(ended, 40)
    assert told(agents, "a") == [*before, "2.0 told to end", "2.0 runs at 1.0 1.0"]


async def test_a_second_way_to_restart_it_is_refused(agents):
    agents.start("a", run=run(agents, "a"), restart_command="true")
    assert agents.running["a"].wait(timeout=20) == ExitCode.USAGE
    assert "another way to restart" in (agents.directory / "a.log").read_text()
