"""Times of the week in which members may be taken down."""

import pytest

from peerupgrade.core.windows import ALWAYS, check_window, closed_at_ms, opens_at_ms, week_time
from peerupgrade.errors import ConfigError

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MONDAY_MS = 1_764_547_200_000  # 2025-12-01 00:00 UTC


def at(day, hour):
    return MONDAY_MS + day * DAY_MS + round(hour * HOUR_MS)


@pytest.mark.parametrize(
    ("window", "now_ms", "opens_ms"),
    [
        ("22:00-05:00", at(0, 21.9), at(0, 22)),
        ("22:00-05:00", at(0, 22), None),
        ("22:00-05:00", at(1, 4.9), None),
        ("22:00-05:00", at(1, 5), at(1, 22)),
        ("mon-fri 22:00-05:00", at(5, 4), None),  # the night of friday
        ("mon-fri 22:00-05:00", at(5, 23), at(7, 22)),
        ("mon-fri 22:00-05:00", at(0, 4), at(0, 22)),
        ("sun 22:00-05:00", at(7, 4), None),  # into the next week
        ("sat-mon 10:00-11:00", at(2, 10), at(5, 10)),
        ("tue,thu 10:00-11:00", at(2, 10), at(3, 10)),
        ("sat,sun 00:00-24:00", at(4, 23.5), at(5, 0)),
        (ALWAYS, at(3, 12), None),
    ],
)
def test_a_window_is_open_or_opens_later(window, now_ms, opens_ms):
    assert opens_at_ms([window], now_ms) == (opens_ms or now_ms)


def test_of_several_windows_any_counts():
    windows = ["mon 10:00-11:00", "wed 10:00-11:00"]
    assert opens_at_ms(windows, at(1, 0)) == at(2, 10)
    assert closed_at_ms(windows, at(1, 0)) == at(0, 11)
    assert closed_at_ms(windows, at(0, 9)) == at(-5, 11)
    assert opens_at_ms([], at(1, 0)) == at(1, 0)


def test_a_moment_is_named_as_in_a_window():
    assert week_time(at(0, 0)) == "mon 00:00"
    assert week_time(at(6, 22.5)) == "sun 22:30"


def test_a_window_is_kept_in_one_form():
    assert check_window(" Mon-FRI   22:00-05:00 ") == "mon-fri 22:00-05:00"


@pytest.mark.parametrize(
    "text",
    [
        *("", "22-5", "22:00", "2:00-05:00", "25:00-05:00", "22:60-05:00", "24:01-05:00"),
        *("mo 22:00-05:00", "mon- 22:00-05:00", "mon22:00-05:00", "22:00-05:00 mon"),
    ],
)
def test_a_window_that_cannot_be_read_says_what_one_looks_like(text):
    with pytest.raises(ConfigError) as error:
        check_window(text)
    assert "HH:MM-HH:MM" in error.value.hint
