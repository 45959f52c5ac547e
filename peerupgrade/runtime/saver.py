"""Writes to disks without holding up the event loop.

A raise waits for these writes. So they have a thread of their own, one for all nodes of a process:
they never wait for what an application does in the loop's threads, and handing one over is cheap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeAlias

Work: TypeAlias = Callable[[], None]
Ended: TypeAlias = Callable[[Exception | None], object]


class Saver:
    """A thread that does one thing after another; it begins with the first."""

    def __init__(self) -> None:
        self._due: SimpleQueue[tuple[Work, Ended]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, work: Work, ended: Ended) -> None:
        """Do `work` in its turn, then tell `ended`, in the same thread, why it failed or None."""
        self._due.put((work, ended))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="peerupgrade-disk", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            work, ended = self._due.get()
            error: Exception | None = None
            try:
                work()
            except Exception as failed:  # noqa: BLE001 - whoever is told decides
                error = failed
            with suppress(RuntimeError):  # the event loop that would be told is closed
                ended(error)


SAVER = Saver()
