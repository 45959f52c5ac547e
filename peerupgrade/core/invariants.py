"""What may never happen, as functions over one moment or one change of the whole cluster.

The simulator, the exploration of small worlds and the checker of real runs call these after every
event; nothing in production depends on them. Each answers None, or what is wrong in words that
begin with the invariant's name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from peerupgrade.core.progress import has_steps
from peerupgrade.core.record import (
    ClusterRecord,
    HealthState,
    Job,
    Member,
    Rollout,
    Standing,
    StepState,
    TurnStep,
    Work,
    is_healthy,
)
from peerupgrade.core.versions import Version, parse_version

Reached: TypeAlias = tuple[int, str]  # see `ClusterRecord.reached`


@dataclass(frozen=True, slots=True)
class Operating:
    """One node that operates at this moment."""

    id: str
    start: tuple[str, int]  # its token and incarnation
    installed: Version
    lowest: Version
    version: Version


# --- of one moment --------------------------------------------------------------------------------


def acting_not_above_installed(
    record: ClusterRecord | None, operating: Sequence[Operating]
) -> str | None:
    """S1: acting <= installed of every operating member."""
    if record is None or record.acting is None:
        return None
    for node in operating:
        if record.acting > node.installed:
            return f"S1: the cluster acts at {record.acting}, {node.id} has {node.installed}"
    return None


def within_supported(operating: Sequence[Operating]) -> str | None:
    """S3: every operating node is within [lowest supported, installed]."""
    for node in operating:
        if not node.lowest <= node.version <= node.installed:
            return (
                f"S3: {node.id} operates at {node.version}, supports {node.lowest} to"
                f" {node.installed}"
            )
    return None


def mutually_understood(operating: Sequence[Operating]) -> str | None:
    """S7: every operating node understands every other one."""
    if len(operating) < 2:
        return None
    newest = max(operating, key=lambda node: node.version)
    oldest = min(operating, key=lambda node: node.version)
    for one in operating:
        for other in (newest, oldest):
            if not one.lowest <= other.version <= one.installed:
                return (
                    f"S7: {one.id} supports {one.lowest} to {one.installed}, {other.id} operates"
                    f" at {other.version}"
                )
    return None


def data_readable(data: Version | None, operating: Sequence[Operating]) -> str | None:
    """S6: no record is older than what every operating node can read."""
    if data is None:
        return None
    for node in operating:
        if node.lowest > data:
            return f"S6: data may be in the format of {data}, {node.id} reads {node.lowest} and up"
    return None


def records_readable(formats: Collection[Version], operating: Sequence[Operating]) -> str | None:
    """S6: every record can be read by every operating node. `formats`: those of the records."""
    for node in operating:
        for found in formats:
            if not node.lowest <= found <= node.installed:
                return (
                    f"S6: a record is in format {found}, {node.id} reads {node.lowest} to"
                    f" {node.installed}"
                )
    return None


def no_older_record(data: Version | None, formats: Collection[Version]) -> str | None:
    """S9: data version v means that no older record exists."""
    oldest = min(formats, default=None)
    if data is not None and oldest is not None and oldest < data:
        return f"S9: the data version is {data}, a record is in format {oldest}"
    return None


def converted_once(key: str, brought_through: Sequence[Version], format_: Version) -> str | None:
    """S11: a record goes through each format once, and ends in the one that it is said to be in."""
    for before, after in pairwise(brought_through):
        if after <= before:
            return f"S11: record {key} was converted to {after} after {before}"
    if brought_through[-1] != format_:
        return f"S11: record {key} is said to be in {format_}, and is in {brought_through[-1]}"
    return None


def no_write_lost(key: str, found: int | None, written: int | None) -> str | None:
    """S11: the newest write of a record is what is there. Writes have numbers."""
    if found != written:
        return f"S11: record {key} holds write {found}, the newest is {written}"
    return None


def excluded_stays_out(
    excluded: Collection[tuple[str, int]], operating: Sequence[Operating]
) -> str | None:
    """S8: a start and incarnation that was excluded never operates again."""
    for node in operating:
        if node.start in excluded:
            return f"S8: {node.id} was excluded as incarnation {node.start[1]}, and operates"
    return None


# --- of one change --------------------------------------------------------------------------------


def acting_not_back(before: ClusterRecord | None, after: ClusterRecord) -> str | None:
    """S2: the acting version never goes back, but by a downgrade that somebody asked for."""
    if before is None:
        return None
    if after.reached < before.reached:
        return f"S2: acting goes back from {before.acting} to {after.acting}"
    asked = before.downgrade.version if before.downgrade is not None else ""
    if after.downgrades > before.downgrades and asked != str(after.acting):
        return f"S2: downgraded to {after.acting}, asked for was {asked or 'nothing'}"
    return None


def nothing_newer(record: ClusterRecord, formats: Collection[Version]) -> str | None:
    """S6: once all have confirmed a downgrade, no record is newer than the acting version.

    `formats`: those of the records.
    """
    newest = max(formats, default=None)
    if not record.downgrades or not record.settled or record.acting is None or newest is None:
        return None
    if newest > record.acting:
        return f"S6: downgraded to {record.acting}, a record is in format {newest}"
    return None


def given_once(
    given: Mapping[tuple[str, int], str], generation: str, epoch: int, token: str
) -> str | None:
    """S4: no epoch is given twice. `given`: generation and epoch -> the token that has it."""
    owner = given.get((generation, epoch), token)
    return None if owner == token else f"S4: epoch {epoch} was given twice"


def written_once(
    written: Collection[tuple[str, int, int]], generation: str, epoch: int, revision: int
) -> str | None:
    """S4: at most one committed write of each epoch and revision."""
    if (generation, epoch, revision) in written:
        return f"S4: epoch {epoch} and revision {revision} were written twice"
    return None


def rises(latest: tuple[int, int], epoch: int, revision: int) -> str | None:
    """S4 in one line of commits: each is above the one before it, by epoch, then by revision."""
    if (epoch, revision) <= latest:
        return f"S4: epoch {epoch} and revision {revision} come after {latest[0]} and {latest[1]}"
    return None


def node_not_back(
    node_id: str, highest: Reached | None, reached: Reached, *, store_lost: bool
) -> str | None:
    """S5: what a node operates at never goes back; S10: nor because the store lost writes.

    `highest`, `reached`: as in the record by which it operated, and operates now.
    """
    if highest is None or reached >= highest:
        return None
    rule = "S10" if store_lost else "S5"
    return f"{rule}: {node_id} goes back from {highest} to {reached}"


def remembered_first(
    node_id: str, version: Version, remembered: ClusterRecord | None
) -> str | None:
    """S5, by R11: a node operates only at what is on its disk."""
    if remembered is None or remembered.acting is None:
        return f"S5: {node_id} operates at {version}, and nothing is on its disk"
    if remembered.acting < version and not remembered.downgrades:
        return f"S5: {node_id} operates at {version}, which is not on its disk"
    return None


def hold_holds(held: bool, before: Version | None, after: Version | None) -> str | None:
    """S12: no raise after a hold was acknowledged."""
    if held and before is not None and after is not None and after > before:
        return f"S12: raised to {after} although a hold was acknowledged"
    return None


def nobody_passed(acting: Version, serving: Mapping[str, Version]) -> str | None:
    """S13: no raise past a member that nobody excluded. `serving`: what runs on each of them."""
    for node_id, installed in serving.items():
        if installed < acting:
            return f"S13: raised to {acting} past {node_id}, which runs {installed}"
    return None


def nobody_locked_out(acting: Version, stopped: Mapping[str, Version]) -> str | None:
    """S14: no raise locks out a registered member. `stopped`: what each will start with."""
    for node_id, installed in stopped.items():
        if installed < acting:
            return f"S14: raised to {acting}, {node_id} is stopped and has {installed}"
    return None


def nobody_away_passed(members: Iterable[Member]) -> str | None:
    """S14, by R26: no raise while a member is away: it may come back with less."""
    for member in members:
        if member.standing is Standing.AWAY:
            return f"S14: raised while {member.id} is away, and may come back with less"
    return None


def within_budget(down: Collection[str], budget: int) -> str | None:
    """S15: never more nodes down by permission than the budget says."""
    if len(down) > budget:
        return f"S15: {', '.join(sorted(down))} are down at once, the budget is {budget}"
    return None


def complete_in_truth(record: ClusterRecord, members: Iterable[Member]) -> str | None:
    """S16: an upgrade is called complete only when it is."""
    for member in members:
        if member.installed != record.acting:
            return f"S16: complete, but {member.id} has {member.installed}"
        late = member.operating_revision < record.raised_revision
        if member.standing is Standing.SERVING and late:
            return f"S16: complete, but {member.id} has not confirmed"
    if record.data != record.acting:
        return f"S16: complete, but data may be in the format of {record.data}"
    return None


def complete_once(completed: Collection[str], completion: str) -> str | None:
    """S16: an upgrade is called complete once."""
    return f"S16: {completion} was called complete twice" if completion in completed else None


def step_goes_on(
    known: StepState | None, saved: StepState, epoch: int, newest_epoch: int
) -> str | None:
    """S17: a step is saved by the newest master only, never goes back, and succeeds once."""
    if epoch != newest_epoch:
        return f"S17: {saved.name} was saved in epoch {epoch}, the newest is {newest_epoch}"
    if known is not None and known.finished:
        return f"S17: {saved.name} for {saved.version} goes on after it has succeeded"
    if known is not None and saved.done < known.done:
        return f"S17: {saved.name} for {saved.version} went back from {known.done} to {saved.done}"
    return None


def steps_have_run(job: Job, members: Iterable[Member], steps: Iterable[StepState]) -> str | None:
    """S17: what a version needs done first has been done."""
    wanted = {one for member in members for one in has_steps(member, job.phase)}
    done = {one.version for one in steps if one.phase == job.phase and one.finished}
    for version in sorted(wanted - done):
        if job.covers(job.phase, version):
            return f"S17: the steps ({job.phase}) for {version} have not succeeded"
    return None


def drained_first(node_id: str, member: Member | None, *, operates: bool) -> str | None:
    """S18: nothing is installed on a node that is not drained. `member`: None while in doubt."""
    if operates:
        return f"S18: something is installed on {node_id} while it operates"
    if member is not None and member.standing is Standing.SERVING:
        return f"S18: something is installed on {node_id}, which serves by the store's word"
    return None


def rollout_keeps(before: ClusterRecord | None, after: Version | None) -> str | None:
    """S21: no raise while a rollout, or a member of it, goes back, or before it has baked.

    `before`: just before.
    """
    rollout = before.rollout if before is not None else None
    if before is None or rollout is None or before.acting is None or before.acting == after:
        return None
    if rollout.rollback or rollout.returning or rollout.strategy.bake_ms:
        return f"S21: raised to {after}, and the rollout to {rollout.version} goes back or bakes"
    return None


def given_to_the_well(
    rollout: Rollout, members: Mapping[str, Member], given: Collection[str]
) -> str | None:
    """S20: nobody is given a version while it is not well, or while one is worse for it.

    Args:
        rollout: just after it gave a turn.
        members: at that moment.
        given: the turns of this rollout in which its version was given.
    """
    turn = rollout.turns[-1]
    taken = members[turn.node]
    if parse_version(turn.version) < taken.installed:
        return None  # it returns to what it had
    if not is_healthy(taken.health):
        return f"S20: {taken.id} is given {turn.version}, and is not well"
    at_work = {one.node for one in rollout.turns} | set(rollout.skipped)
    for one in members.values():
        work, health = one.work, one.health
        ill = health is not None and health.state is HealthState.UNHEALTHY
        if ill and one.id not in at_work and work is not None and work.turn in given:
            return f"S20: {taken.id} is given {turn.version}, and {one.id} is not well with it"
    return None


def step_ran_once(
    node_id: str, ended: Collection[tuple[str, TurnStep, int]], work: Work
) -> str | None:
    """S19: a step that has ended never runs again, but for a question.

    `ended`: turn, step and attempt of all.
    """
    if work.step is not TurnStep.VERIFY and (work.turn, work.step, work.attempt) in ended:
        return f"S19: {work.step} runs again on {node_id}, in turn {work.turn}"
    return None
