"""Virtual time: a heap of things to do."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Agenda:
    """What happens next. Equal times happen in the order in which they were planned."""

    now_s: float = 0.0
    count: int = 0
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Plan an action; never in the past."""
        self.count += 1
        at_s = max(self.now_s, time_s)
        heapq.heappush(self._heap, (at_s, self.count, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Plan an action in a while."""
        self.at(self.now_s + delay_s, action)

    def step(self, until_s: float) -> bool:
        """Do the next thing that is due by `until_s`; False when there is none."""
        if not self._heap or self._heap[0][0] > until_s:
            self.now_s = max(self.now_s, until_s)
            return False
        self.now_s, _, action = heapq.heappop(self._heap)
        action()
        return True
