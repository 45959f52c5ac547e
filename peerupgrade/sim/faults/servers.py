"""Redis servers that go away, forget, refuse, or live on as two."""

from __future__ import annotations

from peerupgrade.core.store import LockState
from peerupgrade.sim.faults.hand import Hand
from peerupgrade.sim.faults.network import reconnect
from peerupgrade.sim.observed import Lost


def _reconnect_all(hand: Hand) -> None:
    for machine in hand.world.machines.values():
        if machine.node is not None:
            hand.world.network.resubscribe(machine)


def restart(hand: Hand) -> bool:
    """The store is killed and comes back with everything."""
    store = hand.world.store
    if not store.up:
        return False
    store.up = False

    def back() -> None:
        store.restart()
        _reconnect_all(hand)

    hand.later(0.1, 6.0, back)
    return True


def forget(hand: Hand) -> bool:
    """It comes back without its last writes, or its lagging replica takes over."""
    store = hand.world.store
    if not store.up:
        return False
    store.up = False

    def back() -> None:
        store.lose()
        hand.world.observe(hand.world, Lost())
        _reconnect_all(hand)

    hand.later(0.1, 3.0, back)
    return True


def split(hand: Hand) -> bool:
    """The replica takes over while some machines still reach the old primary, and only that."""
    world = hand.world
    machines = list(world.machines.values())
    if not (world.store.with_replica and world.store.up and machines):
        return False
    old = world.store.abandon(world.agenda.now_s)
    world.observe(world, Lost())
    left_behind = hand.rng.sample(machines, hand.rng.randint(1, len(machines)))
    for machine in left_behind:
        machine.link.abandoned = old

    def heal() -> None:
        old.up = False
        for machine in left_behind:
            machine.link.abandoned = None
            reconnect(hand, machine)

    hand.later(0.3, 8.0, heal)
    _reconnect_all(hand)
    return True


def rename(hand: Hand) -> bool:
    """Its replication id changes, as when its first replica attaches: no connection breaks."""
    hand.world.store.rename()
    return True


def wipe(hand: Hand) -> bool:
    """FLUSHALL."""
    hand.world.store.wipe()
    hand.world.observe(hand.world, Lost())
    return True


def fill(hand: Hand) -> bool:
    """Out of memory: it reads and refuses to write."""
    hand.for_a_while(hand.world.store, "full", True, 0.5, 5.0)
    return True


def lose_replica(hand: Hand) -> bool:
    """Nothing that is written is durable for a while."""
    store = hand.world.store
    if not store.with_replica:
        return False
    store.replica_up = False
    hand.later(0.5, 5.0, lambda: setattr(store, "replica_up", True))
    return True


def jump_clock(hand: Hand) -> bool:
    """The store's clock jumps forward, and keys end early. Leases of nodes trust that clock."""
    if hand.world.config.lease_s:
        return False
    hand.world.store.skew_ms += hand.rng.choice((200, 5000))
    return True


def lose_lock_server(hand: Hand) -> bool:
    """A further lock server hangs for a while."""
    return _lose_lock_server(hand, amnesia=False)


def wipe_lock_server(hand: Hand) -> bool:
    """A further lock server comes back with nothing, after a whole ttl (R30)."""
    return _lose_lock_server(hand, amnesia=True)


def _lose_lock_server(hand: Hand, *, amnesia: bool) -> bool:
    if not hand.world.locks:
        return False
    server = hand.rng.choice(hand.world.locks)
    server.up = False
    if amnesia:
        server.state = LockState()
    down_s = hand.world.config.ttl_s if amnesia else 0.5
    hand.later(down_s, down_s + 5.0, lambda: setattr(server, "up", True))
    return True
