"""What people see of one node's gossip."""

from dataclasses import replace
from random import Random

import pytest

from peerupgrade.core.blockers import Code, all_blockers, raise_blockers, with_gossip
from peerupgrade.core.gossip.packets import Condition
from peerupgrade.core.gossip.view import look
from peerupgrade.core.record import Hold, Upgrade
from peerupgrade.sim.crowd import Crowd
from tests.core.builders import member, record, snapshot

ASKED, DEAD = "n000000", "n000001"


@pytest.fixture
def crowd():
    made = Crowd(Random(1))
    made.gather(4)
    made.run(5.0)
    return made


def seen(made):
    return look(ASKED, made.nodes[ASKED], made.agenda.now_s)


def test_whoever_answers_is_alive_was_heard_and_measured(crowd):
    sightings = seen(crowd).sightings
    assert set(sightings) == set(crowd.nodes)
    for name, sighting in sightings.items():
        assert sighting.heartbeat.condition is Condition.ALIVE
        if name == ASKED:
            assert (sighting.heard_s, sighting.rtt_s) == (None, None)
        else:
            assert 0 <= sighting.heard_s < 3
            assert sighting.rtt_s > 0


def test_when_a_node_that_failed_was_heard_last_stays_known(crowd):
    crowd.dead.add(DEAD)
    died_s = crowd.agenda.now_s
    crowd.run(20.0)
    sighting = seen(crowd).sightings[DEAD]
    assert sighting.heartbeat.condition is Condition.FAILED
    assert sighting.heartbeat.by in crowd.nodes
    assert sighting.heard_s >= crowd.agenda.now_s - died_s


def test_a_node_that_left_is_forgotten_with_all_that_was_known_of_it(crowd):
    crowd.nodes[ASKED].heard(crowd.agenda.now_s, farewell(crowd))
    assert seen(crowd).sightings[DEAD].heartbeat.condition is Condition.LEFT
    crowd.dead.add(DEAD)
    crowd.run(90.0)
    assert DEAD not in seen(crowd).sightings
    assert DEAD not in crowd.nodes[ASKED].detector.contacts


def farewell(made):
    return made.nodes[DEAD].leave(made.agenda.now_s)[0].packet


def test_a_blocker_about_a_member_says_what_gossip_knows_of_it(crowd):
    crowd.dead.add(DEAD)
    crowd.run(20.0)
    gossip = seen(crowd)
    now = record(upgrade=Upgrade("1.0", 900_000), hold=Hold("ann", "closing", 1, 0))
    members = [
        member(ASKED, "1.0"),
        member(DEAD, "1.0"),
        member("n000002", "2.0"),
        member("stranger", "1.0"),
    ]
    view = snapshot(now, *members)
    plain = all_blockers(view, view.now_ms)
    found = {(one.code, one.subject): one.evidence for one in with_gossip(plain, gossip)}
    failed = f"gossip of {ASKED}: failed, says n00000"
    assert failed in found[Code.OLDER_VERSION, DEAD]
    assert "last heard 15 s ago" in found[Code.OLDER_VERSION, DEAD]
    assert found[Code.OLDER_VERSION, "stranger"].endswith("n000000 has not heard of it by gossip")
    assert "gossip" not in found[Code.OLDER_VERSION, ASKED]  # it knows itself
    assert found[Code.HOLD, ""] == "ann holds the acting version: closing"
    assert [(one.code, one.subject) for one in plain] == list(found)  # it only shows


def test_a_failed_node_is_no_reason_by_itself(crowd):
    crowd.dead.add(DEAD)
    crowd.run(20.0)
    view = snapshot(record(), *(member(name, "2.0") for name in crowd.nodes))
    assert with_gossip(raise_blockers(view, view.now_ms), seen(crowd)) == []


def test_who_is_suspected_or_has_failed_does_not_answer():
    names = [f"n{number:06}" for number in range(4)]
    made = Crowd(Random(1))
    made.gather(4, probing=False)
    roster = made.nodes[ASKED].roster
    for name, condition in zip(names[1:], list(Condition)[1:], strict=True):
        roster.hear(replace(roster.heartbeats[name], condition=condition))
    assert seen(made).silent == {names[1], names[2]}  # the last one has left
