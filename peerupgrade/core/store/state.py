"""What lies under the keys of one cluster, and one step of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from peerupgrade.core.record import (
    ClusterRecord,
    CollectionView,
    Health,
    Member,
    Parked,
    Slot,
    Snapshot,
    Standing,
    StepState,
    Tombstone,
)
from peerupgrade.core.requests import (
    DoubtHeard,
    Exclude,
    Fenced,
    Heard,
    MemberHeard,
    RecordHeard,
    Reply,
    ReturnSlot,
    Stored,
    TakeSlot,
    Unverified,
    View,
)

_STRIDE = 1000


@dataclass(slots=True)
class LockState:
    """The lock on one server, and the highest epoch that it was told."""

    token: str = ""
    until_ms: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a conversion has come.

    Attributes:
        raised_revision: the raise that it belongs to.
        identity: of the server process whose cursor this is.
        cursor: where the next share begins.
        older: this pass has come across a record in an older format.
        converter: the node that takes the shares, and its incarnation.
        until_ms: nobody else gets one before.
    """

    raised_revision: int
    identity: str
    began_at_ms: int
    cursor: str = "0"
    older: bool = False
    converter: str = ""
    incarnation: int = 0
    until_ms: int = 0
    converted: int = 0


@dataclass(frozen=True, slots=True)
class Pass:
    """A scan for older records: the raise and the server process that it is about, and where."""

    raised_revision: int
    identity: str
    cursor: str = "0"
    ended: bool = False


@dataclass(slots=True)
class Collection:
    """Everything that belongs to one collection."""

    records: dict[str, Stored] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # format -> number of records
    parked: dict[str, Parked] = field(default_factory=dict)
    skipped: dict[str, Stored] = field(default_factory=dict)
    stamps: int = 0
    checkpoint: Checkpoint | None = None
    audit: Pass | None = None

    def copy(self) -> Collection:
        """A collection that shares nothing that changes."""
        return Collection(
            dict(self.records),
            dict(self.counts),
            dict(self.parked),
            dict(self.skipped),
            self.stamps,
            self.checkpoint,
            self.audit,
        )

    def count(self, format_: str, by: int) -> None:
        """Keep the counters true."""
        number = self.counts.get(format_, 0) + by
        self.counts[format_] = number
        if number <= 0:
            del self.counts[format_]

    def store(self, key: str, record: Stored) -> None:
        """Put a record, in whatever format one was there before."""
        self.drop(key)
        self.records[key] = record
        self.count(record.format, 1)

    def drop(self, key: str) -> Stored | None:
        """Remove a record; nothing is left of it, neither counted nor parked."""
        self.parked.pop(key, None)
        record = self.records.pop(key, None)
        if record is not None:
            self.count(record.format, -1)
        return record

    def view(self) -> CollectionView:
        """Without its records."""
        at = self.checkpoint
        return CollectionView(
            counts=dict(self.counts),
            parked=dict(self.parked),
            skipped=len(self.skipped),
            converter=at.converter if at else "",
            converted=at.converted if at else 0,
            began_at_ms=at.began_at_ms if at else 0,
        )


@dataclass(slots=True)
class StoreState:
    """Everything under one cluster's keys."""

    record: ClusterRecord | None = None
    members: dict[str, Member] = field(default_factory=dict)
    excluded: dict[str, Tombstone] = field(default_factory=dict)
    members_revision: int = 0
    incarnations: int = 0
    master_token: str = ""
    suspect: str = ""  # the server process whose quarantine runs
    quarantine_until_ms: int = 0
    doubted_at_ms: int = 0
    history: list[Mapping[str, str]] = field(default_factory=list)
    lock: LockState = field(default_factory=LockState)
    slots: dict[str, Slot] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)
    steps: dict[str, StepState] = field(default_factory=dict)  # by `StepState.key`

    def copy(self) -> StoreState:
        """A state that shares nothing that changes."""
        return replace(
            self,
            members=dict(self.members),
            excluded=dict(self.excluded),
            history=list(self.history),
            lock=replace(self.lock),
            slots=dict(self.slots),
            collections={name: one.copy() for name, one in self.collections.items()},
            steps=dict(self.steps),
        )


