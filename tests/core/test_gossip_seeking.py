"""How nodes that do not hear each other find one another by the store."""

from dataclasses import replace
from random import Random

from peerupgrade.core.effects import CallStore, Tell
from peerupgrade.core.gossip.machine import Gossip, GossipConfig
from peerupgrade.core.gossip.packets import Digest, Heartbeat, Table
from peerupgrade.core.requests import Failed, Seeds, SeedsFound
from peerupgrade.core.timers import Timers
from tests.core.builders import V

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


def test_now_and_then_it_looks_for_members_that_it_has_not_heard_of():
    gossip = found(started())
    assert len(probed(gossip, 200.0)) == 4  # not more: the store is asked by every node
    assert introduced(gossip.replied(200.0, SeedsFound((THERE, HERE)))) == []
    assert introduced(gossip.replied(200.0, SeedsFound((FAR, THERE)))) == [FAR]


def test_a_node_that_was_alone_finds_who_did_not_find_it():
    gossip = started()
    assert introduced(gossip.replied(0.0, SeedsFound(()))) == []
    assert probed(gossip, 70.0)
    assert introduced(gossip.replied(70.0, SeedsFound((FAR,)))) == [FAR]
