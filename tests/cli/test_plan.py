"""`upgrade plan` and `can-deploy`, run as `main([...])` against a real server."""

import json
import re
from dataclasses import replace

import pytest
from fake_node import HOLD, MEMBERS, NOW_MS, RECORD

from peerupgrade.core.record import CollectionView, RolloutEnd, Slot, Standing
from peerupgrade.core.rehearsal import Failure, Rehearsal
from peerupgrade.errors import ExitCode

PLAN = ("upgrade", "plan", "2.0", "--lowest-supported", "1.0")
ANNOUNCED = {
    "zone": "east",
    "steps": ("before 2.0", "migration 2.0"),
    "collections": {"notes": ("1.0", "2.0")},
}
N1 = replace(MEMBERS["n1"], **ANNOUNCED)
N2 = replace(MEMBERS["n2"], lease_until_ms=NOW_MS + 1)
NOTES = {"notes": CollectionView({"1.0": 80})}


@pytest.fixture
def node(node):
    """One member has 2.0, and the store answers: go."""
    node.knows(members={"n1": N1, "n2": N2}, slots={})
    return node


def pairs(out):
    lines = out.split("\n\n")[0].splitlines()
    return [tuple(re.split(r" {2,}", line, maxsplit=1)) for line in lines]


def table(out, heading):
    (block,) = (block for block in out.split("\n\n") if block.startswith(heading))
    return [re.split(r" {2,}", line.strip()) for line in block.splitlines()[1:]]


def test_a_plan_fits_one_screen(run, node):
    code, out, err = run(*PLAN)
    assert (code, err) == (ExitCode.OK, "")
    assert pairs(out) == [
        ("upgrade", "1.0 -> 2.0, which supports 1.0 and newer"),
        ("verdict", "go"),
        ("strategy", "1 may be down at once, a pause if one becomes unhealthy that has it"),
        ("begins", "at once"),
        ("lasts", "1 turn; no rollout has shown yet how long one takes"),
        ("no zone", "1 of 1 members serve, at most 1 of them down at once"),
        ("zone east", "1 of 1 members serve, at most 0 of them down at once"),
        ("before", "2.0: steps of n1"),
        ("migration", "2.0: steps of n1"),
    ]
    assert table(out, "BATCH") == [
        ["1", "n2", "1.0", "-", "serving", "-", "-"],
        ["done", "n1", "2.0", "east", "serving", "-", "master, hands over first"],
    ]
    assert max(map(len, out.splitlines())) <= 80


def test_what_the_version_brings_is_unknown_before_anybody_has_it(run, node):
    node.knows(members={"n2": N2})
    out = run("upgrade", "plan", "2.0")[1]
    assert ("unknown", "the steps and formats of 2.0: no member has it yet") in pairs(out)
    assert pairs(out)[0] == ("upgrade", "1.0 -> 2.0")
    assert ("capacity", "1 of 1 members serve, at most 1 of them down at once") in pairs(out)


def test_the_plan_is_that_of_a_rollout_with_the_same_options(run, node, tmp_path):
    zones = {"a": "x", "b": "y", "c": "x", "d": "y"}
    many = {name: replace(N2, id=name, zone=zone) for name, zone in zones.items()}
    end = RolloutEnd("4.1", "1.0", 1, 2, turns_done=2, turns_took_ms=120_000)
    now = replace(RECORD, rollout_end=end, master="a")
    node.knows(record=now, members={"n1": N1, **many})
    (tmp_path / "night.toml").write_text('budget = "50%"\nwindows = ["fri 02:00-04:00"]')
    how = ("--strategy", "night.toml", "--one-zone", "--soak", "10m", "--canary", "1")
    code, out, err = run(*PLAN, *how, "--bake", "1h")
    assert (code, err) == (ExitCode.OK, "")
    assert [row[:6] for row in table(out, "BATCH") if len(row) > 1] == [
        ["1", "c", "1.0", "x", "serving", "-"],
        ["2", "b", "1.0", "y", "serving", "+11m"],
        ["2", "d", "1.0", "y", "serving", "-"],
        ["3", "a", "1.0", "x", "serving", "+22m"],
        ["done", "n1", "2.0", "east", "serving", "-"],
    ]
    text = " ".join(out.split())
    for shown in (
        "50 % of one zone may be down at once, a pause once 1 have it, 10m from one to the next",
        "begins 2026-05-29 02:00:00Z, in 5h 33m: the next window",
        "about 1h 23m, and until somebody resumes it; a turn took 1m in the last rollout",
        "+11m after upgrade resume",
        "+22m once all before are back, master, hands over first",
        "zone x 2 of 2 members serve, at most 1 of them down at once",
        "zone y 2 of 2 members serve, at most 2 of them down at once",
    ):
        assert shown in text, shown
    answer = json.loads(run(*PLAN, *how, "--json")[1])
    assert [one["nodes"] for one in answer["batches"]] == [["c"], ["b", "d"], ["a"]]


