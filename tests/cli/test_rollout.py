"""`upgrade start`, and what says how it goes on, against a node that says what a test wants."""

import json
from dataclasses import replace

import pytest

from peerupgrade.core.ledger import whole_ledger
from peerupgrade.core.record import (
    Health,
    HealthState,
    Hold,
    Rollout,
    RolloutEnd,
    Slot,
    Standing,
    Turn,
    TurnStep,
    Work,
    WorkState,
)
from peerupgrade.core.steering import Abort, Change, Pause, Resume, Retry, Skip, Start
from peerupgrade.core.strategy import OnUnhealthy, Strategy
from peerupgrade.errors import ExitCode
from tests.http.fake_node import MEMBERS, NOW_MS, RECORD

TURN = Turn("4.13", "n2", "2.0", NOW_MS - 9000)
ROLLOUT = Rollout("4.12", "2.0", "ann@desk", "security", NOW_MS - 60_000, turns=(TURN,))
SUNDAY = "sun 00:00-24:00"
FAILED = Work("4.13", "2.0", "1.0", TurnStep.INSTALL, WorkState.FAILED, note="no room")


def knows(node, rollout=ROLLOUT, work=FAILED, *, n1=MEMBERS["n1"], silent=(), **changes):
    """The node's store has a rollout; n1 has the version, and it is the turn of n2."""
    n2 = replace(MEMBERS["n2"], standing=Standing.AWAY, work=work)
    node.knows(
        record=replace(RECORD, rollout=rollout, **changes),
        members={**MEMBERS, "n1": n1, "n2": n2},
        slots={"n2": Slot("n2", "rollout 4.12", NOW_MS, 1)},
    )
    blockers = tuple(whole_ledger(node.the_ledger.snapshot, NOW_MS, silent))
    node.the_ledger = replace(node.the_ledger, blockers=blockers)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("start", "2.0"), Start("2.0", "ann", "")),
        (
            (
                *("start", "2.0", "--budget", "2", "--canary", "1", "--soak", "90s"),
                *("--one-zone", "--reason", "why", "--skip", "n1", "--skip", "n2"),
                *("--lowest-supported", "1.0"),
            ),
            Start("2.0", "ann", "why", Strategy(2, 0, 1, 90_000, True), ("n1", "n2"), "1.0"),
        ),
        (
            ("start", "2.0", "--window", "MON-fri  22:00-05:00", "--window", "sun 00:00-24:00"),
            Start("2.0", "ann", strategy=Strategy(windows=("mon-fri 22:00-05:00", SUNDAY))),
        ),
        (("change", "--no-one-zone"), Change({"one_zone": False}, "ann", "")),
        (("change", "--budget", "25%"), Change({"budget_percent": 25}, "ann", "")),
        (
            ("change", "--budget", "3", "--failures", "2", "--on-unhealthy", "all"),
            Change(
                {"budget": 3, "budget_percent": 0, "failures": 2, "on_unhealthy": OnUnhealthy.ALL},
                "ann",
                "",
            ),
        ),
        (("change", "--bake", "10m"), Change({"bake_ms": 600_000}, "ann", "")),
        (("pause", "--reason", "lunch"), Pause("ann", "lunch")),
        (("resume",), Resume("ann", "")),
        (("retry", "n2"), Retry("n2", "ann", "")),
        (("skip", "n2", "--reason", "broken"), Skip("n2", "ann", "broken")),
        (("abort",), Abort("ann", "")),
        (("abort", "--rollback"), Abort("ann", "", rollback=True)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_asks_the_node_for_it(node, run, words, asked):
    code, out, err = run("upgrade", *words, "--by", "ann")
    assert (code, out) == (ExitCode.OK, "")
    assert err.count("\n") == 1
    assert node.asked == [asked]


TOML = """
budget = "25%"
canary = 1
soak_s = 90.5
one_zone = true
windows = ["MON-fri  22:00-05:00", "sun 00:00-24:00"]
failures = 2
bake_s = 600
on_unhealthy = "all"
"""
WHOLE = Strategy(
    1, 25, 1, 90_500, True, ("mon-fri 22:00-05:00", SUNDAY), 2, 600_000, OnUnhealthy.ALL
)


def test_a_strategy_may_stand_in_a_file_and_options_come_before_it(node, run, tmp_path):
    (tmp_path / "night.toml").write_text(TOML)
    words = ("start", "2.0", "--strategy", "night.toml", "--by", "ann")
    assert run("upgrade", *words)[0] == ExitCode.OK
    assert run("upgrade", *words, "--budget", "2", "--no-one-zone")[0] == ExitCode.OK
    others = replace(WHOLE, budget=2, budget_percent=0, one_zone=False)
    assert [one.strategy for one in node.asked] == [WHOLE, others]
    assert run("upgrade", "change", "--strategy", "night.toml", "--soak", "0s")[0] == ExitCode.OK
    assert replace(Strategy(), **node.asked[-1].changes) == replace(WHOLE, soak_ms=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("soak = 9", "did you mean 'soak_s'?"),
        ("soak_s = '10m'", "night.toml: soak_s is '10m': give a number of seconds from 0 to"),
        ("budget = 0", "night.toml: the budget '0' cannot be used"),
        ("canary = true", "canary is True: give a number of nodes from 0 to 1000"),
        ("one_zone = 1", "one_zone is 1: give true or false"),
        ("windows = 'sun 00:00-24:00'", "a list of at most 50 windows"),
        ("on_unhealthy = 'cry'", "give pause or node or all"),
        ("canary =", "cannot read night.toml"),
    ],
)
def test_what_a_file_says_wrongly_is_named_with_the_file(node, run, tmp_path, text, said):
    (tmp_path / "night.toml").write_text(text)
    code, _, err = run("upgrade", "change", "--strategy", "night.toml")
    assert (code, err.count("\n"), node.asked) == (ExitCode.USAGE, 1, [])
    assert said in err


