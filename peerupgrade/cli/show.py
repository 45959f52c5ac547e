"""How answers look on a terminal.

Names, reasons and exceptions were written by others: nothing in them may steer the terminal, so
whatever is shown goes through `plain`, and none of it is read as markup.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def plain(value: object) -> str:
    """Text without control characters; "-" for what is not known or empty."""
    if value is None or value == "":
        return "-"
    return "".join(
        repr(char)[1:-1] if unicodedata.category(char) == "Cc" else char for char in str(value)
    )


def span(seconds: float) -> str:
    """A length of time in its two largest units: `2h 5m`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    rest = round(seconds)
    counts = []
    for unit, length_s in _UNITS:
        count, rest = divmod(rest, length_s)
        counts.append((count, unit))
    while counts[0][0] == 0:
        counts.pop(0)
    return " ".join(f"{count}{unit}" for count, unit in counts[:2] if count)


def age(since_ms: int | None, now_ms: int) -> str:
    """How long ago it was."""
    return "-" if since_ms is None else span((now_ms - since_ms) / 1000)


def moment(iso_time: str | None) -> str:
    """A time to the second, for people; in UTC."""
    return "-" if iso_time is None else iso_time[:19].replace("T", " ") + "Z"


def print_json(value: dict[str, Any]) -> None:
    """For programs."""
    print(json.dumps(value, indent=2))


def print_message(text: str) -> None:
    """For people, beside the data."""
    print(f"peerupgrade: {plain(text)}", file=sys.stderr)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    _print(table)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under headings; what does not fit goes on in the next line."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell), overflow="fold") for cell in row))
    _print(table)


def print_item(head: str, lines: Iterable[str]) -> None:
    """A heading with lines under it that may be long."""
    _print(Text(head, style="bold"), *(Padding(Text(line), (0, 0, 0, 4)) for line in lines))


def _print(*renderables: RenderableType) -> None:
    console = Console(highlight=False, markup=False)
    with console.capture() as captured:
        for renderable in renderables:
            console.print(renderable)
    # The library fills lines up with spaces, which nobody wants in a file or a mail.
    for line in captured.get().splitlines():
        print(line.rstrip())
