"""Who is suspected, who has failed, and who had better look at itself."""

from random import Random

import pytest

from peerupgrade.core.gossip.detector import Detector, Verdict

OTHERS = ("b", "c", "d", "e")


def made():
    detector = Detector(0.5, Random(1))
    detector.begin(0.0)
    for other in OTHERS:
        detector.heard(0.0, other)
    return detector


def fire(detector, late_s=0.0):
    now = detector.due_s + late_s
    return now, detector.proceed(now, OTHERS)


def test_a_node_that_answers_is_measured_and_the_next_one_asked():
    detector = made()
    now, (target, verdict) = fire(detector)
    assert verdict is Verdict.ASK
    detector.answered(now + 0.01, target, detector.sequence)
    assert detector.contacts[target].rtt_s == pytest.approx(0.01)
    later, (_, verdict) = fire(detector)
    assert (later, verdict) == (pytest.approx(now + 0.5), Verdict.ASK)


def test_without_an_answer_others_are_asked_and_then_the_node_is_suspected():
    detector = made()
    began, (target, _) = fire(detector)
    now, again = fire(detector)
    assert again == (target, Verdict.HELP)
    assert now < began + 0.5
    detector.answered(began + 0.3, target, detector.sequence - 1)  # to an older ping: no proof
    now, last = fire(detector)
    assert last == (target, Verdict.SUSPECT)
    assert now == pytest.approx(began + 0.5)


def test_the_neighbour_is_asked_every_second_time_and_everybody_in_the_end():
    detector = made()
    asked = []
    for _ in range(40):
        now, (target, _) = fire(detector)
        asked.append(target)
        detector.answered(now, target, detector.sequence)
    assert set(asked) == set(OTHERS)
    assert asked.count("b") >= 20


def test_a_suspect_has_failed_when_its_time_is_over_and_only_once():
    detector = made()
    detector.suspect(10.0, "b", 5)
    detector.suspect(10.5, "b", 5)  # said again: no new time
    until = detector.next_failure_s
    detector._due_s = until
    assert detector.failed(until - 0.1) == []
    assert detector.failed(until) == ["b"]
    assert detector.failed(until + 1.0) == []


def test_whoever_contradicts_is_trusted():
    detector = made()
    detector.suspect(10.0, "b", 5)
    detector.trust("b")
    assert detector.next_failure_s is None


def test_a_node_that_was_slow_itself_accuses_nobody():
    detector = made()
    fire(detector)
    fire(detector)
    detector.suspect(0.5, "c", 5)
    until = detector.next_failure_s
    late, found = fire(detector, late_s=5.0)
    assert found[1] is Verdict.ASK
    assert detector.health == 1
    assert detector.failed(late) == []
    assert detector.next_failure_s == pytest.approx(until + 5.0)


def test_two_nodes_in_a_row_that_do_not_answer_make_it_doubt_itself():
    detector = made()
    seen = []
    while len(set(seen)) < 2:
        _, (target, verdict) = fire(detector)
        if verdict is Verdict.SUSPECT:
            seen.append(target)
    assert detector.health == 1
    detector.contradicted()
    assert detector.health == 2


def test_a_sick_node_gives_more_time_and_recovers_with_every_answer():
    healthy, sick = made(), made()
    for _ in range(9):
        sick.contradicted()
    healthy.suspect(1.0, "b", 5)
    sick.suspect(1.0, "b", 5)
    assert sick.next_failure_s > healthy.next_failure_s
    before = sick.health
    now, (target, _) = fire(sick)
    sick.answered(now, target, sick.sequence)
    assert sick.health == before - 1


def test_with_nobody_else_it_looks_again_later():
    detector = made()
    assert detector.proceed(detector.due_s, ()) is None
    assert detector.due_s > 0
