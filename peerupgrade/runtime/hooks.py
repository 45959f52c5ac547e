"""What an application does when the version changes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from peerupgrade.core.versions import Version, parse_version

OnActing: TypeAlias = Callable[[str, str | None], Awaitable[None] | None]
Before: TypeAlias = Callable[[], Awaitable[None] | None]


class Hooks:
    """Callbacks in the order in which they were registered."""

    def __init__(self) -> None:
        self._on_acting: list[OnActing] = []
        self._before: dict[Version, list[Before]] = {}

    def on_acting(self, callback: OnActing) -> OnActing:
        """Run `callback(version, previous)` before the node operates at a version."""
        self._on_acting.append(callback)
        return callback

    def before(self, version: str) -> Callable[[Before], Before]:
        """Run a step, on the master alone, before the acting version rises to `version`."""
        steps = self._before.setdefault(parse_version(version), [])

        def register(step: Before) -> Before:
            steps.append(step)
            return step

        return register

    @property
    def before_versions(self) -> frozenset[Version]:
        """The versions that have steps."""
        return frozenset(self._before)

    async def switch(self, version: Version, previous: Version | None) -> None:
        """Run all callbacks; the first that fails ends it with its exception."""
        for callback in self._on_acting:
            await _finish(callback(str(version), str(previous) if previous else None))

    async def run_before(self, version: Version) -> None:
        """Run all steps; the first that fails ends it with its exception."""
        for step in self._before.get(version, []):
            await _finish(step())


async def _finish(result: Awaitable[None] | None) -> None:
    if inspect.isawaitable(result):
        await result
