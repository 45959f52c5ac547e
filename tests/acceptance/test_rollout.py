"""A rollout through real agents, driven by real commands."""

import pytest
import pytest_asyncio

from peerupgrade.adapters.embedded import EmbeddedServer
from peerupgrade.errors import ExitCode
from tests.acceptance.agents import Agents, eventually

pytestmark = pytest.mark.asyncio

STEPS = ["drain", "install", "restart", "verify", "undrain"]


@pytest_asyncio.fixture
async def agents(tmp_path, monkeypatch, capsys):
    async with EmbeddedServer(tmp_path / "store") as server:
        agents = Agents(server.url, tmp_path, monkeypatch, capsys)
        try:
            yield agents
        finally:
            agents.end()


def commands(agents, name, **others):
    """Each step writes down that it ran; what is installed is in the file of the agent."""
    told, version = agents.directory / f"{name}.steps", agents.directory / f"{name}.version"
    script = f'echo "$PEERUPGRADE_STEP $PEERUPGRADE_VERSION $PEERUPGRADE_BEFORE" >> {told}'
    found = {f"{step}_command": f"sh -c '{script}'" for step in STEPS}
    install = f'{script}; echo "$PEERUPGRADE_VERSION" > {version}; echo installed it'
    return found | {"install_command": f"sh -c '{install}'"} | others


async def form(agents, *names, **others):
    for name in names:
        agents.start(
            name, bootstrap_expect=str(len(names)), **commands(agents, name, **others.get(name, {}))
        )
    for name in names:

        async def operate(asked=name):
            found = await agents.members(asked)
            return {one for one in found if found[one]["operating"]} >= set(names)

        await eventually(operate)


def steps(agents, name):
    path = agents.directory / f"{name}.steps"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


async def ended(agents, asked):
    _, answer, _ = await agents.ask(asked, "upgrade", "status")
    return answer if answer is not None and answer["rollout"] is None else None


async def test_a_rollout_walks_through_all_nodes_and_the_master_is_the_last(agents):
    await form(agents, "a", "b", "c")
    code, answer, said = await agents.ask("a", "upgrade", "start", "2.0", "--wait")
    assert code == ExitCode.OK, said
    assert answer["ended"]["outcome"] == "done"
    for name in "abc":
        assert steps(agents, name) == STEPS
    assert (agents.directory / "b.steps").read_text().split()[:3] == ["drain", "2.0", "1.0"]
    assert (await agents.members("a"))["c"]["installed"] == "2.0"
