"""What became of a rehearsal: a sample of live records, converted into nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

FAILURES_MAX = 20  # so many are named; all are counted
_TRIPS = 2  # a conversion reads a record and writes it


@dataclass(frozen=True, slots=True)
class Failure:
    """One record that cannot be converted, or does not come back as it was."""

    key: str
    format: str
    error: str


@dataclass(slots=True)
class Rehearsal:
    """What became of the sample of one collection.

    Attributes:
        collection: its name.
        target: the format that its records would get.
        records: how many there are, by format, as the store has counted them.
        sampled: those of the sample that are in another format.
        converted: those of them that could be converted.
        failed: those of them that failed, there or back; `failures` names some.
        way_back: every format on the way has a downgrade.
        bytes_before, bytes_after: payloads of those that could be converted.
        codec_s: what that took, there alone.
        store_s: what reading the sample took.
        looked_at: records that were read for it.
    """

    collection: str
    target: str
    records: dict[str, int]
    sampled: int = 0
    converted: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    way_back: bool = True
    bytes_before: int = 0
    bytes_after: int = 0
    codec_s: float = 0.0
    store_s: float = 0.0
    looked_at: int = 0

    @property
    def to_convert(self) -> int:
        """Records that are in another format."""
        return sum(self.records.values()) - self.records.get(self.target, 0)

    @property
    def estimated_s(self) -> float | None:
        """How long the conversion would take at full pace; None if nothing was measured."""
        if not self.to_convert:
            return 0.0
        if not self.sampled:
            return None
        each_s = self.codec_s / self.sampled + _TRIPS * self.store_s / self.looked_at
        return self.to_convert * each_s
