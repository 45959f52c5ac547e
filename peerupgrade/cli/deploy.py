"""For a build pipeline: `can-deploy`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from peerupgrade.cli.client import Json
from peerupgrade.cli.show import plain, print_json
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.errors import ExitCode


def can_deploy(
    version: Annotated[str, Parameter(help="that the node would have installed.")],
    /,
    *,
    lowest_supported: Annotated[str, Parameter(help="by that version; 0 for any.")],
    target: Target = DEFAULT,
) -> int:
    """Ask whether a node with this version would be admitted now, and would serve.

    It is decided by the rules of admission, and worded as they word it. The exit
    code is 0 if a new node is admitted, and 5 if it is not.

    For example:

        peerupgrade can-deploy 2.0 --lowest-supported 1.0
    """
    client = connect(target)
    answer = client.get("/v1/can-deploy", version=version, lowest_supported=lowest_supported)
    if target.as_json:
        print_json(answer)
    else:
        _print(answer)
    return ExitCode.OK if answer["ok"] else ExitCode.NOT_SETTLED


def _print(answer: Json) -> None:
    if answer["ok"]:
        print(f"a new node with {answer['version']} is admitted, and {_does(answer['new_node'])}")
    else:
        print(plain(answer["error"]))
        print(f"-> {plain(answer['hint'])}")
    print(f"a member that gets it {_does(answer['member'])}")


def _does(entry: Json) -> str:
    match entry["standing"], entry["rule"]:
        case "serving", _:
            return "serves"
        case "standby", "forming":
            return "stands by until the cluster has formed"
        case "standby", "downgrade_unconfirmed":
            return "stands by until all have confirmed the downgrade"
        case "standby", _:
            return "stands by: it counts, and does not operate"
        case _:
            return "is not admitted either"
