"""Everything that can be asked of the store and of a lock server, and every answer.

Each store request is one atomic step there; the adapters for Redis and for memory answer alike.
All times are milliseconds of the store's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from peerupgrade.core.record import (
    ClusterRecord,
    Downgrade,
    Health,
    Member,
    Rollout,
    Snapshot,
    Standing,
    Tombstone,
    Work,
)
from peerupgrade.core.versions import Version

# --- asked of the store ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """The record alone: what a node needs after it (re)subscribed."""


@dataclass(frozen=True, slots=True)
class ReadAll:
    """Record, members and exclusions."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """Where a few other members gossip, drawn at random.

    `draw`: a random number, for a store that draws none itself.
    """

    id: str
    draw: int


@dataclass(frozen=True, slots=True)
class Init:
    """Make the cluster record where there is none."""

    generation: str
    bootstrap_expect: int
    quarantine_ms: int


@dataclass(frozen=True, slots=True)
class Admit:
    """Register a node, or register it anew with other versions."""

    id: str
    token: str  # new with every start of the process
    earlier: tuple[str, ...]  # accepted before, from disk: proof that the name is this node's
    incarnation: int  # the last one known, from disk
    generation: str  # "" if none is remembered
    number: int  # grows with each request of one token
    installed: Version
    lowest: Version
    lease_ms: int = 0
    address: str = ""
    gossip: str = ""
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    collections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a member does now; renews its lease."""

    id: str
    incarnation: int
    generation: str
    number: int  # grows with each request of one token
    standing: Standing
    seen: int
    operating: Version | None
    operating_revision: int
    failure: str = ""
    work: Work | None = None
    health: Health | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """A member's own farewell."""

    id: str
    incarnation: int
    generation: str


@dataclass(frozen=True, slots=True)
class Exclude:
    """Remove a member that does not answer. That incarnation never returns.

    `token`, `epoch`: of a master; "": a person asks. `lease_until_ms`: the end of the lease that
    the master saw; one that was renewed since is left alone.
    """

    id: str
    by: str
    reason: str
    confirm_stopped: bool
    incarnation: int  # the one that was judged; another one is left alone
    token: str = ""
    epoch: int = 0
    lease_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class SetHold:
    """Set a hold; `reason` and `by` are shown to everyone.

    `what`: "hold" keeps the acting version from rising, "pause" the conversion from going on.
    """

    by: str
    reason: str
    until_ms: int = 0
    what: str = "hold"


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    """End a hold. `what`: as for `SetHold`."""

    by: str
    reason: str = ""
    what: str = "hold"


@dataclass(frozen=True, slots=True)
class SetRollout:
    """Somebody starts a rollout, or changes how it goes on; if the record has not moved since.

    Attributes:
        revision: of the record that it was decided from.
        rollout: as it shall be.
        kind, by, reason: for the history.
    """

    revision: int
    rollout: Rollout
    kind: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class SetDowngrade:
    """Somebody asks that the acting version goes back; attributes as for `SetRollout`."""

    revision: int
    downgrade: Downgrade
    kind: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class TakeSlot:
    """Ask whether a member may be taken down.

    `budget`: at most so many may be down at once. `token`, `epoch`: of a master; "": a person asks.
    `revision`: of the record that the master decided from.
    """

    id: str
    by: str
    budget: int
    token: str = ""
    epoch: int = 0
    revision: int = 0


class Outcome(StrEnum):
    """What has become of a member that might be taken down."""

    UP = "up"  # it was down, and operates again
    UNUSED = "unused"  # it was not taken down after all
    GONE = "gone"  # it is no member any more and does not come back


@dataclass(frozen=True, slots=True)
class ReturnSlot:
    """Give a slot back. That it is `UP` the store sees; the rest is the word of whoever asks.

    `token`, `epoch`: as for `TakeSlot`.
    """

    id: str
    by: str
    outcome: Outcome = Outcome.UP
    token: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """Take the next epoch; the lock in the store must hold `token`."""

    id: str
    token: str
    epoch_floor: int  # the highest epoch that any lock server or the node itself remembers


@dataclass(frozen=True, slots=True)
class Commit:
    """Write the record, if nothing moved that it was decided from.

    `record` is the record as it shall be; the store itself counts the revision and stamps the
    times. `repair` pins the identity of the server after its quarantine.
    """

    token: str
    epoch: int
    revision: int
    members_revision: int
    record: ClusterRecord
    step: str
    inputs: str  # what the decision was made from, for the history
    repair: bool = False


