"""When a program is taken for healthy, and what the store is told of it."""

from dataclasses import replace
from random import Random

import pytest

from peerupgrade.core.effects import CallStore, Memory, RunProbes, SetTimer, Timer
from peerupgrade.core.health import Prober, Probing
from peerupgrade.core.membership import Membership, NodeConfig
from peerupgrade.core.record import Health, HealthState, Standing
from peerupgrade.core.requests import View
from peerupgrade.core.timers import Timers
from tests.core.builders import V, record

UNKNOWN, HEALTHY, UNHEALTHY = HealthState


def prober(**changes):
    """Of a member that has told the store all it has to tell, but for its health."""
    timers = Timers()
    membership = Membership(
        NodeConfig("a", V("1.0"), V("0")), Memory("t", record=record()), Random(1), timers
    )
    membership.view, membership._registered, membership._stale = View(record(), "s"), True, False
    membership.view = View(record(), "server")
    membership._standing, membership._confirmed = Standing.SERVING, 0
    membership._reported = replace(
        membership._reported, standing=Standing.SERVING, operating_revision=10
    )
    return Prober(replace(Probing(failures=3, successes=2), **changes), membership, timers)


def look(made, *errors):
    """What the state is after each answer."""
    states = []
    for error in errors:
        made.looked(0.0, made._call, error)
        states.append(made.membership.health.state)
    return states


def test_so_many_answers_in_a_row_make_it_healthy_and_unhealthy():
    made = prober()
    made.begin()
    assert look(made, "", "") == [UNKNOWN, HEALTHY]
    assert look(made, "x", "x", "", "x", "x") == [HEALTHY] * 5
    assert look(made, "refused") == [UNHEALTHY]
    assert made.membership.health == Health(UNHEALTHY, "refused")
    assert look(made, "", "y", "", "") == [UNHEALTHY, UNHEALTHY, UNHEALTHY, HEALTHY]
    assert made.membership.health == Health(HEALTHY)


def test_the_next_question_comes_after_the_answer():
    made = prober(interval_s=7.0)
    assert made.begin() == [RunProbes(1)]
    (timer,) = made.looked(10.0, 1, "")
    assert (timer.timer, timer.at_s) == (Timer.HEALTH, 17.0)
    assert made.look() == [RunProbes(2)]


def test_an_answer_that_comes_too_late_counts_for_nothing():
    made = prober(successes=1)
    made.begin()
    made.begin()
    assert made.looked(0.0, 1, "") == []
    assert made.membership.health.state is UNKNOWN


def test_the_store_is_told_of_a_change_and_of_nothing_else():
    made = prober(successes=1)
    made.begin()
    asked = [one for one in made.looked(0.0, 1, "") if isinstance(one, CallStore)]
    assert [one.request.health for one in asked] == [Health(HEALTHY)]
    made.membership._pending = None
    made.membership._reported = replace(made.membership._reported, health=Health(HEALTHY))
    (timer,) = made.looked(5.0, 1, "")
    assert isinstance(timer, SetTimer)


def told(made, now, error):
    """What the store is told after an answer, and that it was."""
    asked = [one for one in made.looked(now, made._call, error) if isinstance(one, CallStore)]
    made.membership._pending = None
    for one in asked:
        made.membership._reported = replace(made.membership._reported, health=one.request.health)
    return [one.request.health for one in asked]


def test_what_is_told_of_an_unhealthy_program_is_what_the_newest_probe_said():
    made = prober(failures=1, successes=1)
    made.begin()
    assert told(made, 100.0, "503") == [Health(UNHEALTHY, "503")]
    assert told(made, 105.0, "refused") == []  # words may change each time
    assert told(made, 110.0, "refused") == [Health(UNHEALTHY, "refused")]
    assert told(made, 130.0, "refused") == []
    assert told(made, 130.1, "503") == [Health(UNHEALTHY, "503")]
    assert told(made, 131.0, "") == [Health(HEALTHY)]


def test_why_a_program_is_not_healthy_yet_is_told_before_it_counts_as_unhealthy():
    made = prober(failures=3)
    made.begin()
    assert told(made, 100.0, "refused") == [Health(UNKNOWN, "refused")]
    assert told(made, 101.0, "503") == []
    assert told(made, 102.0, "503") == [Health(UNHEALTHY, "503")]
    assert told(made, 103.0, "") == []  # two answers make it healthy
    assert made.membership.health == Health(UNHEALTHY, "503")


def test_where_nothing_is_probed_nothing_is_asked():
    made = prober()
    made.probing = None
    assert made.begin() == []
    assert made.membership.health is None


@pytest.mark.parametrize("note", ["a\nb  c", "x" * 500])
def test_why_it_fails_is_kept_on_one_short_line(note):
    made = prober(failures=1)
    made.begin()
    look(made, note)
    kept = made.membership.health.note
    assert kept in ("a b c", "x" * 200)
