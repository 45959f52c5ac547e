"""The ledger: every reason why an upgrade has not finished, those of a rollout among them.

Theory of operation: the reasons of a rollout are read from what its decisions are made from
(`rollout`). A member whose turn it is, or that waits for it, is down or old because of the rollout:
so the rollout's own reason is shown for it, whose remedy is the right one. That it bakes is shown
once all have the version, with the time that is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from peerupgrade.core.blockers import (
    Blocker,
    Code,
    all_blockers,
)
from peerupgrade.core.record import (
    ClusterRecord,
    Health,
    HealthState,
    Member,
    Rollout,
    Snapshot,
    Turn,
    TurnStep,
    Work,
    WorkState,
    is_down,
    is_healthy,
)
from peerupgrade.core.rollout import (
    bakes_until_ms,
    brought,
    candidate,
    counted,
    has_stopped,
    is_drained,
    lacking,
    rollout_budget,
    slot_budget,
    soaks_until_ms,
    unhealthy,
    window_opens_at_ms,
    work_on,
    worse,
)
from peerupgrade.core.windows import ALWAYS, closed_at_ms, week_time

_BY_ROLLOUT = (Code.OLDER_VERSION, Code.AWAY)


def whole_ledger(snapshot: Snapshot, now_ms: int, silent: Collection[str] = ()) -> list[Blocker]:
    """Every reason that the store's state shows; empty when nothing is unfinished.

    `silent`: who does not answer gossip; they count as down before another one is taken down.
    """
    found, record = [*_drained(snapshot), *all_blockers(snapshot, now_ms)], snapshot.record
    if record is None or record.rollout is None or not snapshot.verified:
        return found
    handled = {turn.node for turn in record.rollout.turns}
    handled |= {member.id for member in lacking(snapshot)}
    others = [
        one
        for one in found
        if one.code is not Code.BAKING
        and (one.code not in _BY_ROLLOUT or one.subject not in handled)
    ]
    shown = _rollout_blockers(snapshot, record, record.rollout, now_ms, silent)
    return [*shown, *others]


def _rollout_blockers(
    snapshot: Snapshot,
    record: ClusterRecord,
    rollout: Rollout,
    now_ms: int,
    silent: Collection[str],
) -> Iterator[Blocker]:
    waiting, version = lacking(snapshot), rollout.version
    left = [*(turn.node for turn in rollout.turns), *(member.id for member in waiting)]
    ends = "is being rolled back" if rollout.rollback else "is under way"
    if rollout.aborted:
        ends = "ends with the members whose turn it is"
    yield Blocker(
        Code.ROLLOUT,
        "",
        rollout.started_at_ms,
        f"the rollout to {version} {ends}; left: {', '.join(left) or 'nobody'}",
        "wait: it goes from member to member, and what else is named here keeps it; or: peerupgrade"
        " upgrade abort",
    )
    for turn in rollout.turns:
        yield _turn_blocker(turn, snapshot.members.get(turn.node))
    pause = rollout.pause
    ailing = {member.id for member in _worse_now(snapshot, rollout, silent)}
    if pause is not None and rollout.turn_of(pause.by) is None and pause.by not in ailing:
        well = any(
            member.id == pause.by and is_healthy(member.health) and member.id not in silent
            for member in brought(snapshot)
        )
        yield Blocker(
            Code.ROLLOUT_PAUSED,
            "",
            pause.at_ms,
            f"{pause.by} paused the rollout: {pause.reason}"
            + (f"; by now {pause.by} is well" if well else ""),
            "peerupgrade upgrade resume",
        )
    if not rollout.aborted:
        if waiting:
            yield from _soaking(snapshot, rollout, now_ms)
            yield from _window_closed(rollout, now_ms)
        for member in waiting:
            if is_down(record, member):
                yield _down(member, "is down: its turn comes once it operates")
            elif member.id in silent:
                yield _down(member, "does not answer gossip: its turn comes once it does")
        if not rollout.rollback:
            yield from _unhealthy(snapshot, rollout)
        yield from _gone_after(snapshot, rollout, silent)
        if not left:
            yield from _baking(snapshot, rollout, now_ms)
    following = candidate(snapshot, now_ms, silent)
    if following is not None:
        yield from _no_slot(snapshot, record, rollout, following, silent)


def _turn_blocker(turn: Turn, member: Member | None) -> Blocker:
    work, name = work_on(member, turn), turn.node
    if member is None or work is None:
        return Blocker(
            Code.TURN_NOT_BEGUN,
            name,
            turn.at_ms,
            f"{name} has its turn, and has not begun",
            f"start {name} again, or exclude it if it is gone for good",
        )
    stopped = has_stopped(work, turn)
    code, evidence, remedy = _work_words(name, work, stopped=stopped)
    if stopped and work.step is TurnStep.RETURN and member.health is not None:
        evidence += f"; by the newest probe it {_health_words(member.health)}"
    if turn.given_up:
        evidence += "; it was given up, and comes back with what it has"
    return Blocker(code, name, member.changed_at_ms, evidence, remedy)


def _work_words(name: str, work: Work, *, stopped: bool) -> tuple[Code, str, str]:
    note = f": {work.note}" if work.note else ""
    decide = f"peerupgrade upgrade retry {name}, or upgrade skip {name}"
    if stopped and work.state is WorkState.FAILED:
        return (
            Code.STEP_FAILED,
            f"{work.step} failed on {name}{note}",
            f"mend what it reports, then: {decide}",
        )
    if stopped:
        return (
            Code.STEP_UNKNOWN,
            f"{work.step} was cut short on {name}, and nothing says whether it was done{note}",
            f"look at {name}; to do it again, or to leave {name} out: {decide}",
        )
    if work.state is WorkState.WAITS:
        return (
            Code.STEP_MANUAL,
            f"{name} is out of service, and waits for a person: it has {work.before}, it is to get"
            f" {work.version}",
            f"install {work.version} on {name} and start its program again, then tell its agent"
            f" by SIGHUP; or: peerupgrade upgrade skip {name}; or exclude it if it is gone",
        )
    return (
        Code.STEP_RUNS,
        f"{name}, from {work.before} to {work.version}: {work.step} {work.state}{note}",
        f"wait; if {name} does not answer, start it again, or exclude it if it is gone for good",
    )


def _drained(snapshot: Snapshot) -> Iterator[Blocker]:
    """Also once the rollout has ended; in its turn it is named by that."""
    rollout = snapshot.record.rollout if snapshot.record is not None else None
    for name, member in sorted(snapshot.members.items()):
        if not is_drained(member) or (rollout is not None and rollout.turn_of(name) is not None):
            continue
        work = member.work
        assert work is not None
        why = f": {work.note}" if work.note else ""
        mend = "mend its program: it is undrained by itself once that is healthy"
        if work.step is TurnStep.UNDRAIN:
            why = f": undrain has not got through, attempt {work.attempt}{why}"
            mend = (
                "mend what it reports: undrain is tried again by itself, within 5 min, or at once"
                f" if the agent of {name} is started again"
            )
        yield Blocker(
            Code.DRAINED,
            name,
            member.changed_at_ms,
            f"{name} is out of its turn, and nothing is sent to it{why}",
            f"{mend}; or exclude {name} if it is gone for good",
        )


def _down(member: Member, how: str) -> Blocker:
    return Blocker(
        Code.MEMBER_DOWN,
        member.id,
        member.changed_at_ms,
        f"{member.id} has {member.installed}, and {how}",
        f"start {member.id} again; or peerupgrade upgrade skip {member.id}; or exclude it if it is"
        " gone for good",
    )


def _unhealthy(snapshot: Snapshot, rollout: Rollout) -> Iterator[Blocker]:
    """What was so before is told apart: it is not the fault of the new version."""
    came = {member.id for member in brought(snapshot)}
    for member in unhealthy(snapshot):
        if rollout.turn_of(member.id) is not None:
            continue
        assert member.health is not None
        note = _health_words(member.health)
        skip = f"peerupgrade upgrade skip {member.id}"
        if member.id in came:
            code, evidence = Code.UNHEALTHY_AFTER, f"{member.id} has got {member.installed}, and"
            remedy = f"mend it{_resume(rollout)}; or: {skip}, or upgrade abort --rollback"
        else:
            code, evidence = Code.UNHEALTHY_BEFORE, f"{member.id} has {member.installed}, and"
            remedy = f"mend it: it counts as down, and until then it has no turn; or: {skip}"
        since_ms = member.health_since_ms or member.changed_at_ms
        yield Blocker(code, member.id, since_ms, f"{evidence} {note}", remedy)


def _health_words(health: Health) -> str:
    """What the newest probe says of a program."""
    match health.state:
        case HealthState.HEALTHY:
            return "is healthy"
        case HealthState.UNHEALTHY:
            return f"is unhealthy: {health.note}"
        case HealthState.UNKNOWN if health.note:
            return f"was started, and its probes fail so far: {health.note}"
        case HealthState.UNKNOWN:
            return "was started, and its probes say nothing yet"


def _worse_now(snapshot: Snapshot, rollout: Rollout, silent: Collection[str]) -> list[Member]:
    """Who got the version, and is not well or does not answer: to resume would not help."""
    if rollout.rollback or rollout.aborted:
        return []
    ill = {member.id for member in unhealthy(snapshot)}
    return [one for one in brought(snapshot) if one.id in ill or one.id in silent]


def _gone_after(snapshot: Snapshot, rollout: Rollout, silent: Collection[str]) -> Iterator[Blocker]:
    """The rollout was paused because a member that got the version does not answer any more."""
    pause = rollout.pause
    found = {member.id: why for member, why in worse(snapshot, silent)}
    for member in _worse_now(snapshot, rollout, silent):
        if pause is None or member.id != pause.by or not is_healthy(member.health):
            continue
        yield Blocker(
            Code.UNHEALTHY_AFTER,
            member.id,
            pause.at_ms,
            found[member.id],
            f"start {member.id} again{_resume(rollout)}; or: peerupgrade upgrade skip {member.id},"
            " or upgrade abort --rollback; or exclude it if it is gone for good",
        )


def _resume(rollout: Rollout) -> str:
    return ", then: peerupgrade upgrade resume" if rollout.pause is not None else ""


def _soaking(snapshot: Snapshot, rollout: Rollout, now_ms: int) -> Iterator[Blocker]:
    until_ms, soak_ms = soaks_until_ms(snapshot), rollout.strategy.soak_ms
    if now_ms < until_ms:
        yield Blocker(
            Code.SOAKING,
            "",
            until_ms - soak_ms,
            f"those that have {rollout.version} must operate for {soak_ms / 1000:g} s"
            " before another one is taken down",
            f"wait {(until_ms - now_ms) / 1000:.0f} s; or: peerupgrade upgrade change --soak 0s",
        )


def _window_closed(rollout: Rollout, now_ms: int) -> Iterator[Blocker]:
    opens_ms, windows = window_opens_at_ms(rollout, now_ms), rollout.strategy.windows
    if now_ms < opens_ms:
        yield Blocker(
            Code.WINDOW_CLOSED,
            "",
            max(rollout.started_at_ms, closed_at_ms(windows, now_ms)),
            f"members are taken down only within {', '.join(windows)} (UTC)",
            f"wait until {week_time(opens_ms)} UTC, in {(opens_ms - now_ms) / 3_600_000:.1f} h; or:"
            f" peerupgrade upgrade change --window {ALWAYS}",
        )


def _baking(snapshot: Snapshot, rollout: Rollout, now_ms: int) -> Iterator[Blocker]:
    until_ms, bake_ms = bakes_until_ms(snapshot), rollout.strategy.bake_ms
    if now_ms < until_ms:
        yield Blocker(
            Code.BAKING,
            "",
            until_ms - bake_ms,
            f"all that have {rollout.version} must operate for {bake_ms / 1000:g} s before the"
            " acting version rises; until then they can return",
            f"wait {(until_ms - now_ms) / 1000:.0f} s; or: peerupgrade upgrade change --bake 0s",
        )


def _no_slot(
    snapshot: Snapshot,
    record: ClusterRecord,
    rollout: Rollout,
    member: Member,
    silent: Collection[str],
) -> Iterator[Blocker]:
    """R29: the next one must not be taken down while too many others are.

    First the master counts, then the store does. Turns and what is unhealthy are named anyway.
    """
    down, budget = counted(snapshot, member)
    if len(down) >= budget:
        return
    held = {one.id: "is down" for one in snapshot.members.values() if is_down(record, one)}
    held |= {one.id: f"has a slot by {one.by}" for one in snapshot.slots.values()}
    down, budget = counted(snapshot, member, silent)
    if len(down) >= budget:
        words = dict.fromkeys(silent, "does not answer") | held
        why = {name: words.get(name, "counts as down") for name in down}
    else:
        why = {name: how for name, how in held.items() if name != member.id}
        mine, budget = snapshot.slots.get(member.id), rollout_budget(snapshot)
        if mine is None and len(why) < slot_budget(snapshot, member, silent):
            return
        why |= dict.fromkeys(down - {*why, member.id}, "counts as down")
        if mine is not None and mine.by == f"rollout {rollout.id}":
            return
        why = why or held
    named = [f"{name} {how}" for name, how in sorted(why.items())]
    yield Blocker(
        Code.BUDGET_SPENT,
        member.id,
        snapshot.members[member.id].changed_at_ms,
        f"{member.id} is next, and not more than {budget} may be down: {', '.join(named)}",
        "start what is down, or exclude it if it is gone for good; whoever has a slot returns it;"
        " or give a larger --budget",
    )
