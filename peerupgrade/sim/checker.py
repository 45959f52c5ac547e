"""Judges every event of a simulated world by the invariants."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from peerupgrade.core.blockers import next_acting
from peerupgrade.core.effects import Operate
from peerupgrade.core.invariants import (
    acting_not_above_installed,
    data_readable,
    mutually_understood,
    within_supported,
)
from peerupgrade.core.record import ClusterRecord, Standing
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
from peerupgrade.sim.world import Machine, World

INVARIANTS = (
    "S1 acting at or below installed",
    "S2 acting never back",
    "S3 within supported",
    "S4 epochs and revisions once",
    "S5 no node goes back",
    "S6 data readable",
    "S7 mutually understood",
    "S8 excluded never again",
    "S10 lost writes change no node",
    "S12 hold holds",
    "S13 no member passed",
    "S14 nobody locked out",
    "S16 complete once and truly",
)
_NAMES = {name.partition(" ")[0]: name for name in INVARIANTS}


class ViolationError(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Checker:
    """Ghost state: what an all-seeing observer remembers."""

    exercised: Counter[str] = field(default_factory=Counter)
    epochs: dict[tuple[str, int], str] = field(default_factory=dict)
    commits: set[tuple[str, int, int]] = field(default_factory=set)
    operated: dict[str, Version] = field(default_factory=dict)
    excluded: dict[tuple[str, int], str] = field(default_factory=dict)  # start -> name
    members: set[str] = field(default_factory=set)
    held: bool = False
    completed: Counter[str] = field(default_factory=Counter)
    raises: int = 0
    lost: bool = False
    converted: Version | None = None
    forgotten: set[str] = field(default_factory=set)  # whose registrations the store lost

    def observe(self, world: World, kind: str, what: object) -> None:
        """Called by the world after everything that happens."""
        match kind, what:
            case "effect", (Machine() as machine, Operate(version, _)):
                self._operates(machine, version)
            case "store", (request, reply, ClusterRecord() | None as before):
                self._stored(world, request, reply, before)
            case "lost", _:
                self._lost(world)
            case _:
                pass
        self._moment(world)

    def _lost(self, world: World) -> None:
        """The store forgot. What was told to replicas or to a member's disk must come back."""
        records = [world.store.state.record]
        records += [machine.disk.record for machine in world.machines.values()]
        self.held = self.held and any(record and record.hold for record in records)
        self.lost = True
        record = world.store.state.record
        highest = max((node.version for node in world.operating()), default=None)
        acting = record.acting if record is not None else None
        if highest is not None and (acting is None or acting < highest):
            self._exercise("S10")
            self._exercise("S2")
        members = world.store.state.members
        self.forgotten = {name for name in self.members if name not in members}

    def _cut_off(self, world: World, name: str) -> bool:
        """A node of policy freeze that the store has forgotten and that cannot say so.

        No rule can protect it: nothing in the store knows of it. It suspends as soon as it is told.
        """
        if world.config.lease_s or name not in self.forgotten:
            return False
        machine = world.machines.get(name)
        if machine is None:
            return True
        cut_until_s = max(machine.paused_until_s, machine.cut_until_s)
        now_s = world.agenda.now_s
        return machine.store_cut or now_s < cut_until_s + 3.0

    def _moment(self, world: World) -> None:
        operating = [node for node in world.operating() if not self._cut_off(world, node.id)]
        record = world.store.state.record
        verified = record is not None and record.identity == world.store.identity
        for problem in (
            acting_not_above_installed(record if verified else None, operating),
            within_supported(operating),
            mutually_understood(operating),
            data_readable(self._data(world) if verified else None, operating),
        ):
            if problem:
                raise ViolationError(problem)
        if len({node.version for node in operating}) > 1:
            self._exercise("S7")
        for machine in world.machines.values():
            node = machine.node
            if node is None or node.membership.operating is None:
                continue
            memory = node.membership.memory
            if (memory.token, memory.incarnation) in self.excluded:
                raise ViolationError(f"S8: {machine.name} was excluded, and operates")

    def _data(self, world: World) -> Version | None:
        """The oldest format that a record can be in.

        A data version is committed once the replicas have every converted record, so a store that
        then forgets the data version has not forgotten the conversion. One server that forgets
        acknowledged writes forgets converted data, too: nothing protects from that.
        """
        record = world.store.state.record
        if record is None or record.data is None:
            return None
        if not world.store.with_replica:
            return None if self.lost else record.data
        return max(record.data, self.converted or record.data)

    def _operates(self, machine: Machine, version: Version | None) -> None:
        if version is None:
            return
        known = self.operated.get(machine.name)
        if machine.disk_lost and self.lost:
            known = None  # both that could remember have forgotten
        if known is not None and version < known:
            raise ViolationError(f"S5: {machine.name} goes back from {known} to {version}")
        remembered = machine.disk.record
        if remembered is None or remembered.acting is None or remembered.acting < version:
            raise ViolationError(f"R11: {machine.name} operates at {version}, not on its disk")
        self.operated[machine.name] = version

    def _stored(
        self, world: World, request: object, reply: object, before: ClusterRecord | None
    ) -> None:
        record = world.store.state.record
        match request, reply:
            case Commit(), Done():
                assert record is not None
                self._committed(world, request, record, before)
            case Claim(token=token), Claimed(epoch=epoch):
                self._exercise("S4")
                assert record is not None
                if self.epochs.setdefault((record.generation, epoch), token) != token:
                    raise ViolationError(f"S4: epoch {epoch} was given twice")
            case Admit(id=node_id), Admitted(rule=rule):
                self._admitted(node_id, rule)
                self.members.add(node_id)
                self.forgotten.discard(node_id)
            case Attach(member=member), Attached():
                if world.store.state.members.get(member.id):
                    self.members.add(member.id)
                    self.forgotten.discard(member.id)
            case Leave(id=node_id), Done():
                self.members.discard(node_id)
            case Exclude(id=node_id), Done():
                self.members.discard(node_id)
                stone = world.store.state.excluded[node_id]
                self.excluded[stone.token, stone.incarnation] = node_id
            case _:
                self._hold_stored(world, request, reply)

    def _hold_stored(self, world: World, request: object, reply: object) -> None:
        record = world.store.state.record
        match request, reply:
            case SetHold(), Done():
                self.held = True
                lowest = next_acting(world.store.state.members.values())
                if record and record.acting and lowest and lowest > record.acting:
                    self._exercise("S12")
            case ReleaseHold(), _ if record is not None and record.hold is None:
                self.held = False  # also when its answer says that it may yet be lost
            case _:
                pass

    def _committed(
        self, world: World, request: Commit, record: ClusterRecord, before: ClusterRecord | None
    ) -> None:
        key = (record.generation, record.epoch, record.revision)
        if key in self.commits:
            raise ViolationError(f"S4: epoch and revision {key} written twice")
        self.commits.add(key)
        if record.data is not None and (self.converted is None or record.data > self.converted):
            self.converted = record.data
        if record.hold is None and before is not None and before.hold is not None:
            self.held = False
        if before is None or before.acting is None or record.acting is None:
            return
        if record.acting < before.acting:
            raise ViolationError(f"S2: acting goes back from {before.acting} to {record.acting}")
        if record.acting > before.acting:
            self._raised(world, record)
        if request.step == "floor" and any(m.node is None for m in world.machines.values()):
            self._exercise("S13")
        if request.step == "completed":
            self._completed(world, record)

    def _raised(self, world: World, record: ClusterRecord) -> None:
        self.raises += 1
        for rule in ("S1", "S3", "S5"):
            self._exercise(rule)
        assert record.acting is not None
        if self.held:
            raise ViolationError("S12: raised although a hold was acknowledged")
        for machine in world.machines.values():
            node = machine.node
            if machine.name not in self.members or machine.name in self.forgotten:
                continue  # of the forgotten nothing can know; if they operate, S1 sees it
            member = world.store.state.members.get(machine.name)
            if node is None or member is None or node.membership.incarnation != member.incarnation:
                continue
            if world.versions[machine.version] < record.acting:
                raise ViolationError(f"S13: raised to {record.acting} past {machine.name}")

    def _completed(self, world: World, record: ClusterRecord) -> None:
        self._exercise("S16")
        for member in world.store.state.members.values():
            if member.installed != record.acting:
                raise ViolationError(f"S16: complete, but {member.id} has {member.installed}")
            late = member.operating_revision < record.raised_revision
            if member.standing is Standing.SERVING and late:
                raise ViolationError(f"S16: complete, but {member.id} has not confirmed")
        assert record.completion is not None
        started = f"{record.completion.version}@{record.completion.started_at_ms}"
        self.completed[started] += 1
        if self.completed[started] > 1 and not self.lost:
            raise ViolationError(f"S16: the upgrade {started} was called complete twice")

    def _exercise(self, rule: str) -> None:
        """The situation arose in which the invariant could break."""
        self.exercised[_NAMES[rule]] += 1

    def _admitted(self, node_id: str, rule: str) -> None:
        if node_id in self.excluded.values():
            self._exercise("S8")
        if rule == "lowest_above_data":
            self._exercise("S6")
        if rule == "installed_below_floor":
            self._exercise("S14")
