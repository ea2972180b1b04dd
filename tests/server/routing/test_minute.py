"""No 60 seconds hold more than the limit, and the wait is exact."""

from hypothesis import given
from hypothesis import strategies as st

from server.routing.minute import MINUTE_SECONDS, ROUNDING_SECONDS, Entry, Minute

QUARTERS = st.integers(0, 4 * 90).map(lambda quarters: quarters / 4)


@given(
    st.integers(1, 12),
    st.lists(st.tuples(QUARTERS, st.integers(0, 14), st.none() | st.integers(0, 20)), max_size=60),
)
def test_like_counting_by_hand(limit: int, calls: list[tuple[float, int, int | None]]) -> None:
    minute, now = Minute(), 1000.0
    by_hand: list[tuple[float, int, int]] = []
    for pause, tokens, really in calls:
        now += pause

        def fits(at: float, tokens: int = tokens) -> tuple[bool, bool]:
            held = [(requests, size) for when, requests, size in by_hand if at - when < MINUTE_SECONDS]
            return (
                sum(requests for requests, _ in held) + 1 <= limit,
                sum(size for _, size in held) + min(tokens, limit) <= limit,
            )

        minute.forget_old(now)
        waits = minute.wait_for_request(now, limit), minute.wait_for_tokens(now, limit, tokens)
        assert tuple(wait == 0 for wait in waits) == fits(now)
        for which, wait in enumerate(waits):
            if wait:
                assert fits(now + wait)[which]
                assert not fits(now + wait - 2 * ROUNDING_SECONDS)[which]
        if not any(waits):
            entry = Entry(now, tokens)
            minute.add(entry)
            become(minute, entry, really)
            by_hand.append((now, really is not None, really or 0))
        assert minute.requests == sum(requests for when, requests, _ in by_hand if now - when < MINUTE_SECONDS)
        assert minute.tokens == sum(size for when, _, size in by_hand if now - when < MINUTE_SECONDS)


def become(minute: Minute, entry: Entry, tokens: int | None) -> None:
    requests, more = 0 if tokens is not None else -1, (tokens or 0) - entry.tokens
    entry.requests += requests
    entry.tokens += more
    minute.changed(entry, requests, more)


@given(st.lists(QUARTERS, max_size=80), st.integers(1, 8))
def test_no_window_holds_more_than_the_limit(pauses: list[float], limit: int) -> None:
    minute, now = Minute(), 0.0
    let_through: list[float] = []
    for pause in pauses:
        now += pause / 10
        minute.forget_old(now)
        if not minute.wait_for_request(now, limit):
            minute.add(Entry(now, 0))
            let_through.append(now)
    for begin in let_through:
        assert sum(begin <= at < begin + MINUTE_SECONDS for at in let_through) <= limit


def test_more_than_a_whole_minute_passes_an_empty_one_only() -> None:
    minute = Minute()
    assert minute.wait_for_tokens(0.0, 10, 25) == 0
    minute.add(Entry(0.0, 25))
    assert minute.wait_for_tokens(1.0, 10, 1) == MINUTE_SECONDS - 1 + ROUNDING_SECONDS
    minute.forget_old(MINUTE_SECONDS)
    assert minute.wait_for_tokens(MINUTE_SECONDS, 10, 25) == 0


def test_what_is_given_back_at_once_takes_no_room() -> None:
    minute = Minute()
    minute.add(Entry(0.0, 1))
    for _ in range(10_000):
        entry = Entry(0.0, 1)
        minute.add(entry)
        become(minute, entry, None)
    assert len(minute.entries) < 200
    assert (minute.requests, minute.tokens) == (1, 1)
    minute.forget_old(MINUTE_SECONDS)
    assert (minute.requests, minute.tokens, len(minute.entries)) == (0, 0, 0)
