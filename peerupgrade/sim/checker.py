"""Judges every event of a simulated world by the invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from peerupgrade.core.acting import StepName
from peerupgrade.core.blockers import next_acting
from peerupgrade.core.effects import Emit, Memory, Operate
from peerupgrade.core.invariants import (
    Operating,
    Reached,
    acting_not_above_installed,
    acting_not_back,
    complete_in_truth,
    complete_once,
    drained_first,
    excluded_stays_out,
    given_once,
    given_to_the_well,
    hold_holds,
    mutually_understood,
    nobody_locked_out,
    nobody_passed,
    node_not_back,
    nothing_newer,
    remembered_first,
    rollout_keeps,
    step_goes_on,
    step_ran_once,
    steps_have_run,
    within_budget,
    within_supported,
    written_once,
)
from peerupgrade.core.membership import NodeConfig
from peerupgrade.core.node import Node
from peerupgrade.core.record import (
    ClusterRecord,
    Health,
    HealthState,
    Hold,
    Job,
    Member,
    Phase,
    StepState,
    TurnStep,
    Work,
)
from peerupgrade.core.requests import (
    Admit,
    Admitted,
    Attach,
    Attached,
    Claim,
    Claimed,
    Commit,
    Conflict,
    Done,
    Exclude,
    Failed,
    Fenced,
    Init,
    Leave,
    NotMember,
    Outcome,
    Refused,
    ReleaseHold,
    Reply,
    Report,
    Request,
    ReturnSlot,
    SaveStep,
    SetHold,
)
from peerupgrade.core.versions import Version
from peerupgrade.sim.notes import Notes, touches_records
from peerupgrade.sim.observed import (
    Fed,
    Lost,
    Observed,
    Said,
    Started,
    StepBegins,
    StepRan,
    Stored,
    TakenDown,
)
from peerupgrade.sim.orchestrator import BUDGET
from peerupgrade.sim.servers import SimStore
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
    "S9 data version true",
    "S10 lost writes change no node",
    "S11 converted once, no write lost",
    "S12 hold holds",
    "S13 no member passed",
    "S14 nobody locked out",
    "S15 never more down than permitted",
    "S16 complete once and truly",
    "S17 steps once, by the master",
    "S18 nothing installed undrained",
    "S19 steps of a turn once",
    "S20 a version for the well only",
    "S21 no raise before its time",
)
_NAMES = {name.partition(" ")[0]: name for name in INVARIANTS}
_TELLING_S = 3.0  # within so long a node that was cut off is told, whatever time-outs it waits for


class ViolationError(AssertionError):
    """An invariant does not hold."""


def hold(*problems: str | None) -> None:
    """Raise the first problem.

    Raises:
        ViolationError: there is one.
    """
    for problem in problems:
        if problem is not None:
            raise ViolationError(problem)


@dataclass(slots=True)
class Checker:
    """Ghost state: what an all-seeing observer remembers."""

    exercised: Counter[str] = field(default_factory=Counter)
    epochs: dict[tuple[str, int], str] = field(default_factory=dict)
    commits: set[tuple[str, int, int]] = field(default_factory=set)
    operated: dict[str, Reached] = field(default_factory=dict)
    excluded: set[tuple[str, int]] = field(default_factory=set)
    members: dict[str, int] = field(default_factory=dict)  # name -> incarnation
    held: Hold | None = None  # that was acknowledged, and that nobody released
    held_in: str = ""  # the generation: a cluster that is begun anew knows nothing of it
    completed: set[str] = field(default_factory=set)
    raises: int = 0
    losses: int = 0  # how often the store has lost writes
    # Who has operated since the store last lost writes: it knows of them again.
    remembering: set[str] = field(default_factory=set)
    # Registrations that it lost, and in which loss.
    forgotten: dict[tuple[str, int], int] = field(default_factory=dict)
    # Those that came back only after a later loss, and until when the cluster may be past them.
    late: dict[tuple[str, int], float] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)
    steps: dict[str, StepState] = field(default_factory=dict)  # as they were saved last
    newest_epoch: int = 0
    taken_down: set[str] = field(default_factory=set)  # by permission, and not yet up again
    # The steps of turns that have run on each machine, since it last lost its disk.
    ran: dict[str, set[tuple[str, TurnStep, int]]] = field(default_factory=dict)
    given: dict[str, set[str]] = field(default_factory=dict)  # rollout -> its turns forward
    _exempting: bool = False  # somebody is cut off, as `_cut_off` says
    # What was last read of each process.
    _read: dict[int, tuple[NodeConfig, Version | None, Memory]] = field(default_factory=dict)

    @property
    def lost(self) -> bool:
        """The store has lost writes."""
        return self.losses > 0

    def observe(self, world: World, what: Observed) -> None:
        """Called by the world after everything that happens.

        Raises:
            ViolationError: an invariant does not hold.
        """
        match what:
            case Said(machine, Operate(version)) if version is not None:
                self._operates(machine, version)
            case Said(machine, Operate(None)) if _leaves(machine) and self._allowed(world, machine):
                self._taken_down(machine)
            case TakenDown(machine) if _is_member(world, machine):
                self._taken_down(machine)
            case StepBegins(machine, order):
                self._step_begins(world, machine, order.work)
            case StepRan(machine, order):
                ran = self.ran.setdefault(machine.place, set())
                ran.add((order.work.turn, order.work.step, order.work.attempt))
            case Started(machine):
                if machine.name in self.operated:
                    self._exercise("S5")
                if not machine.disk.token:
                    self.ran.pop(machine.place, None)
            case Stored():
                self._stored(world, what)
            case Lost():
                self._lost(world)
            case _:
                pass
        if self._may_matter(what):
            self._moment(world)

    # --- this moment ------------------------------------------------------------------------------

    def _moment(self, world: World) -> None:
        everybody = world.operating()
        operating = [node for node in everybody if not self._cut_off(world, node)]
        self._exempting = len(operating) < len(everybody)
        record = world.store.state.record
        verified = record is not None and record.identity == world.store.identity
        hold(acting_not_above_installed(record if verified else None, operating))
        hold(within_supported(everybody))
        hold(mutually_understood(operating))
        # One server that forgets acknowledged writes forgets shared data, too. A replica does not:
        # a data version counts only once it has all that was converted (R18).
        lasting = world.store.with_replica or not self.lost
        data = record.data if record is not None and verified else None
        hold(*self.notes.problems(world.store, data, operating, lasting=lasting))
        if record is not None and verified and lasting:
            hold(nothing_newer(record, self.notes.formats(world.store)))
        hold(excluded_stays_out(self.excluded, everybody))
        if len({node.version for node in operating}) > 1:
            self._exercise("S7")

    def _may_matter(self, what: Observed) -> bool:
        """Most events change nothing that the invariants of a moment read."""
        if self._exempting:
            return True  # that ends by the clock
        match what:
            case Fed(Machine(node=Node() as node)):
                return self._moved(node)
            case Said(_, Emit()):
                return False
            case Stored(store, request, _, before):
                touches = isinstance(request, Exclude) or touches_records(request)
                return touches or store.state.record is not before
            case _:
                return True

    def _moved(self, node: Node) -> bool:
        """The node is another one for the invariants: most inputs change only what it waits for."""
        membership = node.membership
        config, operating, memory = membership.config, membership.operating, membership.memory
        known = self._read.get(id(node))
        if known and known[0] is config and known[1] is operating and known[2] is memory:
            return False
        self._read[id(node)] = (config, operating, memory)
        if known is None or known[0] is not config or known[1] != operating:
            return True
        return known[2].token != memory.token or known[2].incarnation != memory.incarnation

    def _exercise(self, rule: str) -> None:
        """The situation arose in which the invariant could break."""
        self.exercised[_NAMES[rule]] += 1

    def _cut_off(self, world: World, node: Operating) -> bool:
        """A node of policy freeze that the store has forgotten and that cannot say so.

        No rule can protect it: nothing in the store knows of it. It suspends as soon as it is told.
        """
        if world.config.lease_s:
            return False
        registered = (node.id, node.start[1])
        if registered not in self.forgotten:
            return world.agenda.now_s < self.late.get(registered, 0.0)
        (machine,) = (
            machine
            for machine in world.machines.values()
            if machine.node and machine.node.membership.memory.token == node.start[0]
        )
        cut_until_s = max(machine.paused_until_s, machine.link.cut_until_s)
        return machine.link.cut or world.agenda.now_s < cut_until_s + _TELLING_S

    # --- what nodes do ----------------------------------------------------------------------------

    def _operates(self, machine: Machine, version: Version) -> None:
        known = self.operated.get(machine.name)
        if machine.disk_lost and self.lost_since(machine.name):
            known = None  # both that could remember have forgotten
        machine.disk_lost = False
        remembered = machine.disk.record
        reached = (remembered.downgrades if remembered is not None else 0, version.key)
        hold(node_not_back(machine.name, known, reached, store_lost=self.lost))
        hold(remembered_first(machine.name, version, machine.disk.record))
        self.operated[machine.name] = reached
        self.remembering.add(machine.name)
        self.taken_down.discard(machine.name)

    def _allowed(self, world: World, machine: Machine) -> bool:
        """By a slot; False once the store has forgotten that, so that it can give another one."""
        forgotten = self.lost and _forgets_slots(world)
        return not forgotten or machine.name in world.store.state.slots

    def _taken_down(self, machine: Machine) -> None:
        self.taken_down.add(machine.name)
        hold(within_budget(self.taken_down, BUDGET))

    def _step_begins(self, world: World, machine: Machine, work: Work) -> None:
        ran = self.ran.get(machine.place, set())
        if (work.turn, work.step) in {(turn, step) for turn, step, _ in ran}:
            self._exercise("S19")  # a person has let it run again
        hold(step_ran_once(machine.name, ran, work))
        if work.step not in (TurnStep.INSTALL, TurnStep.RESTART):
            return
        self._exercise("S18")
        assert machine.node is not None
        membership, state = machine.node.membership, world.store.state
        member, record = state.members.get(machine.name), state.record
        verified = record is not None and record.identity == world.store.identity
        if member is not None and (not verified or member.incarnation != membership.incarnation):
            member = None  # the store lost what it had been told, or knows another start
        operates = membership.operating is not None
        hold(drained_first(machine.name, member, operates=operates))

    def lost_since(self, name: str) -> bool:
        """The store has lost writes since this node last operated."""
        return self.lost and name not in self.remembering

    # --- what the store does ----------------------------------------------------------------------

    def _lost(self, world: World) -> None:
        """The store forgot. What was told to replicas or to a member's disk must come back."""
        record = world.store.state.record
        self.losses += 1
        highest = max((node.version for node in world.operating()), default=None)
        acting = record.acting if record is not None else None
        if highest is not None and (acting is None or acting < highest):
            self._exercise("S10")
        self.remembering.clear()
        if _forgets_slots(world):
            self.taken_down &= set(world.store.state.slots)
        self.notes.forget(world.store)
        self.steps = dict(world.store.state.steps)
        self.newest_epoch = record.epoch if record is not None else 0
        self._forget_members(world.store)

    def _doubt_hold(self, world: World) -> None:
        """A hold is as good as forgotten when nobody remembers it who could say so."""
        said = [m.disk.record for m in world.machines.values() if not _silent(world, m)]
        if not any(one and one.hold == self.held for one in [world.store.state.record, *said]):
            self.held = None

    def _forget_members(self, store: SimStore) -> None:
        """The store knows nothing any more of those who are missing."""
        members = store.state.members
        for name, incarnation in self.members.items():
            if name not in members or members[name].incarnation != incarnation:
                self.forgotten.setdefault((name, incarnation), self.losses)

    def _stored(self, world: World, stored: Stored) -> None:
        store, request, reply = stored.store, stored.request, stored.reply
        record = store.state.record
        if store is world.store:
            tested = self.notes.follow(store, request, reply)
            if tested is not None:
                self._exercise(tested)
        match request, reply:
            case Commit(), Done():
                assert record is not None
                self._committed(world, stored, request.step)
            case Commit(), Conflict() if request.step in (StepName.FLOOR, StepName.RAISED):
                self._exercise("S1")  # something moved between the decision and its write
            case Commit(), Fenced():
                self._exercise("S2")
            case Claim(token=token), Claimed(epoch=epoch):
                assert record is not None
                self._claimed(world, record.generation, epoch, token)
                if store is world.store:  # an old primary that is given up may give more
                    self.newest_epoch = epoch
            case SaveStep(), _ if store is world.store:
                self._step_saved(store, request, reply)
            case ReturnSlot(id=name, outcome=Outcome.GONE), Done():
                self.taken_down.discard(name)
            case SetHold() | ReleaseHold(), _:
                self._hold_stored(store, request, reply)
            case (Admit(id=name), Admitted(incarnation=incarnation)) | (
                Attach(member=Member(id=name)),
                Attached(incarnation=incarnation),
            ) if store is not world.store:  # an old primary that is given up: nobody hears of it
                self.members[name] = incarnation
                self.forgotten.setdefault((name, incarnation), self.losses)
            case _:
                self._membership_stored(store, request, reply)

    def _membership_stored(self, store: SimStore, request: Request, reply: Reply) -> None:
        match request, reply:
            case Admit(id=name), Admitted(incarnation=incarnation):
                self._joined(name, incarnation)
            case Attach(member=member), Attached(incarnation=incarnation):
                # A wiped store takes the memory in place of what it has.
                self._forget_members(store)
                registered = store.state.members.get(member.id)
                is_there = registered is not None and registered.incarnation == incarnation
                if is_there and not _settled_without(store, member):
                    self._came_back(member.id, incarnation)
            case Leave(id=name), Done():
                self.members.pop(name, None)
            case Report(health=Health(state=HealthState.UNHEALTHY)), Done(view):
                if view.record is not None and view.record.rollout is not None:
                    self._exercise("S20")
            case Admit(id=name), Refused() if name not in store.state.members:
                self.members.pop(name, None)  # it stood by while nobody knew better
                self._kept_out(request, reply)
            case Init(), _:
                self._forget_members(store)  # a cluster that had not formed yet begins anew
            case Exclude(id=name), Done() | Failed() if name not in store.state.members:
                self.members.pop(name, None)
                stone = store.state.excluded.get(name)
                if stone is not None and isinstance(reply, Done):  # else it may yet be lost
                    self.excluded.add((stone.token, stone.incarnation))
            case _:
                self._kept_out(request, reply)

    def _came_back(self, name: str, incarnation: int) -> None:
        """If a later loss took what the cluster did without it, only a verified store can tell."""
        if self.forgotten.get((name, incarnation), self.losses) < self.losses:
            self.late[name, incarnation] = inf
        self._joined(name, incarnation)

    def _joined(self, name: str, incarnation: int) -> None:
        self.members[name] = incarnation
        self.forgotten.pop((name, incarnation), None)

    def _kept_out(self, request: Request, reply: Reply) -> None:
        """The rule that kept a node out is what the invariant hangs by."""
        if isinstance(request, Admit) and isinstance(reply, Refused):
            record = reply.view.record
            if record is not None and record.data is not None and request.lowest > record.data:
                self._exercise("S6")
        match reply:
            case Refused(rule="budget_spent"):
                self._exercise("S15")
            case Refused(rule="installed_below_acting"):
                self._exercise("S1")
            case Refused(rule="installed_below_floor"):
                self._exercise("S14")
            case Refused(rule="lowest_above_acting"):
                self._exercise("S3")
            case Refused(rule="excluded"):
                self._exercise("S8")
            case NotMember(tombstone=stone) if stone is not None:
                self._exercise("S8")
            case _:
                pass

    def _claimed(self, world: World, generation: str, epoch: int, token: str) -> None:
        hold(given_once(self.epochs, generation, epoch, token))
        self.epochs[generation, epoch] = token
        for machine in world.machines.values():
            node = machine.node
            if node is not None and node.mastership.holding and node.mastership.token != token:
                self._exercise("S4")  # another one still takes itself for the master

    def _hold_stored(self, store: SimStore, request: SetHold | ReleaseHold, reply: Reply) -> None:
        record = store.state.record
        if isinstance(request, SetHold):
            if isinstance(reply, Done):
                assert record is not None
                self.held, self.held_in = record.hold, record.generation
                lowest = next_acting(store.state.members.values())
                if record.acting and lowest and lowest > record.acting:
                    self._exercise("S12")
        elif record is not None and record.hold is None:
            self.held = None  # also when its answer says that it may yet be lost

    def _committed(self, world: World, stored: Stored, step: str) -> None:
        store, before = stored.store, stored.before
        record = store.state.record
        assert record is not None
        key = (record.generation, record.epoch, record.revision)
        hold(written_once(self.commits, *key))
        self.commits.add(key)
        if record.hold is None and before is not None and before.hold is not None:
            self.held = None
        was = before.acting if before is not None else None
        held = self.held is not None and not _has_ended(self.held, store, world)
        held = held and self.held_in == record.generation
        hold(acting_not_back(before, record))
        hold(hold_holds(held, was, record.acting))
        hold(rollout_keeps(before, record.acting))
        if record.stays:
            lowest = next_acting(store.state.members.values())
            if record.acting is not None and lowest is not None and lowest > record.acting:
                self._exercise("S21")
        if before is not None and record.downgrades > before.downgrades:
            self._exercise("S2")
            self.held, self.held_in = record.hold, record.generation
        if was is not None and record.acting is not None and record.acting > was:
            self._raised(world, store, record.acting)
            self._have_run(store, Job(Phase.BEFORE, was, record.acting))
        self._stepped(world, stored, record, step)

    def _stepped(self, world: World, stored: Stored, record: ClusterRecord, step: str) -> None:
        store, before = stored.store, stored.before
        match step:
            case StepName.FLOOR if any(_silent(world, host) for host in self._hosts(world)):
                self._exercise("S13")
            case StepName.FLOOR_WITHDRAWN:
                self._exercise("S14")
            case StepName.VERIFIED:
                self._doubt_hold(world)
                told_s = world.agenda.now_s + _TELLING_S
                self.late = {one: min(until_s, told_s) for one, until_s in self.late.items()}
            case StepName.CONVERTED if before is not None and before.data and record.data:
                self._have_run(store, Job(Phase.MIGRATION, before.data, record.data))
            case StepName.COMPLETED:
                self._completed(store, record)
            case StepName.TURN_GIVEN:
                self._turn_given(store, record)
            case _:
                pass

    def _turn_given(self, store: SimStore, record: ClusterRecord) -> None:
        rollout, members = record.rollout, store.state.members
        assert rollout is not None
        if rollout.turns[-1].version == rollout.version:
            self.given.setdefault(rollout.id, set()).add(rollout.turns[-1].id)
        hold(given_to_the_well(rollout, members, self.given.get(rollout.id, ())))

    def _hosts(self, world: World) -> Iterator[Machine]:
        """The machines of the members that the store has not forgotten, impostors left out.

        Of the forgotten nothing can know; if they operate, S1 sees it.
        """
        for name, machine in world.machines.items():
            registered = (name, self.members.get(name))
            if name in self.members and registered not in self.forgotten:
                yield machine

    def _raised(self, world: World, store: SimStore, acting: Version) -> None:
        self.raises += 1
        serving, stopped = {}, {}
        for machine in self._hosts(world):
            member = store.state.members.get(machine.name)
            if machine.node is None:
                stopped[machine.name] = world.versions[machine.version]
                continue
            membership = machine.node.membership  # a start that has not been admitted is unknown
            if member is None or membership.incarnation == member.incarnation:
                serving[machine.name] = membership.config.installed
        hold(nobody_passed(acting, serving))
        hold(nobody_locked_out(acting, stopped))

    def _step_saved(self, store: SimStore, request: SaveStep, reply: Reply) -> None:
        if isinstance(reply, Fenced):
            self._exercise("S17")
        if isinstance(reply, Done):
            (saved,) = (
                one
                for one in store.state.steps.values()
                if (one.phase, one.version) == (request.phase, request.version)
            )
            known = self.steps.get(saved.key)
            hold(step_goes_on(known, saved, request.epoch, self.newest_epoch))
            self.steps[saved.key] = saved

    def _have_run(self, store: SimStore, job: Job) -> None:
        """A record that members brought back says that they have; the store may have forgotten."""
        if not self.lost:
            hold(steps_have_run(job, store.state.members.values(), store.state.steps.values()))

    def _completed(self, store: SimStore, record: ClusterRecord) -> None:
        self._exercise("S16")
        hold(complete_in_truth(record, store.state.members.values()))
        assert record.completion is not None
        name = f"{record.completion.version}, {record.downgrades}@{record.completion.started_at_ms}"
        if not self.lost:
            hold(complete_once(self.completed, name))
        self.completed.add(name)


