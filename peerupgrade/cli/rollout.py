"""An upgrade that the cluster drives: `upgrade start|status|pause|resume|retry|skip|abort`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from peerupgrade.cli.client import Json
from peerupgrade.cli.cluster import hold_text, print_blocker, share_bar
from peerupgrade.cli.show import (
    age,
    moment,
    plain,
    print_json,
    print_message,
    print_pairs,
    print_table,
    span,
)
from peerupgrade.cli.strategy import AS_IT_IS, Chosen, strategy_words
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.cli.who import By, who
from peerupgrade.errors import ConfigError, ExitCode, UnavailableError

_AGAIN_S = 0.5
# Once it has paused by itself a person has to say how it goes on.
_DECIDE, _TOO_MANY = ("step_failed", "step_unknown", "unhealthy_after"), "failures"

_Reason = Annotated[str, Parameter(help="for the history.", show_default=False)]
_Wait = Annotated[
    bool,
    Parameter(
        negative="", show_default=False, help="until it ends; interrupted, only the waiting ends."
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Scope:
    """What a rollout is about, beside the version.

    Attributes:
        skip: leave this node out; may be repeated.
        lowest_supported: by that version; else as nodes say that have it.
    """

    skip: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    lowest_supported: Annotated[str, Parameter(show_default=False)] = ""

    def given(self) -> Json:
        """As the node takes it."""
        found: Json = {"skip": [*self.skip]}
        if self.lowest_supported:
            found["lowest_supported"] = self.lowest_supported
        return found


EVERYBODY = Scope()


def start(
    version: Annotated[str, Parameter(help="that every node gets.")],
    /,
    *,
    chosen: Chosen = AS_IT_IS,
    scope: Scope = EVERYBODY,
    reason: _Reason = "",
    wait: _Wait = False,
    by: By = None,
    target: Target = DEFAULT,
) -> int:
    """Let the cluster bring every node to a version, one after the other.

    On each node: drain, install, restart, verify, undrain, as its settings say
    (`peerupgrade node --help`: --install-command and its like); without an install
    command a person installs, and the rollout waits. A step that fails pauses it.
    The master's own node is the last, after another one has taken over; still later
    come those with the label upgrade=last.

    With --wait the exit code is 0 once it is done, or rolled back because somebody
    wanted that, and 5 if it was aborted, if it went back by itself, or if somebody
    has to say how it goes on.

    For example:

        peerupgrade upgrade plan 2.0
        peerupgrade upgrade start 2.0 --wait
        peerupgrade upgrade start 2.0 --budget 25% --window "mon-fri 22:00-05:00"
        peerupgrade upgrade start 2.0 --canary 1 --bake 1h --on-unhealthy all
    """
    body = {"version": version, "by": who(by), "reason": reason, **scope.given(), **chosen.given()}
    return _post(target, "start", body, f"the rollout to {version} begins", wait=wait)


def change(
    *,
    chosen: Chosen = AS_IT_IS,
    reason: _Reason = "",
    by: By = None,
    target: Target = DEFAULT,
) -> int:
    """Let the rollout go on in another way; what is not given stays as it is.

    For example:

        peerupgrade upgrade change --budget 2 --soak 30s
    """
    changes = chosen.given()
    if not changes:
        raise ConfigError(
            "nothing is to be changed",
            hint="give --budget, --soak or the like: peerupgrade upgrade change --help",
        )
    body = {"by": who(by), "reason": reason, **changes}
    return _post(target, "change", body, "the rollout goes on so")


def status(*, wait: _Wait = False, target: Target = DEFAULT) -> int:
    """Show the rollout: what each node does, and what is awaited.

    With --wait the exit code is that of `upgrade start --wait`.

    For example:

        peerupgrade upgrade status
    """
    answer = connect(target).get("/v1/upgrade")
    if wait:
        return _follow(target, answer)
    if target.as_json:
        print_json(answer)
    else:
        _print(answer)
    return ExitCode.OK


def pause(
    *,
    reason: Annotated[str, Parameter(help="shown to everyone who asks why.")],
    by: By = None,
    target: Target = DEFAULT,
) -> int:
    """Let no further node be taken down; those whose turn it is go on.

    For example:

        peerupgrade upgrade pause --reason "looking at n2"
    """
    return _post(target, "pause", {"by": who(by), "reason": reason}, "the rollout is paused")


def resume(
    *, reason: _Reason = "", wait: _Wait = False, by: By = None, target: Target = DEFAULT
) -> int:
    """Go on after a pause.

    For example:

        peerupgrade upgrade resume --wait
    """
    body = {"by": who(by), "reason": reason}
    return _post(target, "resume", body, "the rollout goes on", wait=wait)


def retry(
    name: str,
    /,
    *,
    reason: _Reason = "",
    wait: _Wait = False,
    by: By = None,
    target: Target = DEFAULT,
) -> int:
    """Run the step again that failed on a node, or was cut short; the rollout goes on.

    For example:

        peerupgrade upgrade retry n2
    """
    body = {"name": name, "by": who(by), "reason": reason}
    return _post(target, "retry", body, f"{name} tries again", wait=wait)


def skip_(
    name: str,
    /,
    *,
    reason: _Reason = "",
    wait: _Wait = False,
    by: By = None,
    target: Target = DEFAULT,
) -> int:
    """Leave a node out: it keeps what it has. The rollout goes on.

    If it is down, it comes back.

    For example:

        peerupgrade upgrade skip n2 --reason "its disk is full"
    """
    body = {"name": name, "by": who(by), "reason": reason}
    return _post(target, "skip", body, f"{name} is left out", wait=wait)


def abort(
    *,
    rollback: Annotated[
        bool, Parameter(negative="", show_default=False, help="every node returns to what it had.")
    ] = False,
    reason: _Reason = "",
    wait: _Wait = False,
    by: By = None,
    target: Target = DEFAULT,
) -> int:
    """End the rollout: nodes that are down come back, each keeps what it has.

    With --rollback every node that got the version is taken down once more, with
    the same care, and returns to what it had, the last one first. That is refused
    once the acting version has risen above it.

    For example:

        peerupgrade upgrade abort --rollback --reason "2.0 is too slow" --wait
    """
    body = {"by": who(by), "reason": reason, "rollback": rollback}
    message = "the rollout is rolled back" if rollback else "the rollout is aborted"
    return _post(target, "abort", body, message, wait=wait)


def _post(target: Target, verb: str, body: Json, message: str, *, wait: bool = False) -> int:
    answer = connect(target).post(f"/v1/upgrade/{verb}", body)
    if wait:
        print_message(message)
        return _follow(target, answer)
    if target.as_json:
        print_json(answer)
    else:
        print_message(message)
    return ExitCode.OK


# --- following it ---------------------------------------------------------------------------------


def _follow(target: Target, answer: Json) -> int:
    """Tell how it goes on until it has ended, or somebody must decide."""
    told = ""
    while True:
        rollout = answer["rollout"]
        if answer["live"] and (rollout is None or _undecided(answer)):
            break
        if rollout is None:  # what was known last; the store is asked again
            time.sleep(_AGAIN_S)
            answer = _again(target, answer)
            continue
        line = _line(answer)
        if line != told:
            told = line
            print_message(line)
        time.sleep(_AGAIN_S)
        answer = _again(target, answer)
    if target.as_json:
        print_json(answer)
    else:
        _print(answer)
    done = rollout is None and _as_wanted(answer["ended"])
    return ExitCode.OK if done else ExitCode.NOT_SETTLED


def _as_wanted(ended: Json | None) -> bool:
    """It brought the version, or somebody wanted it back; not if it went back by itself."""
    if ended is None:
        return False
    return ended["outcome"] == "done" or (ended["outcome"] == "rolled back" and not ended["cause"])


def _again(target: Target, known: Json) -> Json:
    """The node that is asked may be the one whose turn it is."""
    try:
        return connect(target).get("/v1/upgrade")
    except UnavailableError:
        return known


def _undecided(answer: Json) -> bool:
    pause = answer["rollout"]["pause"]
    if pause is None:
        return False
    return pause["by"] == _TOO_MANY or any(one["code"] in _DECIDE for one in answer["blockers"])


def _line(answer: Json) -> str:
    """How far it is, and what the nodes do whose turn it is."""
    rollout = answer["rollout"]
    parts = [f"{share_bar(rollout['done'] / max(1, rollout['total']))}"]
    parts += [
        f"{plain(one['name'])} {_doing(one)}"
        for one in rollout["members"]
        if one["state"] == "turn"
    ]
    if rollout["pause"] is not None:
        parts.append(f"paused by {plain(rollout['pause']['by'])}")
    return f"{rollout['version']}: {', '.join(parts)}"


def _doing(member: Json) -> str:
    if member["step"] is None:
        return "begins"
    state = "" if member["step_state"] == "runs" else f" {member['step_state']}"
    return f"{member['step']}{state}"


# --- showing it -----------------------------------------------------------------------------------


def _print(answer: Json) -> None:
    if not answer["live"]:
        print_message(f"as of {moment(answer['now'])}, not live: {answer['note']}")
    print_pairs(_pairs(answer))
    rollout = answer["rollout"]
    if rollout is not None:
        _print_members(rollout, answer["now_ms"])
    for blocker in answer["blockers"]:
        print()
        print_blocker(blocker, answer["now_ms"])


def _print_members(rollout: Json, now_ms: int) -> None:
    print()
    print_table(
        ("NODE", "ZONE", "INSTALLED", "STANDING", "STATE", "STEP", "NOTE"),
        (
            (
                one["name"],
                one["zone"],
                one["installed"],
                one["standing"],
                one["state"],
                _doing(one) if one["state"] == "turn" else "",
                one["note"] or _ails(one["health"], now_ms),
            )
            for one in rollout["members"]
        ),
    )


def _ails(health: Json | None, now_ms: int) -> str:
    if health is None or health["state"] == "healthy":
        return ""
    since = f" for {age(health['since_ms'], now_ms)}" if health["since_ms"] else ""
    return f"{health['state']}{since}: {health['note']}".removesuffix(": ")


def _pairs(answer: Json) -> Iterator[tuple[str, str]]:
    rollout, ended = answer["rollout"], answer["ended"]
    if rollout is None:
        yield "rollout", "none"
    else:
        reason = f": {plain(rollout['reason'])}" if rollout["reason"] else ""
        since = age(rollout["started_at_ms"], answer["now_ms"])
        yield "rollout", f"to {rollout['version']}, by {plain(rollout['by'])}{reason}, for {since}"
        left = rollout["remaining_s"]
        estimate = f", about {span(left)} left" if left else ""
        has = "what they had" if rollout["rollback"] else "it"
        done = f"{rollout['done']} of {rollout['total']} nodes have {has}{estimate}"
        yield "progress", f"{share_bar(rollout['done'] / max(1, rollout['total']))}, {done}"
        yield "strategy", strategy_words(rollout, len(rollout["failed"]))
        if rollout["pause"] is not None:
            yield "paused", hold_text(rollout["pause"], answer["now_ms"])
        if rollout["rollback"]:
            cause = f": {plain(rollout['cause'])}" if rollout["cause"] else ""
            yield "rollback", f"every node returns to what it had, the last one first{cause}"
        if rollout["aborted"]:
            yield "aborted", "the nodes whose turn it is come back"
    if ended is not None:
        skipped = f", without {', '.join(map(plain, ended['skipped']))}" if ended["skipped"] else ""
        cause = f" because {plain(ended['cause'])}" if ended["cause"] else ""
        how = f"{ended['version']} {ended['outcome']}{cause}{skipped}"
        yield "last", f"{how} at {moment(ended['ended_at'])}, took {span(ended['duration_s'])}"