@dataclass(frozen=True, slots=True)
class SaveStep:
    """A master saves how far one of the application's own steps is.

    Attributes:
        phase, version, name: of the step.
        checkpoint: JSON that only the step understands.
        done, total: its progress.
        number: grows with each save of a step.
        finished: it has succeeded.
        failure: why it has not.
    """

    token: str
    epoch: int
    phase: str
    version: Version
    name: str
    checkpoint: str
    done: int
    total: int
    number: int
    finished: bool = False
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Attach:
    """A node brings its memory to a store that may have lost writes.

    A node that operates keeps its incarnation; one that has just started gets a new one. One that
    remembers nothing may stand by, so that there is somebody to become master.
    """

    member: Member
    memory: ClusterRecord | None
    quarantine_ms: int


ControlRequest: TypeAlias = (
    Read
    | ReadAll
    | Seeds
    | Init
    | Admit
    | Report
    | Leave
    | Exclude
    | SetHold
    | ReleaseHold
    | SetRollout
    | SetDowngrade
    | TakeSlot
    | ReturnSlot
    | Claim
    | Commit
    | SaveStep
    | Attach
)

# --- asked of the store about shared data ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """R8: whose write it is, and under which acting version it was made."""

    id: str
    incarnation: int
    generation: str
    raised_revision: int


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as it lies in the store.

    Attributes:
        format: the version that introduced its format, as text; it is compared, never ordered.
        stamp: new with every write of an application, kept by a conversion.
        payload: what the codec made.
        expires_at_ms: 0: never.
    """

    format: str
    stamp: int
    payload: bytes
    expires_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Put:
    """Write one record. `expect`: the stamp that it must have now; 0: it must not exist."""

    key: str
    format: str
    payload: bytes
    ttl_ms: int = 0
    expect: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one record, if it is there. `expect`: as for `Put`."""

    key: str
    expect: int | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Change records of one collection: all of them, or none."""

    origin: Origin
    collection: str
    changes: tuple[Put | Delete, ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read records by key."""

    collection: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """Read about `count` records from `cursor` on; "0" is the beginning."""

    collection: str
    cursor: str
    count: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of one record: its new payload, or why there is none."""

    key: str
    format: str  # the record was read in this format, with this stamp
    stamp: int
    payload: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Convert:
    """Write converted records, move the checkpoint, and take the next share of the work.

    Attributes:
        target: the format that all records of the collection shall have.
        at: where the share began that `done` is the result of; "": there is none.
        then: where it ended.
        count: about how many records to look at for the next share.
        lease_ms: nobody else gets a share of this collection for so long.
    """

    origin: Origin
    collection: str
    target: str
    at: str = ""
    then: str = ""
    done: tuple[Conversion, ...] = ()
    count: int = 100
    lease_ms: int = 3000


@dataclass(frozen=True, slots=True)
class Audit:
    """A master looks at the next `count` records or so: is any in another format than `target`?

    The store keeps how far that has come, so that the next master goes on.
    """

    token: str
    epoch: int
    collection: str
    target: str
    count: int


@dataclass(frozen=True, slots=True)
class Resolve:
    """What an operator says about parked records; "" as `key`: about all of them.

    `retry`: convert them again; `skip`: set them aside, unconverted; `delete`: remove them.
    """

    collection: str
    key: str
    verdict: str
    by: str


OperatorRequest: TypeAlias = (
    SetHold | ReleaseHold | SetRollout | SetDowngrade | TakeSlot | ReturnSlot | Exclude
)
DataRequest: TypeAlias = Write | Fetch | Scan | Convert | Audit | Resolve
Request: TypeAlias = ControlRequest | DataRequest

# --- answered by the store ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """The record as the store has it now."""

    record: ClusterRecord | None
    identity: str
    doubt: int = 0  # names the quarantine while the store is not verified; 0: none has begun

    @property
    def verified(self) -> bool:
        """True when the record belongs to the server process that answered."""
        return self.record is not None and self.record.identity == self.identity


@dataclass(frozen=True, slots=True)
class All:
    """Answer to `ReadAll`."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class SeedsFound:
    """Answer to `Seeds`: `host:port` of each; empty: nobody else gossips."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """Registered. With `standing` STANDBY, `rule` says why it may not operate yet."""

    incarnation: int
    standing: Standing
    rule: str
    view: View


@dataclass(frozen=True, slots=True)
class Attached:
    """The memory was taken in; a master verifies the store when the quarantine is over."""

    incarnation: int
    view: View


@dataclass(frozen=True, slots=True)
class Done:
    """Written. `durable`: as many replicas as are asked for have confirmed it."""

    view: View
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Claimed:
    """The master's epoch."""

    epoch: int
    view: View
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """A rule forbids it; nothing was written."""

    rule: str
    view: View
    other: Member | None = None
    tombstone: Tombstone | None = None


