"""Waiting for a condition that every input may bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Waiters:
    """Futures that are done when their condition holds, even if it does only for a moment."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until `reached()`."""
        if reached():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = reached
        try:
            await future
        finally:
            del self._waiting[future]

    def look(self) -> None:
        """Something happened: wake those whose condition holds now."""
        for future, reached in self._waiting.items():
            if not future.done() and reached():
                future.set_result(None)
