"""One seed: a cluster, an upgrade, faults; then the faults stop, and it must converge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from peerupgrade.core.rollout import is_drained
from peerupgrade.sim.checker import Checker, ViolationError
from peerupgrade.sim.operators import help_out, ledger
from peerupgrade.sim.plan import START, Director, Happening, child, draw_config, draw_plan
from peerupgrade.sim.world import World

HEAL_S = 60.0
_ALONE_S = 8.0  # so long nobody helps
_HELP_EVERY_S = 4.0


@dataclass(slots=True)
class Outcome:
    """How a seed ended."""

    seed: int
    problem: str = ""
    events: int = 0
    simulated_s: float = 0.0
    raises: int = 0
    fired: Counter[str] = field(default_factory=Counter)  # kind -> how often it happened
    sprung: Counter[str] = field(default_factory=Counter)  # crash point -> the same
    exercised: Counter[str] = field(default_factory=Counter)
    happened: list[Happening] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    digest: str = ""  # of the state at the end, and of the trace if there is one


def run_seed(
    seed: int, nodes: int = 5, *, tracing: bool = False, keep: frozenset[int] | None = None
) -> Outcome:
    """Run one seed to its end.

    Args:
        seed: decides everything.
        nodes: how many machines there are at first.
        tracing: keep the trace and the story.
        keep: the numbers of what happens; None for all that the seed draws.
    """
    plan = [one for one in draw_plan(seed, nodes) if keep is None or one.number in keep]
    started = sum(one.kind == START for one in plan)
    config = draw_config(seed, nodes)
    config = replace(config, bootstrap_expect=min(config.bootstrap_expect, started))
    checker = Checker()
    world = World(config, child(seed, "world"), checker.observe, tracing=tracing)
    director = Director(world, plan)
    outcome = Outcome(seed)
    try:
        director.play()
        outcome.problem = _converge(world)
    except ViolationError as violation:
        outcome.problem = str(violation)
    except Exception as error:  # noqa: BLE001 - an assertion of the core is a finding, too
        outcome.problem = f"{type(error).__name__}: {error}"
    outcome.events = world.agenda.count
    outcome.simulated_s = world.agenda.now_s
    outcome.raises = checker.raises
    outcome.fired, outcome.sprung = director.fired, world.sprung
    outcome.exercised, outcome.happened = checker.exercised, director.happened
    outcome.trace, outcome.story = world.trace, world.story
    state = repr((world.store.state, world.agenda.now_s, world.rng.random()))
    everything = "\n".join([*world.trace, state])
    outcome.digest = blake2b(everything.encode(), digest_size=8).hexdigest()
    return outcome


def _converge(world: World) -> str:
    """Everybody gets the newest version: it must end by itself, with what operators must do."""
    _heal(world)
    deadline_s = world.agenda.now_s + HEAL_S
    next_help_s = world.agenda.now_s + _ALONE_S
    while world.agenda.now_s < deadline_s:
        until_s = min(next_help_s, deadline_s)
        while world.agenda.step(until_s):
            pass
        if _converged(world):
            return ""
        help_out(world)
        next_help_s += _HELP_EVERY_S
    for machine in world.machines.values():
        membership = machine.node.membership if machine.node else None
        where = f"{membership.state} ({membership.reason})" if membership else "down"
        world.tell(f"at the end: {machine.name}, release {machine.version}, is {where}")
    blockers = ledger(world)
    awaited = ", ".join(sorted({str(blocker.code) for blocker in blockers})) or "nothing named"
    reasons = "; ".join(blocker.evidence for blocker in blockers)
    return f"L1, waiting for {awaited}: not converged after {HEAL_S:.0f} s. {reasons}".rstrip()


def _heal(world: World) -> None:
    """The faults stop."""
    world.tell("the faults stop")
    world.healed = True
    world.network.calm()
    world.traps.clear()
    for orchestrator in world.orchestrators.values():
        orchestrator.alive = False
    world.bad_release = None
    store = world.store
    store.replica_up, store.full = True, False
    if not store.up:
        store.restart()
    for server in world.locks:
        server.up = True
    for key in [key for key in world.machines if "*" in key]:
        world.kill(world.machines.pop(key))
    for machine in world.machines.values():
        machine.callback_fails = machine.step_fails = machine.turn_fails = 0
        machine.callback_hangs_s = 0.0
        machine.disk_full = machine.codec_fails = machine.ails = False
        link = machine.link
        if link.cut:
            link.cut_until_s = world.agenda.now_s
        link.requests_cut = link.answers_cut = link.locks_cut = False
        link.bus_cut = link.bus_reorders = link.mute = link.deaf = False
        link.delay_s, link.abandoned = 0.0, None
        if machine.node is not None:
            world.network.resubscribe(machine)


def _converged(world: World) -> bool:
    record = world.store.state.record
    if record is None or record.acting is None or record.identity != world.store.identity:
        return False
    newest = max(machine.version for machine in world.machines.values())
    version = world.versions[newest]
    operating = world.operating()
    if world.config.gossip_s and not _all_known(world):
        return False
    return (
        record.acting == record.data == version
        and record.upgrade is None
        and record.rollout is None
        and not world.store.state.slots
        and not any(map(is_drained, world.store.state.members.values()))
        and len(operating) == len(world.machines)
        and all(node.version == version for node in operating)
    )


def _all_known(world: World) -> bool:
    """Every node knows every other one as it is."""
    rosters = [
        machine.node.gossip.roster
        for machine in world.machines.values()
        if machine.node and machine.node.gossip
    ]
    everyone = tuple(sorted(world.machines))
    return all(
        roster.present == everyone and roster.digest == rosters[0].digest for roster in rosters
    )
