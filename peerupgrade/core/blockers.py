"""Why an upgrade has not finished: every reason at once, as data.

Theory of operation: the reasons are not a report about the decision, they are the decision. A
raise happens exactly when `raise_blockers` is empty, a settlement when `settle_blockers` is, and
the store is trusted again when `verify_blockers` is. So `why` cannot disagree with what happens.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from peerupgrade.core.gossip.view import GossipView
from peerupgrade.core.progress import (
    Progress,
    StepProgress,
    all_progress,
    runners,
    step_progress,
    steps_wanted,
)
from peerupgrade.core.record import ClusterRecord, Member, Phase, Snapshot, Standing
from peerupgrade.core.versions import Version

_PARKED_SHOWN = 20
_BAR_CHARS = 20


class Code(StrEnum):
    """What kind of reason it is."""

    OLDER_VERSION = "older_version"
    HOLD = "hold"
    AWAY = "away"
    TOO_NEW = "too_new"
    LOWEST_SUPPORTED = "lowest_supported"
    UNRESPONSIVE = "unresponsive"
    NOT_CONFIRMED = "not_confirmed"
    CALLBACK_FAILED = "callback_failed"
    CONVERTING = "converting"
    PARKED = "parked"
    NO_CODEC = "no_codec"
    NOBODY_SERVES = "nobody_serves"
    FORMING = "forming"
    STORE_UNVERIFIED = "store_unverified"
    NOT_ATTACHED = "not_attached"
    STORE_UNREACHABLE = "store_unreachable"
    NO_MASTER = "no_master"
    BEFORE_STEP = "before_step"
    MIGRATION = "migration"
    SUSPENDED = "suspended"
    ROLLOUT = "rollout"
    ROLLBACK = "rollback"
    ROLLOUT_PAUSED = "rollout_paused"
    TURN_NOT_BEGUN = "turn_not_begun"
    STEP_RUNS = "step_runs"
    STEP_MANUAL = "step_manual"
    STEP_FAILED = "step_failed"
    STEP_UNKNOWN = "step_unknown"
    DRAINED = "drained"
    MEMBER_DOWN = "member_down"
    SOAKING = "soaking"
    WINDOW_CLOSED = "window_closed"
    BAKING = "baking"
    UNHEALTHY_BEFORE = "unhealthy_before"
    UNHEALTHY_AFTER = "unhealthy_after"
    BUDGET_SPENT = "budget_spent"


MEMBER_CODES = frozenset(
    {
        Code.OLDER_VERSION,
        Code.AWAY,
        Code.TOO_NEW,
        Code.LOWEST_SUPPORTED,
        Code.UNRESPONSIVE,
        Code.NOT_CONFIRMED,
        Code.CALLBACK_FAILED,
        Code.NOT_ATTACHED,
        Code.TURN_NOT_BEGUN,
        Code.STEP_RUNS,
        Code.DRAINED,
        Code.MEMBER_DOWN,
        Code.UNHEALTHY_BEFORE,
        Code.UNHEALTHY_AFTER,
    }
)


@dataclass(frozen=True, slots=True)
class Blocker:
    """One reason. `since_ms` is the store's clock; `subject` a node id or ""."""

    code: Code
    subject: str
    since_ms: int
    evidence: str
    remedy: str


def next_acting(members: Iterable[Member]) -> Version | None:
    """Rule 1: the lowest installed version over all members, reachable or not."""
    return min((member.installed for member in members), default=None)


def highest_installed(members: Iterable[Member]) -> Version | None:
    """Where an upgrade is heading."""
    return max((member.installed for member in members), default=None)


def raise_blockers(snapshot: Snapshot, now_ms: int) -> list[Blocker]:
    """Everything that keeps the acting version from rising now.

    Empty also when there is nothing to raise to: compare `next_acting` with the acting version.
    """
    record = snapshot.record
    if record is None or record.acting is None:
        return forming_blockers(snapshot, now_ms)
    if not snapshot.verified:
        return verify_blockers(snapshot, now_ms)
    found = settle_blockers(snapshot) + _data_blockers(snapshot, record, now_ms)
    if record.hold is not None and not hold_ended(record, now_ms):
        found.append(_hold_blocker(record))
    if record.stays:
        found.append(_stays_blocker(record))
    target = record.floor if record.raising else next_acting(snapshot.members.values())
    if not any(member.standing is Standing.SERVING for member in snapshot.members.values()):
        found.append(_nobody_serves(record))
    for member in _sorted(snapshot):
        found += _member_raise_blockers(member, record, target)
    return found


def _nobody_serves(record: ClusterRecord) -> Blocker:
    """Whoever serves can read the oldest data: without one, nobody could convert it afterwards."""
    return Blocker(
        Code.NOBODY_SERVES,
        "",
        record.raised_at_ms,
        f"no member serves, and shared data may be in the format of {record.data}",
        f"start a node with a version that still supports {record.data}",
    )


