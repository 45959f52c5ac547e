"""The members: `members`, `exclude`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from peerupgrade.cli.show import age, moment, plain, print_json, print_message, print_table
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.cli.topology import HEADINGS, contact
from peerupgrade.cli.who import By, who


def members(*, target: Target = DEFAULT) -> None:
    """List the members, by name, and which of them answer the asked node.

    Without the store the answer is from gossip, and says so. "Not listed" is who
    gossips and is no member; "unheard" a member that does not gossip with it.

    For example:

        peerupgrade members
        peerupgrade members -o json | jq -r '.members[].name'
    """
    answer = connect(target).get("/v1/members")
    if target.as_json:
        print_json(answer)
        return
    if not answer["live"]:
        print_message(f"as of {moment(answer['now'])}, not live: {answer['note']}")
    print_table(
        ("NAME", "STANDING", "INSTALLED", "OPERATING", "LOWEST", "ROLE", "ADDRESS"),
        (
            (
                member["name"],
                "not listed" if member["listed"] is False else member["standing"],
                member["installed"],
                member["operating"],
                member["lowest_supported"],
                "master" if member["master"] else "",
                member["address"],
            )
            for member in answer["members"]
        ),
    )
    if any(member["condition"] for member in answer["members"]):
        print()
        rows = ((member["name"], *contact(member)) for member in answer["members"])
        print_table(("NAME", *HEADINGS), rows)
        print()
    for stone in answer["excluded"]:
        ago = age(stone["at_ms"], answer["now_ms"])
        print(
            f"{plain(stone['name'])} was excluded {ago} ago by {plain(stone['by'])}:"
            f" {plain(stone['reason'])}"
        )
    for slot in answer["slots"]:
        ago = age(slot["at_ms"], answer["now_ms"])
        print(f"{plain(slot['name'])} may be taken down, by {plain(slot['by'])} since {ago}")


def exclude(
    name: str,
    /,
    *,
    reason: Annotated[str, Parameter(help="shown to everyone.")],
    by: By = None,
    confirm_stopped: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="I made sure that its process does not run."
        ),
    ] = False,
    target: Target = DEFAULT,
) -> None:
    """Remove a member that is gone for good: the upgrade no longer waits for it.

    Its process must not run any more, or it could go on at the old version. A
    member with a lease stops by itself; of any other you say that it has stopped.

    For example:

        peerupgrade exclude n3 --confirm-stopped --reason "its disk is broken"
    """
    answer = connect(target).post(
        "/v1/exclude",
        {"name": name, "by": who(by), "reason": reason, "confirm_stopped": confirm_stopped},
    )
    if target.as_json:
        print_json(answer)
    else:
        print_message(f"{name} is excluded; started again, it is admitted anew")
