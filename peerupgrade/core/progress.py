"""How far conversion and steps are: read from a snapshot, the same for master and `why`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from peerupgrade.core.record import CollectionView, Member, Snapshot, Standing, StepState
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
    return progress_to(snapshot, record.acting, now_ms)


def progress_to(snapshot: Snapshot, version: Version, now_ms: int) -> list[Progress]:
    """The same, towards the formats of any version; what remains is timed by the last raise."""
    return [
        _progress(snapshot, name, version, now_ms)
        for name, view in sorted(snapshot.collections.items())
        if view.counts
    ]


def _progress(snapshot: Snapshot, name: str, version: Version, now_ms: int) -> Progress:
    view = snapshot.collections[name]
    known = {
        format_ for one in snapshot.members.values() for format_ in one.collections.get(name, ())
    }
    target = target_format(known, version)
    total = sum(view.counts.values())
    left = max(0, total - view.counts.get(target, 0) - len(view.parked))
    took_s = (now_ms - view.began_at_ms) / 1000
    known_rate = view.converted > 0 and view.began_at_ms > 0 and took_s > 0
    remaining_s = left * took_s / view.converted if known_rate else None
    return Progress(name, target, view, total, left, remaining_s)


# --- the application's own steps ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepProgress:
    """One step that has begun.

    Attributes:
        state: what the store knows of it.
        remaining_s: estimated; None while nothing can be said.
    """

    state: StepState
    remaining_s: float | None

    @property
    def share(self) -> float:
        """From 0 to 1."""
        if self.state.finished:
            return 1.0
        return min(1.0, self.state.done / self.state.total) if self.state.total else 0.0


def steps_wanted(snapshot: Snapshot) -> frozenset[Version]:
    """The versions whose steps are due: members have some, or some have begun."""
    record = snapshot.record
    job = record.job if record is not None else None
    if job is None:
        return frozenset()
    there = {one for member in snapshot.members.values() for one in has_steps(member, job.phase)}
    begun = {
        one.version
        for one in snapshot.steps.values()
        if one.phase == job.phase and not one.finished
    }
    return frozenset(version for version in there | begun if job.covers(job.phase, version))


def runners(snapshot: Snapshot, wanted: frozenset[Version]) -> list[str]:
    """The members that serve and have all of these steps, which are due."""
    assert snapshot.record is not None
    job = snapshot.record.job
    if job is None:
        return []
    return [
        name
        for name, member in sorted(snapshot.members.items())
        if member.standing is Standing.SERVING and wanted <= has_steps(member, job.phase)
    ]


def has_steps(member: Member, phase: str) -> frozenset[Version]:
    """The versions that a member has steps for."""
    pairs = (one.split(" ") for one in member.steps)
    return frozenset(parse_version(version) for of, version in pairs if of == phase)


def step_progress(snapshot: Snapshot, now_ms: int) -> list[StepProgress]:
    """Every step that is due now and has begun, in order; `now_ms` is the store's clock."""
    record = snapshot.record
    job = record.job if record is not None else None
    if job is None:
        return []
    due = (one for one in snapshot.steps.values() if job.covers(one.phase, one.version))
    return [
        StepProgress(one, _remaining_s(one, now_ms))
        for one in sorted(due, key=lambda one: (one.version, one.began_at_ms, one.name))
    ]


def _remaining_s(state: StepState, now_ms: int) -> float | None:
    if not 0 < state.done <= state.total:
        return None
    took_s = max(0, now_ms - state.began_at_ms) / 1000
    return (state.total - state.done) * took_s / state.done
