"""The way back: whether the acting version may go to an older one, and what forbids it.

Theory of operation: a raise cannot be taken back by accident, so a downgrade is asked for by
somebody and is a commit of its own. It is safe only where no trace of the newer version is left
that the older one could not understand: no record in a newer format, no step of the newer version
that has run, no member that does not support the older one. So it begins from a settled cluster in
which nothing is under way, and in two steps, like a raise:

    barred   no record in a newer format was found in this commit, and none can be written from here
    lowered  acting := target; everybody switches, and confirms (R13); until then nothing serves
             that does not support the version it came from

Between the two the replicas confirm, so that no failover brings a newer record back that had been
removed. The commit that lowers the acting version also holds it: the newer software is still
installed, and the master would raise it again at once.

Whoever asks, whoever plans and the master look at the same list: `obstacles`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from peerupgrade.core.blockers import settle_blockers
from peerupgrade.core.progress import has_steps
from peerupgrade.core.record import ClusterRecord, Downgrade, Hold, Phase, Snapshot
from peerupgrade.core.requests import SetDowngrade
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.errors import RefusedError, VersionError


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that forbids a downgrade. `rule`: its name; `remedy`: what to do about it."""

    rule: str
    evidence: str
    remedy: str


def obstacles(snapshot: Snapshot, target: Version) -> list[Obstacle]:
    """Everything that forbids a downgrade to `target`; empty: it may be done."""
    record = snapshot.record
    if record is None or record.acting is None:
        return [Obstacle("forming", "the cluster has not formed yet", "peerupgrade why says why")]
    if not snapshot.verified:
        return [
            Obstacle(
                "unverified",
                "the store has not been verified since it was restarted or has failed over",
                "wait; peerupgrade why says what it waits for",
            )
        ]
    if target >= record.acting:
        return [
            Obstacle(
                "not_lower",
                f"the cluster acts at {record.acting}, which is not newer than {target}",
                f"give a version older than {record.acting}",
            )
        ]
    return [
        *_under_way(snapshot, record),
        *_members(snapshot, target),
        *_records(snapshot, target),
        *_steps(snapshot, record.acting, target),
    ]


def _under_way(snapshot: Snapshot, record: ClusterRecord) -> Iterator[Obstacle]:
    if record.rollout is not None:
        yield Obstacle(
            "rollout_under_way",
            f"a rollout to {record.rollout.version} is under way",
            "peerupgrade upgrade abort ends it",
        )
    if record.upgrade is not None or record.raising or record.data != record.acting:
        above = sorted(m.id for m in snapshot.members.values() if m.installed != record.acting)
        who = f", and {', '.join(above)} did not install {record.acting}" if above else ""
        yield Obstacle(
            "upgrade_under_way",
            f"an upgrade is under way: the cluster acts at {record.acting}{who}",
            f"wait until it is complete (peerupgrade why), or install {record.acting} everywhere",
        )
    waiting = settle_blockers(snapshot)
    if waiting or not record.settled:
        evidence = "; ".join(one.evidence for one in waiting)
        yield Obstacle(
            "not_settled",
            evidence or f"the cluster has not settled at {record.acting}",
            waiting[0].remedy if waiting else "wait: the master records it in a moment",
        )


def _members(snapshot: Snapshot, target: Version) -> Iterator[Obstacle]:
    for member in sorted(snapshot.members.values(), key=lambda one: one.id):
        if member.lowest > target:
            yield Obstacle(
                "lowest_above_target",
                f"{member.id} supports {member.lowest} and newer, not {target}",
                f"install a version on {member.id} that supports {target}",
            )
        if member.installed < target:
            yield Obstacle(
                "installed_below_target",
                f"{member.id} has {member.installed}, which is older than {target}",
                f"install {target} or newer on {member.id}",
            )


def _records(snapshot: Snapshot, target: Version) -> Iterator[Obstacle]:
    for name, view in sorted(snapshot.collections.items()):
        for format_, number in sorted(view.counts.items()):
            if not _can_read(format_, target):
                yield Obstacle(
                    "newer_records",
                    f"{number} records of {name!r} are in the format of {format_}, which {target}"
                    " cannot read",
                    f"stay, or remove these records of {name!r} first; they are not converted back",
                )


def _steps(snapshot: Snapshot, acting: Version, target: Version) -> Iterator[Obstacle]:
    """A step is code that nobody can take back; one that a member has ran, or is about to run."""
    found = {(one.phase, one.version) for one in snapshot.steps.values()}
    for member in snapshot.members.values():
        found |= {(str(phase), one) for phase in Phase for one in has_steps(member, phase)}
    for phase, version in sorted(found, key=lambda one: (one[1], one[0])):
        if target < version <= acting:
            yield Obstacle(
                "step_has_run",
                f"the {phase} steps for {version} have run, and nothing takes them back",
                f"stay, or upgrade to a version that mends what {version} does wrong",
            )


def _can_read(format_: str, target: Version) -> bool:
    try:
        return parse_version(format_) <= target
    except VersionError:
        return False  # nobody here wrote it


@dataclass(frozen=True, slots=True)
class GoBack:
    """Somebody wants that the cluster acts at an older version; `reason`: for the history."""

    version: str
    by: str
    reason: str = ""


def ask_downgrade(snapshot: Snapshot, wanted: GoBack) -> SetDowngrade:
    """What is to be written so that the master lowers the acting version.

    Args:
        snapshot: of the store.
        wanted: what somebody wants.

    Raises:
        RefusedError: it is forbidden; the message names everything that forbids it.
        VersionError: the version cannot be read.
    """
    target = parse_version(wanted.version)
    found = obstacles(snapshot, target)
    record = snapshot.record
    if record is not None and record.downgrade is not None:
        asked = record.downgrade
        evidence = f"{asked.by} has asked for a downgrade to {asked.version}, which is under way"
        found = [Obstacle("downgrade_under_way", evidence, "wait: the master decides in a moment")]
    if found:
        raise RefusedError(
            "; ".join(one.evidence for one in found),
            rule=found[0].rule,
            hint="; ".join(dict.fromkeys(one.remedy for one in found)),
        )
    assert record is not None
    asked = Downgrade(str(target), wanted.by, wanted.reason, snapshot.now_ms)
    kind = f"downgrade to {target}"
    return SetDowngrade(record.revision, asked, kind, wanted.by, wanted.reason)


def barred(snapshot: Snapshot, record: ClusterRecord, target: Version) -> ClusterRecord:
    """The record from which on nothing is written that `target` could not read."""
    assert record.downgrade is not None
    known = {one for view in snapshot.collections.values() for one in view.counts}
    for member in snapshot.members.values():
        known |= {one for formats in member.collections.values() for one in formats}
    formats = tuple(sorted(one for one in known if _can_read(one, target)))
    return replace(record, downgrade=replace(record.downgrade, formats=formats, barred=1))


def lowered(record: ClusterRecord, target: Version, now_ms: int) -> ClusterRecord:
    """The record with the acting version at `target`, held there; `now_ms`: the store's clock."""
    asked = record.downgrade
    assert asked is not None
    assert record.data is not None
    return replace(
        record,
        acting=target,
        floor=target,
        before=target,
        data=min(record.data, target),
        downgrade=None,
        downgrades=record.downgrades + 1,
        downgraded_from=record.acting,
        hold=Hold(asked.by, f"downgraded from {record.acting}: {asked.reason}", now_ms),
    )
