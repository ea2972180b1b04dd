"""No 60 seconds hold more than the limit, and the wait is exact."""

from hypothesis import given
from hypothesis import strategies as st

from server.routing.window import ROUNDING_SECONDS, WINDOW_SECONDS, Entry, SlidingWindow

QUARTERS = st.integers(0, 4 * 90).map(lambda quarters: quarters / 4)


@given(st.integers(1, 12), st.lists(st.tuples(QUARTERS, st.integers(0, 14), st.integers(0, 20)), max_size=60))
def test_like_counting_by_hand(limit: int, calls: list[tuple[float, int, int]]) -> None:
    window, now = SlidingWindow(), 1000.0
    by_hand: list[list[float]] = []
    for pause, amount, really in calls:
        now += pause

        def held(at: float) -> float:
            return sum(size for when, size in by_hand if at - when < WINDOW_SECONDS)

        wait = window.wait(now, limit, amount)
        fits = held(now) + min(amount, limit) <= limit
        assert (wait == 0) == fits
        if fits:
            entry = window.add(now, amount)
            window.change(entry, really)
            by_hand.append([now, really])
        else:
            assert held(now + wait) + min(amount, limit) <= limit
            assert held(now + wait - 2 * ROUNDING_SECONDS) + min(amount, limit) > limit
        assert window.total == held(now)


@given(st.lists(QUARTERS, max_size=80), st.integers(1, 8))
def test_no_window_holds_more_than_the_limit(pauses: list[float], limit: int) -> None:
    window, now = SlidingWindow(), 0.0
    let_through: list[float] = []
    for pause in pauses:
        now += pause / 10
        if not window.wait(now, limit, 1):
            window.add(now, 1)
            let_through.append(now)
    for begin in let_through:
        assert sum(begin <= at < begin + WINDOW_SECONDS for at in let_through) <= limit


def test_more_than_a_whole_minute_passes_an_empty_window_only() -> None:
    window = SlidingWindow()
    assert window.wait(0.0, 10, 25) == 0
    window.change(window.add(0.0, 10), 30)
    assert window.wait(1.0, 10, 1) == WINDOW_SECONDS - 1 + ROUNDING_SECONDS
    assert window.wait(WINDOW_SECONDS, 10, 10) == 0


def test_what_is_given_back_at_once_takes_no_room() -> None:
    window = SlidingWindow()
    kept = window.add(0.0, 1)
    for _ in range(10_000):
        window.change(window.add(0.0, 1), 0)
    assert len(window._entries) < 200
    assert window.total == 1
    assert not kept.gone
    assert window.empty(WINDOW_SECONDS)
    assert window.total == 0


def test_what_is_older_than_the_window_cannot_be_changed_any_more() -> None:
    window = SlidingWindow()
    entry: Entry = window.add(0.0, 5)
    assert window.empty(60.0)
    window.change(entry, 9)
    assert window.total == 0
