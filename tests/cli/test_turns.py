"""The commands that a node runs in its turn of a rollout."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from peerupgrade.cli.programs import run_step
from peerupgrade.cli.sources import Extra
from peerupgrade.cli.turns import turn_commands
from peerupgrade.errors import ConfigError
from peerupgrade.runtime.turns import TurnContext

pytestmark = pytest.mark.asyncio

SHOWS = "sh -c 'echo $PEERUPGRADE_STEP $PEERUPGRADE_VERSION $PEERUPGRADE_BEFORE; echo fine >&2'"


def context(step):
    return TurnContext(step, "2.0", "1.0", 1)


async def test_a_command_gets_the_versions_and_its_whole_output_is_shown():
    run, _ = turn_commands(Extra(drain_command=SHOWS))["drain"]
    assert await run(context("drain")) == "drain 2.0 1.0 fine"


async def test_only_steps_with_a_command_have_one():
    assert turn_commands(Extra()) == {}
    assert list(turn_commands(Extra(undrain_command="true", install_command="true"))) == [
        "install",
        "undrain",
    ]


async def test_a_command_that_fails_says_so_with_what_it_said():
    run, _ = turn_commands(Extra(install_command="sh -c 'echo no room; exit 3'"))["install"]
    with pytest.raises(ConfigError, match=r"install_command failed with status 3: no room"):
        await run(context("install"))


async def test_a_command_has_a_time_limit_and_its_children_end_with_it():
    extra = Extra(install_command="sh -c 'sleep 60 & sleep 60'", step_timeout_s=0.3)
    run, _ = turn_commands(extra)["install"]
    with pytest.raises(ConfigError, match=r"did not end within 0\.3 s"):
        await run(context("install"))


async def test_a_program_that_is_left_running_with_the_output_open_keeps_nobody_waiting(tmp_path):
    pid = tmp_path / "pid"
    command = f"sh -c 'sleep 600 & echo $! > {pid}'"
    ran = await asyncio.wait_for(
        run_step("restart_command", command, timeout_s=60.0, variables={}), 30.0
    )
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert ran.status == 0


@pytest.mark.parametrize(("status", "seen"), [(0, True), (1, False), (2, None)])
async def test_a_command_may_look_whether_a_step_was_done(status, seen):
    look_command = f"sh -c 'test $PEERUPGRADE_STEP = restart && exit {status}'"
    _, look = turn_commands(Extra(restart_command="true", look_command=look_command))["restart"]
    assert await look(context("restart")) is seen


async def test_without_such_a_command_nothing_says_it():
    _, look = turn_commands(Extra(restart_command="true"))["restart"]
    assert await look(context("restart")) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells the child")
async def test_a_command_ends_with_the_process_that_runs_it(tmp_path):
    pid = tmp_path / "pid"
    code = (
        "import asyncio; from peerupgrade.cli.programs import run_step;"
        f"asyncio.run(run_step('x', \"sh -c 'echo $$ > {pid}; exec sleep 600'\","
        " timeout_s=600, variables={}))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    async with asyncio.timeout(30):
        while not pid.exists() or not pid.read_text():
            await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        while _runs(int(pid.read_text())):
            await asyncio.sleep(0.02)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
