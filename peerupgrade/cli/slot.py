"""The permission to take a node down: `slot take`, `slot return`."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from peerupgrade.cli.client import Client, Json
from peerupgrade.cli.show import print_json, print_message
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.cli.who import By, who
from peerupgrade.errors import ConfigError, RefusedError

_AGAIN_S = 0.5
_PASSING = ("budget_spent", "slot_taken", "slot_in_use", "unverified")  # refused for now

_Wait = Annotated[bool, Parameter(negative="", show_default=False, help="as long as it takes.")]


def take(
    name: str,
    /,
    *,
    budget: Annotated[
        int, Parameter(help="so many may be down at once.", validator=Number(gte=1))
    ] = 1,
    wait: _Wait = False,
    by: By = None,
    target: Target = DEFAULT,
) -> None:
    """Ask whether a node may be taken down, so that no two scripts take down two.

    The slot outlives whoever asked: asked again by the same, the answer is the
    same. Whatever is down for another reason counts, too.

    For example:

        peerupgrade slot take n3 --wait
        systemctl restart myapp
        peerupgrade slot return n3 --wait
    """
    body = {"name": name, "by": who(by), "budget": budget}
    answer = _post(connect(target), "/v1/slot/take", body, wait=wait)
    _say(target, answer, f"{name} may be taken down")


def give_back(
    name: str,
    /,
    *,
    unused: Annotated[
        bool, Parameter(negative="", show_default=False, help="it was not taken down.")
    ] = False,
    gone: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="it has left and does not come back."),
    ] = False,
    wait: _Wait = False,
    by: By = None,
    target: Target = DEFAULT,
) -> None:
    """Give a slot back. That is refused until the node was down and operates again.

    For example:

        peerupgrade slot return n3 --wait
    """
    if unused and gone:
        raise ConfigError("--unused and --gone exclude each other", hint="give one of them")
    outcome = "unused" if unused else "gone" if gone else "up"
    body: Json = {"name": name, "by": who(by), "outcome": outcome}
    answer = _post(connect(target), "/v1/slot/return", body, wait=wait)
    _say(target, answer, f"the slot of {name} is free")


def _post(client: Client, path: str, body: Json, *, wait: bool) -> Json:
    told = ""
    while True:
        try:
            return client.post(path, body)
        except RefusedError as refusal:
            if not wait or refusal.rule not in _PASSING:
                raise
            if str(refusal) != told:
                told = str(refusal)
                print_message(f"waiting: {told}")
        time.sleep(_AGAIN_S)


def _say(target: Target, answer: Json, message: str) -> None:
    if target.as_json:
        print_json(answer)
    else:
        print_message(message)
