"""Many nodes that gossip, in virtual time."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from peerupgrade.core.effects import Emit
from peerupgrade.core.gossip.machine import carried
from peerupgrade.core.gossip.packets import Condition, Digest, Spread
from peerupgrade.core.versions import parse_version
from peerupgrade.sim.crowd import Crowd
from tests.core.builders import record

V2, V3 = parse_version("2.0"), parse_version("3.0")
BUDGET = 11  # packets of each node for one change: a few more than the copies


def crowd(count, seed=1, **how):
    made = Crowd(Random(seed), **how)
    made.gather(count)
    made.run(2.0)
    return made


def conditions(made, of):
    return {
        made.nodes[name].roster.heartbeats[of].condition
        for name in made.nodes
        if name != of and name not in made.dead
    }


def told(made, event):
    return [(node, detail) for _, node, found, detail in made.events if found == event]


@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("count", [2, 20, 150])
def test_a_change_reaches_everybody_at_a_constant_cost(count, loss):
    made = Crowd(Random(1), loss=loss)
    made.gather(count, probing=False)
    made.install("n000001", V2)
    made.run(5.0)
    knowing = [
        name
        for name, node in made.nodes.items()
        if node.roster.heartbeats["n000001"].installed == V2
    ]
    assert len(knowing) >= count * (1.0 if loss == 0 else 0.99)
    assert sum(made.sent.values()) <= BUDGET * count


def test_what_was_lost_is_repaired_by_the_next_pings():
    made = crowd(5)
    made.parted = frozenset({"n000000"})
    made.install("n000001", V2)
    made.run(2.4)
    assert made.nodes["n000000"].roster.heartbeats["n000001"].installed != V2
    made.parted = frozenset()
    made.run(4.0)
    assert made.nodes["n000000"].roster.heartbeats["n000001"].installed == V2
    assert len({node.roster.digest for node in made.nodes.values()}) == 1


@pytest.mark.parametrize("count", [2, 5, 30])
def test_a_node_that_died_is_known_to_have_failed(count):
    made = crowd(count)
    made.dead.add("n000001")
    made.run(10.0)
    assert conditions(made, "n000001") == {Condition.FAILED}
    assert {detail.split()[0] for _, detail in told(made, "node failed")} == {"n000001"}


def test_nobody_is_accused_for_long_when_packets_are_lost():
    made = crowd(20, loss=0.05)
    made.run(120.0)
    assert not told(made, "node failed")


def test_a_node_that_stopped_for_half_the_time_that_a_suspect_has_is_not_given_up():
    made = crowd(10)
    made.stopped["n000003"] = 2.4
    made.run(10.0)
    assert not told(made, "node failed")


def test_a_node_that_slept_accuses_nobody_when_it_wakes():
    made = crowd(10)
    for name in list(made.nodes)[:9]:
        made.stopped[name] = 30.0  # the last one gives them up, and they come back
    made.run(60.0)
    accused = {detail.split()[0] for _, detail in told(made, "node suspected")}
    assert "n000009" not in accused


def test_a_cluster_that_was_parted_finds_together_again():
    made = crowd(8)
    half = frozenset(list(made.nodes)[:4])
    made.parted = half
    made.run(12.0)
    assert conditions(made, "n000007") == {Condition.ALIVE, Condition.FAILED}
    made.parted = frozenset()
    made.run(40.0)
    for name in made.nodes:
        assert conditions(made, name) == {Condition.ALIVE}
    assert told(made, "node recovered")


def test_who_leaves_is_not_called_failed_and_is_forgotten():
    made = crowd(5)
    made.carry_out("n000002", made.nodes["n000002"].leave(2.0))
    made.dead.add("n000002")
    made.run(10.0)
    assert conditions(made, "n000002") == {Condition.LEFT}
    assert not told(made, "node failed")
    made.run(90.0)
    assert all(
        "n000002" not in made.nodes[name].roster.heartbeats
        for name in made.nodes
        if name not in made.dead
    )


def test_who_has_failed_and_is_excluded_is_forgotten_though_one_alone_heard_of_it():
    made = crowd(5)
    made.dead.add("n000001")
    made.run(10.0)
    incarnation = made.nodes["n000001"].me.incarnation
    node = made.nodes["n000000"]
    made.carry_out("n000000", node.excluded(10.0, "n000001", incarnation - 1))
    made.run(11.0)
    assert conditions(made, "n000001") == {Condition.FAILED}  # that start is not meant
    made.carry_out("n000000", node.excluded(11.0, "n000001", incarnation))
    made.run(12.0)
    assert conditions(made, "n000001") == {Condition.LEFT}
    made.run(80.0)
    assert all("n000001" not in one.roster.heartbeats for one in list(made.nodes.values())[2:])


def test_an_excluded_node_that_lives_contradicts():
    made = crowd(5)
    incarnation = made.nodes["n000001"].me.incarnation
    node = made.nodes["n000000"]
    made.carry_out("n000000", node.excluded(2.0, "n000001", incarnation))
    made.run(4.0)
    assert conditions(made, "n000001") == {Condition.ALIVE}


def test_a_node_that_speaks_is_there_although_a_later_start_of_it_has_failed():
    made = crowd(3)
    node, me = made.nodes["n000000"], made.nodes["n000001"].me
    later = replace(me, incarnation=me.incarnation + 5)
    node.roster.hear(replace(later, condition=Condition.FAILED, by="n000002"))
    made.run(12.0)
    assert conditions(made, "n000001") == {Condition.ALIVE}
    node.roster.hear(later)
    gossiped = Spread("n000002", Digest(), (me,))
    node.heard(12.0, gossiped)
    node.heard(12.0, replace(gossiped, sender="n000001"))
    assert node.roster.heartbeats["n000001"] == later  # one that is there was started again


def test_a_restart_is_told_apart_from_a_failure():
    made = crowd(5)
    node = made.nodes["n000001"]
    made.carry_out("n000001", node.says(2.0, replace(node.me, incarnation=2)))
    made.run(4.0)
    assert len(told(made, "node restarted")) == 4
    assert not told(made, "node failed")


def test_other_software_is_told_by_everybody_also_when_the_node_was_away_meanwhile():
    made = crowd(3)
    made.install("n000001", V2)
    made.run(3.0)
    said = "n000001: 2.0, was 1.0"
    assert sorted(told(made, "node installed")) == [(name, said) for name in sorted(made.nodes)]
    gossip = made.nodes["n000000"]
    known = gossip.roster.heartbeats["n000001"]
    failed = replace(known, condition=Condition.FAILED, by="n000002")
    again = replace(known, number=known.number + 1, installed=V3)
    emitted = [
        effect
        for heard in (failed, again)
        for effect in gossip.heard(3.0, Spread("n000002", Digest(), (heard,)))
        if isinstance(effect, Emit)
    ]
    assert [one.event for one in emitted] == ["node failed", "node recovered", "node installed"]


def test_at_rest_the_traffic_of_a_node_does_not_grow_with_the_cluster():
    per_node = {}
    for count in (5, 40):
        made = crowd(count)
        made.sent.clear()
        made.run(42.0)
        per_node[count] = sum(made.sent.values()) / count / 40
        assert set(made.sent) == {"Ping", "Ack"}
    assert per_node[40] <= per_node[5] * 1.05


def test_a_record_takes_the_second_way_when_pub_sub_is_dead():
    made = crowd(100)
    made.commit("n000000", record(revision=7))
    made.run(2.2)
    assert all(node.record is not None for node in made.nodes.values())


def test_a_record_that_everybody_knows_costs_a_few_packets():
    made = crowd(100)
    known = record(revision=7)
    for name, node in made.nodes.items():
        made.carry_out(name, node.obeys(2.0, known, master=name == "n000000"))
    carried_ = Counter()
    made.hears = lambda name, packet: carried_.update([getattr(packet, "record", None)])
    made.run(2.3)
    assert 0 < carried_[known] <= 8


def test_an_older_record_or_one_of_another_cluster_is_not_taken_from_a_packet():
    known = record(revision=7)

    def of(found):
        return carried(Spread("a", Digest(), record=found), known)

    assert of(record(revision=8)) is not None
    assert of(record(revision=7)) is None
    assert of(record(revision=6)) is None
    assert of(replace(record(revision=8), generation="another")) is None
    assert carried(Spread("a", Digest(), record=known), None) is None


def test_a_node_ignores_a_packet_for_the_one_that_had_its_address_before():
    made = crowd(3)
    ping = made.nodes["n000001"]._ask("n000002", None)[0].packet
    assert made.nodes["n000000"].heard(2.0, replace(ping, sender="n000001")) == []
