"""Agents with leases: who is dead or cut off is removed by the master, and comes back by itself."""

import signal

import pytest

from tests.acceptance.agents import eventually

pytestmark = pytest.mark.asyncio

LEASE = {"lease_s": "1.0", "guard_max_s": "0.2", "on_stop": "stay"}


async def operate_at(agents, version, *names):
    async def reached():
        found = await agents.members("a")
        shown = {name: found.get(name, {}).get("operating") for name in names}
        return shown == dict.fromkeys(names, version) and found

    return await eventually(reached, 30)


async def test_a_dead_member_does_not_keep_the_upgrade_from_its_end(agents):
    await agents.form("a", "b", "c", **LEASE)
    agents.signal("c", signal.SIGKILL)
    for name in "ab":
        agents.install(name, "2.0")
    found = await operate_at(agents, "2.0", "a", "b")
    assert not found["c"]["listed"]
    _, history, _ = await agents.ask("a", "history")
    (entry,) = [one for one in history["entries"] if one["kind"] == "excluded"]
    assert entry["by"] in ("a", "b")
    assert "its lease ended" in entry["inputs"]
    (agents.directory / "c.version").write_text("2.0")
    agents.start("c", **LEASE)
    await operate_at(agents, "2.0", "a", "b", "c")


async def test_a_member_that_was_stopped_past_its_lease_comes_back_without_a_restart(agents):
    await agents.form("a", "b", "c", **LEASE)
    agents.signal("c", signal.SIGSTOP)

    async def removed():
        return not (await agents.members("a"))["c"]["listed"]

    await eventually(removed)
    agents.signal("c", signal.SIGCONT)
    await operate_at(agents, "1.0", "a", "b", "c")
    assert (await agents.members("a"))["c"]["listed"]
    assert agents.running["c"].poll() is None
