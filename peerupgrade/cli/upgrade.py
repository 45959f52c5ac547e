"""An upgrade before it happens: `upgrade plan`, `upgrade rehearse`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from peerupgrade.cli.client import Json
from peerupgrade.cli.cluster import hold_text, print_blocker
from peerupgrade.cli.show import (
    moment,
    plain,
    print_item,
    print_json,
    print_message,
    print_pairs,
    print_table,
    span,
)
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.errors import ExitCode

_TIMEOUT_S = 300.0

_Sample = Annotated[
    int, Parameter(help="records of each collection.", validator=Number(gte=1, lte=100_000))
]


def plan(
    version: Annotated[str, Parameter(help="that the nodes would get.")],
    /,
    *,
    lowest_supported: Annotated[
        str | None,
        Parameter(help="by that version; else as nodes say that have it.", show_default=False),
    ] = None,
    sample: _Sample = 1000,
    target: Target = DEFAULT,
) -> int:
    """Say what an upgrade would do, and what stands in its way; nothing happens.

    The order of the nodes, what must come first, what would run, and how long the
    data takes: that is rehearsed if the asked node has the codecs. The exit code is
    0 for go, and 5 if something stands in the way.

    For example:

        peerupgrade upgrade plan 2.0 --lowest-supported 1.0
    """
    body: Json = {"version": version, "sample": sample}
    if lowest_supported is not None:
        body["lowest_supported"] = lowest_supported
    answer = connect(target).post("/v1/upgrade/plan", body, timeout_s=_TIMEOUT_S)
    if target.as_json:
        print_json(answer)
    else:
        _print_plan(answer)
    return ExitCode.OK if answer["ok"] else ExitCode.NOT_SETTLED


def _print_plan(answer: Json) -> None:
    if not answer["live"]:
        print_message(f"as of {moment(answer['now'])}, not live: {answer['note']}")
    print_pairs(_plan_lines(answer))
    turns = [*enumerate(answer["order"], 1), *(("done", one) for one in answer["done"])]
    if turns:
        print()
        print_table(
            ("TURN", "NODE", "INSTALLED", "ZONE", "STANDING", "NOTE"),
            (
                (turn, one["name"], one["installed"], one["zone"], one["standing"], _note(one))
                for turn, one in turns
            ),
        )
    if answer["collections"]:
        print()
        _print_changes(answer["collections"])
    for blocker in answer["in_the_way"]:
        print()
        print_blocker(blocker, answer["now_ms"])


def _plan_lines(answer: Json) -> Iterator[tuple[str, str]]:
    count = len(answer["in_the_way"])
    what = "reason" if count == 1 else "reasons"
    lowest = answer["lowest_supported"]
    supports = f", which supports {lowest} and newer" if lowest else ""
    yield "upgrade", f"{plain(answer['acting'])} -> {answer['version']}{supports}"
    yield "verdict", f"no-go: {count} {what} below" if count else "go"
    between = answer["in_between"]
    if between is not None and between["exists"]:
        yield (
            "first",
            f"{between['at_least']} or newer, below {between['below']}, that supports"
            f" {between['must_support']}",
        )
    if answer["hold"] is not None:
        yield "hold", hold_text(answer["hold"], answer["now_ms"])
    nowhere = "no zone" if len(answer["zones"]) > 1 else "capacity"
    for zone in answer["zones"]:
        name = f"zone {plain(zone['zone'])}" if zone["zone"] else nowhere
        yield name, f"{zone['serving']} of {zone['members']} members serve"
    for step in answer["steps"]:
        yield step["phase"], f"{step['version']}: steps of {', '.join(map(plain, step['nodes']))}"
    if not answer["done"] and answer["order"]:
        yield "unknown", f"the steps and formats of {answer['version']}: no member has it yet"
    if answer["not_rehearsed"]:
        yield "rehearsal", f"none: {plain(answer['not_rehearsed'])}"


def _note(turn: Json) -> str:
    notes = []
    if not turn["answers"]:
        notes.append("does not answer")
    if turn["slot_by"]:
        notes.append(f"{turn['slot_by']} may take it down")
    if turn["master"]:
        notes.append("master, hands over first" if turn["hands_over"] else "master")
    return ", ".join(notes)


def _print_changes(collections: list[Json]) -> None:
    rehearsed = [one["rehearsal"] for one in collections if one["rehearsal"] is not None]
    if rehearsed:
        _print(rehearsed)
    counted = [one for one in collections if one["rehearsal"] is None]
    if counted:
        print_table(
            ("COLLECTION", "TO", "RECORDS", "CONVERT", "TIME"),
            (
                (
                    one["name"],
                    one["format"],
                    one["records"],
                    one["to_convert"],
                    _time(one["estimated_s"]),
                )
                for one in counted
            ),
        )


def _time(estimated_s: float | None) -> str:
    return "-" if estimated_s is None else span(estimated_s)


def rehearse(
    version: Annotated[str, Parameter(help="whose formats the records would get.")],
    /,
    *,
    sample: _Sample = 1000,
    target: Target = DEFAULT,
) -> int:
    """Convert a sample of the live records, and back, into nothing: does each come through?

    It runs in the program that has the codecs: ask a node that embeds it, with the
    version installed. The exit code is 5 if a record fails. The time is that of one
    node at full pace.

    For example:

        peerupgrade upgrade rehearse 2.0 --node app-1
    """
    body = {"version": version, "sample": sample}
    answer = connect(target).post("/v1/upgrade/rehearse", body, timeout_s=_TIMEOUT_S)
    collections = answer["collections"]
    if target.as_json:
        print_json(answer)
    else:
        _print(collections)
    return ExitCode.OK if answer["ok"] else ExitCode.NOT_SETTLED


def _print(collections: list[Json]) -> None:
    if not collections:
        print("there is no shared data")
        return
    print_table(
        ("COLLECTION", "TO", "RECORDS", "CONVERT", "SAMPLE", "FAILED", "BACK", "BYTES", "TIME"),
        (
            (
                one["name"],
                one["format"],
                one["records"],
                one["to_convert"],
                one["sampled"],
                one["failed"],
                "yes" if one["way_back"] else "no",
                _sizes(one),
                _time(one["estimated_s"]),
            )
            for one in collections
        ),
    )
    for one in collections:
        for failure in one["failures"]:
            head = f"{plain(one['name'])}/{plain(failure['key'])}, in format {failure['format']}"
            print_item(head, (plain(failure["error"]),))


def _sizes(one: Json) -> str:
    """Of a payload, on average."""
    converted = one["converted"]
    if not converted:
        return "-"
    return f"{one['bytes_before'] / converted:.0f} -> {one['bytes_after'] / converted:.0f}"
