"""Steps before a raise and migrations after it, through an upgrade on a real server."""

import asyncio

import pytest
import pytest_asyncio

from peerupgrade import ConfigError, DataError, Node, RefusedError, StepContext
from peerupgrade.core.effects import RunSteps
from tests.data.conftest import Cluster

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def cluster(server, tmp_path):
    cluster = Cluster(server, tmp_path)
    yield cluster
    await cluster.aclose()


class Table:
    """What an application keeps elsewhere: rows that a step fills, one after the other."""

    def __init__(self, rows=6):
        self.rows, self.filled, self.begun_at = rows, [], []
        self.go_on = asyncio.Event()
        self.stop_before, self.error = None, None

    async def fill(self, context):
        """Fill the rest; may be stopped or fail in the middle."""
        at = context.checkpoint or 0
        self.begun_at.append(at)
        for row in range(at, self.rows):
            if row == self.stop_before:
                await self.go_on.wait()
            if self.error:
                raise self.error
            self.filled.append((context.name, row))
            await context.save(row + 1, done=row + 1, total=self.rows)

    def before(self, node):
        node.before("2.0")(self.fill)

    def migration(self, node):
        node.migration("2.0", name="rows")(self.fill)


async def blocker(cluster, code, subject):
    return (await cluster.blockers()).get((code, subject))


async def upgrade(cluster, name, register):
    await cluster.stop(name)
    return await cluster.start(name, "2.0", register)


@pytest.mark.parametrize("kind", ["before", "migration"])
async def test_a_step_runs_once_and_the_upgrade_waits_for_it(cluster, kind):
    table = Table()
    await cluster.start("a", "1.0")
    node = await upgrade(cluster, "a", getattr(table, kind))
    await cluster.data_is("2.0")
    assert [row for _, row in table.filled] == list(range(6))
    kinds = [entry["kind"] for entry in await node.history(20)]
    assert ("before" in kinds) is (kind == "before")
    await upgrade(cluster, "a", getattr(table, kind))
    await cluster.data_is("2.0")
    assert len(table.filled) == 6


async def test_everyone_sees_how_far_it_is_and_another_master_goes_on(cluster):
    table = Table()
    table.stop_before = 4
    for name in "ab":
        await cluster.start(name, "1.0")
    for name in "ab":
        await cluster.stop(name)
        cluster.nodes[name] = node = Node(cluster.settings(name, "2.0"))
        table.before(node)
        await node.start()

    async def waits():
        found = await blocker(cluster, "before_step", "2.0 fill")
        return found is not None and "4 of 6 done" in found.evidence

    await cluster.until(waits)
    assert str((await cluster.record()).acting) == "1.0"
    (master,) = (node for node in cluster.nodes.values() if node.status().epoch)
    await master.resign()

    async def begun_again():
        return table.begun_at == [0, 4]

    await cluster.until(begun_again)
    table.go_on.set()
    await cluster.data_is("2.0")
    assert [row for _, row in table.filled] == list(range(6))


async def test_a_step_that_fails_says_why_and_is_tried_again(cluster):
    table = Table()
    table.error = OSError("no room")
    await cluster.start("a", "1.0")
    await cluster.stop("a")
    cluster.nodes["a"] = node = Node(cluster.settings("a", "2.0"))
    table.migration(node)
    await node.start()

    async def failed():
        return await blocker(cluster, "migration", "2.0 rows") is not None

    await cluster.until(failed)
    assert "OSError: no room" in (await blocker(cluster, "migration", "2.0 rows")).evidence
    table.error = None
    await cluster.data_is("2.0")
    assert await blocker(cluster, "migration", "2.0 rows") is None


async def test_a_paused_migration_waits(cluster):
    table = Table()
    node = await cluster.start("a", "1.0")
    await node.pause("ann", "peak hour")
    node = await upgrade(cluster, "a", table.migration)
    await node.settled("2.0")

    async def waits():
        found = await blocker(cluster, "migration", "2.0")
        return found is not None and "paused by ann: peak hour" in found.evidence

    await cluster.until(waits)
    assert table.filled == []
    await node.resume("ann")
    await cluster.data_is("2.0")
    assert len(table.filled) == 6


async def test_an_agent_hands_over_to_a_node_that_has_the_step(cluster):
    table = Table()
    agent = await cluster.start("agent", "2.0")
    assert agent.status().epoch
    node = await cluster.start("a", "2.0", lambda node: node.before("3.0")(table.fill))
    for one in (node, agent):
        one.installed_changed("3.0")

    async def acts():
        return str((await cluster.record()).data) == "3.0"

    await cluster.until(acts)
    assert len(table.filled) == 6
    assert node.status().epoch


async def test_a_master_that_was_superseded_saves_nothing(cluster):
    """As one that was paused while it ran a step: it does not notice, the store does."""
    kept = []

    async def keep(context):
        kept.append(context)
        await context.save({"row": 1})

    await cluster.start("a", "1.0")
    await upgrade(cluster, "a", lambda node: node.before("2.0")(keep))
    await cluster.data_is("2.0")
    (late,) = kept
    with pytest.raises(RefusedError, match="it is not due any more"):
        await late.save({"row": 2})
    stale = StepContext(late._store, RunSteps(late._run.job, 1, "an older token"), late._state)
    with pytest.raises(RefusedError, match="this node is not master any more, a is"):
        await stale.save({"row": 3})
    snapshot = (await cluster.nodes["a"].ledger()).snapshot
    (state,) = snapshot.steps.values()
    assert (state.checkpoint, state.finished) == ('{"row":1}', 1)


async def test_what_cannot_be_kept_or_named_is_refused(cluster):
    node = await cluster.start("a", "1.0")
    caught = []

    async def bad(context):
        for checkpoint in (object(), "x" * 70_000):
            try:
                await context.save(checkpoint)
            except DataError as error:
                caught.append(str(error))

    node = await upgrade(cluster, "a", lambda node: node.before("2.0")(bad))
    await cluster.data_is("2.0")
    assert "cannot be stored" in caught[0]
    assert "has 70002 bytes, at most 65536 are kept" in caught[1]
    node.before("3.0", name="x")(bad)
    with pytest.raises(ConfigError, match="has two steps of the name 'x'"):
        node.before("3.0", name="x")(bad)
