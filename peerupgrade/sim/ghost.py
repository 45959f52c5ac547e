"""Judges every event on a stage by the invariants.

Theory of operation: a `Ghost` is what an all-seeing observer remembers, and no more of it than the
invariants need, so that situations that were reached in different ways can be one. It is a value:
`judge` looks at what an event did and gives the next one, or raises what does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from peerupgrade.core.invariants import (
    acting_not_above_installed,
    data_readable,
    mutually_understood,
    within_supported,
)
from peerupgrade.core.record import ClusterRecord, Member, Standing
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
from peerupgrade.core.versions import Version
from peerupgrade.sim.checker import ViolationError
from peerupgrade.sim.fingerprint import Remarks
from peerupgrade.sim.stage import Happened, Host, Served, Stage


@dataclass(frozen=True, slots=True)
class Ghost:
    """What the observer remembers.

    Attributes:
        operated: the highest version that each node has operated at.
        members: who was admitted and has neither left nor been excluded.
        forgotten: those of them whose registration the store has lost.
        excluded: token and incarnation of every start that was excluded.
        held: a hold was acknowledged and not released.
        lost: the store has lost writes.
        converted: the highest data version that was ever committed.
        newest: the highest epoch, and the highest revision that was committed in it.
        completed: the versions whose upgrade was called complete.
    """

    operated: Mapping[str, Version] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    forgotten: frozenset[str] = frozenset()
    excluded: frozenset[tuple[str, int]] = frozenset()
    held: bool = False
    lost: bool = False
    converted: Version | None = None
    newest: tuple[int, int] = (0, 0)
    completed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, stage: Stage) -> Ghost:
        """Of a stage on which nothing has gone wrong yet."""
        record = stage.store.state.record
        assert record is not None
        return cls(
            operated={node.id: node.version for node in stage.operating()},
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
    _moment(stage, ghost)
    return ghost


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
    for problem in (
        acting_not_above_installed(record if verified else None, operating),
        within_supported(operating),
        mutually_understood(operating),
        data_readable(_data(stage, ghost) if verified else None, operating),
    ):
        if problem:
            raise ViolationError(problem)
    for node in operating if ghost.excluded else ():
        memory = stage.hosts[node.id].disk
        if (memory.token, memory.incarnation) in ghost.excluded:
            raise ViolationError(f"S8: {node.id} was excluded, and operates")


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
    known = ghost.operated.get(host.name)
    if host.disk_lost and ghost.lost:
        known = None  # both that could remember have forgotten
    if known is not None and version < known:
        raise ViolationError(f"S5: {host.name} goes back from {known} to {version}")
    remembered = host.disk.record
    if remembered is None or remembered.acting is None or remembered.acting < version:
        raise ViolationError(f"R11: {host.name} operates at {version}, not on its disk")
    return replace(ghost, operated={**ghost.operated, host.name: version})


def _served(stage: Stage, ghost: Ghost, served: Served) -> Ghost:
    match served.request, served.reply:
        case Commit() as request, Done():
            return _committed(stage, ghost, request.step, served)
        case Claim(), Claimed(epoch=epoch, view=view):
            assert view.record is not None
            new = view.record is not served.before
            if new and epoch <= ghost.newest[0]:
                raise ViolationError(f"S4: epoch {epoch} is not above {ghost.newest[0]}")
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
    if newest <= ghost.newest:
        raise ViolationError(f"S4: epoch and revision {newest} come after {ghost.newest}")
    held = ghost.held and not (record.hold is None and before.hold is not None)
    converted = max(filter(None, (ghost.converted, record.data)), default=None)
    ghost = replace(ghost, newest=newest, held=held, converted=converted)
    if before.acting is None or record.acting is None:
        return ghost
    if record.acting < before.acting:
        raise ViolationError(f"S2: acting goes back from {before.acting} to {record.acting}")
    if record.acting > before.acting:
        _raised(stage, ghost, record.acting, served.members)
    return _completed(ghost, record, served.members) if step == "completed" else ghost


def _raised(stage: Stage, ghost: Ghost, acting: Version, members: Mapping[str, Member]) -> None:
    if ghost.held:
        raise ViolationError("S12: raised although a hold was acknowledged")
    for known in members.values():
        if known.standing is Standing.AWAY:
            raise ViolationError(f"S14: raised while {known.id} may come back with less")
    for name in ghost.members - ghost.forgotten:  # if the forgotten operate, S1 sees it
        host, member = stage.hosts[name], members.get(name)
        runs = host.node is not None and member is not None and member.token == host.disk.token
        if runs and host.installed < acting:
            raise ViolationError(f"S13: raised to {acting} past {name}")


def _completed(ghost: Ghost, record: ClusterRecord, members: Mapping[str, Member]) -> Ghost:
    for member in members.values():
        if member.installed != record.acting:
            raise ViolationError(f"S16: complete, but {member.id} has {member.installed}")
        late = member.operating_revision < record.raised_revision
        if member.standing is Standing.SERVING and late:
            raise ViolationError(f"S16: complete, but {member.id} has not confirmed")
    version = str(record.acting)
    if version in ghost.completed and not ghost.lost:
        raise ViolationError(f"S16: the upgrade to {version} was called complete twice")
    return replace(ghost, completed=ghost.completed | {version})
