"""The way back to an older acting version: `downgrade plan`, `downgrade start`."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter

from peerupgrade.cli.client import Client, Json
from peerupgrade.cli.show import plain, print_item, print_json, print_message
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.cli.who import By, who
from peerupgrade.errors import ExitCode

_AGAIN_S = 0.5

_Version = Annotated[str, Parameter(help="that the cluster would act at.")]


def plan(version: _Version, /, *, target: Target = DEFAULT) -> int:
    """Say whether the acting version may go back, and what forbids it; nothing happens.

    The exit code is 0 for go, and 5 if something forbids it.

    For example:

        peerupgrade downgrade plan 1.0
    """
    answer = connect(target).post("/v1/downgrade/plan", {"version": version})
    if target.as_json:
        print_json(answer)
    else:
        _print(answer)
    return ExitCode.OK if answer["ok"] else ExitCode.NOT_SETTLED


def _print(answer: Json) -> None:
    found = answer["forbidden_by"]
    verdict = f"no-go: {len(found)} below" if found else "go"
    print(f"downgrade {plain(answer['acting'])} -> {answer['version']}: {verdict}")
    for one in found:
        print()
        print_item(plain(one["rule"]), (plain(one["evidence"]), f"-> {plain(one['remedy'])}"))
    if not found:
        print_message(
            "every node would switch at once; its software stays, and the acting version is held"
        )


def start(
    version: _Version,
    /,
    *,
    reason: Annotated[str, Parameter(help="shown to everyone who asks why.")] = "",
    wait: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="until every node operates at it."),
    ] = False,
    by: By = None,
    target: Target = DEFAULT,
) -> int:
    """Let every node operate at an older version; refused unless nothing forbids it.

    The software that is installed stays. The acting version is held, else it would
    rise again: install older software where it is wanted, or `peerupgrade release`.

    With --wait the exit code is 0 once every node operates at the version, and 5 if
    the master found something that forbids it: the history says what.

    For example:

        peerupgrade downgrade plan 1.0
        peerupgrade downgrade start 1.0 --reason "2.0 is slow" --wait
    """
    client = connect(target)
    body = {"version": version, "by": who(by), "reason": reason}
    cluster = client.post("/v1/downgrade/start", body)["cluster"]
    done = True
    if wait:
        cluster, done = _follow(client, cluster["downgrades"])
    if target.as_json:
        print_json({"cluster": cluster})
    elif not wait:
        print_message(f"the downgrade to {version} is asked for; the master decides in a moment")
    elif done:
        print_message(f"every node operates at {cluster['acting']}, and the acting version is held")
    else:
        print_message("it was refused: peerupgrade history says why")
    return ExitCode.OK if done else ExitCode.NOT_SETTLED


def _follow(client: Client, before: int) -> tuple[Json, bool]:
    """The cluster once the master has refused it (False), or all have confirmed."""
    while True:
        cluster = client.get("/v1/cluster")
        went = cluster["downgrades"] > before
        over = cluster["settled"] if went else cluster["downgrade"] is None
        if cluster["live"] and over:  # else it is what was known last
            return cluster, went
        time.sleep(_AGAIN_S)
