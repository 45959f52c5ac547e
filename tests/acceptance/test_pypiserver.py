"""The worked example with pypiserver: three nodes get another release, and no request fails."""

import asyncio
import random
import re
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from peerupgrade.errors import ExitCode
from tests.acceptance.agents import eventually

pytestmark = pytest.mark.asyncio

EXAMPLE = Path(__file__).parents[1] / "examples" / "pypiserver"
NODES = ("n1", "n2", "n3")
BEFORE, AFTER = "2.2.0", "2.3.2"


@pytest.fixture
def example(tmp_path):
    """A copy, with ports that nobody else uses, prepared as the reader does it."""
    directory = Path(shutil.copytree(EXAMPLE, tmp_path / "example"))
    for name in NODES:
        settings = directory / f"{name}.toml"
        settings.write_text(settings.read_text().replace(f"808{name[1:]}", str(free_port())))
    subprocess.run(["./prepare"], cwd=directory, check=True, timeout=100)
    return directory


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class Client:
    """Asks one node after another, of those that take requests; keeps what it got of each."""

    def __init__(self, example):
        self.ready, self.releases, self.failed = example / "ready", {n: [] for n in NODES}, []
        self.urls = {
            name: re.search(r"http://[\d.:]+/", (example / f"{name}.toml").read_text())[0]
            for name in NODES
        }

    async def ask(self, name):
        try:
            page = await asyncio.to_thread(get, self.urls[name])
        except OSError as error:
            self.failed.append(f"{name}: {error}")
            return
        self.releases[name].append(re.search(r"running version ([\d.]+)", page)[1])

    async def run(self):
        while True:
            names = sorted(path.name for path in self.ready.iterdir())
            if not names:
                self.failed.append("nobody takes requests")
            else:
                await self.ask(random.choice(names))
            await asyncio.sleep(0.01)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


async def test_three_servers_are_replaced_by_configuration_alone(agents, example):
    for name in NODES:
        agents.run(name, "--config", f"{name}.toml", cwd=example)
    client = Client(example)
    for name in NODES:
        await eventually(lambda asked=name: _answers(client.urls[asked]))
    asking = asyncio.create_task(client.run())
    await eventually(lambda: _all(client, lambda found: found))
    code, answer, said = await agents.ask("n1", "upgrade", "start", AFTER, "--wait")
    assert code == ExitCode.OK, (said, answer)
    await eventually(lambda: _all(client, lambda found: found[-1] == AFTER))
    asking.cancel()
    assert client.failed == []
    for releases in client.releases.values():
        assert releases == sorted(releases)
        assert set(releases) == {BEFORE, AFTER}
    _, answer, _ = await agents.ask("n1", "status")
    assert answer["acting"] == AFTER


async def _answers(url):
    try:
        return await asyncio.to_thread(get, url)
    except OSError:
        return None


async def _all(client, holds):
    return all(holds(found) for found in client.releases.values())
