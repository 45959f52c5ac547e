"""Real processes, a real server, and the moments at which a raise could go wrong."""

import asyncio
import random
import signal

import pytest

from tests.acceptance.conftest import SERVERS

pytestmark = pytest.mark.asyncio

ROUNDS = 100 // len(SERVERS)  # a hundred in all
STEPS = ["upgrade began", "floor", "raised", "settled", "converted", "completed"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_the_next_master_completes_a_raise_whose_master_died_at(cluster, step, when):
    nodes = await cluster.form("1.0", "a", "b", "c")
    master = await cluster.master()
    master.tell(do="die", step=step, when=when)
    for node in nodes:
        node.tell(do="installed", installed="2.0")
    assert await master.hear("exit") == {"exit": -signal.SIGKILL}
    # Its name still blocks until it comes back, as any member does that is not alive.
    again = await cluster.start(master.name, "2.0")
    await cluster.completed("2.0")
    for node in nodes:
        if node is not master:
            await node.hear("operates")
            assert node.operated[-1] == "2.0"
    assert (await again.hear("ready", "error"))["ready"] in ("1.0", "2.0")
    kinds = [entry["kind"] for entry in await cluster.history()]
    assert kinds.count("raised") == 1
    assert kinds.count("completed") == 1


async def test_a_master_that_was_stopped_past_its_ttl_writes_nothing_when_it_wakes_up(cluster):
    await cluster.form("1.0", "a", "b", "c")
    for version in ("2.0", "3.0", "4.0"):
        master = await cluster.master()
        epoch = (await master.ask("status", do="status"))["epoch"]
        for node in cluster.processes:
            node.tell(do="installed", installed=version)
        await asyncio.sleep(random.uniform(0.0, 0.03))
        master.signal(signal.SIGSTOP)
        await cluster.until(lambda s, epoch=epoch: s.record.epoch > epoch)
        await asyncio.sleep(0.3)
        master.signal(signal.SIGCONT)
        await cluster.completed(version)
        epochs = [int(entry["epoch"]) for entry in await cluster.history()]
        assert epochs == sorted(epochs)
        assert (await master.ask("status", do="status"))["epoch"] != epoch


async def test_all_nodes_switch_although_pubsub_is_killed_at_the_broadcast(cluster, server):
    nodes = await cluster.form("1.0", "a", "b", "c", "d")
    client = await cluster.store._link.connect()
    try:
        for version in ("2.0", "3.0", "4.0"):
            for node in nodes:
                node.tell(do="installed", installed=version)
            ended = asyncio.create_task(cluster.completed(version))
            while not ended.done():
                await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await asyncio.sleep(random.uniform(0.0, 0.15))
            await ended
            assert all(node.operated[-1] == version for node in nodes)
    finally:
        await client.aclose()


async def test_old_nodes_that_join_at_the_moment_of_the_raise(cluster):
    """Each is either admitted before, and the raise waits for it, or refused."""
    nodes = await cluster.form("1.0", "a", "b")
    outcomes = {"admitted": 0, "refused": 0}
    joiners = [asyncio.create_task(_joiner(cluster, "1.0", 0))]
    for number in range(ROUNDS):
        old, new = f"1.{number}", f"1.{number + 1}"
        joiner = await joiners.pop()
        joiners.append(asyncio.create_task(_joiner(cluster, new, number + 1)))
        await joiners[0]
        offset_s = random.uniform(-0.08, 0.02)  # a start takes some time until it asks
        if offset_s < 0:
            joiner.tell(do="go")
        await asyncio.sleep(abs(offset_s))
        for node in nodes:
            node.tell(do="installed", installed=new)
        if offset_s >= 0:
            joiner.tell(do="go")
        outcome = await joiner.hear("ready", "error")
        snapshot = await cluster.snapshot()
        member = snapshot.members.get(joiner.name)
        if "ready" in outcome:
            outcomes["admitted"] += 1
            assert outcome["ready"] == old
            assert str(snapshot.record.acting) == old
            assert member is not None
            joiner.tell(do="stop", leave=True)
        else:
            outcomes["refused"] += 1
            assert outcome["rule"] in ("installed_below_acting", "installed_below_floor"), outcome
            assert f"installed {old}" in outcome["error"]
            assert f"install {new} or newer" in outcome["error"]
            assert member is None
        await joiner.hear("exit")
        await cluster.completed(new)
    for joiner in joiners:
        (await joiner).tell(do="go")
    print(outcomes)
    assert outcomes["admitted"] >= 5
    assert outcomes["refused"] >= 5


async def _joiner(cluster, installed, number):
    joiner = await cluster.start(f"old{number}", installed, wait=True)
    await joiner.hear("waiting")
    return joiner
