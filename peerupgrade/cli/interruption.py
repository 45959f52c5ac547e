"""A polite end of the commands that start processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptions() -> Iterator[Callable[[], None]]:
    """SIGINT and SIGTERM are only noted meanwhile, so that no process of ours is left behind.

    An exception that a signal raises wherever the interpreter happens to be may be lost, in an
    import or a destructor, and the signal with it.

    Yields:
        Raises KeyboardInterrupt once one has come; to be called now and then.
    """
    came = False

    def note(_number: int, _frame: object) -> None:
        nonlocal came
        came = True

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
