"""Who may say how much, and nothing twice.

Both guards hold a bounded number of entries, whatever anyone sends.
"""

from __future__ import annotations

from collections import OrderedDict

WINDOW = 4096  # frames of one sender that may overtake each other, to whomever it sent them
_SESSIONS_MAX = 4096
_SOURCES_MAX = 4096


class ReplayGuard:
    """Lets each frame of a session through once.

    Theory of operation: a sender counts its frames in a session, a random number of its process. Of
    each session the guard keeps the highest number and one bit for each of the numbers below it
    that are still in the window; what is older is refused unseen. Only authentic frames come here,
    so strangers can neither fill it nor push anybody's session out.

    What a replay can do nevertheless: a receiver that restarts, or that has heard of 4,096 other
    sessions since, takes an old frame once more. It is harmless, because whatever a packet brings
    is ordered: heartbeats by incarnation and number, records by revision and epoch, so old ones
    change nothing; an old `Ack` answers a sequence number that nobody waits for; an old `Ping`
    costs one answer, to the address that it names.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # highest, bits below

    def __len__(self) -> int:
        return len(self._sessions)

    def first(self, session: bytes, number: int) -> bool:
        """True if this is the first time, and from now on not any more."""
        known = self._sessions.get(session)
        if known is None:
            if len(self._sessions) >= _SESSIONS_MAX:
                self._sessions.popitem(last=False)
            self._sessions[session] = (number, 1)
            return True
        highest, bits = known
        ahead = number - highest
        if ahead > 0:
            kept = (bits << ahead) & _WINDOW_BITS if ahead < WINDOW else 0
            self._sessions[session] = (number, kept | 1)
        elif ahead <= -WINDOW or bits >> -ahead & 1:
            return False
        else:
            self._sessions[session] = (highest, bits | 1 << -ahead)
        self._sessions.move_to_end(session)
        return True


_WINDOW_BITS = (1 << WINDOW) - 1


class SourceLimits:
    """A bucket of tokens for each known source, and one for all strangers together.

    A source is known once it has sent an authentic frame. So a flood from invented addresses
    empties the strangers' bucket only, and cannot push known sources out of the table.

    Args:
        per_s: frames that one source may send for long.
        burst: frames that it may send at once.
    """

    def __init__(self, per_s: float = 5_000, burst: float = 10_000) -> None:
        self._per_s = per_s
        self._burst = burst
        self._known: OrderedDict[str, _Bucket] = OrderedDict()
        self._strangers = _Bucket(burst)

    def __len__(self) -> int:
        return len(self._known)

    def allow(self, source: str, now_s: float) -> bool:
        """Whether one more frame from this source is worth looking at."""
        bucket = self._known.get(source, self._strangers)
        bucket.tokens += (now_s - bucket.at_s) * self._per_s
        bucket.tokens = min(bucket.tokens, self._burst)
        bucket.at_s = now_s
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def know(self, source: str, now_s: float) -> None:
        """It has sent something authentic."""
        if source in self._known:
            self._known.move_to_end(source)
            return
        if len(self._known) >= _SOURCES_MAX:
            self._known.popitem(last=False)
        self._known[source] = _Bucket(self._burst, now_s)


class _Bucket:
    __slots__ = ("at_s", "tokens")

    def __init__(self, tokens: float, at_s: float = 0.0) -> None:
        self.tokens = tokens
        self.at_s = at_s
