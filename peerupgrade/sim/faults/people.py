"""Operators: they replace software, hold, release, exclude, at bad moments and at once."""

from __future__ import annotations

from peerupgrade.core.acting import StepName
from peerupgrade.core.downgrade import GoBack
from peerupgrade.core.effects import InstalledChanged, Resign, SetAway, Stop
from peerupgrade.core.record import Downgrade, Standing
from peerupgrade.core.requests import Exclude, SetDowngrade, SetHold
from peerupgrade.core.steering import Abort, Pause, Resume, Retry, Skip, Start
from peerupgrade.core.strategy import OnUnhealthy, Strategy
from peerupgrade.core.versions import parse_version
from peerupgrade.sim.faults.hand import Hand
from peerupgrade.sim.faults.nodes import arm_at
from peerupgrade.sim.orchestrator import BUDGET, Orchestrator
from peerupgrade.sim.world import Machine

_WAY_BACK = tuple(
    f"{when} commit {step}"
    for step in (StepName.BARRED, StepName.LOWERED, StepName.DOWNGRADE_REFUSED)
    for when in ("before", "after")
)
_BLIND = 0.05  # so many of those who are refused ask the store itself
_ASKS = 60  # so often somebody asks for a downgrade before giving up


def upgrade(hand: Hand) -> bool:
    """Kill, install the next release, start."""
    return _install(hand, 1)


def skip(hand: Hand) -> bool:
    """Kill, install the release after the next one, start."""
    return _install(hand, 2)


def _install(hand: Hand, steps: int) -> bool:
    machine = hand.some()
    if machine is None or machine.version + steps >= len(hand.world.versions):
        return False
    hand.world.kill(machine)
    machine.version += steps
    hand.revive_later(0.05, 1.0, machine)
    return True


def replace_in_place(hand: Hand) -> bool:
    """SIGHUP: the software beside an agent is newer. A program is started anew for that."""
    agents = [m for m in hand.world.machines.values() if m.node and not m.has_program]
    machine = hand.rng.choice(agents) if agents else None
    if machine is None or machine.version + 1 >= len(hand.world.versions):
        return False
    machine.version += 1
    installed = hand.world.versions[machine.version]
    hand.world.feed(machine, InstalledChanged(installed, hand.world.lowest(machine.version)))
    return True


def downgrade(hand: Hand) -> bool:
    """R26: a careful operator stops the node, sees that it is away, and installs what was."""
    machine = hand.some()
    return machine is not None and _take_back(hand, machine)


def roll_back(hand: Hand) -> bool:
    """The upgrade is given up: every machine that has more than the acting version goes back."""
    record = hand.world.store.state.record
    if record is None or record.acting is None:
        return False
    ahead = [
        machine
        for machine in hand.world.machines.values()
        if machine.node is not None and hand.world.versions[machine.version] > record.acting
    ]
    taken_back = [_take_back(hand, machine) for machine in ahead]
    return any(taken_back)


def _take_back(hand: Hand, machine: Machine) -> bool:
    if machine.version == 0:
        return False
    remembered = machine.disk.record
    lower = hand.world.versions[machine.version - 1]
    if remembered and remembered.acting and lower < remembered.acting:
        return False
    hand.world.feed(machine, Stop(leave=False))
    hand.later(1.5, 3.0, lambda: _taken_back(hand, machine))
    return True


def _taken_back(hand: Hand, machine: Machine) -> None:
    member = hand.world.store.state.members.get(machine.name)
    record = hand.world.store.state.record
    away = member is not None and member.standing is Standing.AWAY
    if machine.node is not None or not away or not hand.world.store.up:
        return
    lower = hand.world.versions[machine.version - 1] if machine.version else None
    if lower and record and record.acting and record.acting <= lower:
        machine.version -= 1
    hand.world.revive(machine)


def go_back(hand: Hand) -> bool:
    """Somebody wants an older acting version, asks until it is allowed, and lets it rise again.

    Some do not look first whether it is: then the master has to.
    """
    _gone_back(hand, _ASKS)
    return hand.world.store.state.record is not None


def _gone_back(hand: Hand, asks: int) -> None:
    world, record = hand.world, hand.world.store.state.record
    older = [one for one in world.versions if record and record.acting and one < record.acting]
    version = str(hand.rng.choice(older[-2:])) if older else ""
    if version and world.steer(GoBack(version, "operator", "slow")):
        arm_at(hand, hand.rng.choice(_WAY_BACK))
        hand.later(2.0, 9.0, world.release)
        return
    if record is not None and version and world.store.up and hand.rng.random() < _BLIND:
        asked = Downgrade(version, "operator", "slow", 0)
        request = SetDowngrade(record.revision, asked, "downgrade", "operator", "slow")
        world.do(request, "operator")
        arm_at(hand, hand.rng.choice(_WAY_BACK))
    if asks:
        hand.later(0.1, 1.0, lambda: _gone_back(hand, asks - 1))


def orchestrate(hand: Hand) -> bool:
    """Scripts upgrade node after node, each with a permission for the one that it takes down."""
    working = hand.world.orchestrators
    free = [name for name in ("ann", "bob") if not (name in working and working[name].alive)]
    if not free:
        return False
    name = hand.rng.choice(free)
    working[name] = Orchestrator(hand.world, hand.rng, name)
    working[name].begin()
    return True


