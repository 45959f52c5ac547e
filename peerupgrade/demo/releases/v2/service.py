"""Release 2.0 of the little service: a note is stored with the number of its words.

It reads both formats always, and writes the new one only once 2.0 is active: until then somewhere
a release 1.0 may have to read it. NOTES_UNGATED=1 leaves that out, to see what it is good for.
"""

from __future__ import annotations

import os

from peerupgrade.demo.notes import IsActive, Json, serve

_UNGATED = os.environ.get("NOTES_UNGATED") == "1"


def write(text: str, is_active: IsActive) -> object:
    """How a note is stored."""
    if _UNGATED or is_active("2.0"):
        return {"text": text, "words": len(text.split())}
    return text


def read(stored: object) -> Json:
    """What a stored note says; `words` only if it was written in the new format."""
    return stored if isinstance(stored, dict) else {"text": stored}


if __name__ == "__main__":
    serve(__file__, write, read)