def test_a_change_of_nothing_is_a_mistake(node, run):
    code, _, err = run("upgrade", "change")
    assert code == ExitCode.USAGE
    assert "nothing is to be changed" in err
    assert node.asked == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "0"), "the budget '0' cannot be used"),
        (("--budget", "101%"), "a part of them, 1% to 100%"),
        (("--window", "22-5"), "the window '22-5' cannot be read"),
        (("--window", "mo 22:00-05:00"), "mon-fri 22:00-05:00"),
    ],
)
def test_what_cannot_be_read_is_a_mistake(node, run, words, said):
    code, _, err = run("upgrade", "change", *words)
    assert code == ExitCode.USAGE
    assert said in " ".join(err.split())
    assert node.asked == []


def test_a_member_that_is_none_is_not_found(node, run):
    code, _, err = run("upgrade", "retry", "n9")
    assert code == ExitCode.NOT_FOUND
    assert "there is no member 'n9'" in err


def test_the_status_shows_each_node_and_what_is_awaited(node, run):
    strategy = Strategy(1, 25, 1, 90_000, windows=(SUNDAY,), failures=2, bake_ms=9_000)
    pause = Hold("n2", "n2: why", NOW_MS)
    knows(node, replace(ROLLOUT, strategy=strategy, pause=pause, failed=("n3",)))
    code, out, _ = run("upgrade", "status")
    assert code == ExitCode.OK
    for shown in (
        "to 2.0, by ann@desk: security, for 1m",
        "1 of 2 nodes have it",
        "25 % may be down at once, a pause once 1 have it, 1m 30s from one to the next,"
        " 9.0s from the last one to the raise, only within sun 00:00-24:00 (UTC),"
        " 1 of 2 nodes that may fail have failed",
        "install failed",
        "no room",
        "peerupgrade upgrade retry n2, or upgrade skip n2",
    ):
        assert shown in " ".join(out.split()), shown


def test_the_status_says_what_ails_a_node_and_since_when(node, run):
    ill = Health(HealthState.UNHEALTHY, "503")
    knows(node, n1=replace(MEMBERS["n1"], health=ill, health_since_ms=NOW_MS - 240_000))
    assert "unhealthy for 4m: 503" in " ".join(run("upgrade", "status")[1].split())
    members = json.loads(run("members", "--json")[1])["members"]
    health = next(one["health"] for one in members if one["name"] == "n1")
    assert (health["state"], health["since_ms"]) == ("unhealthy", NOW_MS - 240_000)


def test_without_a_rollout_the_last_one_is_shown(node, run):
    ended = RolloutEnd("4.1", "1.0", NOW_MS - 9000, NOW_MS - 4000, 0, ("n2",))
    knows(node, None, rollout_end=ended)
    _, out, _ = run("upgrade", "status")
    assert "none" in out
    assert "1.0 done, without n2" in out


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (RolloutEnd("4.12", "2.0", 1, 2), ExitCode.OK),
        (RolloutEnd("4.12", "2.0", 1, 2, rollback=1), ExitCode.OK),
        (RolloutEnd("4.12", "2.0", 1, 2, rollback=1, cause="n1: 503"), ExitCode.NOT_SETTLED),
        (RolloutEnd("4.12", "2.0", 1, 2, aborted=1), ExitCode.NOT_SETTLED),
    ],
)
def test_whoever_waits_gets_the_outcome_as_exit_code(node, run, end, code):
    knows(node, None, rollout_end=end)
    assert run("upgrade", "status", "--wait")[0] == code


def test_whoever_waits_is_told_when_somebody_must_decide(node, run):
    knows(node, replace(ROLLOUT, pause=Hold("n2", "n2: install failed", NOW_MS)))
    code, out, _ = run("upgrade", "status", "--wait")
    assert code == ExitCode.NOT_SETTLED
    assert "step_failed n2" in out


def test_whoever_waits_is_told_when_one_that_has_the_version_does_not_answer_any_more(node, run):
    came = Work("4.13", "2.0", "1.0", TurnStep.UNDRAIN, WorkState.ENDED)
    pause = Hold("n1", "n1 has got 2.0, and does not answer any more", NOW_MS)
    n1, paused = replace(MEMBERS["n1"], work=came), replace(ROLLOUT, turns=(), pause=pause)
    knows(node, paused, None, n1=n1, silent={"n1"})
    code, out, _ = run("upgrade", "status", "--wait")
    assert code == ExitCode.NOT_SETTLED
    assert "unhealthy_after n1" in out


def test_whoever_waits_is_told_when_too_many_have_failed(node, run):
    pause = Hold("failures", "n3 failed, and 0 may", NOW_MS)
    running = replace(FAILED, state=WorkState.RUNS)
    knows(node, replace(ROLLOUT, pause=pause, failed=("n3",)), running)
    code, out, _ = run("upgrade", "status", "--wait")
    assert code == ExitCode.NOT_SETTLED
    assert "n3 failed, and 0 may" in out


def test_what_a_node_only_remembers_ends_no_waiting(node, run, monkeypatch):
    def the_store_answers(_s):
        knows(node, None, rollout_end=RolloutEnd("4.12", "2.0", 1, 2, aborted=1))
        node.the_ledger = replace(node.the_ledger, live=True)

    knows(node, None, rollout_end=RolloutEnd("4.11", "1.0", 1, 2))
    node.the_ledger = replace(node.the_ledger, live=False)
    monkeypatch.setattr("peerupgrade.cli.rollout.time.sleep", the_store_answers)
    assert run("upgrade", "status", "--wait")[0] == ExitCode.NOT_SETTLED
