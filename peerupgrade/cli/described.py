"""What a dataclass says of its fields, for the help of the options that are made from them."""

from __future__ import annotations

import re

_DESCRIPTION = re.compile(
    r"^        (\w[\w, ]*): (.+?)(?=^        \w|\Z)", re.MULTILINE | re.DOTALL
)


def descriptions(kind: type) -> dict[str, str]:
    """Name -> text, from the docstring of a dataclass."""
    found = {}
    for names, text in _DESCRIPTION.findall(kind.__doc__ or ""):
        for name in names.split(", "):
            found[name] = " ".join(text.split())
    return found