def test_who_is_left_out_is_said_and_is_in_no_batch(run, node):
    code, out, _ = run(*PLAN, "--skip", "n2")
    assert code == ExitCode.OK
    assert dict(pairs(out))["without"] == "n2: the acting version stays until they have it, too"
    assert [row[0] for row in table(out, "BATCH")] == ["done"]
    assert run(*PLAN, "--skip", "n9")[0] == ExitCode.NOT_FOUND


def test_a_slot_of_a_person_is_in_the_way_of_a_rollout(run, node):
    node.knows(slots={"n2": Slot("n2", "bob@desk", NOW_MS, 1)})
    code, out, _ = run(*PLAN)
    assert code == ExitCode.NOT_SETTLED
    assert "bob@desk may take it down" in " ".join(out.split())
    assert "n2 has a slot by bob@desk" in " ".join(out.split())


def test_what_stands_in_the_way_is_named_with_its_remedy_and_is_exit_5(run, node):
    away = replace(N2, standing=Standing.AWAY)
    node.knows(silent={"n1"}, record=replace(RECORD, hold=HOLD), members={"n1": N1, "n2": away})
    code, out, _ = run(*PLAN)
    assert code == ExitCode.NOT_SETTLED
    assert ("verdict", "no-go: 3 reasons below") in pairs(out)
    assert any(name == "hold" and "month-end closing" in value for name, value in pairs(out))
    assert table(out, "BATCH")[0][:5] == ["1", "n2", "1.0", "-", "away"]
    assert "does not answer" in " ".join(out.split())
    heads = [line for line in out.splitlines() if re.match("hold|away|unresponsive", line)]
    assert [head.split(",")[0].split()[0] for head in heads[1:]] == ["unresponsive", "hold", "away"]
    assert "-> peerupgrade release" in out
    assert "-> start n1 again, or exclude it if it is gone for good" in out


def test_a_version_that_must_come_in_between_is_said_first(run, node):
    code, out, _ = run("upgrade", "plan", "3.0", "--lowest-supported", "2.0")
    assert code == ExitCode.NOT_SETTLED
    assert ("verdict", "no-go: 1 reason below") in pairs(out)
    assert ("first", "2.0 or newer, below 3.0, that supports 1.0") in pairs(out)
    assert "lowest_supported" in out
    code, out, _ = run("upgrade", "plan", "3.0", "--lowest-supported", "3.0")
    assert code == ExitCode.NOT_SETTLED
    assert not any(name == "first" for name, _ in pairs(out))
    assert "no version can come in between: make 3.0 support 1.0" in " ".join(out.split())


def test_the_data_is_counted_and_where_it_can_be_rehearsed(run, node):
    node.knows(collections=NOTES)
    out = run(*PLAN)[1]
    assert table(out, "COLLECTION") == [["notes", "2.0", "80", "80", "-"]]
    found = Rehearsal("notes", "2.0", {"1.0": 80}, sampled=8, converted=7, looked_at=8, codec_s=4.0)
    node.rehearsals = [found]
    code, out, _ = run(*PLAN, "--sample", "8")
    assert (code, node.asked[-1]) == (ExitCode.OK, ("2.0", 8))
    assert table(out, "COLLECTION")[0][:5] == ["notes", "2.0", "80", "80", "8"]
    assert table(out, "COLLECTION")[0][-1] == "40s"
    node.rehearsals = [replace(found, failed=1, failures=[Failure("k7", "1.0", "KeyError: 'x'")])]
    code, out, _ = run(*PLAN)
    assert code == ExitCode.NOT_SETTLED
    assert "parked notes" in out
    assert "1 of 8 records of notes do not come through" in " ".join(out.split())


