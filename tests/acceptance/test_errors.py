"""What goes wrong at the start of a node: one line, what to do, the documented exit code."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from peerupgrade.errors import ExitCode
from tests.acceptance.cluster import Cluster


@pytest.fixture
def node(tmp_path):
    """Run the command to its end; gives exit code and the lines on stderr."""
    (tmp_path / "run").mkdir(mode=0o700)

    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "peerupgrade", "node", *arguments],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("PEERUPGRADE_")},
                "XDG_STATE_HOME": str(tmp_path / "state"),
                "XDG_RUNTIME_DIR": str(tmp_path / "run"),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        complaints = [line for line in done.stderr.splitlines() if line.startswith("peerupgrade:")]
        assert len(complaints) == 1, done.stderr
        return done.returncode, complaints[0]

    return run


def test_a_url_that_cannot_be_one(node):
    code, said = node(
        "--name", "a", "--installed", "1.0", PEERUPGRADE_STORE="postgres://:hush@127.0.0.1"
    )
    assert code == ExitCode.USAGE
    assert "hush" not in said
    assert "redis://" in said


def test_a_store_that_is_not_there(node):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, said = node(
        *("--name", "a", "--installed", "1.0", "--start-timeout-s", "1"),
        PEERUPGRADE_STORE=f"redis://:hush@127.0.0.1:{port}",
    )
    assert code == ExitCode.UNAVAILABLE
    assert f"127.0.0.1:{port}" in said
    assert "hush" not in said


@pytest.mark.asyncio
async def test_a_wrong_password(node, server):
    wrong = server.url.replace(server.url.split(":")[2].split("@")[0], "wrong-and-hush")
    code, said = node("--name", "a", "--installed", "1.0", PEERUPGRADE_STORE=wrong)
    assert code == ExitCode.USAGE
    assert "password" in said
    assert "hush" not in said


@pytest.mark.parametrize("version", ["two", "1.0-x-y"])
def test_a_version_that_cannot_be_read(node, version):
    code, said = node("--name", "a", "--installed", version)
    assert code == ExitCode.USAGE
    assert repr(version) in said
    assert "PEP 440" in said


@pytest.mark.asyncio
async def test_a_port_in_use(node, server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = node(
            *("--name", "a", "--installed", "1.0", "--listen", address),
            PEERUPGRADE_STORE=server.url,
        )
    assert code == ExitCode.USAGE
    assert address in said
    assert "another program does" in said


@pytest.mark.asyncio
async def test_a_second_node_of_the_same_name(node, server, tmp_path):
    async with Cluster(server.url, tmp_path / "c") as cluster:
        await cluster.form("1.0", "a")
        code, said = node(
            *("--name", "a", "--installed", "1.0", "--cluster", cluster.settings["cluster"]),
            PEERUPGRADE_STORE=server.url,
        )
    assert code == ExitCode.REFUSED
    assert "'a' belongs to another node" in said
    assert "exclude a --confirm-stopped" in said


@pytest.mark.asyncio
async def test_a_version_below_the_acting_one(node, server, tmp_path):
    async with Cluster(server.url, tmp_path / "c") as cluster:
        await cluster.form("2.0", "a")
        code, said = node(
            *("--name", "b", "--installed", "1.4", "--cluster", cluster.settings["cluster"]),
            PEERUPGRADE_STORE=server.url,
        )
    assert code == ExitCode.REFUSED
    assert "installed 1.4, the cluster acts at 2.0: install 2.0 or newer" in said


@pytest.mark.asyncio
async def test_a_lowest_supported_version_above_the_acting_one(node, server, tmp_path):
    async with Cluster(server.url, tmp_path / "c") as cluster:
        await cluster.form("1.0", "a")
        code, said = node(
            *("--name", "b", "--installed", "3.0", "--lowest-supported", "2.0"),
            *("--cluster", cluster.settings["cluster"]),
            PEERUPGRADE_STORE=server.url,
        )
    assert code == ExitCode.REFUSED
    assert "it supports 2.0 to 3.0, the cluster acts at 1.0" in said
    assert "install a version that still supports 1.0" in said


@pytest.mark.asyncio
async def test_a_state_directory_in_use(node, server, tmp_path):
    async with Cluster(server.url, tmp_path / "c") as cluster:
        await cluster.form("1.0", "a")
        code, said = node(
            *("--name", "a", "--installed", "1.0", "--cluster", cluster.settings["cluster"]),
            *("--state-dir", str(cluster.directory / "a")),
            PEERUPGRADE_STORE=server.url,
        )
    assert code == ExitCode.USAGE
    assert "in use by another process" in said


def test_an_address_that_others_can_reach_needs_a_token(node):
    code, said = node("--name", "a", "--installed", "1.0", "--listen", "0.0.0.0:0")
    assert code == ExitCode.USAGE
    assert "PEERUPGRADE_TOKEN" in said


_MOMENTS = 20


def test_a_node_told_to_stop_at_any_moment_of_its_start_ends(tmp_path):
    """By the signal while it is being read in, in order from then on; never by another."""
    (tmp_path / "run").mkdir(mode=0o700)
    endings = set()
    for moment in range(_MOMENTS):
        command = [sys.executable, "-m", "peerupgrade", "node", "--name", "a"]
        starting = subprocess.Popen(
            [*command, "--installed", "1.0", "--state-dir", str(tmp_path / str(moment))],
            env={
                **os.environ,
                "PEERUPGRADE_STORE": "redis://127.0.0.1:1",
                "XDG_RUNTIME_DIR": str(tmp_path / "run"),
            },
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(0.04 * moment)
            starting.terminate()
            endings.add(starting.wait(60))
        finally:
            starting.kill()
            starting.wait()
    assert endings <= {ExitCode.OK, -signal.SIGTERM}
