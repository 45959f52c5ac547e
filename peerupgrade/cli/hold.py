"""The hold: `hold`, `release`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter

from peerupgrade.cli.show import moment, print_json, print_message
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.cli.who import By, who


def hold(
    *,
    reason: Annotated[str, Parameter(help="shown to everyone who asks why.")],
    for_: Annotated[
        timedelta | None,
        Parameter(name="--for", help="for example 2h or 1h30m; else until it is released."),
    ] = None,
    by: By = None,
    target: Target = DEFAULT,
) -> None:
    """Keep the acting version from rising. Software may be installed meanwhile.

    It is acknowledged only once no failover of the store can forget it.

    For example:

        peerupgrade hold --reason "month-end closing" --for 2h
    """
    body: dict[str, object] = {"by": who(by), "reason": reason}
    if for_ is not None:
        body["for_s"] = for_.total_seconds()
    answer = connect(target).post("/v1/hold", body)
    if target.as_json:
        print_json(answer)
    else:
        cluster = answer["cluster"]
        until = moment((cluster["hold"] or {}).get("until"))
        end = "it is released" if until == "-" else until
        print_message(f"the acting version stays at {cluster['acting']} until {end}")


def release(
    *,
    reason: Annotated[str, Parameter(help="for the history.", show_default=False)] = "",
    by: By = None,
    target: Target = DEFAULT,
) -> None:
    """End a hold: the acting version rises as soon as nothing else stands in the way.

    For example:

        peerupgrade release
    """
    answer = connect(target).post("/v1/release", {"by": who(by), "reason": reason})
    if target.as_json:
        print_json(answer)
    else:
        print_message("released")
