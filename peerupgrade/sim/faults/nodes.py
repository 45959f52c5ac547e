"""Processes and their machines: they die, stop, forget, lose their sense of time."""

from __future__ import annotations

from peerupgrade.core.crashpoints import CRASH_POINTS
from peerupgrade.core.effects import Memory
from peerupgrade.sim.faults.hand import Hand
from peerupgrade.sim.world import Machine, Trap

_PAUSES_S = (0.2, 1.0, 4.0, 12.0, 25.0)
_WEIGHTS = [4 if " commit " in point else 1 for point in CRASH_POINTS]  # commits are rare


def kill(hand: Hand) -> bool:
    """SIGKILL, and started again."""
    machine = hand.some()
    if machine is None:
        return False
    hand.world.kill(machine)
    hand.revive_later(0.05, 8.0, machine)
    return True


def kill_and_wipe(hand: Hand) -> bool:
    """The same, and its disk is lost."""
    machine = hand.some()
    if machine is None:
        return False
    hand.world.kill(machine)
    machine.disk, machine.disk_lost = Memory(), True
    hand.revive_later(0.05, 8.0, machine)
    return True


def flap(hand: Hand) -> bool:
    """A process that dies again soon after each start."""
    machine = hand.some()
    if machine is None:
        return False
    again = 4

    def die() -> None:
        nonlocal again
        hand.world.kill(machine)
        again -= 1
        hand.revive_later(0.01, 0.2, machine)
        if again:
            hand.later(0.2, 0.8, die)

    die()
    return True


def pause(hand: Hand) -> bool:
    """SIGSTOP, shorter or longer than every ttl."""
    machine = hand.some()
    if machine is None:
        return False
    hand.world.pause(machine, hand.rng.choice(_PAUSES_S))
    return True


def arm(hand: Hand) -> bool:
    """Crash, pause or fail whoever comes next to one of the crash points.

    Whether somebody comes there is counted by the world.
    """
    (point,) = hand.rng.choices(CRASH_POINTS, _WEIGHTS)
    actions = ["crash", "pause"]
    if not point.endswith(" drain"):  # waiting for operations to end cannot fail
        actions.append("fail")
    if " commit " in point:
        actions.append("hold")
    hand.world.traps[point] = Trap(hand.rng.choice(actions), hand.rng.choice(_PAUSES_S))
    return True


def jump_clock(hand: Hand) -> bool:
    """The machine's clock jumps forward: it slept."""
    machine = hand.some()
    if machine is None:
        return False
    jump_s = hand.rng.choice((0.5, 3.0, 60.0))
    hand.world.set_clock(machine, drift=machine.drift, jump_s=jump_s)
    return True


def drift_clock(hand: Hand) -> bool:
    """The machine's clock runs as wrong as a clock may."""
    machine = hand.some()
    if machine is None:
        return False
    hand.world.set_clock(machine, drift=hand.rng.choice((0.991, 1.009)))
    return True


def fill_disk(hand: Hand) -> bool:
    """Nothing can be remembered for a while."""
    machine = hand.some()
    if machine is None:
        return False
    machine.disk_full = True

    def mend() -> None:
        machine.disk_full = False

    hand.later(0.5, 6.0, mend)
    return True


def fail_callback(hand: Hand) -> bool:
    """The application cannot switch, a few times."""
    machine = hand.some()
    if machine is None:
        return False
    machine.callback_fails = hand.rng.randint(1, 3)
    return True


def fail_codec(hand: Hand) -> bool:
    """The program cannot convert what it is given, for a while."""
    machine = hand.some()
    if machine is None:
        return False
    machine.codec_fails = True

    def mend() -> None:
        machine.codec_fails = False

    hand.later(1.0, 8.0, mend)
    return True


def fail_step(hand: Hand) -> bool:
    """A step before the raise fails, on whoever is master then."""
    for machine in hand.world.machines.values():
        machine.step_fails = 1
    return bool(hand.world.machines)


def hang_callback(hand: Hand) -> bool:
    """The application takes long to switch."""
    machine = hand.some()
    if machine is None:
        return False
    machine.callback_hangs_s = hand.rng.choice((1.0, 6.0))

    def mend() -> None:
        machine.callback_hangs_s = 0.0

    hand.later(1.0, 10.0, mend)
    return True


def start_impostor(hand: Hand) -> bool:
    """Another machine starts a node of the same name."""
    victim = hand.some()
    if victim is None:
        return False
    machines = hand.world.machines
    impostor = Machine(victim.name, hand.rng.randint(0, victim.version))
    machines[f"{victim.name}*{len(machines)}"] = impostor
    hand.world.start(impostor)
    return True
