"""Release 1.0 of the little service: a note is its text."""

from __future__ import annotations

from peerupgrade.data.collection import Collection
from peerupgrade.demo.notes import Json, serve


def register(notes: Collection) -> None:
    """How notes are stored."""
    notes.format("1.0")


def write(text: str) -> object:
    """A note."""
    return text


def read(note: object) -> Json:
    """What a note says."""
    if not isinstance(note, str):
        raise ValueError(f"release 1.0 cannot read {note!r}")  # noqa: TRY004 - it is data
    return {"text": note}


if __name__ == "__main__":
    serve(__file__, register, write, read)
