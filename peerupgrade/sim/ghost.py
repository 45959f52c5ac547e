"""Judges every event on a stage by the invariants.

Theory of operation: a `Ghost` is what an all-seeing observer remembers, and no more of it than the
invariants need, so that situations that were reached in different ways can be one. It is a value:
`judge` looks at what an event did and gives the next one, or raises what does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from peerupgrade.core.acting import StepName
from peerupgrade.core.effects import Order
from peerupgrade.core.invariants import (
    Reached,
    acting_not_above_installed,
    acting_not_back,
    complete_in_truth,
    complete_once,
    data_readable,
    drained_first,
    excluded_stays_out,
    hold_holds,
    mutually_understood,
    nobody_away_passed,
    nobody_passed,
    node_not_back,
    nothing_newer,
    remembered_first,
    rises,
    step_ran_once,
    within_budget,
    within_supported,
)
from peerupgrade.core.record import ClusterRecord, Member, TurnStep
from peerupgrade.core.requests import (
    Admit,
    Admitted,
    Attach,
    Attached,
    Claim,
    Claimed,
    Commit,
    Done,
    Exclude,
    Leave,
    ReleaseHold,
    SetHold,
)
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.sim.checker import hold
from peerupgrade.sim.fingerprint import Remarks
from peerupgrade.sim.stage import Happened, Host, Served, Stage


@dataclass(frozen=True, slots=True)
class Ghost:
    """What the observer remembers.

    Attributes:
        operated: the highest version that each node has operated at, since how many downgrades.
        members: who was admitted and has neither left nor been excluded.
        forgotten: those of them whose registration the store has lost.
        excluded: token and incarnation of every start that was excluded.
        held: a hold was acknowledged and not released.
        lost: the store has lost writes.
        converted: the highest data version that was ever committed.
        newest: the highest epoch, and the highest revision that was committed in it.
        completed: the versions whose upgrade was called complete.
        ended: turn, step and attempt of all that have run in rollouts.
    """

    operated: Mapping[str, Reached] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    forgotten: frozenset[str] = frozenset()
    excluded: frozenset[tuple[str, int]] = frozenset()
    held: bool = False
    lost: bool = False
    converted: Version | None = None
    newest: tuple[int, int] = (0, 0)
    completed: frozenset[str] = frozenset()
    ended: frozenset[tuple[str, TurnStep, int]] = frozenset()

    @classmethod
    def of(cls, stage: Stage) -> Ghost:
        """Of a stage on which nothing has gone wrong yet."""
        record = stage.store.state.record
        assert record is not None
        return cls(
            operated={node.id: (record.downgrades, node.version.key) for node in stage.operating()},
            members=frozenset(stage.store.state.members),
            converted=record.data,
            newest=(record.epoch, record.revision),
        )

    def remarks(self, stage: Stage) -> Remarks:
        """This as a part of the situation."""
        of_hosts = {
            name: (
                str(self.operated.get(name)),
                name in self.members,
                name in self.forgotten,
            )
            for name in stage.hosts
        }
        plain: tuple[str | int, ...] = (
            self.held,
            self.lost,
            str(self.converted),
            " ".join(sorted(self.completed)),
        )
        return Remarks(of_hosts, plain, (self.newest,))


def judge(stage: Stage, ghost: Ghost, happened: Happened) -> Ghost:
    """Look at what an event did.

    Raises:
        ViolationError: an invariant does not hold.
    """
    for served in happened.served:
        ghost = _served(stage, ghost, served)
    for name, version, _ in happened.operated:
        if version is not None:
            ghost = _operates(stage.hosts[name], ghost, version)
    for name, order in happened.ordered:
        _ordered(stage, ghost, name, order)
    works = [order.work for _, order in happened.ended]
    runs = {(work.turn, work.step, work.attempt) for work in works}
    _moment(stage, ghost)
    return replace(ghost, ended=ghost.ended | runs) if runs else ghost


def _ordered(stage: Stage, ghost: Ghost, name: str, order: Order) -> None:
    """A step of a rollout begins."""
    if order.look:
        return
    state, operating = stage.store.state, {node.id for node in stage.operating()}
    hold(step_ran_once(name, ghost.ended, order.work))
    if order.work.step in (TurnStep.INSTALL, TurnStep.RESTART):
        record = state.record
        verified = record is not None and record.identity == stage.store.identity
        member = state.members.get(name) if verified else None
        hold(drained_first(name, member, operates=name in operating))
        rollout = record.rollout if record is not None else None
        running = {host.name for host in stage.hosts.values() if host.node is not None}
        down = (running - operating) | {name}
        budget = rollout.strategy.budget_of(len(state.members)) if rollout else len(down)
        hold(within_budget(down, budget))


def forgot(stage: Stage, ghost: Ghost) -> Ghost:
    """The store has lost writes: a failover, a restart without them, a flush.

    A hold must come back if the copy had it or a member has it on its disk.
    """
    records = [stage.store.state.record, *(host.disk.record for host in stage.hosts.values())]
    held = ghost.held and any(record is not None and record.hold for record in records)
    forgotten = ghost.members - frozenset(stage.store.state.members)
    return replace(ghost, held=held, lost=True, forgotten=forgotten)


def _moment(stage: Stage, ghost: Ghost) -> None:
    operating = [
        node for node in stage.operating() if not _cut_off(stage.hosts[node.id], ghost, stage)
    ]
    record = stage.store.state.record
    verified = record is not None and record.identity == stage.store.identity
    hold(
        acting_not_above_installed(record if verified else None, operating),
        within_supported(operating),
        mutually_understood(operating),
        data_readable(_data(stage, ghost) if verified else None, operating),
        excluded_stays_out(ghost.excluded, operating),
    )
    if record is not None and verified:
        views = stage.store.state.collections.values()
        formats = {parse_version(one) for view in views for one in view.counts}
        hold(nothing_newer(record, formats))


def _cut_off(host: Host, ghost: Ghost, stage: Stage) -> bool:
    """A node of policy freeze that the store has forgotten while it could not say so.

    No rule can protect it: nothing in the store knows of it. It suspends as soon as it is told.
    """
    forgotten = host.name in ghost.forgotten and not stage.config.lease_s
    return forgotten and host.slept_at_call is not None


def _data(stage: Stage, ghost: Ghost) -> Version | None:
    """The oldest format that a record can be in, as far as the store can be asked to know.

    With a replica, what was converted stays so. One server that forgets acknowledged writes
    forgets converted data, too: nothing protects from that.
    """
    record = stage.store.state.record
    if record is None or record.data is None:
        return None
    if not stage.config.with_replica:
        return None if ghost.lost else record.data
    return max(record.data, ghost.converted or record.data)


def _operates(host: Host, ghost: Ghost, version: Version) -> Ghost:
    known, remembered = ghost.operated.get(host.name), host.disk.record
    reached = (remembered.downgrades if remembered is not None else 0, version.key)
    if host.disk_lost and ghost.lost:
        known = None  # both that could remember have forgotten
    hold(
        node_not_back(host.name, known, reached, store_lost=ghost.lost),
        remembered_first(host.name, version, host.disk.record),
    )
    return replace(ghost, operated={**ghost.operated, host.name: reached})


def _served(stage: Stage, ghost: Ghost, served: Served) -> Ghost:
    match served.request, served.reply:
        case Commit() as request, Done():
            return _committed(stage, ghost, request.step, served)
        case Claim(), Claimed(epoch=epoch, view=view):
            assert view.record is not None
            new = view.record is not served.before
            if new:
                hold(rises(ghost.newest, epoch, 0))  # the epoch itself must be a new one
            return replace(ghost, newest=(epoch, view.record.revision)) if new else ghost
        case Admit(id=name), Admitted():
            return _joined(ghost, name)
        case Attach(member=member), Attached() if member.id in served.members:
            return _joined(ghost, member.id)
        case Leave(id=name), Done():
            return replace(ghost, members=ghost.members - {name})
        case Exclude(id=name), Done():
            stone = stage.store.state.excluded[name]
            start = (stone.token, stone.incarnation)
            members = ghost.members - {name}
            return replace(ghost, members=members, excluded=ghost.excluded | {start})
        case SetHold(), Done():
            return replace(ghost, held=True)
        case ReleaseHold(), _ if served.after is not None and served.after.hold is None:
            return replace(ghost, held=False)  # also when its answer says that it may be lost
        case _:
            return ghost


def _joined(ghost: Ghost, name: str) -> Ghost:
    if name in ghost.members and name not in ghost.forgotten:
        return ghost
    return replace(ghost, members=ghost.members | {name}, forgotten=ghost.forgotten - {name})


def _committed(stage: Stage, ghost: Ghost, step: str, served: Served) -> Ghost:
    before, record = served.before, served.after
    assert record is not None
    assert before is not None
    newest = (record.epoch, record.revision)
    hold(rises(ghost.newest, *newest))
    held = ghost.held and not (record.hold is None and before.hold is not None)
    converted = max(filter(None, (ghost.converted, record.data)), default=None)
    if record.downgrades > before.downgrades:
        converted, held = record.data, record.hold is not None
    ghost = replace(ghost, newest=newest, held=held, converted=converted)
    hold(
        acting_not_back(before, record),
        hold_holds(held, before.acting, record.acting),
    )
    if before.acting is not None and record.acting is not None and record.acting > before.acting:
        _raised(stage, ghost, record.acting, served.members)
    return _completed(ghost, record, served.members) if step == StepName.COMPLETED else ghost


def _raised(stage: Stage, ghost: Ghost, acting: Version, members: Mapping[str, Member]) -> None:
    hold(nobody_away_passed(members.values()))
    serving = {}
    for name in ghost.members - ghost.forgotten:  # if the forgotten operate, S1 sees it
        host, member = stage.hosts[name], members.get(name)
        if host.node is not None and member is not None and member.token == host.disk.token:
            serving[name] = host.installed
    hold(nobody_passed(acting, serving))


def _completed(ghost: Ghost, record: ClusterRecord, members: Mapping[str, Member]) -> Ghost:
    hold(complete_in_truth(record, members.values()))
    version = f"{record.acting}, {record.downgrades}"
    if not ghost.lost:
        hold(complete_once(ghost.completed, version))
    return replace(ghost, completed=ghost.completed | {version})
