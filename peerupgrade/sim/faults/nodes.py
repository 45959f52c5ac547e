"""Processes and their machines: they die, stop, forget, lose their sense of time."""

from __future__ import annotations

from peerupgrade.core.crashpoints import CRASH_POINTS
from peerupgrade.core.effects import Memory
from peerupgrade.sim.faults.hand import Hand
from peerupgrade.sim.world import Machine, Trap

_PAUSES_S = (0.2, 1.0, 4.0, 12.0, 25.0)
_HEALED_PAUSE_S_MAX = 4.0  # longer than a mastership, and some of them leave time to converge
# What is rarely come by is armed more often, so that somebody meets it. The first word counts.
_RARE = {
    "retreats": 40,
    "leave": 4,
    "exclude": 4,
    "completed": 8,
    "rollout": 12,
    "turn": 8,
    "withdrawn": 24,
    "codec": 8,
    "preparation": 8,
    "init": 4,
    "convert": 4,
    "commit": 4,
}
_WEIGHTS = [
    next((weight for word, weight in _RARE.items() if word in point.split()), 1)
    for point in CRASH_POINTS
]
_FLAPS = 4


def kill(hand: Hand) -> bool:
    """SIGKILL, and started again."""

    def die(machine: Machine) -> None:
        hand.world.kill(machine)
        hand.revive_later(0.05, 8.0, machine)

    return hand.befall(die)


def kill_and_wipe(hand: Hand) -> bool:
    """The same, and its disk is lost."""

    def lose(machine: Machine) -> None:
        hand.world.kill(machine)
        machine.disk, machine.disk_lost = Memory(), True
        hand.revive_later(0.05, 8.0, machine)

    return hand.befall(lose)


def flap(hand: Hand) -> bool:
    """A process that dies again soon after each start."""

    def die(machine: Machine, again: int = _FLAPS) -> None:
        hand.world.kill(machine)
        hand.revive_later(0.01, 0.2, machine)
        if again > 1:
            hand.later(0.2, 0.8, lambda: die(machine, again - 1))

    return hand.befall(die)


def pause(hand: Hand) -> bool:
    """SIGSTOP, shorter or longer than every ttl."""
    return hand.befall(lambda machine: hand.world.pause(machine, hand.rng.choice(_PAUSES_S)))


def arm(hand: Hand) -> bool:
    """Crash, pause or fail whoever comes next to one of the crash points.

    Whether somebody comes there is counted by the world.
    """
    (point,) = hand.rng.choices(CRASH_POINTS, _WEIGHTS)
    return arm_at(hand, point)


def arm_at(hand: Hand, point: str) -> bool:
    """The same at one of them."""
    actions = ["crash", "pause"]
    if not point.endswith(" drain"):  # waiting for operations to end cannot fail
        actions.append("fail")
    if " commit " in point:
        actions.append("hold")
    action, pause_s = hand.rng.choice(actions), hand.rng.choice(_PAUSES_S)
    if hand.world.healed:  # whoever asks for something again and again still meets crash points
        pause_s = min(pause_s, _HEALED_PAUSE_S_MAX)
    hand.world.traps[point] = Trap(action, pause_s)
    return True


def jump_clock(hand: Hand) -> bool:
    """The machine's clock jumps forward: it slept."""
    jump_s = hand.rng.choice((0.5, 3.0, 60.0))
    return hand.befall(
        lambda machine: hand.world.set_clock(machine, drift=machine.drift, jump_s=jump_s)
    )


def drift_clock(hand: Hand) -> bool:
    """The machine's clock runs as wrong as a clock may."""
    drift = hand.rng.choice((0.991, 1.009))
    return hand.befall(lambda machine: hand.world.set_clock(machine, drift=drift))


def fill_disk(hand: Hand) -> bool:
    """Nothing can be remembered for a while."""
    return hand.befall(lambda machine: hand.for_a_while(machine, "disk_full", True, 0.5, 6.0))


def fail_callback(hand: Hand) -> bool:
    """The application cannot switch, a few times."""
    times = hand.rng.randint(1, 3)
    return hand.befall(lambda machine: setattr(machine, "callback_fails", times))


def hang_callback(hand: Hand) -> bool:
    """The application takes long to switch."""
    hangs_s = hand.rng.choice((1.0, 6.0))
    return hand.befall(
        lambda machine: hand.for_a_while(machine, "callback_hangs_s", hangs_s, 1.0, 10.0)
    )


def fail_codec(hand: Hand) -> bool:
    """The program cannot convert what it is given, for a while."""
    return hand.befall(lambda machine: hand.for_a_while(machine, "codec_fails", True, 1.0, 8.0))


def ail(hand: Hand) -> bool:
    """The probes of a program fail for a while."""
    return hand.befall(lambda machine: hand.for_a_while(machine, "ails", True, 1.0, 8.0))


def fail_step(hand: Hand) -> bool:
    """A step before the raise fails, on whoever is master then."""
    for machine in hand.world.machines.values():
        machine.step_fails = 1
    return bool(hand.world.machines)


def start_impostor(hand: Hand) -> bool:
    """Another machine starts a node of the same name."""

    def start(victim: Machine) -> None:
        machines = hand.world.machines
        place = f"{victim.name}*{len(machines)}"
        impostor = Machine(victim.name, hand.rng.randint(0, victim.version), place=place)
        machines[place] = impostor
        hand.world.start(impostor)

    return hand.befall(start)
