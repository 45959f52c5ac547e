"""`downgrade plan` and `downgrade start`, run as `main([...])` against a real server."""

import json
from dataclasses import replace

import pytest
from fake_node import MEMBERS, RECORD

from peerupgrade.core.downgrade import GoBack
from peerupgrade.core.record import CollectionView, Downgrade
from peerupgrade.core.versions import parse_version as V  # noqa: N812
from peerupgrade.errors import ExitCode, RefusedError

AT_2 = replace(
    RECORD,
    acting=V("2.0"),
    floor=V("2.0"),
    data=V("2.0"),
    upgrade=None,
    settled_revision=RECORD.raised_revision,
)
N1 = {"n1": replace(MEMBERS["n1"], lowest=V("0.9"))}


@pytest.fixture
def node(node):
    """A cluster that acts at 2.0, with records that 1.0 can read."""
    node.knows(record=AT_2, members=N1, collections={"notes": CollectionView({"1.0": 80})})
    return node


def test_a_plan_says_go(run, node):
    code, out, err = run("downgrade", "plan", "1.0")
    assert (code, out) == (ExitCode.OK, "downgrade 2.0 -> 1.0: go\n")
    assert "held" in err


def test_a_plan_says_what_forbids_it(run, node):
    code, out, _ = run("downgrade", "plan", "0.8")
    assert code == ExitCode.NOT_SETTLED
    assert out.startswith("downgrade 2.0 -> 0.8: no-go: 2 below\n")
    assert "lowest_above_target\n" in out
    assert "-> install a version on n1 that supports 0.8" in out
    assert "80 records of 'notes' are in the format of 1.0" in " ".join(out.split())
    code, out, _ = run("downgrade", "plan", "0.8", "--json")
    assert (code, json.loads(out)["ok"]) == (ExitCode.NOT_SETTLED, False)


def test_it_is_asked_for(run, node):
    code, _, err = run("downgrade", "start", "1.0", "--reason", "slow", "--by", "ann")
    assert (code, node.asked) == (ExitCode.OK, [GoBack("1.0", "ann", "slow")])
    assert "asked for" in err


def test_it_is_waited_for(run, node):
    back = {"acting": V("1.0"), "downgrades": 1}
    node.knows(record=replace(AT_2, **back))
    code, out, err = run("downgrade", "start", "1.0", "--wait")
    assert (code, out) == (ExitCode.OK, "")
    assert "every node operates at 1.0" in err
    code, out, _ = run("downgrade", "start", "1.0", "--wait", "--json")
    assert json.loads(out)["cluster"]["downgrades"] == 1


def test_the_master_may_refuse_it(run, node):
    code, _, err = run("downgrade", "start", "1.0", "--wait")
    assert code == ExitCode.NOT_SETTLED
    assert "peerupgrade history" in err


def test_what_forbids_it_is_said(run, node):
    node.error = RefusedError("a record is newer", rule="newer_records", hint="stay")
    code, _, err = run("downgrade", "start", "1.0")
    assert code == ExitCode.REFUSED
    assert err == "peerupgrade: a record is newer: stay\n"


def test_one_under_way_is_shown(run, node):
    node.knows(record=replace(AT_2, downgrade=Downgrade("1.0", "ann", "slow", 5, ("1.0",), 1)))
    code, out, _ = run("status", "--json")
    assert code in (ExitCode.OK, ExitCode.NOT_SETTLED)
    assert json.loads(out)["downgrade"]["begun"] is True


def test_what_a_node_only_remembers_ends_no_waiting(run, node, monkeypatch):
    def the_store_answers(_s):
        node.knows(record=replace(AT_2, acting=V("1.0"), downgrades=1))
        node.the_ledger = replace(node.the_ledger, live=True)

    node.the_ledger = replace(node.the_ledger, live=False)
    monkeypatch.setattr("peerupgrade.cli.downgrade.time.sleep", the_store_answers)
    code, _, err = run("downgrade", "start", "1.0", "--wait")
    assert (code, "every node operates at 1.0" in err) == (ExitCode.OK, True)
