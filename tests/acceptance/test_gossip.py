"""What people see of gossip, with real agents, commands and servers."""

import os
import signal
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from peerupgrade.adapters.embedded import EmbeddedServer, available_servers
from peerupgrade.cli import main
from peerupgrade.errors import ExitCode
from tests.acceptance.agents import eventually
from tests.support.proxy import Proxy, Way

pytestmark = pytest.mark.asyncio

PASSWORD = "secret-of-the-tests"


@pytest_asyncio.fixture
async def store(tmp_path):
    binary = available_servers()[0]  # the other tests run on all of them
    async with EmbeddedServer(
        tmp_path / "server", binary=binary, tcp=True, password=PASSWORD
    ) as running:
        yield running


STORY = [
    *("node joined", "node suspected", "node failed", "node restarted"),
    *("node suspected", "node recovered", "node left"),
]


def told(events, node, story):
    """True once all of it was told about one node, in order; others may lie between."""
    about = iter(
        [one["event"] for one in events if one["detail"].replace(",", "").split()[:1] == [node]]
    )
    return all(event in about for event in story)


async def test_who_joins_is_installed_fails_comes_back_and_leaves_is_told(agents):
    agents.start("a")
    await agents.until("a", ("a", "alive"))
    events = agents.watch("a")

    async def watched(story):
        async def heard():
            return events() and told(events(), "c", story)

        await eventually(heard)

    await watched([])
    agents.start("b")
    agents.start("c")
    await agents.until("b", ("a", "alive"), ("c", "alive"))
    first = (await agents.until("a", ("b", "alive"), ("c", "alive")))["c"]["incarnation"]
    agents.install("b", "2.0")

    agents.signal("c", signal.SIGKILL)
    for asked in ("a", "b"):
        dead = (await agents.until(asked, ("c", "failed")))["c"]
        assert dead["judged_by"] in ("a", "b")
        assert dead["last_heard_s"] > 0
        assert dead["listed"] is True  # gossip shows, and removes nobody
    _, why, _ = await agents.ask("a", "why")
    older = next(one for one in why["blockers"] if one["subject"] == "c")
    assert "gossip of a: failed, says " in older["evidence"]

    agents.start("c")
    again = (await agents.until("a", ("c", "alive")))["c"]
    assert again["incarnation"] > first
    agents.signal("c", signal.SIGSTOP)
    await watched(STORY[:5])
    agents.signal("c", signal.SIGCONT)
    await watched(STORY[:6])
    agents.signal("c", signal.SIGTERM)

    async def gone():  # gossip tells it before the store knows
        return (await agents.until("a", ("c", "left")))["c"]["listed"] is False

    await eventually(gone)
    await agents.until("b", ("c", "left"))
    await watched(STORY)
    installed = [one for one in events() if one["event"] == "node installed"]
    assert [one["detail"] for one in installed] == ["b: 2.0, was 1.0"]


async def test_members_are_known_while_the_store_hangs(agents, store):
    await agents.form("a", "b")
    os.kill(store.pid, signal.SIGSTOP)
    try:
        agents.install("b", "2.0")  # which no store can tell

        async def by_gossip():
            code, answer, _ = await agents.ask("a", "members")
            assert code == ExitCode.OK
            b = next(one for one in answer["members"] if one["name"] == "b")
            return answer if b["installed"] == "2.0" else None

        answer = await eventually(by_gossip)
        assert answer["live"] is False
        assert "does not answer" in answer["note"]
        assert "by gossip" in answer["note"]
        for one in answer["members"]:
            assert (one["source"], one["condition"], one["operating"]) == (
                *("gossip", "alive", "1.0"),
            )
    finally:
        os.kill(store.pid, signal.SIGCONT)

    async def live():
        return (await agents.ask("a", "members"))[1]["live"]

    await eventually(live)


async def test_a_node_that_starts_while_the_store_is_away_waits_and_says_so(agents, store):
    await agents.form("a", "b")
    await store.kill()
    agents.start("c")

    async def waits():
        code, _, err = await agents.ask("c", "members")
        return err if code == ExitCode.UNAVAILABLE and "not known" in err else None

    assert "the store does not answer" in await eventually(waits)
    code, why, _ = await agents.ask("c", "why")
    assert code == ExitCode.NOT_SETTLED
    assert [one["code"] for one in why["blockers"]] == ["store_unreachable"]
    assert "c" not in await agents.members("a")  # it has no right to be there before admission
    await store.start()
    found = await agents.until("a", ("b", "alive"), ("c", "alive"))
    assert found["c"]["listed"] is True


async def test_who_has_no_keyring_is_not_heard_and_the_counters_say_why(agents, capsys):
    keyring = agents.directory / "gossip.keys"
    assert main(("keyring", "add", "--new", "--keyring", str(keyring))) == ExitCode.OK
    capsys.readouterr()
    sealed = {"keyring": str(keyring)}
    agents.start("a", **sealed)
    await agents.until("a", ("a", "alive"))
    agents.start("c")
    await agents.until("c", ("c", "alive"), ("a", "unheard"))
    agents.start("b", **sealed)
    await agents.until("a", ("b", "alive"), ("c", "unheard"))
    await agents.until("b", ("a", "alive"), ("c", "unheard"))
    for asked, reason in (("a", "plain"), ("c", "unknown_key")):

        async def refused(asked=asked, reason=reason):
            _, answer, _ = await agents.ask(asked, "topology")
            return answer["traffic"]["refused"].get(reason)

        assert await eventually(refused)
    _, answer, _ = await agents.ask("a", "topology")
    names = [node["name"] for zone in answer["zones"] for node in zone["nodes"]]
    assert names == ["a", "b"]
    assert answer["traffic"]["heard"] > 0


async def test_a_record_reaches_a_node_that_the_store_does_not_reach_by_gossip_alone(agents, store):
    parts = urlsplit(store.url)
    async with Proxy((parts.hostname, parts.port)) as proxy:
        behind = f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}"
        agents.start("a")
        agents.start("b")
        await agents.until("a", ("b", "alive"))
        agents.start("c", store=behind)
        await agents.until("c", ("a", "alive"), ("b", "alive"))
        assert (await agents.ask("a", "master", "show"))[1]["master"] != "c"
        proxy.swallow(Way.BOTH)

        code, _, _ = await agents.ask("a", "hold", "--by", "ann", "--reason", "closing")
        assert code == ExitCode.OK

        async def holds():  # an operator's word: the next ping of somebody who knows more brings it
            _, shown, _ = await agents.ask("c", "status")
            return shown if shown["hold"] else None

        shown = await eventually(holds)
        assert (shown["live"], shown["hold"]["reason"]) == (False, "closing")

        await agents.ask("a", "release", "--by", "ann")
        for name in ("a", "b"):
            agents.install(name, "2.0")

        async def upgrading():  # the master's own commit
            _, shown, _ = await agents.ask("c", "status")
            return shown if shown["upgrade"] and not shown["hold"] else None

        shown = await eventually(upgrading)
        assert (shown["live"], shown["upgrade"]["before"]) == (False, "1.0")
