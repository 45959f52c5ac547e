"""What goes into the core and what comes out of it.

An effect that can fail names the input that reports it:

    CallStore      -> StoreReplied          CallLock   -> LockReplied
    Remember       -> Remembered            Switch     -> Switched | SwitchFailed
    Drain          -> Drained               RunSteps   -> StepsDone | StepsFailed
    Tell           -> nothing: a packet may be lost
    WatchMembers   -> HeardOn(Subscribed)   SetTimer   -> TimerFired
    ConvertRecords -> RecordsConverted
    RunTurnStep    -> TurnStepEnded         RunProbes  -> Probed
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from peerupgrade.core.gossip.packets import Packet
from peerupgrade.core.pace import Felt
from peerupgrade.core.record import ClusterRecord, Job, Work
from peerupgrade.core.requests import (
    Conversion,
    Heard,
    LockReply,
    LockRequest,
    Reply,
    Request,
    Stored,
)
from peerupgrade.core.versions import Version


@dataclass(frozen=True, slots=True)
class Memory:
    """What a node keeps on its own disk."""

    token: str = ""  # proof that the name is this node's; new with every start
    earlier: tuple[str, ...] = ()  # tokens that the store had accepted before, the newest first
    admitted_token: str = ""  # the last one that the store has accepted
    incarnation: int = 0
    record: ClusterRecord | None = None  # the newest that it has applied
    epoch: int = 0  # the highest that it has heard of
    work: Work | None = None  # of its newest turn in a rollout


class Part(StrEnum):
    """Which machine of a node asked."""

    MEMBERSHIP = "membership"
    MASTER = "master"
    MASTERSHIP = "mastership"
    CONVERSION = "conversion"
    GOSSIP = "gossip"


class Timer(StrEnum):
    """What a timer is for; setting one again replaces it."""

    CONTEND = "contend"
    ROUND = "round"
    EXTEND = "extend"
    STEP_DOWN = "step_down"
    RETRY_STORE = "retry_store"
    RETRY_SWITCH = "retry_switch"
    RENEW_LEASE = "renew_lease"
    LEASE = "lease"
    DECIDE = "decide"
    CONVERT = "convert"
    PROBE = "probe"
    SUSPICION = "suspicion"
    HAND_ON = "hand_on"
    SECOND_WAY = "second_way"
    HEALTH = "health"
    TURN = "turn"


# --- effects --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallStore:
    """Ask the store."""

    part: Part
    request: Request
    call: int


@dataclass(frozen=True, slots=True)
class CallLock:
    """Ask lock server number `server`."""

    server: int
    request: LockRequest
    round: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Wake at `at_s` of the node's clock. An older timer of the same kind is void."""

    timer: Timer
    at_s: float
    token: int


@dataclass(frozen=True, slots=True)
class Remember:
    """Write to the node's disk, durably."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class Switch:
    """Run the application's callbacks for a new version, in order."""

    version: Version
    previous: Version | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Operate:
    """From now on the node operates at `version`; None: it is suspended, and `reason` says why."""

    version: Version | None
    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell when no guarded operation of another version than `version` is under way."""

    version: Version
    attempt: int


@dataclass(frozen=True, slots=True)
class WatchMembers:
    """Listen to the members' channel, or stop listening."""

    on: bool


@dataclass(frozen=True, slots=True)
class RunSteps:
    """Run the application's own steps of a job, in order, but for those that have succeeded.

    What they save carries `epoch` and `token`. Runs that were begun before end first.
    """

    job: Job
    epoch: int
    token: str


@dataclass(frozen=True, slots=True)
class StopSteps:
    """They are not due any more, or not this node's: interrupt them; there is no result."""


@dataclass(frozen=True, slots=True)
class ConvertRecords:
    """Bring records of a collection to the format `target`, by the application's codec."""

    collection: str
    target: str
    records: tuple[tuple[str, Stored], ...]
    call: int


