"""Messages that are lost, late, doubled or out of order, and partitions."""

from __future__ import annotations

from peerupgrade.sim.faults.hand import Hand
from peerupgrade.sim.network import CALM_DELAY_S, Link
from peerupgrade.sim.world import Machine

_WHILE_S = (0.5, 4.0)


def lose(hand: Hand) -> bool:
    """Some of everybody's messages are lost."""
    hand.for_a_while(hand.world.network, "loss", hand.rng.choice((0.05, 0.2)), *_WHILE_S)
    return True


def duplicate(hand: Hand) -> bool:
    """Some requests arrive again, much later."""
    hand.for_a_while(hand.world.network, "duplication", 0.2, *_WHILE_S)
    return True


def delay(hand: Hand) -> bool:
    """Everything takes long, and so overtakes."""
    network = hand.world.network
    network.delay_s = (0.001, hand.rng.choice((0.05, 0.4)))
    hand.later(*_WHILE_S, lambda: setattr(network, "delay_s", CALM_DELAY_S))
    return True


def slow_link(hand: Hand) -> bool:
    """One machine hears and is heard late."""
    delay_s = hand.rng.choice((0.1, 0.6))
    return hand.befall(lambda machine: hand.for_a_while(machine.link, "delay_s", delay_s, 1.0, 8.0))


def cut(hand: Hand) -> bool:
    """One machine and the store do not reach each other."""
    return _partition(hand, "requests_cut", "answers_cut")


def cut_requests(hand: Hand) -> bool:
    """Nothing that one machine sends arrives."""
    return _partition(hand, "requests_cut")


def cut_answers(hand: Hand) -> bool:
    """What one machine sends arrives and is done; it hears of nothing."""
    return _partition(hand, "answers_cut")


def cut_locks(hand: Hand) -> bool:
    """One machine reaches the store, and no further lock server."""
    return bool(hand.world.locks) and _partition(hand, "locks_cut")


def _partition(hand: Hand, *directions: str) -> bool:
    machine = hand.some()
    if machine is None:
        return False
    for direction in directions:
        setattr(machine.link, direction, True)

    def heal() -> None:
        for direction in directions:
            setattr(machine.link, direction, False)
        reconnect(hand, machine)

    hand.later(0.2, 10.0, heal)
    return True


def reconnect(hand: Hand, machine: Machine) -> None:
    """A machine was cut off until now."""
    machine.link.cut_until_s = hand.world.agenda.now_s
    if machine.node is not None:
        hand.world.network.resubscribe(machine)


def part(hand: Hand) -> bool:
    """Two halves of the cluster do not hear each other's gossip; the store they both reach."""
    network, places = hand.world.network, sorted(hand.world.machines)
    if not hand.world.config.gossip_s:
        return False
    half = frozenset(hand.rng.sample(places, len(places) // 2))
    hand.for_a_while(network, "parted", half, 0.5, 10.0)
    return True


def mute(hand: Hand) -> bool:
    """Other nodes do not hear one of them."""
    return _disturb_gossip(hand, "mute")


def deafen(hand: Hand) -> bool:
    """One node does not hear the others."""
    return _disturb_gossip(hand, "deaf")


def _disturb_gossip(hand: Hand, how: str) -> bool:
    return hand.world.config.gossip_s > 0 and hand.befall(
        lambda machine: hand.for_a_while(machine.link, how, True, 0.5, 10.0)
    )


def silence_bus(hand: Hand) -> bool:
    """Pub/sub messages to one machine are eaten."""
    return _disturb_bus(hand, "bus_cut")


def shuffle_bus(hand: Hand) -> bool:
    """Pub/sub messages to one machine come late and out of order, as over several connections."""
    return _disturb_bus(hand, "bus_reorders")


def _disturb_bus(hand: Hand, how: str) -> bool:
    machine = hand.some()
    if machine is None:
        return False
    link: Link = machine.link
    setattr(link, how, True)

    def heal() -> None:
        setattr(link, how, False)
        if machine.node is not None:
            hand.world.network.resubscribe(machine)

    hand.later(0.1, 3.0, heal)
    return True