def roll_out(hand: Hand) -> bool:
    """The cluster is told to bring itself to the next version."""
    world, record = hand.world, hand.world.store.state.record
    newer = [one for one in world.versions if record and record.acting and one > record.acting]
    strategy = Strategy(
        BUDGET,
        canary=hand.rng.choice((0, 0, 1)),
        soak_ms=hand.rng.choice((0, 0, 1500)),
        one_zone=True,
        windows=hand.rng.choice(((), (), _windows(hand))),
        failures=hand.rng.choice((0, 2)),
        bake_ms=hand.rng.choice((0, 0, 1500)),
        on_unhealthy=hand.rng.choice((*OnUnhealthy,)),
    )
    return bool(newer) and world.steer(Start(str(newer[0]), "operator", strategy=strategy))


def _windows(hand: Hand) -> tuple[str, ...]:
    """It is open for the first part of each minute that is written, and opens within a minute."""
    now_ms = hand.world.store.now_ms(hand.world.agenda.now_s)
    minute = now_ms // 60_000 % (24 * 60) + hand.rng.choice((0, 1))
    begin, end = (f"{one // 60 % 24:02}:{one % 60:02}" for one in (minute, minute + 1))
    return (f"{begin}-{end}",)


def roll_out_bad(hand: Hand) -> bool:
    """The cluster is told so, and the version is bad: where it is installed the probes fail."""
    world = hand.world
    if world.config.probing is None or not roll_out(hand):
        return False
    record = world.store.state.record
    assert record is not None
    assert record.rollout is not None
    world.bad_release = parse_version(record.rollout.version)
    hand.later(8.0, 20.0, lambda: setattr(world, "bad_release", None))
    return True


def pause_rollout(hand: Hand) -> bool:
    """Somebody pauses the rollout for a while."""

    def resume() -> None:
        hand.world.steer(Resume("operator"))

    if not hand.world.steer(Pause("operator", "looking")):
        return False
    hand.later(0.5, 5.0, resume)
    return True


def retry_or_skip(hand: Hand) -> bool:
    """Somebody decides about a member in its turn, or leaves one out."""
    world, record = hand.world, hand.world.store.state.record
    if record is None or record.rollout is None or not world.machines:
        return False
    names = [turn.node for turn in record.rollout.turns] or sorted(world.store.state.members)
    name = hand.rng.choice(names) if names else ""
    again = hand.rng.random() < 0.6
    return world.steer(Retry(name, "operator") if again else Skip(name, "operator"))


def abort_rollout(hand: Hand) -> bool:
    """Somebody aborts the rollout."""
    return hand.world.steer(Abort("operator"))


def roll_back_rollout(hand: Hand) -> bool:
    """Somebody wants what was before."""
    return hand.world.steer(Abort("operator", rollback=True))


def fail_turn_step(hand: Hand) -> bool:
    """A step of a turn fails, on whoever comes to one next."""
    for machine in hand.world.machines.values():
        machine.turn_fails = 1
    return bool(hand.world.machines)


def leave(hand: Hand) -> bool:
    """A node says farewell, and comes back."""

    def go(machine: Machine) -> None:
        hand.world.feed(machine, Stop(leave=True))
        hand.revive_later(1.2, 6.0, machine)

    return hand.befall(go)


def mark_away(hand: Hand) -> bool:
    """A node is told not to serve for a while."""

    def rest(machine: Machine) -> None:
        hand.world.feed(machine, SetAway(True))
        hand.later(0.2, 4.0, lambda: hand.world.feed(machine, SetAway(False)))

    return hand.befall(rest)


def join(hand: Hand) -> bool:
    """A new node of any version comes, a wrong one too."""
    machines = hand.world.machines
    newest = max((machine.version for machine in machines.values()), default=0)
    machine = hand.world.add(f"j{len(machines)}", hand.rng.randint(0, newest))
    hand.world.start(machine)
    return True


def resign(hand: Hand) -> bool:
    """The master is told to hand over."""
    for machine in hand.world.machines.values():
        if machine.node is not None and machine.node.mastership.holding:
            hand.world.feed(machine, Resign())
            return True
    return False


def hold(hand: Hand) -> bool:
    """An operator holds, and releases after a while."""
    if not hand.world.store.up:
        return False
    hand.world.do(SetHold("operator", "looking"), "operator")
    hand.later(0.5, 5.0, hand.world.release)
    return True


def hold_for_a_while(hand: Hand) -> bool:
    """An operator holds, and the hold names its end."""
    if not hand.world.store.up:
        return False
    until_ms = hand.world.store.now_ms(hand.world.agenda.now_s) + hand.rng.randint(200, 4000)
    hand.world.do(SetHold("operator", "looking", until_ms), "operator")
    return True


def exclude_stopped(hand: Hand) -> bool:
    """An honest operator: only a node whose process is certainly stopped."""
    machine = hand.some(alive=False)
    if machine is None or hand.world.runs(machine.name):
        return False
    return _exclude(hand, machine, confirm_stopped=True)


def exclude_by_lease(hand: Hand) -> bool:
    """An impatient one: any node, without a look; the store decides (R7)."""
    machine = hand.some()
    return machine is not None and _exclude(hand, machine, confirm_stopped=False)


def _exclude(hand: Hand, machine: Machine, *, confirm_stopped: bool) -> bool:
    store = hand.world.store
    member = store.state.members.get(machine.name)
    if member is None or not store.up:
        return False
    request = Exclude(machine.name, "operator", "gone", confirm_stopped, member.incarnation)
    hand.world.do(request, "operator")
    return True
