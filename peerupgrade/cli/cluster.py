"""The cluster: `status`, `why`, `history`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from peerupgrade.cli.client import Json
from peerupgrade.cli.show import (
    age,
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

_BAR_CHARS = 20


def status(*, target: Target = DEFAULT) -> None:
    """Show the cluster on one screen.

    For example:

        peerupgrade status
        peerupgrade status --cluster blue -o json
    """
    client = connect(target)
    cluster = client.get("/v1/cluster")
    if target.as_json:
        print_json(cluster)
    else:
        name = f"{client.cluster}, asked of" if client.cluster else "as seen by"
        print_pairs((("cluster", f"{name} {plain(cluster['asked'])}"), *_status_lines(cluster)))


def why(*, target: Target = DEFAULT) -> int:
    """Say why the upgrade has not finished: every reason, and what would remove it.

    The exit code is 5 if there is a reason, and 0 if nothing is unfinished.

    For example:

        peerupgrade why
        until peerupgrade why -o json > why.json; do sleep 5; done
    """
    ledger = connect(target).get("/v1/why")
    blockers = ledger["blockers"]
    if target.as_json:
        print_json(ledger)
    else:
        if not ledger["live"]:
            print_message(f"as of {moment(ledger['now'])}, not live: {ledger['note']}")
        for blocker in blockers:
            print_blocker(blocker, ledger["now_ms"])
        if not blockers:
            print("nothing stands in the way")
    return ExitCode.NOT_SETTLED if blockers else ExitCode.OK


def history(
    *,
    count: Annotated[
        int, Parameter(help="how many entries, at most.", validator=Number(gte=1, lte=1000))
    ] = 20,
    target: Target = DEFAULT,
) -> None:
    """List the committed changes, newest first: when, who, and what they were decided from.

    For example:

        peerupgrade history --count 5
    """
    answer = connect(target).get("/v1/history", count=count)
    if target.as_json:
        print_json(answer)
        return
    print_table(
        ("TIME", "REV", "EPOCH", "KIND", "BY", "ACTING", "DECIDED FROM"),
        (
            (
                moment(entry["at"]),
                entry["revision"],
                entry["epoch"],
                entry["kind"],
                entry["by"],
                _change(entry["before"], entry["after"]),
                entry["inputs"],
            )
            for entry in answer["entries"]
        ),
    )


def _change(before: str | None, after: str | None) -> str:
    return plain(after) if before == after else f"{plain(before)} -> {plain(after)}"


def print_blocker(blocker: Json, now_ms: int) -> None:
    """One reason, since when, the evidence and the remedy."""
    since = "" if blocker["since_ms"] is None else f", for {age(blocker['since_ms'], now_ms)}"
    subject = f" {plain(blocker['subject'])}" if blocker["subject"] else ""
    print_item(
        f"{plain(blocker['code'])}{subject}{since}",
        (plain(blocker["evidence"]), f"-> {plain(blocker['remedy'])}"),
    )


def _status_lines(cluster: Json) -> Iterator[tuple[str, str]]:
    now_ms = cluster["now_ms"]
    if not cluster["live"]:
        yield "not live", f"as of {moment(cluster['now'])}: {plain(cluster['note'])}"
    if cluster["verified"] is False:
        yield "store", "changed, and not verified yet: nothing rises, nobody joins"
    raising = f", raising to {cluster['raising_to']}" if cluster["raising_to"] else ""
    yield "acting", f"{plain(cluster['acting'])}{raising}"
    yield "data", plain(cluster["data"])
    for one in cluster["collections"] or ():
        yield f"data {plain(one['name'])}", progress_text(one)
    for one in cluster["steps"] or ():
        yield one["phase"], _step_text(one)
    if cluster["pause"] is not None:
        yield "paused", f"conversion: {hold_text(cluster['pause'], now_ms)}"
    yield "settled", "yes" if cluster["settled"] else "no"
    yield "master", f"{plain(cluster['master'])} (epoch {cluster['epoch']})"
    yield from _upgrade_lines(cluster, now_ms)
    if cluster["hold"] is not None:
        yield "hold", hold_text(cluster["hold"], now_ms)
    yield "members", _members_text(cluster)
    count = cluster["blockers"]
    what = "blocker" if count == 1 else "blockers"
    yield "blockers", f"{count} {what}: peerupgrade why" if count else "none"


def _upgrade_lines(cluster: Json, now_ms: int) -> Iterator[tuple[str, str]]:
    upgrade, completion = cluster["upgrade"], cluster["completion"]
    if upgrade is not None:
        yield (
            "upgrade",
            f"from {plain(upgrade['before'])}, in progress for"
            f" {age(upgrade['started_at_ms'], now_ms)} (since {moment(upgrade['started_at'])})",
        )
    if completion is not None:
        yield (
            "completed",
            f"{plain(completion['before'])} -> {plain(completion['version'])} at"
            f" {moment(completion['ended_at'])}, took {span(completion['duration_s'])}",
        )


def progress_text(one: Json) -> str:
    """One collection: a bar while it is being converted, and what needs somebody."""
    parts = [f"{one['records']} records"]
    if one["left"] or one["parked"]:
        parts.append(f"{share_bar(one['done'])} in format {plain(one['format'])}")
    else:
        parts.append(f"all in format {plain(one['format'])}")
    if one["remaining_s"] is not None:
        parts.append(f"about {span(one['remaining_s'])} left")
    parts += [f"{one[what]} {what}" for what in ("parked", "skipped") if one[what]]
    return ", ".join(parts)


def share_bar(share: float) -> str:
    """A bar and percent; `share`: from 0 to 1."""
    done = int(share * _BAR_CHARS)
    return f"[{'#' * done}{'.' * (_BAR_CHARS - done)}] {share:.0%}"


def _step_text(one: Json) -> str:
    """One of the application's own steps."""
    parts = [f"{plain(one['version'])} {plain(one['name'])}: {share_bar(one['done'])}"]
    if one["failure"]:
        parts.append(f"failed: {plain(one['failure'])}")
    elif one["remaining_s"] is not None:
        parts.append(f"about {span(one['remaining_s'])} left")
    return ", ".join(parts)


def hold_text(hold: Json, now_ms: int) -> str:
    """Why, who, since when and until when."""
    until = f", until {moment(hold['until'])}" if hold["until"] else ""
    return f"{plain(hold['reason'])} ({plain(hold['by'])}, for {age(hold['at_ms'], now_ms)}{until})"


def _members_text(cluster: Json) -> str:
    if cluster["members"] is None:
        return "not known"
    versions = ", ".join(
        f"{count} with {version}" for version, count in cluster["members_by_installed"].items()
    )
    return f"{cluster['members']}: {versions}" if versions else "none"
