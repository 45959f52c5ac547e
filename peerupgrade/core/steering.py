"""What people want of a rollout: start it, change it, pause it, say how it goes on, or end it.

Whatever somebody asks for is decided from one snapshot of the store, by `steer`, and written only
if the record has not moved since. What follows from it is the master's, see `rollout`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from peerupgrade.core.admission import admission
from peerupgrade.core.downgrade import GoBack, ask_downgrade
from peerupgrade.core.record import (
    ClusterRecord,
    Hold,
    Rollout,
    Snapshot,
)
from peerupgrade.core.refusals import version_words
from peerupgrade.core.requests import SetDowngrade, SetRollout
from peerupgrade.core.rollout import (
    all_came,
    check_member,
    given_up,
    has_stopped,
    lacking,
    risen,
    rolled_back,
    said_of,
    skipped,
    with_turn,
    without_its_pause,
    work_on,
    worse,
)
from peerupgrade.core.strategy import CAREFUL, Changes, Strategy
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Start:
    """Bring every member to a version, but for those in `skip`.

    `lowest`: the lowest version that it supports; "": as members say that have it.
    """

    version: str
    by: str
    reason: str = ""
    strategy: Strategy = CAREFUL
    skip: tuple[str, ...] = ()
    lowest: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Let it go on in another way."""

    changes: Changes
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """No further turn begins."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Turns begin again."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Let the step run again that failed on a member; the rollout goes on."""

    node: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """A member keeps what it has; if it is down, it comes back with that. The rollout goes on."""

    node: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Abort:
    """No further turn begins, and the members whose turn it is come back with what they have.

    `rollback`: then all that got the version return to what they had, the last one first.
    """

    by: str
    reason: str = ""
    rollback: bool = False


Steering: TypeAlias = Start | Change | Pause | Resume | Retry | Skip | Abort | GoBack


def steer(snapshot: Snapshot, asked: Steering) -> SetRollout | SetDowngrade:
    """What is to be written.

    Args:
        snapshot: of the store, verified.
        asked: what somebody wants.

    Raises:
        RefusedError: it cannot be done as things are.
        KeyError: there is no member of this name.
        VersionError: the version cannot be read.
    """
    if isinstance(asked, GoBack):
        return ask_downgrade(snapshot, asked)
    record = snapshot.record
    if record is None or record.acting is None:
        raise RefusedError(
            "the cluster has not formed yet", rule="forming", hint="peerupgrade why says why"
        )
    if isinstance(asked, Start):
        rollout, kind = _started(snapshot, record, asked), f"rollout to {asked.version}"
    elif record.rollout is None:
        raise RefusedError(
            "no rollout is under way", rule="no_rollout", hint="peerupgrade upgrade start VERSION"
        )
    else:
        rollout, kind = _changed(snapshot, record.rollout, asked)
    return SetRollout(record.revision, rollout, kind, asked.by, asked.reason)


def _started(snapshot: Snapshot, record: ClusterRecord, asked: Start) -> Rollout:
    version = parse_version(asked.version)
    if record.rollout is not None:
        raise RefusedError(
            f"a rollout to {record.rollout.version} is under way",
            rule="rollout_under_way",
            hint="peerupgrade upgrade status shows it; upgrade abort ends it",
        )
    assert record.acting is not None
    assert record.floor is not None
    if version < record.floor:
        raise RefusedError(
            f"the cluster acts at {record.floor}, which is newer than {version}",
            rule="installed_below_acting",
            hint=f"give {record.floor} or newer",
        )
    if all(member.installed >= version for member in snapshot.members.values()):
        raise RefusedError(
            f"every member has {version} or newer",
            rule="nothing_to_do",
            hint="peerupgrade members lists what they have",
        )
    _check_supported(snapshot, record, version, asked.lowest)
    return begun(snapshot, record, asked)


def begun(snapshot: Snapshot, record: ClusterRecord, asked: Start) -> Rollout:
    """The rollout that somebody asks for, whether it may begin or not.

    Raises:
        KeyError: there is no member of a name in `skip`.
        VersionError: the version cannot be read.
    """
    id_, version = f"{record.epoch}.{record.revision + 1}", str(parse_version(asked.version))
    rollout = Rollout(id_, version, asked.by, asked.reason, snapshot.now_ms)
    for name in asked.skip:
        rollout = skipped(snapshot, rollout, name)
    return replace(rollout, strategy=asked.strategy)


