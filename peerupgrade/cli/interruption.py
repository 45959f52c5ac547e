"""A polite end of the commands that start processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM is a KeyboardInterrupt meanwhile, so that no process of ours is left behind.

    Not from the start of the command: an exception that a signal raises during an import may be
    lost, and the signal with it.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
