"""How long the application's own commands take: what the pace of a conversion follows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from peerupgrade.core.pace import Felt

_SAMPLES = 256
_SAMPLES_MIN = 20


@dataclass(slots=True)
class Latency:
    """The newest samples, and how it was before a conversion began."""

    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    _rest_s: float = 0.0

    def took(self, seconds: float) -> None:
        """One command was answered."""
        self._recent.append(seconds)

    def felt(self) -> Felt:
        """What came since the last call, beside how it is at rest."""
        recent_s = _tail(self._recent)
        self._recent.clear()
        return Felt(recent_s, self._rest_s)

    def at_rest(self) -> None:
        """Nothing is being converted: so it is at rest."""
        if len(self._recent) >= _SAMPLES_MIN:
            self._rest_s = _tail(self._recent)


def _tail(samples: deque[float]) -> float:
    """The 95th percentile in seconds; 0 without samples."""
    return sorted(samples)[int(len(samples) * 0.95)] if samples else 0.0
