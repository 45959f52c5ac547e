"""An upgrade before it happens: `upgrade rehearse`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from peerupgrade.cli.client import Json
from peerupgrade.cli.show import plain, print_item, print_json, print_table, span
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.errors import ExitCode

_TIMEOUT_S = 300.0


def rehearse(
    version: Annotated[str, Parameter(help="whose formats the records would get.")],
    /,
    *,
    sample: Annotated[
        int, Parameter(help="records of each collection.", validator=Number(gte=1, lte=100_000))
    ] = 1000,
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
                "-" if one["estimated_s"] is None else span(one["estimated_s"]),
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