@pytest.mark.parametrize("flag", [("--json",), ("-o", "json")])
def test_a_plan_as_json_has_the_same_exit_code(run, node, flag):
    code, out, err = run(*PLAN, *flag)
    assert (code, err, json.loads(out)["ok"]) == (ExitCode.OK, "", True)
    node.knows(record=replace(RECORD, hold=HOLD))
    code, out, _ = run(*PLAN, *flag)
    answer = json.loads(out)
    assert (code, answer["ok"]) == (ExitCode.NOT_SETTLED, False)
    assert [one["code"] for one in answer["in_the_way"]] == ["hold"]


def test_a_plan_that_is_not_live_says_so(run, node):
    node.store_is_away()
    _, _, err = run(*PLAN)
    assert "not live" in err


def test_what_others_wrote_steers_no_terminal(run, node):
    evil = "\x1b[2J"
    node.knows(members={"n1": replace(N1, zone=evil), "n2": replace(N2, zone=evil)})
    node.knows(record=replace(RECORD, hold=replace(HOLD, reason=evil)))
    assert "\x1b" not in run(*PLAN)[1]


def test_a_version_may_be_deployed(run, node):
    assert run("can-deploy", "2.0", "--lowest-supported", "1.0") == (
        ExitCode.OK,
        "a new node with 2.0 is admitted, and serves\na member that gets it serves\n",
        "",
    )


def test_a_version_may_not_be_deployed_in_the_words_of_admission(run, node):
    code, out, _ = run("can-deploy", "3.0", "--lowest-supported", "2.0")
    assert code == ExitCode.NOT_SETTLED
    assert out.splitlines() == [
        "a new node is not admitted: it supports 2.0 to 3.0, the cluster acts at 1.0",
        "-> install a version that still supports 1.0, or bring the cluster to 2.0 first",
        "a member that gets it stands by: it counts, and does not operate",
    ]
    code, out, _ = run("can-deploy", "0.9", "--lowest-supported", "0")
    assert code == ExitCode.NOT_SETTLED
    assert out.splitlines()[-1] == "a member that gets it is not admitted either"


def test_before_the_cluster_has_formed_a_node_stands_by(run, node):
    node.knows(record=replace(RECORD, acting=None))
    code, out, _ = run("can-deploy", "2.0", "--lowest-supported", "1.0")
    assert code == ExitCode.OK
    assert "is admitted, and stands by until the cluster has formed" in out


def test_a_store_in_doubt_admits_nobody(run, node):
    node.knows(record=replace(RECORD, identity="server0"))
    code, out, _ = run("can-deploy", "2.0", "--lowest-supported", "1.0")
    assert code == ExitCode.NOT_SETTLED
    assert "not verified yet" in out


@pytest.mark.parametrize("flag", [("--json",), ("-o", "json")])
def test_a_pipeline_reads_json(run, node, flag):
    code, out, _ = run("can-deploy", "3.0", "--lowest-supported", "2.0", *flag)
    answer = json.loads(out)
    assert (code, answer["ok"]) == (ExitCode.NOT_SETTLED, False)
    assert answer["new_node"] == {"standing": None, "rule": "lowest_above_acting"}
    assert answer["member"]["standing"] == "standby"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("can-deploy", "2.0"), ExitCode.USAGE, "--lowest-supported"),
        (("can-deploy", "two", "--lowest-supported", "1.0"), ExitCode.USAGE, "version 'two'"),
        (("can-deploy", "1.0", "--lowest-supported", "2.0"), ExitCode.USAGE, "above the installed"),
        (("upgrade", "plan", "two"), ExitCode.USAGE, "version 'two'"),
        (("upgrade", "plan", "2.0", "--sample", "0"), ExitCode.USAGE, "--sample"),
    ],
)
def test_a_wrong_version_is_one_line(run, node, words, code, said):
    found, out, err = run(*words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert said in err


def test_without_the_store_a_pipeline_does_not_go_on(run, node):
    node.store_is_away()
    code, _, err = run("can-deploy", "2.0", "--lowest-supported", "1.0")
    assert code == ExitCode.UNAVAILABLE
    assert "the store does not answer" in err