@dataclass(slots=True)
class Step:
    """One execution: the state, what it is told, and what it publishes."""

    state: StoreState
    now_ms: int
    identity: str
    heard: list[Heard] = field(default_factory=list)

    @property
    def view(self) -> View:
        """The record as it is now."""
        record, state = self.state.record, self.state
        doubted = record is not None and record.identity != self.identity
        doubt = state.quarantine_until_ms if doubted and state.suspect == self.identity else 0
        return View(record, self.identity, doubt)

    def is_fenced(self, epoch: int, token: str) -> bool:
        """R1: a newer mastership has begun than the one that asks."""
        record = self.state.record
        return record is None or epoch != record.epoch or token != self.state.master_token

    def untrusted(self, request: TakeSlot | ReturnSlot | Exclude) -> Reply | None:
        """The store is in doubt, or a master asks that was superseded."""
        record = self.state.record
        if record is None or record.identity != self.identity:
            return Unverified(self.view)  # R16
        if request.token and self.is_fenced(request.epoch, request.token):  # R1
            return Fenced(self.view)
        return None

    @property
    def quarantined(self) -> bool:
        """True until the quarantine of this very server process has begun and ended."""
        began = self.state.suspect == self.identity
        return not began or self.now_ms < self.state.quarantine_until_ms

    def write(self, record: ClusterRecord, kind: str, by: str, inputs: str = "") -> None:
        """Put the record, remember in the history, tell everyone."""
        before = self.state.record
        self.state.record = record
        self.note(kind, by, inputs, before)
        self.heard.append(RecordHeard(record))

    def note(self, kind: str, by: str, inputs: str, before: ClusterRecord | None) -> None:
        """Remember in the history."""
        record = self.state.record
        assert record is not None
        self.state.history.append(
            {
                "at_ms": str(self.now_ms),
                "kind": kind,
                "by": by,
                "epoch": str(record.epoch),
                "revision": str(record.revision),
                "before": str(before.acting or "") if before else "",
                "after": str(record.acting or ""),
                "inputs": inputs,
            }
        )

    def health_since_ms(self, known: Member, health: Health | None) -> int:
        """Since when the state of a member's health is what this says; its words may change."""
        before, now = known.health, health
        same = (before and before.state) == (now and now.state)
        return known.health_since_ms if same else self.now_ms

    def put_member(self, member: Member) -> None:
        """Write a member, and tell whoever is master. R29: its slot remembers that it was away."""
        self.state.members[member.id] = member
        slot = self.state.slots.get(member.id)
        if slot is not None and member.standing is Standing.AWAY:
            self.state.slots[member.id] = replace(slot, away=1)
        self._member_changed(member.id, member)

    def remove_member(self, node_id: str) -> None:
        """Remove a member, and tell whoever is master."""
        del self.state.members[node_id]
        self._member_changed(node_id, None)

    def remove_all_members(self) -> None:
        """Nothing is known of them any more."""
        self.state.members.clear()
        self.state.slots.clear()

    def _member_changed(self, node_id: str, member: Member | None) -> None:
        self.state.members_revision += 1
        self.heard.append(MemberHeard(node_id, member, self.state.members_revision))

    def beyond(self, known: int, record: ClusterRecord) -> int:
        """R30: past every number that the store may have given and forgotten.

        Its own clock leaves room for one in each millisecond of the cluster's life; should that
        have jumped back, the stride leaves some.
        """
        age_ms = self.now_ms - record.created_at_ms
        return age_ms if age_ms > known else known + _STRIDE

    def begin_quarantine(self, quarantine_ms: int) -> None:
        """R16: from here until a master has verified the store, nothing joins and nothing rises."""
        state = self.state
        assert state.record is not None
        epoch = self.beyond(state.record.epoch, state.record)
        state.incarnations = self.beyond(state.incarnations, state.record)
        state.record = replace(state.record, identity="", epoch=epoch)
        state.suspect, state.doubted_at_ms = self.identity, self.now_ms
        # The moment also names this doubt, so it is never the same twice.
        state.quarantine_until_ms = max(state.quarantine_until_ms + 1, self.now_ms + quarantine_ms)
        self.heard.append(DoubtHeard())


def snapshot(state: StoreState, now_ms: int, identity: str) -> Snapshot:
    """The whole state as one value."""
    return Snapshot(
        record=state.record,
        members=dict(state.members),
        members_revision=state.members_revision,
        now_ms=now_ms,
        identity=identity,
        quarantine_until_ms=state.quarantine_until_ms,
        doubted_at_ms=state.doubted_at_ms,
        excluded=dict(state.excluded),
        slots=dict(state.slots),
        collections={name: one.view() for name, one in state.collections.items()},
        steps=dict(state.steps),
    )