@dataclass(frozen=True, slots=True)
class Order:
    """A step of this node's turn in a rollout.

    `look`: it may have run already: do not run it, find out whether it was done.
    """

    work: Work
    look: bool = False


@dataclass(frozen=True, slots=True)
class RunTurnStep:
    """Run a step; the node's installed version is read again before its end is told."""

    order: Order


@dataclass(frozen=True, slots=True)
class RunProbes:
    """Find out whether the program of this node is well."""

    call: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a packet to another node; it may not arrive."""

    to: str
    packet: Packet


@dataclass(frozen=True, slots=True)
class Emit:
    """Something that people and logs should know."""

    event: str
    detail: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The node has left, or was marked away; the process may end."""


Effect: TypeAlias = (
    CallStore
    | CallLock
    | SetTimer
    | Remember
    | Switch
    | Operate
    | Drain
    | WatchMembers
    | RunSteps
    | StopSteps
    | ConvertRecords
    | RunTurnStep
    | RunProbes
    | Tell
    | Emit
    | Stopped
)

# --- inputs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoreReplied:
    """The answer to `CallStore`, asked at `asked_s`."""

    part: Part
    call: int
    reply: Reply
    asked_s: float


@dataclass(frozen=True, slots=True)
class LockReplied:
    """The answer to `CallLock`."""

    server: int
    round: int
    reply: LockReply


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer's time has come."""

    timer: Timer
    token: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """The memory is on disk."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class RememberFailed:
    """The disk refused."""

    error: str


@dataclass(frozen=True, slots=True)
class Switched:
    """All callbacks have run."""

    attempt: int


@dataclass(frozen=True, slots=True)
class SwitchFailed:
    """A callback failed."""

    attempt: int
    error: str


@dataclass(frozen=True, slots=True)
class Drained:
    """Operations of the older version have ended."""

    attempt: int


@dataclass(frozen=True, slots=True)
class HeardOn:
    """Pub/sub said something. `members`: on the members' channel."""

    heard: Heard
    members: bool = False


@dataclass(frozen=True, slots=True)
class PacketHeard:
    """Another node said something."""

    packet: Packet


@dataclass(frozen=True, slots=True)
class StepsDone:
    """All steps of a job have succeeded, and the store knows."""

    job: Job
    epoch: int


@dataclass(frozen=True, slots=True)
class StepsFailed:
    """A step failed."""

    job: Job
    epoch: int
    error: str


@dataclass(frozen=True, slots=True)
class RecordsConverted:
    """What became of the records of `ConvertRecords`; what failed says why.

    `took_s`: the codec's time; `felt`: the latency of the application's commands meanwhile.
    """

    call: int
    done: tuple[Conversion, ...]
    took_s: float
    felt: Felt


class StepOutcome(StrEnum):
    """What became of a step, or what was seen of it."""

    DONE = "done"
    NOT_DONE = "not done"  # seen: it may run
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TurnStepEnded:
    """A step has run, or was looked at; `note`: what it said."""

    order: Order
    outcome: StepOutcome
    note: str = ""


@dataclass(frozen=True, slots=True)
class Probed:
    """What the probes say; `error`: why it is not well, or ""."""

    call: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """The first input."""


@dataclass(frozen=True, slots=True)
class InstalledChanged:
    """Other software is installed on this node now."""

    installed: Version
    lowest: Version


@dataclass(frozen=True, slots=True)
class SetAway:
    """Stop serving while software is replaced, or serve again."""

    away: bool


@dataclass(frozen=True, slots=True)
class Resign:
    """Give mastership to another node."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End: leave for good, or stay registered as away."""

    leave: bool


Input: TypeAlias = (
    StoreReplied
    | LockReplied
    | TimerFired
    | Remembered
    | RememberFailed
    | Switched
    | SwitchFailed
    | Drained
    | HeardOn
    | PacketHeard
    | StepsDone
    | StepsFailed
    | RecordsConverted
    | TurnStepEnded
    | Probed
    | Start
    | InstalledChanged
    | SetAway
    | Resign
    | Stop
)