def _settled_without(store: SimStore, member: Member) -> bool:
    """The answer tells it so, and it suspends: until then it is as good as forgotten."""
    record = store.state.record
    data = record.data if record is not None else None
    return data is not None and member.operating is not None and member.operating < data


def _is_member(world: World, machine: Machine) -> bool:
    """False where another process has its name: that one goes on."""
    member = world.store.state.members.get(machine.name)
    if machine.node is None or member is None:
        return False
    return machine.node.membership.memory.token == member.token


def _forgets_slots(world: World) -> bool:
    """When it loses writes: a replica has all of them, unless the store was wiped."""
    return not world.store.with_replica or world.store.state.record is None


def _leaves(machine: Machine) -> bool:
    """It stops operating because its turn in a rollout has come."""
    work = machine.node.membership.memory.work if machine.node is not None else None
    return work is not None and work.out_of_service and work.step is TurnStep.LEAVE


def _silent(world: World, machine: Machine) -> bool:
    """It would not hear of a raise now."""
    paused = world.agenda.now_s < machine.paused_until_s
    return machine.node is None or paused or machine.link.cut


def _has_ended(hold: Hold, store: SimStore, world: World) -> bool:
    """It named its end, and that has come."""
    return 0 < hold.until_ms <= store.now_ms(world.agenda.now_s)
