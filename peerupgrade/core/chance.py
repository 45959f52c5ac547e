"""Where chance comes in: from outside, so that one seed can decide everything."""

from __future__ import annotations

from typing import Protocol


class Rng(Protocol):
    """What the core needs of `random.Random`."""

    def uniform(self, a: float, b: float) -> float:
        """A number between the two."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """`k` random bits."""
        ...
