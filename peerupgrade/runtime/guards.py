"""Operations under way, by the version that they began under."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from peerupgrade.core.versions import Version


class Guards:
    """Counts guarded operations, and tells when those of other versions have ended (R15)."""

    def __init__(self) -> None:
        self._running: Counter[Version] = Counter()
        self._changed = asyncio.Event()

    @contextmanager
    def running(self, version: Version) -> Iterator[None]:
        """Count one operation."""
        self._running[version] += 1
        try:
            yield
        finally:
            self._running[version] -= 1
            if not self._running[version]:
                del self._running[version]
            self._changed.set()

    async def drained(self, keep: Version | None) -> None:
        """Wait until no operation of another version than `keep` is under way."""
        while any(version != keep for version in self._running):
            self._changed.clear()
            await self._changed.wait()
