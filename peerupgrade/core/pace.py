"""How fast a conversion goes, so that the application does not feel it.

Theory of operation: one number, records per second, grows slowly while the application's own
commands take about as long as at rest, and is halved as soon as they take clearly longer. Shares
are as small as the rate asks for, because one share occupies the event loop and the server at once.
A process whose application says nothing cannot know how it feels: it works a third of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

_RATE_MIN, _RATE_MAX = 200.0, 200_000.0
_RATE_FIRST = 2_000.0
_FASTER, _SLOWER = 1.15, 0.5
_FELT_MAX = 1.4  # times the latency at rest
_SHARE_S = 0.01
_SHARE_MIN, _SHARE_MAX = 10, 500
_IDLE_SHARES = 2.0  # pauses, in lengths of a share, where nothing is felt


@dataclass(frozen=True, slots=True)
class Felt:
    """The 95th percentile of the application's latency, in seconds; 0: it asked nothing."""

    recent_s: float = 0.0
    rest_s: float = 0.0


@dataclass(slots=True)
class Pace:
    """`full`: as fast as it goes, whatever the application feels."""

    full: bool = False
    rate_per_s: float = _RATE_FIRST

    @property
    def share_records(self) -> int:
        """About how many records to look at for one share."""
        if self.full:
            return _SHARE_MAX
        return max(_SHARE_MIN, min(_SHARE_MAX, round(self.rate_per_s * _SHARE_S)))

    def pause_s(self, records: int, took_s: float, felt: Felt) -> float:
        """How long to wait after a share of so many records that took so long."""
        if self.full:
            return 0.0
        if not felt.rest_s:
            return took_s * _IDLE_SHARES
        slower = felt.recent_s > felt.rest_s * _FELT_MAX
        rate = self.rate_per_s * (_SLOWER if slower else _FASTER)
        self.rate_per_s = max(_RATE_MIN, min(_RATE_MAX, rate))
        return max(0.0, records / self.rate_per_s - took_s)
