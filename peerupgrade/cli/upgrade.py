"""An upgrade before it happens: `upgrade plan`, `upgrade rehearse`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from peerupgrade.cli.client import Json
from peerupgrade.cli.cluster import hold_text, print_blocker
from peerupgrade.cli.rollout import EVERYBODY, Scope
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
from peerupgrade.cli.strategy import AS_IT_IS, Chosen, strategy_words
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.errors import ExitCode

_TIMEOUT_S = 300.0
_AFTER = {"place": "", "all": "once all before are back", "resume": "after upgrade resume"}

_Sample = Annotated[
    int, Parameter(help="records of each collection.", validator=Number(gte=1, lte=100_000))
]


def plan(
    version: Annotated[str, Parameter(help="that the nodes would get.")],
    /,
    *,
    chosen: Chosen = AS_IT_IS,
    scope: Scope = EVERYBODY,
    sample: _Sample = 1000,
    target: Target = DEFAULT,
) -> int:
    """Say what an upgrade would do, and what stands in its way; nothing happens.

    With the options of `upgrade start`: the nodes in order and in batches, when the
    first of them may go, what must come first, what would run, and how long it all
    takes. The conversion is rehearsed if the asked node has the codecs. The exit
    code is 0 for go, and 5 if something stands in the way.

    A batch is who is down together if all turns take equally long; a node that is
    back early makes room for the next one, unless that waits for all before it.

    For example:

        peerupgrade upgrade plan 2.0 --lowest-supported 1.0
        peerupgrade upgrade plan 2.0 --budget 25% --one-zone --soak 10m
    """
    body: Json = {"version": version, "sample": sample, **scope.given(), **chosen.given()}
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
    _print_order(answer)
    if answer["collections"]:
        print()
        _print_changes(answer["collections"])
    for blocker in answer["in_the_way"]:
        print()
        print_blocker(blocker, answer["now_ms"])


def _print_order(answer: Json) -> None:
    """Each node in its batch; what it waits for is said of the first one in it."""
    notes, begins = {}, {}
    for batch in answer["batches"]:
        begins[batch["nodes"][0]] = _later(batch["begins_at_ms"] - answer["opens_at_ms"])
        notes[batch["nodes"][0]] = _AFTER[batch["after"]]
    batches = enumerate(answer["batches"], 1)
    of_node = {name: number for number, batch in batches for name in batch["nodes"]}
    turns = [(of_node.get(one["name"], "-"), one) for one in answer["order"]]
    turns += [("done", one) for one in answer["done"]]
    if not turns:
        return
    print()
    print_table(
        ("BATCH", "NODE", "INSTALLED", "ZONE", "STANDING", "BEGINS", "NOTE"),
        (
            (
                batch,
                one["name"],
                one["installed"],
                one["zone"],
                one["standing"],
                begins.get(one["name"], ""),
                ", ".join(filter(None, (notes.get(one["name"]), *_notes(one)))),
            )
            for batch, one in turns
        ),
    )


def _later(ms: int) -> str:
    return f"+{span(ms / 1000)}" if ms else ""


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
    yield "strategy", strategy_words(answer["strategy"])
    if answer["batches"]:
        yield "begins", _begins(answer)
        yield "lasts", _lasts(answer)
    if answer["skipped"]:
        names = ", ".join(map(plain, answer["skipped"]))
        yield "without", f"{names}: the acting version stays until they have it, too"
    nowhere = "no zone" if len(answer["zones"]) > 1 else "capacity"
    for zone in answer["zones"]:
        name = f"zone {plain(zone['zone'])}" if zone["zone"] else nowhere
        serve = f"{zone['serving']} of {zone['members']} members serve"
        yield name, f"{serve}, at most {zone['down_max']} of them down at once"
    for step in answer["steps"]:
        yield step["phase"], f"{step['version']}: steps of {', '.join(map(plain, step['nodes']))}"
    if not answer["done"] and answer["order"]:
        yield "unknown", f"the steps and formats of {answer['version']}: no member has it yet"
    if answer["not_rehearsed"]:
        yield "rehearsal", f"none: {plain(answer['not_rehearsed'])}"


def _begins(answer: Json) -> str:
    wait_ms = answer["opens_at_ms"] - answer["now_ms"]
    if wait_ms <= 0:
        return "at once"
    return f"{moment(answer['opens_at'])}, in {span(wait_ms / 1000)}: the next window"


def _lasts(answer: Json) -> str:
    """What is known: all that the strategy waits for, and turns if there were any before."""
    turns, lasts, turn_s = len(answer["order"]), answer["lasts_s"], answer["turn_s"]
    waits = any(batch["after"] == "resume" for batch in answer["batches"])
    person = ", and until somebody resumes it" if waits else ""
    if turn_s is None:
        least = f"{span(lasts)} and " if lasts else ""
        how_long = "no rollout has shown yet how long one takes"
        return f"{least}{turns} turn{'s'[: turns > 1]}{person}; {how_long}"
    return f"about {span(lasts)}{person}; a turn took {span(turn_s)} in the last rollout"


def _notes(turn: Json) -> Iterator[str]:
    if not turn["answers"]:
        yield "does not answer"
    if turn["slot_by"]:
        yield f"{turn['slot_by']} may take it down"
    if turn["master"]:
        yield "master, hands over first" if turn["hands_over"] else "master"


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
