"""Who is master: Redlock, without its I/O.

Theory of operation: the lock lives on N = 1, 3 or 5 independent servers; server 0 is the store
itself and its vote is needed, because without the store a master can do nothing.

    WAITING    until somebody's lease can have ended
    ACQUIRING  a fresh token is offered to all servers at once; a quorum with the store decides
    CLAIMING   the store checks the token and gives the next epoch: only now is it a mastership
    HOLDING    extended every ttl/3, never made anew; given up before its validity ends

    validity = ttl - elapsed - (1 % of ttl + 2 ms), counted from before the first request

Redlock keeps contention low; it does not make anything safe. The store refuses every write that
does not carry the newest epoch (R1), so a master that was paused need not notice in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from peerupgrade.core.chance import Rng
from peerupgrade.core.effects import CallLock, CallStore, Effect, Part, SetTimer, Timer
from peerupgrade.core.requests import (
    Acquire,
    Beat,
    Claim,
    Claimed,
    Extend,
    LockReply,
    LockRequest,
    Release,
    Reply,
)
from peerupgrade.core.timers import Timers

_DRIFT_RATIO = 0.01
_DRIFT_S = 0.002
_JITTER_S = (0.001, 0.020)
_WAIT_S_MIN = 0.005
_BEAT_LATE_S = 0.1


def validity_s(ttl_s: float, elapsed_s: float) -> float:
    """How long a lock may still be trusted once a quorum has granted it.

    Args:
        ttl_s: asked of every lock server.
        elapsed_s: since before the first request.

    Returns:
        Seconds; 0 or less means: not acquired.
    """
    return ttl_s - elapsed_s - (ttl_s * _DRIFT_RATIO + _DRIFT_S)


def quorum(servers: int) -> int:
    """The smallest majority."""
    return servers // 2 + 1


def lock_timeout_s(ttl_s: float) -> float:
    """How long one lock server may take: a hung one must cost nothing."""
    return min(0.250, ttl_s / 10)


def safety_margin_s(ttl_s: float) -> float:
    """How long before the end of its validity a master steps down."""
    return max(0.050, ttl_s * 0.05)


class Phase(StrEnum):
    """Where a node stands."""

    WAITING = "waiting"
    ACQUIRING = "acquiring"
    CLAIMING = "claiming"
    HOLDING = "holding"


@dataclass(slots=True)
class Mastership:
    """The machine. `epoch` is that of the current mastership, 0 without one."""

    node_id: str
    servers: int
    ttl_s: float
    rng: Rng
    timers: Timers
    phase: Phase = Phase.WAITING
    eligible: bool = False
    epoch: int = 0
    token: str = ""
    deadline_s: float = 0.0
    epoch_known: int = 0  # the highest that the node has ever heard of
    quorum_lost_since_s: float | None = None
    master_seen_s: float | None = None  # when a master was last heard of
    _yields_until_s: float = 0.0
    _round: int = 0
    _started_s: float = 0.0
    _votes: dict[int, LockReply] = field(default_factory=dict)

    @property
    def holding(self) -> bool:
        """True while this node is master."""
        return self.phase is Phase.HOLDING

    @property
    def round(self) -> int:
        """Number of the current round of requests."""
        return self._round

    # --- becoming master --------------------------------------------------------------------------

    def set_eligible(self, now: float, eligible: bool, master: str = "") -> list[Effect]:
        """Only members contend; `master`: the last one that is known of.

        If that is another one it is probably there, and its beat will be heard: a thousand nodes
        that join at once would otherwise all ask for a lock that is taken.
        """
        if eligible == self.eligible:
            return []
        self.eligible = eligible
        if eligible:
            others = master not in ("", self.node_id)
            return [self._wait(now, self.ttl_s / 3 + _BEAT_LATE_S if others else 0.0)]
        return self.resign(now, 0.0)

    def heard_beat(self, now: float, beat: Beat) -> list[Effect]:
        """Somebody's lease was prolonged: nothing to win before it ends."""
        self.epoch_known = max(self.epoch_known, beat.epoch)
        self.master_seen_s = now
        if not self.holding:
            self.quorum_lost_since_s = None  # somebody has it
        if self.phase is Phase.WAITING and self.eligible:
            return [self._wait(now, beat.ttl_ms / 1000)]
        return []

    def heard_freed(self, now: float) -> list[Effect]:
        """The lease was given back."""
        if self.phase is Phase.WAITING and self.eligible and now >= self._yields_until_s:
            return [self._wait(now, 0.0)]
        return []

    def contend(self, now: float) -> list[Effect]:
        """Offer a fresh token to all servers at once."""
        if self.phase is not Phase.WAITING or not self.eligible:
            return []
        self.phase = Phase.ACQUIRING
        self.token = f"{self.rng.getrandbits(128):032x}"
        effects = self._ask_all(Acquire(self.token, self._ttl_ms))
        self._started_s = now
        effects.append(self.timers.set(Timer.ROUND, now + lock_timeout_s(self.ttl_s) * 1.2))
        return effects

    def lock_replied(self, now: float, server: int, round_: int, reply: LockReply) -> list[Effect]:
        """One vote."""
        self.epoch_known = max(self.epoch_known, reply.epoch)
        if round_ != self._round:
            return []
        self._votes = {**self._votes, server: reply}
        if self.phase is Phase.ACQUIRING:
            if self._granted():
                return self._acquired(now)
            if self._hopeless():
                return self._lost_round(now)
        elif self.phase is Phase.HOLDING:
            return self._extension(now)
        return []

    def round_over(self, now: float) -> list[Effect]:
        """Servers that have not answered by now do not count."""
        if self.phase is Phase.ACQUIRING:
            return self._lost_round(now)
        if self.phase is Phase.CLAIMING:  # the store did not answer the claim
            return self.resign(now, self.ttl_s / 3)
        return []

    def claim_replied(self, now: float, reply: Reply) -> list[Effect]:
        """The store's answer to the claim."""
        if self.phase is not Phase.CLAIMING:
            return []
        if not isinstance(reply, Claimed) or self._too_late(now):
            return self.resign(now, self.ttl_s / 3)
        self.phase = Phase.HOLDING
        self.epoch = self.epoch_known = reply.epoch
        return [*self.extend(now), self._step_down_timer()]

    # --- staying master ---------------------------------------------------------------------------

    def extend(self, now: float) -> list[Effect]:
        """Prolong the lease everywhere; the beat that others hear comes from the store's reply."""
        if not self.holding:
            return []
        self._started_s = now
        effects = self._ask_all(Extend(self.token, self._ttl_ms, self.epoch))
        effects.append(self.timers.set(Timer.EXTEND, now + self.ttl_s / 3))
        return effects

    def _extension(self, now: float) -> list[Effect]:
        store = self._votes.get(0)
        if store is not None and store.answered and not store.granted:
            return self.resign(now, 0.0)  # the key expired or is another's: no mastership
        if self._granted():
            self.quorum_lost_since_s = None
            self.deadline_s = self._started_s + validity_s(self.ttl_s, 0.0)
            return [self._step_down_timer()]
        if self._hopeless():
            if self.quorum_lost_since_s is None:
                self.quorum_lost_since_s = now
            return [self.timers.set(Timer.EXTEND, now + self.ttl_s / 10)]
        return []

    def must_step_down(self, now: float) -> bool:
        """True when the validity is about to end, or has."""
        return self.holding and self._too_late(now)

    def hand_over(self, now: float) -> list[Effect]:
        """Give mastership up, and leave the next lease to others."""
        if not self.holding:
            return []
        self._yields_until_s = now + self.ttl_s
        return self.resign(now, self.ttl_s)

    def resign(self, now: float, wait_s: float) -> list[Effect]:
        """Stop being master, or trying to be, at once; release without waiting for answers."""
        if self.phase is Phase.WAITING:
            return []
        token, self.token = self.token, ""
        self.phase, self.epoch = Phase.WAITING, 0
        effects = self._ask_all(Release(token))
        if self.eligible:
            effects.append(self._wait(now, wait_s))
        return effects

    # --- pieces -----------------------------------------------------------------------------------

    @property
    def _ttl_ms(self) -> int:
        return round(self.ttl_s * 1000)

    def _ask_all(self, request: LockRequest) -> list[Effect]:
        self._round += 1
        self._votes = {}
        return [CallLock(server, request, self._round) for server in range(self.servers)]

    def _granted(self) -> bool:
        store = self._votes.get(0)
        if store is None or not store.granted:
            return False
        return sum(vote.granted for vote in self._votes.values()) >= quorum(self.servers)

    def _hopeless(self) -> bool:
        store = self._votes.get(0)
        if store is not None and not store.granted:
            return True
        possible = self.servers - sum(not vote.granted for vote in self._votes.values())
        return possible < quorum(self.servers)

    def _acquired(self, now: float) -> list[Effect]:
        self.quorum_lost_since_s = None
        self.deadline_s = self._started_s + validity_s(self.ttl_s, 0.0)
        if validity_s(self.ttl_s, now - self._started_s) < self.ttl_s / 2:
            return self._lost_round(now)
        self.phase = Phase.CLAIMING
        claim = Claim(self.node_id, self.token, self.epoch_known)
        return [
            CallStore(Part.MASTERSHIP, claim, self._round),
            self.timers.set(Timer.ROUND, now + self.ttl_s / 3),
        ]

    def _lost_round(self, now: float) -> list[Effect]:
        """Wait for the key that decides, then try again."""
        unanswered = sum(not vote.answered for vote in self._votes.values())
        unanswered += self.servers - len(self._votes)
        if unanswered > self.servers - quorum(self.servers):
            if self.quorum_lost_since_s is None:
                self.quorum_lost_since_s = now
        else:
            self.quorum_lost_since_s = None
        remaining = sorted(
            0 if server not in self._votes else self._votes[server].remaining_ms
            for server in range(self.servers)
        )
        wait_ms = remaining[quorum(self.servers) - 1]
        if 0 in self._votes:
            wait_ms = max(wait_ms, self._votes[0].remaining_ms)
        floor_s = self.ttl_s / 3 if unanswered else _WAIT_S_MIN
        return self.resign(now, max(wait_ms / 1000, floor_s))

    def _wait(self, now: float, wait_s: float) -> SetTimer:
        jitter_s = self.rng.uniform(*_JITTER_S)
        return self.timers.set(Timer.CONTEND, now + wait_s + jitter_s)

    def _step_down_timer(self) -> SetTimer:
        return self.timers.set(Timer.STEP_DOWN, self.deadline_s - safety_margin_s(self.ttl_s))

    def _too_late(self, now: float) -> bool:
        return now >= self.deadline_s - safety_margin_s(self.ttl_s)
