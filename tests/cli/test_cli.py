"""The command line, run as `main([...])` against a real server."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_node import (
    HOLD,
    HOUR_MS,
    MEMBERS,
    NOW_MS,
    OLDER,
    RECORD,
    V2,
    FakeNode,
    event,
    serving,
)

import peerupgrade
from peerupgrade.cli import EXIT_CODES, _app, installed, main, show, slot
from peerupgrade.cli.watch import RETRY_S
from peerupgrade.core.record import CollectionView, Parked, Phase, StepState
from peerupgrade.core.requests import (
    Outcome,
    ReleaseHold,
    Resolve,
    Resolved,
    ReturnSlot,
    SetHold,
    TakeSlot,
)
from peerupgrade.errors import ExitCode, RefusedError, UnavailableError
from peerupgrade.http.discovery import publish
from peerupgrade.http.view import Finding
from peerupgrade.runtime import agent
from peerupgrade.settings import Settings


def snapshot_with(node, record):
    ledger = node.the_ledger
    node.the_ledger = replace(ledger, snapshot=replace(ledger.snapshot, record=record))


# --- questions ------------------------------------------------------------------------------------


def test_status_fits_one_screen(run, node):
    snapshot_with(node, replace(RECORD, hold=HOLD, floor=V2))
    code, out, err = run("status")
    assert (code, err) == (0, "")
    lines = dict(re.split(r" {2,}", line, maxsplit=1) for line in out.splitlines())
    assert lines == {
        "cluster": "blue, asked of n1",
        "acting": "1.0, raising to 2.0",
        "data": "1.0",
        "settled": "yes",
        "master": "n1 (epoch 4)",
        "upgrade": "from 1.0, in progress for 2h (since 2026-05-28 18:26:40Z)",
        "completed": "0.9 -> 1.0 at 2026-05-26 18:26:40Z, took 1h",
        "hold": "month-end closing (ann@desk, for 1h, until 2026-05-28 21:26:40Z)",
        "members": "2: 1 with 2.0, 1 with 1.0",
        "blockers": "1 blocker: peerupgrade why",
    }
    assert max(map(len, out.splitlines())) <= 80


def test_a_long_reason_goes_on_in_the_next_line(run, node):
    snapshot_with(node, replace(RECORD, hold=replace(HOLD, reason="because " * 20)))
    _, out, _ = run("status")
    assert out.count("because") == 20
    assert max(map(len, out.splitlines())) <= 80


def test_status_of_a_cluster_that_has_not_formed(run, node):
    node.the_ledger = replace(node.the_ledger, blockers=(), snapshot=None)
    node.node_status = replace(node.node_status, record=None, acting=None)
    code, out, _ = run("status")
    assert code == 0
    assert re.search(r"^acting +-$", out, re.MULTILINE)
    assert re.search(r"^members +not known$", out, re.MULTILINE)
    assert re.search(r"^blockers +none$", out, re.MULTILINE)


def test_status_says_when_it_is_not_live(run, node):
    node.store_is_away()
    code, out, _ = run("status")
    assert code == 0
    assert re.search(r"^not live +as of 2026-05-28 20:26:35Z", out, re.MULTILINE)
    assert "the store does not answer (timed out)" in " ".join(out.split())


def test_status_says_when_the_store_is_in_doubt(run, node):
    snapshot_with(node, replace(RECORD, identity="server0"))
    _, out, _ = run("status")
    assert re.search(r"^store +changed, and not verified yet", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("status",), "acting"),
        (("members",), "members"),
        (("topology",), "zones"),
        (("history",), "entries"),
        (("doctor",), "findings"),
        (("master", "show"), "master"),
        (("master", "resign"), "resigned"),
        (("hold", "--reason", "x"), "cluster"),
        (("release",), "cluster"),
        (("exclude", "n2", "--reason", "x"), "excluded"),
        (("slot", "take", "n2"), "cluster"),
        (("slot", "return", "n2"), "cluster"),
    ],
)
@pytest.mark.parametrize("flag", ["-o", "--output"])
def test_json_is_one_object_and_nothing_else(run, node, words, key, flag):
    code, out, err = run(*words, flag, "json")
    assert (code, err) == (0, "")
    assert key in json.loads(out)


def test_members_fit_80_columns_and_are_sorted(run, node):
    code, out, _ = run("members")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    head, first, second, third, gossip, *known, excluded, slot = (
        line.split() for line in out.splitlines() if line.strip()
    )
    assert head == ["NAME", "STANDING", "INSTALLED", "OPERATING", "LOWEST", "ROLE", "ADDRESS"]
    assert first == ["n1", "serving", "2.0", "1.0", "1.0", "master", "10.0.0.1:1"]
    assert second == ["n2", "serving", "1.0", "1.0", "1.0", "-", "-"]
    assert third == ["n4", "not", "listed", "2.0", "-", "1.0", "-", "-"]
    assert gossip == ["NAME", "CONDITION", "HEARD", "RTT", "MS", "GOSSIP", "ADDRESS"]
    assert known == [
        ["n1", "alive", "-", "-", "10.0.0.1:7946"],
        ["n2", "suspect", "12s", "0.4", "10.0.0.2:7946"],
        ["n4", "alive", "0.2s", "-", "10.0.0.4:7946"],
    ]
    assert " ".join(excluded) == "n3 was excluded 1m ago by ann@desk: disk broken"
    assert " ".join(slot) == "n2 may be taken down, by bob@desk since 5.0s"


def test_members_of_a_node_that_does_not_gossip_are_as_the_store_lists_them(run, node):
    node.the_gossip = None
    _, out, _ = run("members")
    assert "CONDITION" not in out
    assert "n4" not in out


def test_members_without_the_store_say_that_they_are_from_gossip(run, node):
    node.store_is_away()
    node.the_ledger = replace(node.the_ledger, snapshot=None)
    code, out, err = run("members")
    assert code == 0
    assert "not live: the store does not answer (timed out)" in err
    assert "by gossip, and of now" in err
    assert re.search(r"^n2 +serving +1.0 +1.0 +1.0 +- +-$", out, re.MULTILINE)


def test_the_topology_fits_80_columns_and_says_who_doubts_whom(run, node):
    code, out, err = run("topology")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines == [
        "zone east",
        "NAME INSTALLED OPERATING CONDITION HEARD RTT MS GOSSIP ADDRESS",
        "n1 2.0 1.0 alive - - 10.0.0.1:7946",
        "zone west",
        "NAME INSTALLED OPERATING CONDITION HEARD RTT MS GOSSIP ADDRESS",
        "n2 1.0 1.0 suspect 12s 0.4 10.0.0.2:7946",
        "n4 2.0 - alive 0.2s - 10.0.0.4:7946",
        "n4 suspects n2",
        "asked n1, gossips at 10.0.0.1:7946",
        "sent 120 packets, 9876 bytes",
        "heard 118 packets",
        "refused 2 plain, 3 unknown_key",
        "unsent 1 no_route",
    ]


def test_who_does_not_gossip_has_no_topology(run, node):
    node.the_gossip = None
    code, _, err = run("topology")
    assert code == ExitCode.NOT_FOUND
    assert err == "peerupgrade: n1 does not gossip: start it with --gossip HOST:PORT\n"


def test_what_does_not_fit_a_column_is_not_lost(run, node):
    node.the_gossip = None
    name = "a-name-of-a-node-that-is-" + "w" * 90
    members = {name: replace(MEMBERS["n2"], id=name)}
    ledger = node.the_ledger
    node.the_ledger = replace(ledger, snapshot=replace(ledger.snapshot, members=members))
    _, out, _ = run("members")
    assert out.count("w") == 92  # with "was excluded" and "taken down"
    assert max(map(len, out.splitlines())) <= 80


def test_why_names_code_subject_age_evidence_and_remedy(run, node):
    code, out, err = run("why")
    assert (code, err) == (ExitCode.NOT_SETTLED, "")
    assert out.splitlines() == [
        "older_version n2, for 2h",
        "    n2 has 1.0 installed, the newest is 2.0",
        "    -> install 2.0 on n2, or exclude it if it is gone for good",
    ]


def test_why_with_json_has_the_same_exit_code(run, node):
    code, out, _ = run("why", "-o", "json")
    assert code == ExitCode.NOT_SETTLED
    assert json.loads(out)["blockers"][0]["code"] == "older_version"


def test_why_is_content_when_nothing_is_unfinished(run, node):
    node.the_ledger = replace(node.the_ledger, blockers=())
    assert run("why") == (0, "nothing stands in the way\n", "")


def test_why_says_on_stderr_that_it_is_not_live(run, node):
    node.store_is_away()
    _, out, err = run("why")
    assert err.startswith("peerupgrade: as of 2026-05-28 20:26:35Z, not live: the store does not")
    assert "older_version n2, for 1h 59m" in out


def test_a_blocker_without_a_time_has_no_age(run, node):
    node.the_ledger = replace(node.the_ledger, blockers=(replace(OLDER, subject="", since_ms=0),))
    _, out, _ = run("why")
    assert out.startswith("older_version\n")


def test_what_others_wrote_cannot_steer_the_terminal(run, node):
    evil = replace(OLDER, evidence="[red]bold[/red] \x1b[2J\x9b31m\nforged: line")
    node.the_ledger = replace(node.the_ledger, blockers=(evil,))
    _, out, _ = run("why")
    assert "[red]bold[/red] \\x1b[2J\\x9b31m\\nforged: line" in out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out)


def test_the_history_shows_who_raised_what_from_which_inputs(run, node):
    code, out, _ = run("history", "--count", "1")
    assert code == 0
    text = " ".join(out.split())
    for part in ("raised", "0.9 -> 1.0", "2026-05-28 20:26:40Z", "1.0: n1, n2"):
        assert part in text
    assert max(map(len, out.splitlines())) <= 80


def test_the_doctor_fails_on_errors_only(run, node):
    code, out, _ = run("doctor")
    assert code == 0
    assert "warning: n2" in out
    assert "-> install the same" in out
    node.findings.append(Finding("error", "lock 2", "does not answer", "start it"))
    code, _, _ = run("doctor")
    assert code == ExitCode.NOT_SETTLED


# --- commands -------------------------------------------------------------------------------------


def test_a_hold_says_until_when(run, node):
    code, out, err = run("hold", "--reason", "closing", "--for", "1h30m", "--by", "ann")
    assert (code, out) == (0, "")
    assert err == "peerupgrade: the acting version stays at 1.0 until 2026-05-28 21:26:40Z\n"
    assert node.asked == [SetHold("ann", "closing", NOW_MS + 3 * HOUR_MS // 2)]


def test_the_author_is_the_user_at_the_machine(run, node, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "bob")
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    code, _, err = run("release", "--reason", "done")
    assert (code, err) == (0, "peerupgrade: released\n")
    assert node.asked == [ReleaseHold("bob@desk", "done")]


def test_exclude_hands_everything_on(run, node):
    code, out, err = run("exclude", "n2", "--reason", "gone", "--by", "ann", "--confirm-stopped")
    assert (code, out) == (0, "")
    assert "n2 is excluded" in err
    run("exclude", "n2", "--reason", "gone", "--by", "ann")
    assert node.asked == [("n2", "ann", "gone", True), ("n2", "ann", "gone", False)]


def test_slots_are_taken_and_returned(run, node):
    code, out, err = run("slot", "take", "n2", "--budget", "2", "--by", "ann")
    assert (code, out, err) == (0, "", "peerupgrade: n2 may be taken down\n")
    code, out, err = run("slot", "return", "n2", "--by", "ann")
    assert (code, out, err) == (0, "", "peerupgrade: the slot of n2 is free\n")
    run("slot", "return", "n2", "--by", "ann", "--gone")
    assert node.asked == [
        TakeSlot("n2", "ann", 2),
        ReturnSlot("n2", "ann", Outcome.UP),
        ReturnSlot("n2", "ann", Outcome.GONE),
    ]
    assert run("slot", "return", "n2", "--gone", "--unused")[0] == ExitCode.USAGE


def test_a_slot_is_waited_for_as_long_as_it_may_yet_be_given(run, node, monkeypatch):
    def free(_):
        node.error = None

    monkeypatch.setattr(slot.time, "sleep", free)
    node.error = RefusedError("n1 is down", rule="budget_spent")
    code, _, err = run("slot", "take", "n2", "--wait")
    assert code == 0
    assert err == "peerupgrade: waiting: n1 is down\npeerupgrade: n2 may be taken down\n"
    node.error = RefusedError("no slot", rule="no_slot")
    assert run("slot", "return", "n2", "--wait")[0] == ExitCode.REFUSED


def with_notes(node, **view):
    ledger = node.the_ledger
    members = {"n1": replace(MEMBERS["n1"], collections={"notes": ("1.0",)})}
    notes = CollectionView(counts={"0.9": 1, "1.0": 2}, **view)
    snapshot = replace(ledger.snapshot, members=members, collections={"notes": notes})
    node.the_ledger = replace(ledger, snapshot=snapshot)


def test_shared_data_is_shown_with_a_bar_and_its_end(run, node):
    assert run("data", "show")[1] == "there is no shared data\n"
    with_notes(node, converted=2, began_at_ms=NOW_MS - 60_000)
    line = "3 records, [#############.......] 67% in format 1.0, about 30s left"
    assert run("data", "show")[1] == f"notes  {line}\n"
    assert f"data notes  {line}" in run("status")[1].replace("\n           ", "")


def test_shared_data_that_is_finished_has_no_bar(run, node):
    with_notes(node, parked={"k": Parked("0.9", "why", 1)}, skipped=2)
    assert run("data", "show")[1] == (
        "notes  3 records, [####################] 100% in format 1.0, 1 parked, 2 skipped\n"
    )


def test_steps_are_shown_with_a_bar_their_end_and_why_they_failed(run, node):
    record = replace(RECORD, floor=V2)
    half = StepState(Phase.BEFORE, V2, "fill", done=5, total=10, began_at_ms=NOW_MS - 30_000)
    snapshot = replace(node.the_ledger.snapshot, record=record, steps={half.key: half})
    node.the_ledger = replace(node.the_ledger, snapshot=snapshot)
    bar = "2.0 fill: [##########..........] 50%"
    assert f"before     {bar}, about 30s left" in run("status")[1]
    failed = replace(half, failure="no room")
    snapshot = replace(snapshot, steps={half.key: failed})
    node.the_ledger = replace(node.the_ledger, snapshot=snapshot)
    assert f"before     {bar}, failed: no room" in run("status")[1]
    (said,) = json.loads(run("status", "--json")[1])["steps"]
    assert (said["name"], said["units_done"], said["done"]) == ("fill", 5, 0.5)


def test_the_conversion_is_paused_and_resumed(run, node):
    assert run("data", "pause", "--reason", "peak", "--by", "ann")[0] == 0
    assert run("data", "resume", "--by", "ann")[0] == 0
    assert node.asked == [
        SetHold("ann", "peak", what="pause"),
        ReleaseHold("ann", what="pause"),
    ]


@pytest.mark.parametrize("verdict", ["retry", "skip", "delete"])
def test_parked_records_are_resolved(run, node, verdict):
    node.resolved = Resolved(2)
    code, _, err = run("data", verdict, "notes", "--by", "ann")
    assert (code, err) == (0, f"peerupgrade: {verdict}: 2 of the parked records\n")
    assert node.asked == [Resolve("notes", "", verdict, "ann")]
    node.resolved = Resolved(0)
    assert run("data", verdict, "notes", "k")[0] == ExitCode.NOT_FOUND


def test_master_show_and_resign(run, node):
    assert run("master", "show") == (0, "n1 (epoch 4)\n", "")
    code, _, err = run("master", "resign")
    assert (code, node.asked) == (0, ["resign"])
    assert "resigned" in err


def test_resign_asks_the_master_by_itself(run, node):
    other = FakeNode()
    other.master = False
    with serving(other) as (url, _):
        publish("blue", "a0", url, "secret")  # the first by name, so others are asked for
        assert run("master", "resign")[0] == 0
        assert (node.asked, other.asked) == (["resign"], [])
        code, _, err = run("master", "resign", "--node", "a0")
    assert code == ExitCode.REFUSED
    assert err == "peerupgrade: n1 is not master: ask n1\n"


# --- errors ---------------------------------------------------------------------------------------


def test_a_refusal_is_one_line_with_its_hint(run, node):
    node.error = RefusedError("node 'n2' may be alive", rule="may_be_alive", hint="stop it")
    code, out, err = run("exclude", "n2", "--reason", "x")
    assert (code, out, err) == (3, "", "peerupgrade: node 'n2' may be alive: stop it\n")


def test_an_unknown_member_is_exit_7(run, node):
    code, _, err = run("exclude", "n9", "--reason", "x")
    assert code == ExitCode.NOT_FOUND
    assert err == "peerupgrade: there is no member 'n9': peerupgrade members lists them\n"


def test_a_store_that_does_not_answer_is_exit_6(run, node):
    node.error = UnavailableError("the store does not answer")
    assert run("history") == (6, "", "peerupgrade: the store does not answer\n")


def test_a_node_that_does_not_answer_is_exit_6(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    code, out, err = run("status", "--server", url)
    assert (code, out) == (6, "")
    assert err.startswith(f"peerupgrade: the node at {url} does not answer (Connection refused): ")


def test_another_program_at_the_address_is_exit_6(run):
    script = "import socket\nwith socket.create_server(('127.0.0.1', 0)) as s:\n"
    script += " print(s.getsockname()[1], flush=True)\n c, _ = s.accept()\n c.recv(999)\n"
    script += " c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi')"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        port = int(other.stdout.readline())
        code, _, err = run("status", "--server", f"127.0.0.1:{port}")
    assert code == ExitCode.UNAVAILABLE
    assert "does not answer as a node does" in err


def test_a_wrong_token_is_exit_2_and_says_what_to_set(run, node, monkeypatch):
    monkeypatch.setenv("PEERUPGRADE_TOKEN", "wrong")
    code, _, err = run("release")
    assert code == ExitCode.USAGE
    assert err.startswith("peerupgrade: the token is wrong: set PEERUPGRADE_TOKEN")
    assert node.asked == []


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:port", "http://x:99999", "//"])
def test_a_server_that_cannot_be_is_exit_2(run, url):
    code, _, err = run("status", "--server", url)
    assert code == ExitCode.USAGE
    assert "HOST:PORT" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("statsu",), "Did you mean"),
        (("why", "--serverr", "x"), "Did you mean --server?: peerupgrade why --help"),
        (("hold",), "--reason"),
        (("hold", "--reason", "x", "--for", "soon"), "timedelta"),
        (("status", "-o", "yaml"), "yaml"),
        (("history", "--count", "0"), "count"),
        (("release", "--token", "x"), "--token"),
        (("node", "--token", "x"), "--token"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(run, words, said):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("peerupgrade: ")
    assert err.count("\n") == 1
    assert said in err


def test_a_defect_is_one_line_and_says_how_to_see_more(run, node, monkeypatch):
    monkeypatch.setattr("peerupgrade.cli.cluster.print_pairs", lambda _: 1 / 0)
    code, out, err = run("status")
    assert (code, out) == (70, "")
    assert err.count("\n") == 1
    assert "ZeroDivisionError" in err
    assert "PEERUPGRADE_DEBUG=1" in err
    monkeypatch.setenv("PEERUPGRADE_DEBUG", "1")
    code, _, err = run("status")
    assert code == 70
    assert "Traceback" in err


def test_an_interrupt_is_exit_130(run, node, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("peerupgrade.cli.cluster.print_pairs", interrupted)
    assert run("status") == (130, "", "")


def test_every_exit_code_is_documented(run):
    assert set(EXIT_CODES) == set(ExitCode)
    code, out, _ = run("--help")
    assert code == 0
    for number in ExitCode:
        assert re.search(rf"^ +{number.value}  \w", out, re.MULTILINE)


@pytest.mark.parametrize(
    "words",
    [
        ("node",),
        ("demo",),
        ("status",),
        ("members",),
        ("topology",),
        ("why",),
        ("watch",),
        ("hold",),
        ("release",),
        ("exclude",),
        ("master", "show"),
        ("master", "resign"),
        ("slot", "take"),
        ("slot", "return"),
        *(("data", word) for word in ("show", "pause", "resume", "retry", "skip", "delete")),
        ("history",),
        ("doctor",),
        ("upgrade", "plan"),
        ("upgrade", "rehearse"),
        ("can-deploy",),
        *(("keyring", word) for word in ("list", "add", "use", "remove")),
    ],
)
def test_the_help_of_each_command_has_an_example_within_80_columns(run, words):
    code, out, _ = run(*words, "--help")
    assert code == 0
    assert f"    peerupgrade {' '.join(words)}" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", [name for name in _app() if not name.startswith("-")])
def test_the_readme_names_every_command(name):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    words = _app()[name]
    inner = [word for word in words if not word.startswith("-")] if name == "upgrade" else []
    for command in [f"{name} {word}" for word in inner] or [name]:
        assert re.search(rf"^\|.*`{command}\b", readme, re.MULTILINE), command


def test_the_version(run):
    assert run("--version") == (0, f"{peerupgrade.__version__}\n", "")


def test_help_is_there_at_once():
    heavy = "import sys; from peerupgrade.cli import main; main(['--help']);"
    heavy += "heavy = ('aiohttp', 'redis', 'cryptography', 'asyncio.events');"
    heavy += "print([m for m in heavy if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, check=True)
    loaded = done.stdout.decode().splitlines()[-1]
    assert "aiohttp" not in loaded
    assert "redis" not in loaded
    assert "cryptography" not in loaded


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0.0s"),
        (0.42, "0.4s"),
        (10, "10s"),
        (59.6, "1m"),
        (3600, "1h"),
        (7505, "2h 5m"),
        (90061, "1d 1h"),
    ],
)
def test_a_span_has_two_units(seconds, text):
    assert show.span(seconds) == text


# --- which node -----------------------------------------------------------------------------------


def test_without_a_node_it_says_how_to_get_one(run):
    code, _, err = run("status")
    assert code == ExitCode.UNAVAILABLE
    assert err.startswith("peerupgrade: no node runs on this machine")


def test_of_several_clusters_one_must_be_chosen(run, node):
    other = FakeNode()
    other.node_status = replace(other.node_status, name="g1")
    with serving(other, token="other") as (url, _):
        publish("green", "g1", url, "other")
        code, _, err = run("status")
        assert code == ExitCode.USAGE
        assert "blue, green" in err
        _, out, _ = run("status", "--cluster", "green", "-o", "json")
        assert json.loads(out)["asked"] == "g1"
        _, out, _ = run("status", "--node", "n1", "-o", "json")
        assert json.loads(out)["asked"] == "n1"
        assert run("release", "--cluster", "green")[0] == 0  # with the token from its file
        code, _, err = run("status", "--node", "n7")
    assert code == ExitCode.NOT_FOUND
    assert "n1 of blue, g1 of green" in err
    assert (len(node.asked), len(other.asked)) == (0, 1)


def test_a_server_is_named_by_flag_or_environment(run, node, monkeypatch):
    far = FakeNode()
    far.node_status = replace(far.node_status, name="far")
    with serving(far) as (url, _):
        monkeypatch.setenv("PEERUPGRADE_SERVER", url)
        _, out, _ = run("status", "-o", "json")
        assert json.loads(out)["asked"] == "far"
        assert run("release")[0] == ExitCode.USAGE  # its token is in no file
        monkeypatch.setenv("PEERUPGRADE_TOKEN", "secret")
        assert run("release")[0] == 0
        monkeypatch.setenv("PEERUPGRADE_SERVER", "http://127.0.0.1:1")
        assert run("status", "--server", url)[0] == 0


def test_the_token_of_a_named_server_is_taken_from_its_file(run, node):
    with serving(FakeNode()) as (url, _):
        publish("blue", "n2", url, "secret")
        assert run("release", "--server", url)[0] == 0


def test_with_server_and_token_nothing_on_this_machine_matters(run, node, monkeypatch, tmp_path):
    (tmp_path / "peerupgrade").chmod(0o755)  # somebody may have entered: not to be trusted
    with serving(FakeNode()) as (url, _):
        assert run("status", "--server", url)[0] == ExitCode.USAGE
        monkeypatch.setenv("PEERUPGRADE_TOKEN", "secret")
        assert run("status", "--server", url)[0] == 0


# --- watch ----------------------------------------------------------------------------------------


class Watching:
    """`peerupgrade watch` as a process of its own."""

    def __init__(self, *words):
        command = [sys.executable, "-m", "peerupgrade", "watch", *words]
        # Tests that were started in the background ignore it, and so would what they start.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )
        signal.signal(signal.SIGINT, before)

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def tell(node, loop, *events):
    deadline_s = time.monotonic() + 10
    while not node.streams:
        assert time.monotonic() < deadline_s, "nobody listens"
        time.sleep(0.01)
    for one in events:
        loop.call_soon_threadsafe(node.streams[0].put_nowait, one)


def test_watch_prints_one_line_for_each_event_until_interrupted():
    node = FakeNode()
    with serving(node) as (url, loop), Watching("--server", url) as watch:
        assert watch.line().endswith(" n1 watching: acting at 1.0 (revision 12)")
        tell(node, loop, event("raised", "to 2.0\x1b[2J"), event("settled"))
        assert watch.line() == "2026-05-28T20:26:40.123Z n1 raised: to 2.0\\x1b[2J (revision 12)"
        assert watch.line() == "2026-05-28T20:26:40.123Z n1 settled (revision 12)"
        assert watch.interrupt() == 130
        assert watch.process.stderr.read() == ""


def test_watch_connects_again_and_says_so_once():
    node = FakeNode()
    with contextlib.ExitStack() as first:
        url, _ = first.enter_context(serving(FakeNode()))
        with Watching("--server", url, "-o", "json") as watch:
            assert json.loads(watch.line())["event"] == "watching"
            first.close()
            time.sleep(3 * RETRY_S)
            with serving(node, listen=url.removeprefix("http://")) as (_, loop):
                assert json.loads(watch.line())["event"] == "watching"
                tell(node, loop, event("raised", "to 2.0"))
                assert json.loads(watch.line())["detail"] == "to 2.0"
                assert watch.interrupt() == 130
            said = watch.process.stderr.read()
    assert said.count("\n") == 1
    assert "trying again" in said


def test_watch_fails_if_there_is_nobody_at_first(run):
    code, _, err = run("watch", "--server", "http://127.0.0.1:1")
    assert code == ExitCode.UNAVAILABLE
    assert err.count("\n") == 1


# --- settings of a node ---------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """What the agent was started with; it ends at once."""
    calls = []

    def run_agent(settings, read_installed, on_acting, turn_steps, health, program):
        calls.append((settings, read_installed))
        return ExitCode.OK

    monkeypatch.setattr(agent, "run_agent", run_agent)
    return calls


REQUIRED = ("--name", "n1", "--installed", "1.0")


def test_flags_come_before_environment_before_file_before_defaults(
    run, started, tmp_path, monkeypatch
):
    def lock_ttl_s(*words):
        code, _, err = run("node", *REQUIRED, *words)
        assert (code, err) == (0, "")
        return started[-1][0].lock_ttl_s

    assert lock_ttl_s() == 3.0
    (tmp_path / "peerupgrade.toml").write_text("lock_ttl_s = 4")
    assert lock_ttl_s() == 4.0
    monkeypatch.setenv("PEERUPGRADE_LOCK_TTL_S", "5")
    assert lock_ttl_s() == 5.0
    assert lock_ttl_s("--lock-ttl-s", "6") == 6.0


def test_the_file_is_named_by_flag_or_environment(run, started, tmp_path, monkeypatch):
    for name in ("peerupgrade", "env", "flag"):
        (tmp_path / f"{name}.toml").write_text(f'zone = "{name}"')

    def zone(*words):
        assert run("node", *REQUIRED, *words)[0] == 0
        return started[-1][0].zone

    assert zone() == "peerupgrade"
    monkeypatch.setenv("PEERUPGRADE_CONFIG", "env.toml")
    assert zone() == "env"
    assert zone("--config", "flag.toml") == "flag"


TEXTS = {
    "name": "n7",
    "installed": "1.5",
    "cluster": "blue",
    "lowest_supported": "1.0",
    "store": "redis://h1,h2",
    "lock_servers": "redis://l1 redis://l2",
    "state_dir": "/var/lib/x",
    "bootstrap_expect": "3",
    "lease_s": "30",
    "guard_max_s": "0.5",
    "lock_ttl_s": "2",
    "quarantine_s": "7",
    "min_replicas": "1",
    "conversion_pace": "full",
    "start_timeout_s": "9",
    "on_stop": "stay",
    "stop_timeout_s": "3",
    "listen": "",
    "token": "secret",
    "address": "n7.example:1",
    "gossip": "0.0.0.0:7946",
    "advertise": "192.0.2.7:7946",
    "join": "n1.example:7946 192.0.2.2:7946",
    "keyring": "/etc/x/gossip.keys",
    "zone": "z1",
    "labels": "rack=r1 os=linux",
}
EXPECTED = Settings(
    name="n7",
    installed="1.5",
    cluster="blue",
    lowest_supported="1.0",
    store="redis://h1,h2",
    lock_servers=("redis://l1", "redis://l2"),
    state_dir="/var/lib/x",
    bootstrap_expect=3,
    lease_s=30.0,
    guard_max_s=0.5,
    lock_ttl_s=2.0,
    quarantine_s=7.0,
    min_replicas=1,
    conversion_pace="full",
    start_timeout_s=9.0,
    on_stop="stay",
    stop_timeout_s=3.0,
    listen="",
    token="secret",
    address="n7.example:1",
    gossip="0.0.0.0:7946",
    advertise="192.0.2.7:7946",
    join=("n1.example:7946", "192.0.2.2:7946"),
    keyring="/etc/x/gossip.keys",
    zone="z1",
    labels={"rack": "r1", "os": "linux"},
)


def test_every_setting_can_be_given_in_the_environment(run, started, monkeypatch):
    assert set(TEXTS) == set(Settings.__dataclass_fields__)
    for name, text in TEXTS.items():
        monkeypatch.setenv(f"PEERUPGRADE_{name.upper()}", text)
    assert run("node")[0] == 0
    assert started[0][0] == EXPECTED


def test_every_setting_but_the_token_can_be_given_as_a_flag(run, started):
    words = []
    for name, text in TEXTS.items():
        several = name in ("lock_servers", "labels", "join")
        for word in text.split() if several else [text]:
            words += [f"--{name.replace('_', '-')}", word] if name != "token" else []
    assert run("node", *words)[0] == 0
    assert started[0][0] == replace(EXPECTED, token="")


def test_every_setting_can_be_given_in_the_file(run, started, tmp_path):
    (tmp_path / "peerupgrade.toml").write_text("""
        name = "n7"
        installed = "1.5"
        cluster = "blue"
        lowest_supported = "1.0"
        store = "redis://h1,h2"
        lock_servers = ["redis://l1", "redis://l2"]
        state_dir = "/var/lib/x"
        bootstrap_expect = 3
        lease_s = 30
        guard_max_s = 0.5
        lock_ttl_s = 2
        quarantine_s = 7.0
        min_replicas = 1
        conversion_pace = "full"
        start_timeout_s = 9
        on_stop = "stay"
        stop_timeout_s = 3
        listen = ""
        token = "secret"
        address = "n7.example:1"
        gossip = "0.0.0.0:7946"
        advertise = "192.0.2.7:7946"
        join = ["n1.example:7946", "192.0.2.2:7946"]
        keyring = "/etc/x/gossip.keys"
        zone = "z1"
        labels = {rack = "r1", os = "linux"}
    """)
    assert run("node")[0] == 0
    assert started[0][0] == EXPECTED


def test_secrets_can_be_in_files(run, started, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "store").write_text("redis://:pw@store\n")
    monkeypatch.setenv("PEERUPGRADE_TOKEN", "from the environment")
    monkeypatch.setenv("PEERUPGRADE_STORE", "redis://environment")
    words = ("--token-file", "token", "--store-file", "store")
    code, _, err = run("node", *REQUIRED, *words)
    assert (code, err) == (0, "")
    settings = started[0][0]
    assert (settings.token, settings.store) == ("secret", "redis://:pw@store")


@pytest.mark.parametrize(
    ("flag", "url", "variable"),
    [
        ("--store", "redis://:pw@store", "PEERUPGRADE_STORE"),
        ("--store", "redis+sentinel://u:pw@h1,h2/x", "PEERUPGRADE_STORE"),
        ("--lock-servers", "redis://:pw@l1", "PEERUPGRADE_LOCK_SERVERS"),
    ],
)
def test_a_password_in_a_flag_is_warned_of(run, started, flag, url, variable):
    code, _, err = run("node", *REQUIRED, flag, url, "--lock-servers", "redis://l2")
    assert "visible to every user" in err
    assert variable in err
    assert "pw" not in err.replace("password", "")
    if flag == "--lock-servers":
        assert code == 0


def test_a_url_without_a_password_is_not_warned_of(run, started):
    assert run("node", *REQUIRED, "--store", "redis://user@store:6379/0") == (0, "", "")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('instaled = "1"', "unknown key 'instaled': did you mean 'installed'?"),
        ("xyz = 1", "unknown key 'xyz': known are name, installed"),
        ('bootstrap_expect = "3"', "bootstrap_expect in peerupgrade.toml is wrong: Expected `int`"),
        ("lease_s = nan", "lease_s in peerupgrade.toml is nan"),
        ("labels = {a = 1}", "labels in peerupgrade.toml is wrong"),
        ('on_stop = "hide"', "on_stop is 'hide'"),
        ("name = ", "cannot read peerupgrade.toml"),
        ('store = "a"\nstore_file = "b"', "store and store_file exclude each other"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_key(run, started, tmp_path, toml, said):
    (tmp_path / "peerupgrade.toml").write_text(toml)
    code, _, err = run("node", *REQUIRED)
    assert code == ExitCode.USAGE
    assert said in err
    assert err.count("\n") == 1
    assert started == []


@pytest.mark.parametrize(
    ("variable", "text"),
    [("BOOTSTRAP_EXPECT", "many"), ("LEASE_S", "nan"), ("LABELS", "rack"), ("MIN_REPLICAS", "")],
)
def test_a_wrong_variable_is_named(run, started, monkeypatch, variable, text):
    monkeypatch.setenv(f"PEERUPGRADE_{variable}", text)
    code, _, err = run("node", *REQUIRED)
    assert code == ExitCode.USAGE
    assert f"PEERUPGRADE_{variable} is" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--installed", "1.0"), "the node has no name"),
        (("--name", "n1"), "the installed version is not known"),
        (("--name", "n 1", "--installed", "1.0"), "name 'n 1'"),
        (("--name", "n1", "--installed", "one"), "version 'one' cannot be read"),
        (
            ("--name", "n1", "--installed", "1.0", "--installed-command", "x"),
            "installed and installed_command exclude each other",
        ),
        ((*REQUIRED, "--labels", "rack"), "--labels is 'rack': give KEY=VALUE"),
        ((*REQUIRED, "--config", "no.toml"), "cannot read no.toml: No such file"),
        ((*REQUIRED, "--token-file", "no"), "cannot read token_file no: No such file"),
        (
            (*REQUIRED, "--gossip", "192.0.2.1:7946"),
            "gossip is 192.0.2.1:7946, which others can reach, and there is no keyring: make one",
        ),
        ((*REQUIRED, "--gossip", "n1.example:7946"), "which others can reach"),
        (
            (*REQUIRED, "--gossip", "0.0.0.0:7946", "--keyring", "k"),
            "no address that others could reach: say in advertise",
        ),
        ((*REQUIRED, "--gossip", "[::]:7946", "--keyring", "k"), "say in advertise"),
        ((*REQUIRED, "--gossip", "7946"), "address '7946' cannot be used: give HOST:PORT"),
        ((*REQUIRED, "--advertise", "n1"), "address 'n1' cannot be used: give HOST:PORT"),
        ((*REQUIRED, "--join", "n1"), "address 'n1' cannot be used: give HOST:PORT"),
        ((*REQUIRED, "--join", "n1:0"), "join has 'n1:0': give the port of its gossip"),
        *(
            ((*REQUIRED, "--gossip", "", f"--{name}", "n1:1"), f"{name} is given, and gossip is")
            for name in ("join", "advertise", "keyring")
        ),
        ((*REQUIRED, "--zone", "z" * 129), "zone and labels are too long"),
        ((*REQUIRED, "--zone", "\udce9"), "zone and labels are not all text"),
        (
            (*REQUIRED, *(word for n in range(33) for word in ("--labels", f"l{n}=x"))),
            "at most 32 labels, of 128 characters each",
        ),
    ],
)
def test_a_wrong_setting_is_one_line(run, started, words, said):
    code, _, err = run("node", *words)
    assert code == ExitCode.USAGE
    assert said in err
    assert err.count("\n") == 1
    assert started == []


# --- the installed version ------------------------------------------------------------------------


def again(started):
    return asyncio.run(started[0][1]())


def script(tmp_path, text):
    path = tmp_path / "version.py"
    path.write_text(text)
    return f"'{sys.executable}' '{path}'"


def test_a_command_is_read_again_at_each_reload(started, tmp_path):
    command = script(tmp_path, "print('1.10.0')")
    assert main(["node", "--name", "n1", "--installed-command", command]) == 0
    assert started[0][0].installed == "1.10.0"
    script(tmp_path, "print('2.0')")
    assert again(started) == ("2.0", "0")


def test_the_file_is_read_again_at_each_reload(started, tmp_path):
    toml = tmp_path / "peerupgrade.toml"
    toml.write_text('name = "n1"\ninstalled = "1.0"')
    assert main(["node"]) == 0
    toml.write_text('name = "n1"\ninstalled = "2.0"\nlowest_supported = "1.0"')
    assert again(started) == ("2.0", "1.0")


def test_a_higher_source_puts_all_ways_of_a_lower_one_aside(run, started, tmp_path):
    (tmp_path / "peerupgrade.toml").write_text('installed_command = "false"')
    assert run("node", *REQUIRED)[0] == 0
    assert started[0][0].installed == "1.0"


def test_a_package_tells_its_version(run, started):
    assert run("node", "--name", "n1", "--installed-package", "peerupgrade")[0] == 0
    assert started[0][0].installed == peerupgrade.__version__
    code, _, err = run("node", "--name", "n1", "--installed-package", "no-such-package")
    assert code == ExitCode.USAGE
    assert "installed_package 'no-such-package' is not installed" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("print('one')", "version 'one' cannot be read"),
        ("print('1.0'); print('2.0')", "it must print the version and nothing else"),
        ("", "printed ''"),
        ("raise SystemExit('no such thing')", "failed with status 1: no such thing"),
        ("raise SystemExit(3)", "failed with status 3: it said nothing on stderr"),
    ],
)
def test_a_command_that_does_not_tell_the_version(run, started, tmp_path, text, said):
    code, _, err = run("node", "--name", "n1", "--installed-command", script(tmp_path, text))
    assert code == ExitCode.USAGE
    assert said in err
    assert err.count("\n") == 1
    assert started == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/no/such/program", "cannot be run: No such file"),
        ("echo '1.0", "cannot be split"),
        ("echo 1.0; echo 2.0", "version '1.0; echo 2.0' cannot be read"),
        ("   ", "is empty"),
    ],
)
def test_a_command_that_cannot_be_run(run, started, command, said):
    code, _, err = run("node", "--name", "n1", "--installed-command", command)
    assert code == ExitCode.USAGE
    assert said in err


def test_a_command_that_hangs_is_killed_with_its_children(run, started, tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "_COMMAND_TIMEOUT_S", 1.0)
    text = "import subprocess; child = subprocess.Popen(['sleep', '60']);"
    text += "open('child', 'w').write(str(child.pid)); child.wait()"
    command = script(tmp_path, text)
    began_s = time.monotonic()
    code, _, err = run("node", "--name", "n1", "--installed-command", command)
    assert code == ExitCode.USAGE
    assert "did not end within 1 s" in err
    assert time.monotonic() - began_s < 10
    state = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
    while state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() - began_s < 10, "the child lives"
        time.sleep(0.01)