def _member_raise_blockers(
    member: Member, record: ClusterRecord, target: Version | None
) -> list[Blocker]:
    found = []
    assert record.acting is not None
    if member.standing is Standing.AWAY:  # R19, R26
        found.append(
            Blocker(
                Code.AWAY,
                member.id,
                member.changed_at_ms,
                f"{member.id} said that it does not serve at present",
                f"start {member.id} again, or exclude it if it is gone for good",
            )
        )
    elif record.raising and member.seen < record.floor_revision:  # R19
        found.append(
            Blocker(
                Code.UNRESPONSIVE,
                member.id,
                record.floor_at_ms,
                f"{member.id} has not acknowledged that {record.floor} comes next",
                f"start {member.id} again, or exclude it if it is gone for good",
            )
        )
    serves = member.standing is Standing.SERVING
    if serves and target is not None and target > record.acting and member.lowest > target:
        found.append(
            Blocker(
                Code.LOWEST_SUPPORTED,
                member.id,
                member.changed_at_ms,
                f"{member.id} supports {member.lowest} and newer, the next version is {target}",
                f"install {member.lowest} or newer on every node, or an older version on"
                f" {member.id}",
            )
        )
    return found


def settle_blockers(snapshot: Snapshot) -> list[Blocker]:
    """R13: the serving members that have not confirmed the acting version yet."""
    record = snapshot.record
    if record is None or record.acting is None:
        return []
    found = []
    for member in _sorted(snapshot):
        if member.standing is not Standing.SERVING:
            continue  # it comes back through admission, which tells it the acting version
        if member.operating_revision >= record.raised_revision:
            continue
        since_ms = max(record.raised_at_ms, member.joined_at_ms)
        if member.failure:
            found.append(
                Blocker(
                    Code.CALLBACK_FAILED,
                    member.id,
                    since_ms,
                    f"{member.id} could not switch to {record.acting}: {member.failure}",
                    f"mend what its callback reports on {member.id}; it tries again by itself",
                )
            )
        else:
            found.append(
                Blocker(
                    Code.NOT_CONFIRMED,
                    member.id,
                    since_ms,
                    f"{member.id} has not confirmed that it operates at {record.acting}",
                    f"look at {member.id}: start it again, or exclude it if it is gone for good",
                )
            )
    return found


def _data_blockers(snapshot: Snapshot, record: ClusterRecord, now_ms: int) -> list[Blocker]:
    if not record.settled or record.data == record.acting:
        return []
    remedy = "wait: the master records it as soon as its own scan has found nothing older"
    return conversion_blockers(snapshot, now_ms) or [_converting(record, "", "", remedy)]


def conversion_blockers(
    snapshot: Snapshot, now_ms: int, audited: Collection[str] = ()
) -> list[Blocker]:
    """What keeps the data version from rising, once all have settled.

    Args:
        snapshot: of the store, read after all had settled: older records only get fewer from then.
        now_ms: the store's clock.
        audited: the collections in which a scan has found nothing older.
    """
    record = snapshot.record
    if record is None:
        return []
    found = []
    for one in all_progress(snapshot, now_ms):
        if not one.target:
            found.append(_no_codec(one, record))
            continue
        if one.left:
            found.append(_left(one, record))
        elif not one.view.parked and one.collection not in audited:
            what = f"{one.collection}: {bar(one)}, a scan looks whether that is all"
            found.append(_converting(record, one.collection, what, "wait: it takes a moment"))
        found += _parked(one)
    return found


def _converting(record: ClusterRecord, subject: str, evidence: str, remedy: str) -> Blocker:
    general = f"shared data is in the format of {record.data} or newer, not yet of {record.acting}"
    return Blocker(Code.CONVERTING, subject, record.raised_at_ms, evidence or general, remedy)


def _left(one: Progress, record: ClusterRecord) -> Blocker:
    what = f"{one.collection}: {bar(one)}"
    if one.remaining_s is not None:
        what += f", about {one.remaining_s:.0f} s left"
    if record.pause is not None:
        what += f"; paused by {record.pause.by}: {record.pause.reason}"
        return _converting(record, one.collection, what, "peerupgrade data resume")
    remedy = "wait: the nodes that have this collection convert it"
    return _converting(record, one.collection, what, remedy)


def bar(one: Progress) -> str:
    """The progress of one collection as a line of text."""
    return (
        f"{_bar(one.share)} {one.total - one.left} of {one.total} records done, to format"
        f" {one.target}"
    )


def _bar(share: float) -> str:
    done = int(share * _BAR_CHARS)
    return f"[{'#' * done}{'.' * (_BAR_CHARS - done)}]"


