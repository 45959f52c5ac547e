"""A rehearsal on live records: nothing is written, and whatever would fail is found."""

import asyncio
import json

import pytest
import pytest_asyncio

from peerupgrade.cli import main
from peerupgrade.core.blockers import Code
from peerupgrade.core.requests import Scan
from peerupgrade.errors import ExitCode
from tests.data.conftest import Cluster, register_1, register_2

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def cluster(server, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    cluster = Cluster(server, tmp_path)
    yield cluster
    await cluster.aclose()


@pytest.fixture
def rehearse(upgrade):
    """The command `upgrade rehearse`."""

    async def run(*words):
        return await upgrade("rehearse", *words)

    return run


@pytest.fixture
def upgrade(cluster, capsys):
    """A command, in a thread, as the node answers in this one."""

    async def run(word, *words, version="2.0"):
        command = ["upgrade", word, version, "--cluster", cluster.name, *words]
        code = await asyncio.to_thread(main, command)
        return code, *capsys.readouterr()

    return run


async def with_records(cluster, register, count=250, **changes):
    """An old node that has written, and a new one that answers commands; all act at 1.0."""
    old = await cluster.start("old", "1.0", register_1, **changes)
    batch = old.collection("notes").batch()
    for number in range(count):
        batch.put(f"k{number}", f"note {number}")
    await batch.commit()
    node = await cluster.start("new", "2.0", register, **changes)
    await node.serve()
    return node


async def only_versions_block(cluster, *names):
    """Whoever has just started has confirmed it; these nodes have heard of the master, too."""

    async def reached():
        ledgers = [await cluster.nodes[name].ledger() for name in names]
        return {one.code for each in ledgers for one in each.blockers} == {Code.OLDER_VERSION}

    await cluster.until(reached)


async def stored(node):
    reply = await node._ports.store.call(Scan("notes", "0", 10_000))
    return sorted(reply.records)


async def test_a_sample_comes_through_and_nothing_is_written(cluster, rehearse):
    node = await with_records(cluster, register_2)
    before = await stored(node)
    code, out, _ = await rehearse("--json", "--sample", "200")
    (notes,) = json.loads(out)["collections"]
    assert code == ExitCode.OK
    assert (notes["name"], notes["format"], notes["way_back"]) == ("notes", "2.0", True)
    assert (notes["records"], notes["to_convert"], notes["sampled"]) == (250, 250, 200)
    assert (notes["converted"], notes["failed"], notes["failures"]) == (200, 0, [])
    assert notes["bytes_after"] > notes["bytes_before"] > 0
    assert notes["estimated_s"] > notes["codec_s"] > 0
    assert await stored(node) == before
    code, out, _ = await rehearse()
    heading, line = out.splitlines()
    assert heading.split() == [
        *("COLLECTION", "TO", "RECORDS", "CONVERT", "SAMPLE", "FAILED", "BACK", "BYTES", "TIME")
    ]
    assert line.split()[:7] == ["notes", "2.0", "250", "250", "250", "0", "yes"]


async def test_a_record_that_fails_is_named_and_so_is_the_exit_code(cluster, rehearse):
    def upgrade(text):
        if text == "note 7":
            raise ValueError("no sevens")
        return {"text": text, "words": 2}

    await with_records(cluster, lambda node: register_2(node, upgrade=upgrade))
    code, out, _ = await rehearse()
    assert code == ExitCode.NOT_SETTLED
    assert "notes/k7, in format 1.0" in out
    assert "ValueError: no sevens" in out
    code, out, _ = await rehearse("-o", "json")
    assert code == ExitCode.NOT_SETTLED
    assert json.loads(out)["collections"][0]["failed"] == 1


@pytest.mark.parametrize(
    ("downgrade", "why"),
    [
        (lambda note: note["text"].upper(), "the way back makes another value"),
        (lambda note: note["title"], "on the way back, KeyError: 'title'"),
    ],
)
async def test_the_way_back_is_rehearsed_too(cluster, rehearse, downgrade, why):
    await with_records(cluster, lambda node: register_2(node, downgrade=downgrade), count=3)
    code, out, _ = await rehearse()
    assert code == ExitCode.NOT_SETTLED
    assert out.count(why) == 3


async def test_without_a_downgrade_there_is_no_way_back(cluster, rehearse):
    def register(node):
        register_1(node).format("2.0", upgrade=lambda text: {"text": text})

    await with_records(cluster, register, count=3)
    code, out, _ = await rehearse("--json")
    (notes,) = json.loads(out)["collections"]
    assert (code, notes["way_back"], notes["failed"]) == (ExitCode.OK, False, 0)


async def test_whoever_has_no_codecs_says_who_has(cluster, rehearse):
    await with_records(cluster, register_2, count=3)
    await (await cluster.start("agent", "2.0")).serve()
    await cluster.nodes["old"].serve()
    code, _, err = await rehearse("--node", "agent")
    assert code == ExitCode.REFUSED
    assert "agent runs without the program that has the codecs of notes" in err
    assert "ask one that can: --node new" in err
    code, _, err = await rehearse("--node", "old")
    assert code == ExitCode.REFUSED
    assert "old has 1.0 installed, which knows no 2.0" in err


async def test_a_plan_rehearses_where_the_codecs_are(cluster, upgrade):
    node = await with_records(cluster, register_2, 30, lock_ttl_s=3.0)
    await cluster.nodes["old"].serve()
    await only_versions_block(cluster, "old", "new")
    before = await stored(node)
    code, out, _ = await upgrade("plan", "--json", "--node", "new", "--sample", "10")
    answer = json.loads(out)
    (notes,) = answer["collections"]
    assert answer["in_the_way"] == []
    assert (code, answer["ok"], answer["not_rehearsed"]) == (ExitCode.OK, True, "")
    assert (notes["format"], notes["to_convert"]) == ("2.0", 30)
    assert (notes["rehearsal"]["sampled"], notes["rehearsal"]["failed"]) == (10, 0)
    assert notes["estimated_s"] == notes["rehearsal"]["estimated_s"] > 0
    assert [one["name"] for one in answer["order"]] == ["old"]
    assert [one["name"] for one in answer["done"]] == ["new"]
    assert await stored(node) == before
    code, out, _ = await upgrade("plan", "--json", "--node", "old")
    answer = json.loads(out)
    (notes,) = answer["collections"]
    assert (code, notes["to_convert"], notes["rehearsal"]) == (ExitCode.OK, 30, None)
    assert "ask one that can: --node new" in answer["not_rehearsed"]


async def test_without_codecs_a_plan_goes_by_the_pace_of_the_last_conversion(cluster, upgrade):
    def register_3(node):
        register_2(node).format("3.0", upgrade=lambda note: note)

    old = await with_records(cluster, register_2, 30, lock_ttl_s=3.0)
    cluster.nodes["old"].installed_changed("2.0")

    async def complete():
        return not (await old.ledger()).blockers

    await cluster.until(complete)
    await cluster.start("newest", "3.0", register_3, lock_ttl_s=3.0)
    await only_versions_block(cluster, "new")
    code, out, _ = await upgrade("plan", "--json", "--node", "new", version="3.0")
    (notes,) = json.loads(out)["collections"]
    assert (code, notes["rehearsal"], notes["to_convert"]) == (ExitCode.OK, None, 30)
    assert notes["estimated_s"] > 0
