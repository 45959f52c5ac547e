"""How far the conversion of shared data is: read from a snapshot, the same for master and `why`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from peerupgrade.core.record import CollectionView, Snapshot
from peerupgrade.core.versions import Version, parse_version


@dataclass(frozen=True, slots=True)
class Progress:
    """One collection.

    Attributes:
        collection: its name.
        target: the format that its records shall have; "": no member says which there are.
        view: what the store knows of it.
        total: records there are.
        left: records still to be converted, without those that are parked.
        remaining_s: estimated; None while nothing can be said.
    """

    collection: str
    target: str
    view: CollectionView
    total: int
    left: int
    remaining_s: float | None

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return 1.0 if not self.total else (self.total - self.left) / self.total


def target_format(formats: Iterable[str], acting: Version) -> str:
    """The format that is written at an acting version; "" if none was introduced by then."""
    fitting = [name for name in formats if parse_version(name) <= acting]
    return max(fitting, key=lambda name: (parse_version(name), name), default="")


def all_progress(snapshot: Snapshot, now_ms: int) -> list[Progress]:
    """Every collection that has records, by name; `now_ms` is the store's clock."""
    record = snapshot.record
    if record is None or record.acting is None:
        return []
    return [
        _progress(snapshot, name, record.acting, now_ms)
        for name, view in sorted(snapshot.collections.items())
        if view.counts
    ]


def _progress(snapshot: Snapshot, name: str, acting: Version, now_ms: int) -> Progress:
    view = snapshot.collections[name]
    known = {
        format_ for one in snapshot.members.values() for format_ in one.collections.get(name, ())
    }
    target = target_format(known, acting)
    total = sum(view.counts.values())
    left = max(0, total - view.counts.get(target, 0) - len(view.parked))
    took_s = (now_ms - view.began_at_ms) / 1000
    known_rate = view.converted > 0 and view.began_at_ms > 0 and took_s > 0
    remaining_s = left * took_s / view.converted if known_rate else None
    return Progress(name, target, view, total, left, remaining_s)
