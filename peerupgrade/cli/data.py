"""Shared data: `data show`, `pause`, `resume`, `retry`, `skip`, `delete`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from peerupgrade.cli.cluster import progress_text
from peerupgrade.cli.show import plain, print_json, print_message, print_pairs
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.cli.who import By, who

_Collection = Annotated[str, Parameter(help="name of the collection.")]
_Key = Annotated[
    str, Parameter(help="of one record; else all that are parked.", show_default=False)
]


def show(*, target: Target = DEFAULT) -> None:
    """Show every collection: how many records, in which format, and how long it will take.

    For example:

        peerupgrade data show
    """
    collections = connect(target).get("/v1/cluster")["collections"] or []
    if target.as_json:
        print_json({"collections": collections})
    elif collections:
        print_pairs((plain(one["name"]), progress_text(one)) for one in collections)
    else:
        print("there is no shared data")


def pause(
    *,
    reason: Annotated[str, Parameter(help="shown to everyone who asks why.")],
    by: By = None,
    target: Target = DEFAULT,
) -> None:
    """Keep the conversion of shared data from going on; everything else does.

    For example:

        peerupgrade data pause --reason "peak hour"
    """
    answer = connect(target).post("/v1/data/pause", {"by": who(by), "reason": reason})
    if target.as_json:
        print_json(answer)
    else:
        print_message("the conversion of shared data waits until it is resumed")


def resume(*, by: By = None, target: Target = DEFAULT) -> None:
    """Let the conversion of shared data go on from where it stopped.

    For example:

        peerupgrade data resume
    """
    answer = connect(target).post("/v1/data/resume", {"by": who(by)})
    if target.as_json:
        print_json(answer)
    else:
        print_message("resumed")


def retry(
    collection: _Collection, key: _Key = "", *, by: By = None, target: Target = DEFAULT
) -> None:
    """Convert parked records again, after the codec was mended.

    For example:

        peerupgrade data retry notes
    """
    _resolve(collection, key, "retry", who(by), target)


def skip(
    collection: _Collection, key: _Key = "", *, by: By = None, target: Target = DEFAULT
) -> None:
    """Set parked records aside, unconverted: no program sees them any more.

    They are kept in the store, in the hash `skipped:COLLECTION` of the cluster.

    For example:

        peerupgrade data skip notes monday
    """
    _resolve(collection, key, "skip", who(by), target)


def delete(
    collection: _Collection, key: _Key = "", *, by: By = None, target: Target = DEFAULT
) -> None:
    """Remove parked records for good.

    For example:

        peerupgrade data delete notes monday
    """
    _resolve(collection, key, "delete", who(by), target)


def _resolve(collection: str, key: str, verdict: str, by: str, target: Target) -> None:
    body = {"collection": collection, "key": key, "verdict": verdict, "by": by}
    answer = connect(target).post("/v1/data/resolve", body)
    if target.as_json:
        print_json(answer)
    else:
        print_message(f"{verdict}: {answer['count']} of the parked records")
