"""The machine's clock that also counts while the machine sleeps."""

from __future__ import annotations

import time


class BoottimeClock:
    """`ports.Clock`. A lease must end during a suspension of the machine, too."""

    def now_s(self) -> float:
        """Seconds since the machine started; where the platform has no such clock, monotonic."""
        clock_id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return time.clock_gettime(clock_id)


def unix_ms() -> int:
    """The wall clock, only ever shown to people."""
    return time.time_ns() // 1_000_000
