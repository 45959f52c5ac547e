"""Nothing is heard twice, and nobody is heard too often."""

from random import Random

import pytest

from peerupgrade.wire.guards import WINDOW, ReplayGuard, SourceLimits

SESSION = b"session1"


class TestReplays:
    def test_each_number_passes_once_in_any_order(self):
        guard, rng = ReplayGuard(), Random(7)
        numbers = list(range(WINDOW))
        rng.shuffle(numbers)
        assert all(guard.first(SESSION, number) for number in numbers)
        assert not any(guard.first(SESSION, number) for number in numbers)

    def test_is_what_a_set_of_all_numbers_would_say_within_the_window(self):
        guard, rng, heard, highest = ReplayGuard(), Random(8), set(), 0
        for _ in range(20_000):
            number = max(0, highest + rng.randint(-WINDOW - 50, 60))
            expected = number not in heard and number > highest - WINDOW
            assert guard.first(SESSION, number) is expected
            heard.add(number)
            highest = max(highest, number)

    @pytest.mark.parametrize("leap", [1, WINDOW - 1, WINDOW, WINDOW + 1, 2**32 - 1])
    def test_a_leap_forgets_nothing_that_it_would_let_pass(self, leap):
        guard = ReplayGuard()
        assert guard.first(SESSION, 0)
        assert guard.first(SESSION, leap)
        assert not guard.first(SESSION, 0)
        assert not guard.first(SESSION, leap)

    def test_sessions_do_not_know_each_other(self):
        guard = ReplayGuard()
        assert guard.first(b"one", 5)
        assert guard.first(b"two", 5)
        assert not guard.first(b"one", 5)

    def test_its_memory_is_bounded_and_who_speaks_is_not_forgotten(self):
        guard = ReplayGuard()
        guard.first(SESSION, 0)
        for number in range(10_000):
            guard.first(number.to_bytes(8, "big"), 0)
            assert guard.first(SESSION, number + 1)
            assert not guard.first(SESSION, number)
        assert len(guard) == 4096


class TestSources:
    def test_a_source_may_burst_and_then_has_its_rate(self):
        limits = SourceLimits(per_s=10, burst=5)
        limits.know("a", 0)
        assert [limits.allow("a", 0) for _ in range(7)] == [True] * 5 + [False] * 2
        assert [limits.allow("a", 0.35) for _ in range(4)] == [True] * 3 + [False]
        assert [limits.allow("a", 100) for _ in range(6)] == [True] * 5 + [False]

    def test_strangers_share_what_one_source_has(self):
        limits = SourceLimits(per_s=0, burst=5)
        limits.know("friend", 0)
        heard = [limits.allow(f"stranger-{number}", 0) for number in range(100)]
        assert heard == [True] * 5 + [False] * 95
        assert limits.allow("friend", 0)

    def test_its_memory_is_bounded_and_who_speaks_is_not_forgotten(self):
        limits = SourceLimits(per_s=0, burst=5)
        limits.know("friend", 0)
        assert all(limits.allow("friend", 0) for _ in range(5))
        for number in range(10_000):
            limits.know(f"other-{number}", 0)
            limits.know("friend", 0)
        assert len(limits) == 4096
        assert not limits.allow("friend", 0)