def _no_codec(one: Progress, record: ClusterRecord) -> Blocker:
    return Blocker(
        Code.NO_CODEC,
        one.collection,
        record.raised_at_ms,
        f"{one.collection} has {one.total} records, and no member says in which formats they may"
        f" be at {record.acting}",
        f"start a program that registers the collection {one.collection!r}",
    )


def _parked(one: Progress) -> list[Blocker]:
    parked = sorted(one.view.parked.items())
    found = [
        Blocker(
            Code.PARKED,
            f"{one.collection}/{key}",
            record.at_ms,
            f"record {key!r} of {one.collection} cannot be converted from format"
            f" {record.format}: {record.error}",
            f"write it anew, or: peerupgrade data retry|skip|delete {one.collection} {key}",
        )
        for key, record in parked[:_PARKED_SHOWN]
    ]
    if len(parked) > _PARKED_SHOWN:
        rest = len(parked) - _PARKED_SHOWN
        found.append(
            Blocker(
                Code.PARKED,
                one.collection,
                parked[0][1].at_ms,
                f"{rest} more records of {one.collection} cannot be converted",
                f"mend the codec, then: peerupgrade data retry {one.collection}",
            )
        )
    return found


def step_blockers(snapshot: Snapshot, now_ms: int) -> list[Blocker]:
    """The application's own steps that are due and have not succeeded."""
    record, begun = snapshot.record, step_progress(snapshot, now_ms)
    if record is None or record.job is None:
        return []
    code = Code.BEFORE_STEP if record.job.phase is Phase.BEFORE else Code.MIGRATION
    wanted = steps_wanted(snapshot)
    able = runners(snapshot, wanted)
    found = [_step_blocker(code, one, record, able) for one in begun if not one.state.finished]
    for version in sorted(wanted - {one.state.version for one in begun}):
        what = f"the steps before {version} have not begun"
        if code is Code.MIGRATION:
            what = f"the migrations of {version} have not begun"
        remedy = _who_runs(able, version)
        found.append(Blocker(code, str(version), record.floor_at_ms, what, remedy))
    if record.job_paused:
        assert record.pause is not None
        paused = f"; paused by {record.pause.by}: {record.pause.reason}"
        remedy = "peerupgrade data resume"
        found = [replace(one, evidence=one.evidence + paused, remedy=remedy) for one in found]
    return found


def _who_runs(able: Collection[str], version: Version) -> str:
    if not able:
        return f"start a program that registers the steps of {version}"
    return f"wait: they run where they are registered, on {', '.join(able)}"


def _step_blocker(
    code: Code, one: StepProgress, record: ClusterRecord, able: Collection[str]
) -> Blocker:
    state = one.state
    kind = "step" if code is Code.BEFORE_STEP else "migration"
    evidence = f"{kind} {state.name!r} for {state.version}"
    remedy = _who_runs(able, state.version)
    if record.master in able:
        remedy = f"wait: {record.master}, the master, runs it"
        if state.failure:
            remedy = "mend what it reports; the master tries again by itself"
    if state.failure:
        evidence += f" failed: {state.failure}"
    elif state.total:
        evidence += f": {_bar(one.share)} {state.done} of {state.total} done"
        if one.remaining_s is not None:
            evidence += f", about {one.remaining_s:.0f} s left"
    else:
        evidence += " runs"
    return Blocker(code, f"{state.version} {state.name}", state.began_at_ms, evidence, remedy)


def hold_ended(record: ClusterRecord, now_ms: int) -> bool:
    """True when the hold named an end, and it has passed."""
    return record.hold is not None and 0 < record.hold.until_ms <= now_ms


def _hold_blocker(record: ClusterRecord) -> Blocker:
    hold = record.hold
    assert hold is not None
    return Blocker(
        Code.HOLD,
        "",
        hold.at_ms,
        f"{hold.by} holds the acting version: {hold.reason}",
        "peerupgrade release",
    )


def _stays_blocker(record: ClusterRecord) -> Blocker:
    rollout = record.rollout
    assert rollout is not None
    if rollout.returning and not rollout.rollback:
        return Blocker(
            Code.ROLLBACK,
            "",
            rollout.started_at_ms,
            f"{', '.join(rollout.returning)} shall have what was there before, and the acting"
            " version stays until the rollout has ended",
            f"wait until it has; or: peerupgrade upgrade skip {rollout.returning[0]}",
        )
    if not rollout.rollback:
        return Blocker(
            Code.BAKING,
            "",
            rollout.started_at_ms,
            f"all that have {rollout.version} must operate for"
            f" {rollout.strategy.bake_ms / 1000:g} s before the acting version rises",
            "wait; or: peerupgrade upgrade change --bake 0s",
        )
    return Blocker(
        Code.ROLLBACK,
        "",
        rollout.started_at_ms,
        f"the rollout to {rollout.version} is being rolled back, and the acting version stays",
        "wait until every member has what it had; or: peerupgrade upgrade abort",
    )


