"""How fast a conversion goes."""

from peerupgrade.core.pace import Felt, Pace

REST = Felt(recent_s=0.001, rest_s=0.001)
SLOW = Felt(recent_s=0.002, rest_s=0.001)


def test_it_grows_while_nothing_is_felt_and_halves_when_something_is():
    pace = Pace()
    before = pace.rate_per_s
    pace.pause_s(10, 0.0, REST)
    grown = pace.rate_per_s
    assert grown > before
    assert pace.pause_s(10, 0.0, SLOW) == 10 / pace.rate_per_s
    assert pace.rate_per_s == grown / 2


def test_it_never_stops_and_never_floods():
    pace = Pace()
    for _ in range(100):
        pace.pause_s(10, 0.0, SLOW)
    assert (pace.rate_per_s, pace.share_records) == (200, 10)
    for _ in range(100):
        pace.pause_s(10, 0.0, REST)
    assert pace.share_records == 500
    assert pace.pause_s(10, 0.1, REST) == 0.0


def test_where_nothing_is_felt_it_works_a_third_of_the_time():
    assert Pace().pause_s(10, 0.01, Felt()) == 0.02


def test_full_pace_never_waits():
    pace = Pace(full=True)
    assert pace.pause_s(10, 0.01, SLOW) == 0.0
    assert pace.share_records == 500
