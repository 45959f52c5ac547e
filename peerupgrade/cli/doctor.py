"""What a node depends on: `doctor`."""

from __future__ import annotations

from peerupgrade.cli.show import plain, print_item, print_json
from peerupgrade.cli.target import DEFAULT, Target, connect
from peerupgrade.errors import ExitCode


def doctor(*, target: Target = DEFAULT) -> int:
    """Examine what a node depends on: its store, the lock servers, clocks, versions.

    The exit code is 5 if anything is wrong; a warning alone is not.

    For example:

        peerupgrade doctor --node n2
    """
    answer = connect(target).get("/v1/doctor")
    findings = answer["findings"]
    if target.as_json:
        print_json(answer)
    else:
        for finding in findings:
            hint = (f"-> {plain(finding['hint'])}",) if finding["hint"] else ()
            print_item(
                f"{plain(finding['level'])}: {plain(finding['subject'])}",
                (plain(finding["text"]), *hint),
            )
    wrong = any(finding["level"] == "error" for finding in findings)
    return ExitCode.NOT_SETTLED if wrong else ExitCode.OK
