"""One seed: a cluster, an upgrade, faults; then the faults stop, and it must converge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

from peerupgrade.core.blockers import Blocker, Code, all_blockers
from peerupgrade.core.requests import Exclude, Refused, ReleaseHold
from peerupgrade.core.store import snapshot
from peerupgrade.sim.checker import Checker, ViolationError
from peerupgrade.sim.faults import Faults, Strike
from peerupgrade.sim.world import Machine, World, WorldConfig

FAULTS_S = 40.0
HEAL_S = 60.0


@dataclass(slots=True)
class Outcome:
    """How a seed ended."""

    seed: int
    problem: str = ""
    events: int = 0
    simulated_s: float = 0.0
    raises: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    exercised: Counter[str] = field(default_factory=Counter)
    struck: list[Strike] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    blockers: list[Blocker] = field(default_factory=list)
    digest: str = ""


def child(seed: int, name: str) -> Random:
    """Randomness of one purpose: adding a purpose does not shift the others."""
    return Random(int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big"))


def run_seed(
    seed: int, nodes: int = 5, *, tracing: bool = False, keep: frozenset[int] | None = None
) -> Outcome:
    """Run one seed to its end.

    Args:
        seed: decides everything.
        nodes: how many machines there are at first.
        tracing: keep the trace and the story.
        keep: the numbers of the faults that happen; None for all that the seed draws.
    """
    shape = child(seed, "shape")
    config = WorldConfig(
        nodes=nodes,
        lock_servers=shape.choice((1, 1, 3)),
        lease_s=shape.choice((0.0, 0.0, 6.0)),
        with_replica=shape.random() < 0.5,
        bootstrap_expect=shape.choice((1, nodes)),
    )
    checker = Checker()
    world = World(config, child(seed, "world"), checker.observe, tracing=tracing)
    faults = Faults(world, child(seed, "faults"), keep)
    outcome = Outcome(seed)
    try:
        _play(world, faults)
        outcome.problem = _converge(world, faults, outcome)
    except ViolationError as violation:
        outcome.problem = str(violation)
    outcome.events = world.agenda.count
    outcome.simulated_s = world.agenda.now_s
    outcome.raises = checker.raises
    outcome.fired, outcome.exercised = faults.fired, checker.exercised
    outcome.trace, outcome.story = world.trace, world.story
    outcome.struck = faults.struck
    state = repr((world.store.state, world.agenda.now_s, world.rng.random()))
    outcome.digest = blake2b(state.encode(), digest_size=8).hexdigest()
    return outcome


def _play(world: World, faults: Faults) -> None:
    shape = child(faults.rng.getrandbits(64), "upgrades")
    for index in range(world.config.nodes):
        machine = world.add(f"n{index}", world.config.first_version)
        world.agenda.at(shape.uniform(0.0, 1.0), lambda machine=machine: world.start(machine))  # type: ignore[misc]
    faults.plan(FAULTS_S)
    # Somebody upgrades all the while, one machine after another.
    for index in range(world.config.nodes):
        time_s = 8.0 + shape.uniform(0.0, 20.0)
        machine = world.machines[f"n{index}"]
        world.agenda.at(time_s, lambda machine=machine: _replace(world, machine, 1))  # type: ignore[misc]
    while world.agenda.step(FAULTS_S):
        pass


def _replace(world: World, machine: Machine, version: int) -> None:
    if machine.version < version:
        world.kill(machine)
        machine.version = version
        world.agenda.after(0.3, lambda: world.start(machine) if machine.node is None else None)


def _converge(world: World, faults: Faults, outcome: Outcome) -> str:
    """The faults stop, everybody gets the newest version: it must end by itself."""
    faults.active = False
    world.loss = world.duplication = 0.0
    world.delay_s = (0.0005, 0.003)
    store = world.store
    store.replica_up = True
    if not store.up:
        store.restart()
    for server in world.locks:
        server.up = True
    impostors = [key for key in world.machines if "*" in key]
    for key in impostors:
        world.kill(world.machines.pop(key))
    newest = max(machine.version for machine in world.machines.values())
    for machine in world.machines.values():
        machine.callback_fails = 0
        if machine.store_cut:
            machine.cut_until_s = world.agenda.now_s
        machine.store_cut = machine.bus_cut = False
        if machine.node is not None:
            world.resubscribe(machine)
    deadline_s = world.agenda.now_s + HEAL_S
    next_help_s = world.agenda.now_s + 8.0
    while world.agenda.now_s < deadline_s:
        until_s = min(next_help_s, deadline_s)
        while world.agenda.step(until_s):
            pass
        if _converged(world):
            return ""
        _help(world, newest)
        next_help_s += 4.0
    state = world.store.state
    outcome.blockers = all_blockers(
        snapshot(state, store.now_ms(world.agenda.now_s), store.identity),
        store.now_ms(world.agenda.now_s),
    )
    for machine in world.machines.values():
        membership = machine.node.membership if machine.node else None
        where = f"{membership.state} ({membership.reason})" if membership else "down"
        world.log(f"END {machine.name} v{machine.version} {where}")
    world.log(f"END {world.store.state.record}")
    reasons = "; ".join(f"{b.code} {b.subject}: {b.evidence}" for b in outcome.blockers)
    return f"L1: not converged after {HEAL_S:.0f} s ({reasons or 'and nothing is named'})"


def _help(world: World, newest: int) -> None:
    """What the operators do: start what is down, upgrade step by step, follow the remedies."""
    store = world.store
    record = store.state.record
    acting = record.acting if record is not None else None
    if record is not None and record.hold is not None:
        world.do(ReleaseHold("operator"), "operator")
    now_ms = store.now_ms(world.agenda.now_s)
    view = snapshot(store.state, now_ms, store.identity)
    for blocker in all_blockers(view, now_ms):
        if blocker.code in _GONE:
            _exclude_old_self(world, blocker.subject)
    for machine in world.machines.values():
        node = machine.node
        if world.agenda.now_s < machine.paused_until_s:
            continue
        at_acting = acting is not None and world.versions[machine.version] <= acting
        if machine.version < newest and (node is None or at_acting):
            world.kill(machine)
            machine.version += 1
            world.start(machine)
        elif node is None:
            world.start(machine)
        elif node.membership.refusal is not None or node.membership.state == "excluded":
            _mend(world, machine)


_GONE = (Code.NOT_ATTACHED, Code.UNRESPONSIVE, Code.NOT_CONFIRMED, Code.AWAY, Code.OLDER_VERSION)


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
    if refusal is not None and refusal.rule in ("other_generation", "left_behind"):
        machine.disk, machine.disk_lost = type(machine.disk)(), True
    world.start(machine)


def _exclude_after_loss(world: World, machine: Machine, refusal: Refused) -> None:
    if refusal.other is not None and not world.runs(machine.name):
        incarnation = refusal.other.incarnation
        request = Exclude(machine.name, "operator", "disk lost", True, incarnation)
        world.do(request, "operator")


def _converged(world: World) -> bool:
    record = world.store.state.record
    if record is None or record.acting is None or record.identity != world.store.identity:
        return False
    newest = max(machine.version for machine in world.machines.values())
    version = world.versions[newest]
    operating = world.operating()
    return (
        record.acting == record.data == version
        and record.upgrade is None
        and len(operating) == len(world.machines)
        and all(node.version == version for node in operating)
    )
