"""What a node does to bring shared data to the format of the acting version.

Theory of operation: converting and judging are apart. Whoever has the codec of a collection and
operates may convert: it asks the store for a share, converts it, and brings it back as it asks for
the next one. Such a request is fenced like any write (R8) and refused unless the record, which
only a master writes, says that all have settled (R13). The store gives shares to one node at a
time and to the next when that one falls silent, from where it stopped. So an agent without a
program converts nothing and can still be master: the master judges from the counters and a scan of
its own (`master.py`), for which it needs no codec, and commits under its epoch.

A node goes through its collections one after the other, and then again after a pause, until the
record says that the data version has risen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from peerupgrade.core.effects import CallStore, ConvertRecords, Effect, Part, Timer
from peerupgrade.core.pace import Felt, Pace
from peerupgrade.core.progress import target_format
from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.requests import Conversion, Convert, Origin, Reply, Share
from peerupgrade.core.timers import Timers

_LOOK_S = 0.5


@dataclass(slots=True)
class Converter:
    """The machine; idle while there is nothing to convert.

    `formats`: collection -> the formats that this program knows of it.
    """

    timers: Timers
    formats: Mapping[str, tuple[str, ...]]
    pace: Pace = field(default_factory=Pace)
    _origin: Origin | None = None
    _targets: tuple[tuple[str, str], ...] = ()
    _todo: list[tuple[str, str]] = field(default_factory=list)
    _calls: int = 0
    _share: Share | None = None
    _not_before_s: float = 0.0

    def is_due(self, record: ClusterRecord | None) -> bool:
        """True if there may be something to convert that this program can."""
        return bool(self.formats) and record is not None and record.converting

    def follow(self, now: float, due: Origin | None, record: ClusterRecord | None) -> list[Effect]:
        """Begin, or stop; called after every input.

        Args:
            now: by the node's clock.
            due: under which this node converts now; None: it does not.
            record: that says so.
        """
        if due == self._origin:
            return []
        self._origin, self._share, self._todo = due, None, []
        self._calls += 1  # what is under way is answered to nobody
        self.timers.cancel(Timer.CONVERT)
        if due is None or record is None or record.acting is None:
            return []
        found = ((name, target_format(self.formats[name], record.acting)) for name in self.formats)
        self._targets = tuple(sorted((name, target) for name, target in found if target))
        return self.go_on(now)

    def go_on(self, now: float) -> list[Effect]:
        """A pause is over."""
        if self._origin is None:
            return []
        if self._share is not None:
            return self._work(self._share)
        self._todo = self._todo or list(self._targets)
        return self._take()

    def replied(self, now: float, call: int, reply: Reply) -> list[Effect]:
        """The store answered."""
        if call != self._calls or self._origin is None:
            return []
        if not isinstance(reply, Share):  # nothing to do, not now, or no answer: the next one
            return self._next(now)
        name, _ = self._todo[0]
        if any(record.format not in self.formats[name] for _, record in reply.records):
            # This program is older than what is written there: it leaves the collection to others.
            self._targets = tuple(target for target in self._targets if target[0] != name)
            return self._next(now)
        if not reply.records:
            return self._take(reply)
        self._share = reply
        if now < self._not_before_s:
            return [self.timers.set(Timer.CONVERT, self._not_before_s)]
        return self._work(reply)

    def converted(
        self, now: float, call: int, done: tuple[Conversion, ...], took_s: float, felt: Felt
    ) -> list[Effect]:
        """A share is converted: bring it back, and take the next."""
        share = self._share
        if call != self._calls or self._origin is None or share is None:
            return []
        self._not_before_s = now + self.pace.pause_s(len(done), took_s, felt)
        self._share = None
        return self._take(share, done)

    def _next(self, now: float) -> list[Effect]:
        """Go on with the next collection, or look again later."""
        self._todo = self._todo[1:]
        return self._take() if self._todo else [self._look_again(now)]

    def _work(self, share: Share) -> list[Effect]:
        name, target = self._todo[0]
        return [ConvertRecords(name, target, share.records, self._calls)]

    def _take(self, share: Share | None = None, done: tuple[Conversion, ...] = ()) -> list[Effect]:
        assert self._origin is not None
        if not self._todo:
            return []
        name, target = self._todo[0]
        at, then = (share.at, share.then) if share is not None else ("", "")
        count = self.pace.share_records
        self._calls += 1
        request = Convert(self._origin, name, target, at, then, done, count)
        return [CallStore(Part.CONVERSION, request, self._calls)]

    def _look_again(self, now: float) -> Effect:
        return self.timers.set(Timer.CONVERT, now + _LOOK_S)