@dataclass(frozen=True, slots=True)
class NotMember:
    """The node is not registered under this incarnation."""

    view: View
    tombstone: Tombstone | None = None


@dataclass(frozen=True, slots=True)
class Unverified:
    """The store's identity changed, or there is no record: nothing was written."""

    view: View


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something moved that the decision was made from; nothing was written."""

    view: View


@dataclass(frozen=True, slots=True)
class Fenced:
    """Another mastership has begun; nothing was written."""

    view: View


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer. It may or may not have been done."""

    reason: str


@dataclass(frozen=True, slots=True)
class Written:
    """All changes are done. `stamps`: of the records, in their order; 0 for what was deleted."""

    stamps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Nothing was written: record number `index` has another stamp; 0: it does not exist."""

    index: int
    stamp: int


@dataclass(frozen=True, slots=True)
class Stale:
    """R8: nothing was written: the acting version or the membership of the writer is over."""

    reason: str  # "acting" or "member"


@dataclass(frozen=True, slots=True)
class Fetched:
    """The records in the order of the keys; None where there is none."""

    records: tuple[Stored | None, ...]


@dataclass(frozen=True, slots=True)
class Scanned:
    """Some records, and where to go on; "0": that was all.

    A record that is there from the first to the last is among them, some perhaps twice.
    """

    cursor: str
    records: tuple[tuple[str, Stored], ...]


@dataclass(frozen=True, slots=True)
class Share:
    """Records to convert; the share begins at `at` and ends at `then`."""

    at: str
    then: str
    records: tuple[tuple[str, Stored], ...]


@dataclass(frozen=True, slots=True)
class NoShare:
    """Nothing to do now; what came with the request was written.

    `why`: "done", "taken" by another node for `wait_ms`, or "full": too many records are parked.
    """

    why: str
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing is to be converted: not settled, paused, converted already, or in doubt."""


@dataclass(frozen=True, slots=True)
class Audited:
    """How many records in older formats the master's look has found.

    `ended`: a whole pass has found none, by whichever masters; else it goes on, or begins again.
    """

    ended: bool
    older: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """How many parked records the operator's word was about."""

    count: int


DataReply: TypeAlias = (
    Written | Mismatch | Stale | Fetched | Scanned | Share | NoShare | NotNow | Audited | Resolved
)

Reply: TypeAlias = (
    View
    | All
    | SeedsFound
    | Admitted
    | Attached
    | Done
    | Claimed
    | Refused
    | NotMember
    | Unverified
    | Conflict
    | Fenced
    | Failed
    | DataReply
)

# --- lock servers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acquire:
    """Set the lock key if it is free."""

    token: str
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Extend:
    """Prolong the lock key if it still holds `token`; never makes it anew."""

    token: str
    ttl_ms: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Release:
    """Remove the lock key if it holds `token`, and tell the others that it is free."""

    token: str


LockRequest: TypeAlias = Acquire | Extend | Release


@dataclass(frozen=True, slots=True)
class LockReply:
    """Answer of one lock server. `remaining_ms`: how long somebody else's key still lives."""

    granted: bool
    remaining_ms: int = 0
    epoch: int = 0  # the highest epoch that this lock server remembers
    answered: bool = True


# --- heard over pub/sub ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordHeard:
    """A new record was committed."""

    record: ClusterRecord


@dataclass(frozen=True, slots=True)
class MemberHeard:
    """A member changed; `member` is None when `id` was removed. Only a master listens."""

    id: str
    member: Member | None
    members_revision: int


@dataclass(frozen=True, slots=True)
class Beat:
    """The master has extended its lease, and what the store had at that moment.

    Attributes:
        epoch: of the mastership.
        record_epoch: the newest one that the store knows of; a doubt makes it newer, too.
    """

    epoch: int
    record_epoch: int
    revision: int
    members_revision: int
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Freed:
    """The master has given its lease back."""


@dataclass(frozen=True, slots=True)
class ExcludedHeard:
    """A member was excluded."""

    id: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class DoubtHeard:
    """Somebody found that the store may have lost writes: attach."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The subscription was (re)made: whatever was said meanwhile is lost."""


Heard: TypeAlias = (
    RecordHeard | MemberHeard | Beat | Freed | ExcludedHeard | DoubtHeard | Subscribed
)