def forming_blockers(snapshot: Snapshot, now_ms: int) -> list[Blocker]:
    """What keeps a new cluster from choosing its first acting version."""
    record = snapshot.record
    if record is None:
        return [
            Blocker(Code.FORMING, "", 0, "the store has no record of this cluster", "start a node")
        ]
    if record.acting is not None:
        return []
    missing = record.bootstrap_expect - len(snapshot.members)
    if missing > 0:
        return [
            Blocker(
                Code.FORMING,
                "",
                record.created_at_ms,
                f"{len(snapshot.members)} of {record.bootstrap_expect} nodes are there",
                f"start {missing} more",
            )
        ]
    if now_ms < snapshot.quarantine_until_ms:
        return [
            Blocker(
                Code.FORMING,
                "",
                record.created_at_ms,
                "the store was empty; a node that remembers this cluster may still say so",
                f"wait {_seconds_left(snapshot, now_ms)} s",
            )
        ]
    return []


def verify_blockers(snapshot: Snapshot, now_ms: int) -> list[Blocker]:
    """R16: what keeps a store whose identity changed from being trusted again."""
    if snapshot.record is None or snapshot.verified:
        return []
    found = []
    if now_ms < snapshot.quarantine_until_ms:
        found.append(
            Blocker(
                Code.STORE_UNVERIFIED,
                "",
                snapshot.doubted_at_ms,
                "the store restarted, failed over or was wiped, and may have lost writes",
                f"wait {_seconds_left(snapshot, now_ms)} s: the members compare it with what"
                " they remember",
            )
        )
    for member in _sorted(snapshot):
        suspended = member.lease_ended(now_ms)
        serves = member.standing is Standing.SERVING  # the others come back through admission
        if member.attached != snapshot.quarantine_until_ms and serves and not suspended:
            found.append(
                Blocker(
                    Code.NOT_ATTACHED,
                    member.id,
                    snapshot.doubted_at_ms,
                    f"{member.id} has not said what it remembers since the store changed",
                    f"start {member.id} again, or exclude it if it is gone for good",
                )
            )
    return found


def _seconds_left(snapshot: Snapshot, now_ms: int) -> int:
    return max(0, -(-(snapshot.quarantine_until_ms - now_ms) // 1000))


def version_blockers(snapshot: Snapshot) -> list[Blocker]:
    """The members whose versions keep the upgrade from its end."""
    record = snapshot.record
    highest = highest_installed(snapshot.members.values())
    if record is None or record.acting is None or highest is None:
        return []
    found = []
    for member in _sorted(snapshot):
        if member.installed < highest:
            found.append(
                Blocker(
                    Code.OLDER_VERSION,
                    member.id,
                    max(record.upgrade.started_at_ms if record.upgrade else 0, 0)
                    or member.changed_at_ms,
                    f"{member.id} has {member.installed} installed, the newest is {highest}",
                    f"install {highest} on {member.id}, or exclude it if it is gone for good",
                )
            )
        if member.standing is Standing.STANDBY and (
            member.lowest > record.acting or (record.data and member.lowest > record.data)
        ):
            found.append(
                Blocker(
                    Code.TOO_NEW,
                    member.id,
                    member.changed_at_ms,
                    f"{member.id} supports {member.lowest} and newer; the cluster acts at"
                    f" {record.acting} and its data is at {record.data}",
                    f"install a version on {member.id} that still supports"
                    f" {min(record.acting, record.data or record.acting)}",
                )
            )
    return found


def all_blockers(snapshot: Snapshot, now_ms: int) -> list[Blocker]:
    """Every reason that the store's state shows, but for those of a rollout: see `ledger`.

    Empty when nothing is unfinished.
    """
    record = snapshot.record
    if record is None or record.acting is None or not snapshot.verified:
        return raise_blockers(snapshot, now_ms)
    versions = version_blockers(snapshot)
    unfinished = versions or record.upgrade is not None or record.raising or not record.settled
    steps = step_blockers(snapshot, now_ms)
    if not unfinished and record.hold is None:
        return steps + _data_blockers(snapshot, record, now_ms)
    return versions + raise_blockers(snapshot, now_ms) + steps


def with_gossip(blockers: Iterable[Blocker], gossip: GossipView) -> list[Blocker]:
    """The same reasons; those about a member also say whether it answers. Gossip only shows."""
    shown = []
    for blocker in blockers:
        heard = gossip.evidence(blocker.subject) if blocker.code in MEMBER_CODES else ""
        more = f"{blocker.evidence}; {heard}" if heard else blocker.evidence
        shown.append(replace(blocker, evidence=more))
    return shown


def _sorted(snapshot: Snapshot) -> list[Member]:
    return [snapshot.members[node_id] for node_id in sorted(snapshot.members)]
