"""How long what failed is left alone, and how many second attempts there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.routing.recent import RecentCounts
from server.routing.rests import LONGEST_HINT_SECONDS, Rest
from server.routing.retry_budget import FLOOR, WINDOW_SECONDS, RetryBudget


def test_rests_double_up_to_a_bound() -> None:
    rest, now, lengths = Rest(2, 60), 100.0, []
    for _ in range(8):
        assert rest.begin(now, now)
        lengths.append(rest.remaining(now))
        now = rest.until
    assert lengths == [2, 4, 8, 16, 32, 60, 60, 60]
    rest.end(now)
    rest.begin(now, now)
    assert rest.remaining(now) == 2, "a success forgets the doubling"


def test_calls_that_fail_together_begin_one_rest() -> None:
    rest = Rest(2, 60)
    assert rest.begin(100.0, 99.0)
    assert not any(rest.begin(100.0 + index / 100, 99.0 + index / 100) for index in range(1, 50))
    assert rest.until == 102.0


def test_calls_from_before_end_no_rest() -> None:
    rest = Rest(2, 60)
    rest.begin(100.0, 99.0)
    rest.end(99.9)
    assert rest.until == 102.0
    rest.end(100.0)
    assert rest.until == 0


@pytest.mark.parametrize(
    ("hint", "length"), [(0.5, 0.5), (30.0, 30.0), (90.0, 90.0), (3600.0, LONGEST_HINT_SECONDS), (0.0, 0.0)]
)
def test_hints_replace_the_doubling(hint: float, length: float) -> None:
    rest = Rest(2, 60)
    rest.begin(100.0, 100.0, hint)
    assert rest.remaining(100.0) == length


def test_a_longer_hint_of_a_call_from_before_counts() -> None:
    rest = Rest(2, 60)
    rest.begin(100.0, 99.0, 1.0)
    rest.begin(100.5, 99.5, 5.0)
    assert rest.until == 105.5


def test_probes_come_further_and_further_apart() -> None:
    rest, now, probes = Rest(1800, 1800), 0.0, []
    rest.begin(now, now)
    while now < 200:
        now += 0.5
        if rest.takes_probe(now):
            probes.append(now)
            assert not rest.takes_probe(now), "one at a time"
            rest.begin(now, now)
    assert probes == [1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0]


def test_second_attempts_stay_within_their_share() -> None:
    budget, allowed = RetryBudget(0.2), 0
    for _ in range(1000):
        budget.called(5.0, again=False)
        if budget.allows(5.0):
            budget.called(5.0, again=True)
            allowed += 1
    assert allowed == pytest.approx(0.2 * (1000 + allowed), abs=FLOOR + 1)


def test_a_lone_call_may_try_again() -> None:
    budget = RetryBudget(0.0)
    for _ in range(FLOOR):
        assert budget.allows(5.0)
        budget.called(5.0, again=True)
    assert not budget.allows(5.0)
    assert budget.allows(5.0 + WINDOW_SECONDS)


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=80))
def test_the_window_slides_in_tenths(steps: list[tuple[float, bool]]) -> None:
    recent, now, events = RecentCounts(10.0), 50.0, []
    for seconds, marked in steps:
        now += seconds
        recent.add(now, marked=marked)
        events.append((now, marked))
        calls, marks = recent.totals(now)
        # What is younger than nine tenths of the window is in it; what is older than the window is not.
        inside = [mark for time, mark in events if time > now - 9.0]
        around = [mark for time, mark in events if time > now - 10.0]
        assert len(inside) <= calls <= len(around)
        assert sum(inside) <= marks <= sum(around)
