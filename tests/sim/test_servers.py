"""The simulated servers keep what real ones are set up to keep."""

from peerupgrade.core.requests import Acquire, Failed, Init, LockReply, SetHold
from peerupgrade.sim.servers import REPLICA_LAG_S, SimStore


def formed():
    store = SimStore(with_replica=True)
    store.execute(Init("g", 1, 0), 0.0)
    return store


def test_a_primary_without_its_replica_goes_on_for_the_lag_and_no_longer():
    """R21, `min-replicas-to-write`."""
    old = formed().abandon(10.0)
    late_s = 10.0 + REPLICA_LAG_S
    assert old.execute_lock(Acquire("m", 1000), 10.1)[0].granted
    assert old.execute_lock(Acquire("m", 1000), late_s)[0] == LockReply(False, answered=False)
    assert isinstance(old.execute(SetHold("ann", "why"), late_s)[0], Failed)


def test_a_hold_is_acknowledged_only_once_the_replica_has_it():
    """R23."""
    store = formed()
    assert not isinstance(store.execute(SetHold("ann", "why"), 1.0)[0], Failed)
    store.replica_up = False
    assert isinstance(store.execute(SetHold("ann", "why"), 1.0)[0], Failed)
