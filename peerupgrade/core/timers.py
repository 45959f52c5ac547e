"""Timers as effects: setting one again makes the older one void."""

from __future__ import annotations

from dataclasses import dataclass, field

from peerupgrade.core.effects import SetTimer, Timer, TimerFired


@dataclass(slots=True)
class Timers:
    """The newest token of each timer."""

    _tokens: dict[Timer, int] = field(default_factory=dict)

    def set(self, timer: Timer, at_s: float) -> SetTimer:
        """A timer that replaces the one of its kind."""
        token = self._tokens.get(timer, 0) + 1
        self._tokens = {**self._tokens, timer: token}
        return SetTimer(timer, at_s, token)

    def due(self, fired: TimerFired) -> bool:
        """False when it was replaced meanwhile."""
        return self._tokens.get(fired.timer) == fired.token

    def cancel(self, timer: Timer) -> None:
        """Make the timer void."""
        self._tokens = {**self._tokens, timer: self._tokens.get(timer, 0) + 1}