def _check_supported(
    snapshot: Snapshot, record: ClusterRecord, version: Version, lowest: str
) -> None:
    """A member that came back with it would not serve: better not to take it down."""
    said = [one.lowest for one in snapshot.members.values() if one.installed == version]
    known = parse_version(lowest) if lowest else max(said, default=None)
    if known is None:
        return
    rule = admission(record, version, known, is_member=True).rule
    if rule in ("lowest_above_acting", "lowest_above_data"):
        message, hint = version_words(rule, record, f"a node with {version}", version, known)
        raise RefusedError(message, rule=rule, hint=hint)


def _changed(
    snapshot: Snapshot, rollout: Rollout, asked: Change | Pause | Resume | Retry | Skip | Abort
) -> tuple[Rollout, str]:
    match asked:
        case Change():
            strategy = replace(rollout.strategy, **asked.changes)
            return replace(rollout, strategy=strategy), "rollout changed"
        case Pause():
            pause = Hold(asked.by, asked.reason, snapshot.now_ms)
            return replace(rollout, pause=pause), "rollout paused"
        case Resume():
            return _resumed(snapshot, rollout), "rollout resumed"
        case Retry():
            return _retried(snapshot, rollout, asked.node), f"retry of {asked.node}"
        case Skip():
            return _left_out(snapshot, rollout, asked.node), f"{asked.node} skipped"
        case Abort():
            return _aborted(snapshot, rollout, asked)
        case _:
            assert_never(asked)


def _left_out(snapshot: Snapshot, rollout: Rollout, node: str) -> Rollout:
    """Whoever was to return to what it had does not either: it keeps what it has."""
    returning = tuple(one for one in rollout.returning if one != node)
    return replace(skipped(snapshot, rollout, node), returning=returning)


def _aborted(snapshot: Snapshot, rollout: Rollout, asked: Abort) -> tuple[Rollout, str]:
    if not asked.rollback:
        return replace(given_up(rollout), aborted=1), "rollout aborted"
    record = snapshot.record
    assert record is not None
    behind = risen(record, all_came(snapshot, rollout))
    if behind is not None:
        assert behind.work is not None
        raise RefusedError(
            f"{behind.id} had {behind.work.before}, and the cluster acts at {record.acting} by now",
            rule="acting_risen",
            hint="what others have written since, the older version may not understand: roll"
            " out a newer version instead; upgrade abort leaves every node as it is",
        )
    return rolled_back(rollout), "rollout rolled back"


def _resumed(snapshot: Snapshot, rollout: Rollout) -> Rollout:
    if rollout.pause is None:
        raise RefusedError(
            "the rollout is not paused", rule="no_pause", hint="peerupgrade why says what it awaits"
        )
    for turn in rollout.turns:
        if has_stopped(work_on(snapshot.members.get(turn.node), turn), turn):
            raise RefusedError(
                f"{turn.node} has not got through: {said_of(turn, snapshot.members[turn.node])}",
                rule="turn_stopped",
                hint=f"peerupgrade upgrade retry {turn.node}, or upgrade skip {turn.node}",
            )
    for member, why in worse(snapshot):
        raise RefusedError(
            why,
            rule="unhealthy",
            hint=f"mend it, or: peerupgrade upgrade skip {member.id}, or upgrade abort --rollback",
        )
    resumed = replace(rollout, pause=None, failed=())
    if lacking(snapshot):
        return resumed
    return replace(resumed, turn_ended_at_ms=snapshot.now_ms)  # it bakes anew


def _retried(snapshot: Snapshot, rollout: Rollout, node: str) -> Rollout:
    turn = rollout.turn_of(node)
    if turn is None or not has_stopped(work_on(snapshot.members.get(node), turn), turn):
        check_member(snapshot, rollout, node)
        raise RefusedError(
            f"no step has failed on {node}",
            rule="nothing_to_retry",
            hint="peerupgrade upgrade status shows what each member does",
        )
    return with_turn(without_its_pause(rollout, node), replace(turn, attempt=turn.attempt + 1))
