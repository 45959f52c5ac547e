"""Whether the program of this node is well, by what its probes say one after the other.

Theory of operation: a probe is sent, its answer waited for, and a while later the next one is sent.
So many that fail one after the other make the program unhealthy, so many that do not make it
healthy again; in between it stays what it was. The store is told of a change, and of nothing else:
of another state at once, of other words of a probe that fails after a while, because they may be
others each time.

After the program was replaced nothing is known of it: what was asked before does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerupgrade.core.effects import Effect, Emit, RunProbes, Timer
from peerupgrade.core.membership import Membership
from peerupgrade.core.record import Health, HealthState
from peerupgrade.core.timers import Timers

_NOTE_CHARS_MAX = 200
_WORDS_S = 10.0  # so long do words stand until others are told


@dataclass(frozen=True, slots=True)
class Probing:
    """When a program is taken for healthy, and when not any more.

    Attributes:
        interval_s: from one answer to the next probe.
        timeout_s: a probe that has no answer by then has failed.
        failures: so many one after the other make it unhealthy.
        successes: so many one after the other make it healthy.
        wait_s: so long may it take, after a turn in a rollout, until it is healthy.
    """

    interval_s: float = 5.0
    timeout_s: float = 2.0
    failures: int = 3
    successes: int = 1
    wait_s: float = 600.0


@dataclass(slots=True)
class Prober:
    """The machine; `probing` is None where nothing is probed."""

    probing: Probing | None
    membership: Membership
    timers: Timers
    _call: int = 0
    _failed: int = 0  # one after the other
    _passed: int = 0
    _told_s: float = 0.0

    def begin(self) -> list[Effect]:
        """Nothing is known from here on."""
        if self.probing is None:
            return []
        self._failed = self._passed = 0
        self.membership.health = Health(HealthState.UNKNOWN)
        return self.look()

    def look(self) -> list[Effect]:
        """It is time."""
        self._call += 1
        return [RunProbes(self._call)]

    def looked(self, now: float, call: int, error: str) -> list[Effect]:
        """A probe was answered; `error`: why it failed, or ""."""
        probing, known = self.probing, self.membership.health
        if probing is None or known is None or call != self._call:
            return []
        self._failed = self._failed + 1 if error else 0
        self._passed = 0 if error else self._passed + 1
        state = known.state
        if self._failed >= probing.failures:
            state = HealthState.UNHEALTHY
        elif self._passed >= probing.successes:
            state = HealthState.HEALTHY
        effects: list[Effect] = [self.timers.set(Timer.HEALTH, now + probing.interval_s)]
        note = " ".join(error.split())[:_NOTE_CHARS_MAX]
        if state is known.state and not self._has_news(now, known, note):
            return effects
        self.membership.health, self._told_s = Health(state, note), now
        if state is not known.state:
            effects.append(Emit(str(state), note))
        return [*effects, *self.membership.step(now)]

    def _has_news(self, now: float, known: Health, note: str) -> bool:
        """It is as ill as before, and the newest probe says something else of it."""
        if known.state is HealthState.HEALTHY or note in ("", known.note):
            return False
        return not known.note or now >= self._told_s + _WORDS_S
