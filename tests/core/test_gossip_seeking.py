"""How nodes that do not hear each other find one another by the store."""

from dataclasses import replace
from random import Random

from peerupgrade.core.effects import CallStore, HeardOn, Memory, Tell, Timer, TimerFired
from peerupgrade.core.gossip.machine import Gossip, GossipConfig
from peerupgrade.core.gossip.packets import Condition, Digest, Heartbeat, Table
from peerupgrade.core.membership import NodeConfig
from peerupgrade.core.node import MastershipConfig, Node
from peerupgrade.core.requests import ExcludedHeard, Failed, Seeds, SeedsFound
from peerupgrade.core.timers import Timers
from tests.core.builders import V, member, record, snapshot

HERE, THERE, FAR = "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"
ME = Heartbeat("a", 1, 0, V("1.0"), V("0"), HERE)
OTHER = Heartbeat("b", 2, 1, V("1.0"), V("0"), THERE)


def started(**config):
    gossip = Gossip(GossipConfig(HERE, **config), Random(1), Timers())
    assert asked(gossip.says(0.0, ME))
    return gossip


def asked(effects):
    return [one for one in effects if isinstance(one, CallStore) and isinstance(one.request, Seeds)]


def introduced(effects):
    return [one.to for one in effects if isinstance(one, Tell) and isinstance(one.packet, Table)]


def probed(gossip, until_s):
    """The probes of a while; gives when the store was asked."""
    now, when = 0.0, []
    while now < until_s:
        now += 0.5
        if asked(gossip.probe(now)):
            when.append(now)
    return when


def found(gossip):
    """It has heard from `b`."""
    gossip.heard(1.0, Table("b", Digest(), (OTHER,)))
    return gossip


def test_it_asks_until_somebody_answers():
    gossip = started()
    assert introduced(gossip.replied(0.0, SeedsFound((THERE,)))) == [THERE]
    assert probed(gossip, 6.5) == [2.0, 4.0, 6.0]
    assert introduced(gossip.replied(6.5, Failed("away"))) == []


def test_whom_the_settings_name_is_told_even_without_the_store():
    gossip = started(join=(FAR,))
    assert introduced(gossip.replied(0.0, Failed("away"))) == [FAR]
    assert introduced(gossip.replied(0.0, SeedsFound((THERE,)))) == [FAR, THERE]


def test_admitted_anew_it_asks_at_once_for_others_may_have_come_meanwhile():
    gossip = found(started())
    assert not asked(gossip.says(2.0, replace(ME, operating=V("1.0"))))
    assert asked(gossip.says(2.5, replace(ME, incarnation=4)))
    assert introduced(gossip.replied(2.5, SeedsFound((FAR,)))) == [FAR]


def test_who_has_found_somebody_asks_the_store_no_more():
    gossip = found(started())
    assert probed(gossip, 300.0) == []


def test_who_was_alone_asks_the_store_no_more():
    gossip = started()
    assert introduced(gossip.replied(0.0, SeedsFound(()))) == []
    assert probed(gossip, 300.0) == []


def members(*addresses):
    return {at: member(at, gossip=at) for at in addresses} | {"b": member("b", gossip=THERE)}


def test_a_master_meets_members_that_it_has_not_heard_of():
    gossip = found(started())
    assert introduced(gossip.meet(2.0, members(FAR))) == [FAR]
    assert introduced(gossip.meet(61.0, members(FAR))) == []
    assert introduced(gossip.meet(62.0, members(FAR))) == [FAR]
    assert introduced(gossip.meet(200.0, members(""))) == []


def test_a_master_meets_a_few_of_many_at_a_time():
    gossip = found(started())
    many = [f"10.0.1.{number}:1" for number in range(100)]
    first, second = (introduced(gossip.meet(at, members(*many))) for at in (2.0, 62.0))
    assert len(set(first)) == 6
    assert set(first) != set(second)


def node(name, address):
    """A core node that has been admitted, with gossip."""
    made = Node(
        NodeConfig(name, V("1.0"), V("0")),
        MastershipConfig(),
        Memory(),
        Random(1),
        gossiping=GossipConfig(address),
    )
    made.gossip.says(0.0, replace(ME, id=name, address=address))
    return made


def test_a_node_that_is_master_meets_them_when_it_probes():
    one, fired = node("a", HERE), TimerFired(Timer.PROBE, 0)
    for is_master in (False, True):
        if is_master:
            one.master.epoch, one.master.snapshot = 1, snapshot(record(), *members(FAR).values())
        token = one.timers.set(Timer.PROBE, 1.0).token
        effects = one.handle(1.0, replace(fired, token=token))
        assert (FAR in introduced(effects)) is is_master


def test_a_node_that_hears_of_an_exclusion_does_not_wait_for_whom_it_is_about():
    one = node("a", HERE)
    one.gossip.roster.hear(OTHER)
    one.gossip.roster.hear(replace(OTHER, condition=Condition.FAILED, by="c"))
    one.handle(1.0, HeardOn(ExcludedHeard(OTHER.id, OTHER.incarnation), members=False))
    assert one.gossip.roster.heartbeats[OTHER.id].condition is Condition.LEFT
