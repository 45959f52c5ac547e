"""Release 2.0 of the little service: a note has the number of its words, too.

It works with the new format alone. The collection upgrades what it reads, and downgrades what it
writes until 2.0 is active: until then somewhere a release 1.0 may have to read it. NOTES_UNGATED=1
breaks that, to see what it is good for.
"""

from __future__ import annotations

import os

from peerupgrade.data.collection import Collection
from peerupgrade.demo.notes import Json, serve

_UNGATED = os.environ.get("NOTES_UNGATED") == "1"


def upgrade(note: str | Json) -> Json:
    """A note of 1.0 becomes one of 2.0; what an ungated service has left there is one already."""
    return write(note) if isinstance(note, str) else note


def downgrade(note: Json) -> str | Json:
    """The way back."""
    return note if _UNGATED else str(note["text"])


def register(notes: Collection) -> None:
    """How notes are stored, and were before."""
    notes.format("1.0")
    notes.format("2.0", upgrade=upgrade, downgrade=downgrade)


def write(text: str) -> Json:
    """A note."""
    return {"text": text, "words": len(text.split())}


def read(note: Json) -> Json:
    """What a note says."""
    return note


if __name__ == "__main__":
    serve(__file__, register, write, read)
