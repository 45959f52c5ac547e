"""What the README prints runs as printed."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peerupgrade.adapters.keyring_file import KeyringFile

README = Path(__file__).parents[2] / "README.md"
COMMAND = [str(Path(sys.executable).parent / "peerupgrade")]  # after . .venv/bin/activate


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def environment(tmp_path):
    plain = {k: v for k, v in os.environ.items() if not k.startswith("PEERUPGRADE_")}
    (tmp_path / "run").mkdir(mode=0o700)
    return {
        **plain,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }


EXAMPLES = {
    "embedding": [
        "the cluster acts at 2.0",
        "this operation behaves as 2.0",
        "what 2.0 brought may be written and sent",
    ],
    "shared data": [
        "buy milk in format 2.0",
        "record 'monday' of 'notes' has stamp 1, not 0: read it again and decide again",
    ],
    "steps": ["before 2.0 is active: False", "['ONE', 'TWO', 'THREE']"],
}


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=list(EXAMPLES))
def test_the_examples_for_programs(environment, tmp_path, number):
    example = blocks("python")[number]
    done = subprocess.run(
        [sys.executable, "-c", example],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == list(EXAMPLES.values())[number]
    assert len(blocks("python")) == len(EXAMPLES)


class Terminal:
    """What somebody types into one terminal, with a store of the test's own."""

    def __init__(self, block, environment, store_url):
        export, command = block.strip().splitlines()
        assert export.startswith("export PEERUPGRADE_STORE=redis://")
        self.arguments = shlex.split(command)[1:]
        self.environment = {**environment, "PEERUPGRADE_STORE": store_url}
        self.process = None

    def start(self, installed="1.0"):
        arguments = [installed if a == "1.0" else a for a in self.arguments]
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], env=self.environment, stderr=subprocess.PIPE, text=True
        )

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, errors


@pytest.mark.asyncio
async def test_two_nodes_on_two_terminals(environment, server):
    first, second = (
        Terminal(block, environment, server.url)
        for block in blocks("console")
        if "peerupgrade node" in block
    )
    try:
        for terminal in (first, second):
            terminal.start()
        await until(lambda: "1.0" in status(environment))
        await until(lambda: "nothing stands in the way" in why(environment))
        (block,) = (block for block in blocks("console") if "upgrade plan" in block)
        said = await asyncio.to_thread(shell, block, environment)
        assert re.search("^verdict +go$", said, re.MULTILINE)
        assert "a new node with 2.0 is admitted, and serves" in said
        first.interrupt()
        first.start("2.0")
        await until(lambda: "older_version" in why(environment))
        second.interrupt()
        second.start("2.0")
        await until(lambda: "complete" in status(environment) and "2.0" in status(environment))
    finally:
        for terminal in (first, second):
            terminal.interrupt()


def test_a_key_of_gossip_is_replaced(environment, tmp_path):
    steps = [block for block in blocks("console") if "peerupgrade key" in block]
    assert len(steps) == 4
    shell("".join(steps), environment, tmp_path)
    (key,) = KeyringFile(tmp_path / "gossip.keys").load().keys
    assert key.to_text() == (tmp_path / "new.key").read_text().strip()


def shell(text, environment, directory=None):
    """What a shell in which every command must succeed prints."""
    path = f"{Path(COMMAND[0]).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-euc", text],
        env={**environment, "PATH": path},
        cwd=directory,
        capture_output=True,
        timeout=40,
        check=True,
        text=True,
    ).stdout


def status(environment):
    return subprocess.run(
        [*COMMAND, "status", "--node", "a"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def why(environment):
    return subprocess.run(
        [*COMMAND, "why", "--node", "a"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout


async def until(reached, timeout_s=30):
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(reached):
            await asyncio.sleep(0.2)


def test_a_command_runs_before_the_node_operates_and_a_failing_one_keeps_it_where_it_is(
    environment, tmp_path
):
    told = tmp_path / "told"
    script = tmp_path / "told.sh"
    script.write_text(
        f'#!/bin/sh\ntest -e {told} || {{ touch {told}; echo "not yet" >&2; exit 3; }}\n'
        f'echo "$PEERUPGRADE_ACTING after ${{PEERUPGRADE_PREVIOUS:-nothing}}" >> {told}\n'
    )
    script.chmod(0o700)
    node = subprocess.Popen(
        [*COMMAND, "node", "--name", "a", "--installed", "1.0", "--on-acting-command", str(script)],
        env={**environment, "PEERUPGRADE_QUARANTINE_S": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert asyncio.run(_reads(told, "1.0 after nothing\n"))
    finally:
        node.send_signal(signal.SIGTERM)
        _, errors = node.communicate(timeout=20)
    assert "failed with status 3: not yet" in errors
    assert node.returncode == 0


async def _reads(path, text):
    await until(lambda: path.exists() and path.read_text() == text)
    return True
