"""Times of the week, in UTC, outside of which no member is taken down.

A window is text: `22:00-05:00`, every day, or `mon-fri 22:00-05:00`. One that ends before it begins
goes on into the next day. A moment is in ms of the store's clock, and becomes a place in the week.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from peerupgrade.errors import ConfigError

ALWAYS = "00:00-24:00"
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MIN = 24 * 60
_MINUTE_MS = 60_000
_WEEK_MS = 7 * _DAY_MIN * _MINUTE_MS
_FIRST_MONDAY_MS = 4 * _DAY_MIN * _MINUTE_MS  # unix time began on a Thursday
_CHARS_MAX = 100
_WINDOW = re.compile(r"(?:(?P<days>[a-z,-]+) +)?(?P<begin>[\d:]+)-(?P<end>[\d:]+)")
_TIME = re.compile(r"(\d\d):(\d\d)")


def check_window(text: str) -> str:
    """The window as it is kept.

    Raises:
        ConfigError: it cannot be read.
    """
    plain = " ".join(text.lower().split())
    if len(plain) > _CHARS_MAX:
        raise _unreadable(f"{plain[:_CHARS_MAX]}...")
    for _ in _spans_ms(plain):
        pass
    return plain


def opens_at_ms(windows: Collection[str], now_ms: int) -> int:
    """When one of them is open next: `now_ms` if one is, or if there are none."""
    waits_ms = [
        0 if _since(begins_ms, now_ms) < length_ms else _WEEK_MS - _since(begins_ms, now_ms)
        for window in windows
        for begins_ms, length_ms in _spans_ms(window)
    ]
    return now_ms + min(waits_ms, default=0)


def closed_at_ms(windows: Collection[str], now_ms: int) -> int:
    """When the last of them closed, while none is open."""
    return now_ms - min(
        _since(begins_ms + length_ms, now_ms)
        for window in windows
        for begins_ms, length_ms in _spans_ms(window)
    )


def week_time(at_ms: int) -> str:
    """A moment as a window names it: `mon 22:00`."""
    day, minute = divmod(_since(0, at_ms) // _MINUTE_MS, _DAY_MIN)
    return f"{_DAYS[day]} {minute // 60:02}:{minute % 60:02}"


def _since(place_ms: int, now_ms: int) -> int:
    """How long ago that place in the week was."""
    return (now_ms - _FIRST_MONDAY_MS - place_ms) % _WEEK_MS


def _spans_ms(window: str) -> Iterator[tuple[int, int]]:
    """Begin in the week, and length, for each of its days."""
    found = _WINDOW.fullmatch(window)
    if found is None:
        raise _unreadable(window)
    begins, ends = (_minutes(window, found[part]) for part in ("begin", "end"))
    length = (ends - begins - 1) % _DAY_MIN + 1  # from a time to itself: a whole day
    for day in _days(window, found["days"]):
        yield (day * _DAY_MIN + begins) * _MINUTE_MS, length * _MINUTE_MS


def _minutes(window: str, text: str) -> int:
    found = _TIME.fullmatch(text)
    minutes = int(found[1]) * 60 + int(found[2]) if found else -1
    if found is None or int(found[2]) > 59 or minutes > _DAY_MIN:
        raise _unreadable(window)
    return minutes


def _days(window: str, text: str | None) -> set[int]:
    if text is None:
        return set(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise _unreadable(window)
        begin = _DAYS.index(first)
        count = (_DAYS.index(last) - begin) % 7 + 1 if dash else 1
        days |= {(begin + more) % 7 for more in range(count)}
    return days


def _unreadable(window: str) -> ConfigError:
    return ConfigError(
        f"the window {window!r} cannot be read",
        hint="give HH:MM-HH:MM in UTC, with days if not on all: 'mon-fri 22:00-05:00', 'sat,sun"
        " 00:00-24:00'",
    )
