"""What an application does when the version changes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from peerupgrade.core.versions import Version

OnActing: TypeAlias = Callable[[str, str | None], Awaitable[None] | None]


class Hooks:
    """Callbacks in the order in which they were registered."""

    def __init__(self) -> None:
        self._on_acting: list[OnActing] = []

    def on_acting(self, callback: OnActing) -> OnActing:
        """Run `callback(version, previous)` before the node operates at a version."""
        self._on_acting.append(callback)
        return callback

    async def switch(self, version: Version, previous: Version | None) -> None:
        """Run all callbacks; the first that fails ends it with its exception."""
        for callback in self._on_acting:
            result = callback(str(version), str(previous) if previous else None)
            if inspect.isawaitable(result):
                await result
