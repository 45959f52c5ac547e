"""Release 1.0 of the little service: a note is stored as its text."""

from __future__ import annotations

from peerupgrade.demo.notes import IsActive, Json, serve


def write(text: str, _is_active: IsActive) -> object:
    """How a note is stored."""
    return text


def read(stored: object) -> Json:
    """What a stored note says."""
    if not isinstance(stored, str):
        raise ValueError(f"release 1.0 cannot read {stored!r}")  # noqa: TRY004 - it is data
    return {"text": stored}


if __name__ == "__main__":
    serve(__file__, write, read)
