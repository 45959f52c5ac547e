"""What careful operators do once the faults have stopped: they follow the remedies."""

from __future__ import annotations

from peerupgrade.core.blockers import Blocker, Code
from peerupgrade.core.effects import Memory
from peerupgrade.core.ledger import whole_ledger
from peerupgrade.core.membership import NodeState
from peerupgrade.core.requests import Exclude, Outcome, Refused, ReleaseHold, Resolve, ReturnSlot
from peerupgrade.core.steering import Change, Resume, Retry
from peerupgrade.core.store import snapshot
from peerupgrade.core.windows import ALWAYS
from peerupgrade.sim.application import COLLECTION
from peerupgrade.sim.world import Machine, World

_GONE = (Code.NOT_ATTACHED, Code.UNRESPONSIVE, Code.NOT_CONFIRMED, Code.AWAY, Code.OLDER_VERSION)


def ledger(world: World) -> list[Blocker]:
    """What `why` says now."""
    store = world.store
    now_ms = store.now_ms(world.agenda.now_s)
    return whole_ledger(snapshot(store.state, now_ms, store.identity), now_ms)


def help_out(world: World) -> None:
    """Start what is down, upgrade step by step to the newest release, follow the remedies."""
    newest = max((machine.version for machine in world.machines.values()), default=0)
    record = world.store.state.record
    acting = record.acting if record is not None else None
    complete = record is not None and record.data == record.acting
    if record is not None and record.hold is not None:
        world.do(ReleaseHold("operator"), "operator")
    _return_slots(world)
    for blocker in ledger(world):
        if blocker.code in _GONE:
            _exclude_old_self(world, blocker.subject)
        elif blocker.code is Code.TOO_NEW:
            _exclude_old_self(world, blocker.subject)
            _install_older(world, blocker.subject)
        elif blocker.code is Code.PARKED:
            world.do(Resolve(COLLECTION, "", "retry", "operator"), "operator")
        else:
            _help_rollout(world, blocker)
    for machine in world.machines.values():
        node = machine.node
        if machine.paused(world.agenda.now_s) or _in_its_turn(world, machine):
            continue
        at_acting = acting is not None and world.versions[machine.version] <= acting
        if machine.version < newest and complete and (node is None or at_acting):
            world.kill(machine)
            machine.version += 1
            world.start(machine)
        elif node is None:
            world.start(machine)
        elif node.membership.config.installed != world.versions[machine.version]:
            world.kill(machine)  # what was installed while it ran shall also run
            world.start(machine)
        elif node.membership.refusal or node.membership.state is NodeState.EXCLUDED:
            _mend(world, machine)


def _return_slots(world: World) -> None:
    """Those of scripts that are over; the rollout returns its own."""
    for node_id, slot in list(world.store.state.slots.items()):
        if not slot.by.startswith("rollout "):
            known = node_id in world.store.state.members
            outcome = Outcome.UNUSED if known else Outcome.GONE
            world.do(ReturnSlot(node_id, "operator", outcome), "operator")


def _help_rollout(world: World, blocker: Blocker) -> None:
    """Follow the remedy of a rollout's reason."""
    if blocker.subject:
        _exclude_old_self(world, blocker.subject)
    match blocker.code:
        case Code.STEP_FAILED | Code.STEP_UNKNOWN:
            world.steer(Retry(blocker.subject, "operator"))
        case Code.DRAINED:
            _start_again(world, blocker.subject)
        case Code.ROLLOUT_PAUSED:
            world.steer(Resume("operator"))
        case Code.WINDOW_CLOSED:
            world.steer(Change({"windows": (ALWAYS,)}, "operator"))
        case Code.STEP_MANUAL:
            _install_by_hand(world, blocker.subject)
        case _:
            pass


def _start_again(world: World, name: str) -> None:
    machine = world.machines.get(name)
    if machine is not None and machine.node is not None:
        world.kill(machine)
        world.start(machine)


def _install_by_hand(world: World, name: str) -> None:
    record, machine = world.store.state.record, world.machines.get(name)
    turn = record.rollout.turn_of(name) if record is not None and record.rollout else None
    if machine is None or turn is None or machine.node is None:
        return
    version = [str(one) for one in world.versions].index(turn.version)
    world.kill(machine)
    machine.version = version
    world.start(machine)


def _in_its_turn(world: World, machine: Machine) -> bool:
    """The rollout takes care of it, while its process runs."""
    record = world.store.state.record
    rollout = record.rollout if record is not None else None
    return machine.node is not None and rollout is not None and bool(rollout.turn_of(machine.name))


def _install_older(world: World, name: str) -> None:
    """It supports nothing that the cluster acts at, or cannot read the oldest data."""
    machine, record = world.machines.get(name), world.store.state.record
    if machine is None or machine.version == 0 or record is None or record.acting is None:
        return
    if world.versions[machine.version - 1] >= record.acting:
        world.kill(machine)
        machine.version -= 1
        world.start(machine)


def _exclude_old_self(world: World, name: str) -> None:
    """The registered incarnation is certainly stopped: the machine runs another one, or none."""
    member = world.store.state.members.get(name)
    machine = world.machines.get(name)
    if member is None or (machine is not None and machine.node is None):
        return  # it only has to be started
    if machine is not None and machine.node is not None:
        membership = machine.node.membership
        if membership.registered and membership.incarnation == member.incarnation:
            return
        if membership.memory.token == member.token:
            return  # the answer to its admission is still under way
    request = Exclude(name, "operator", "not running", True, member.incarnation)
    world.do(request, "operator")


def _mend(world: World, machine: Machine) -> None:
    """Follow the remedy that the refusal names."""
    assert machine.node is not None
    refusal = machine.node.membership.refusal
    world.kill(machine)
    if refusal is not None and refusal.rule == "name_taken":
        _exclude_after_loss(world, machine, refusal)
    if refusal is not None and refusal.rule.startswith("lowest_above") and machine.version > 0:
        machine.version -= 1
    if refusal is not None and refusal.rule.startswith("installed_below"):
        machine.version = min(machine.version + 1, len(world.versions) - 1)
    if refusal is not None and refusal.rule in ("other_generation", "left_behind"):
        machine.disk, machine.disk_lost = Memory(), True
    world.start(machine)


def _exclude_after_loss(world: World, machine: Machine, refusal: Refused) -> None:
    if refusal.other is not None and not world.runs(machine.name):
        incarnation = refusal.other.incarnation
        request = Exclude(machine.name, "operator", "disk lost", True, incarnation)
        world.do(request, "operator")
