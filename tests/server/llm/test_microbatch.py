"""Asks share calls, wait only where that gains something, and never for each other's ends."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.microbatch import Later, MicroBatcher


class Timers:
    """Timers that ring when the test says so."""

    def __init__(self) -> None:
        self.set: list[Callable[[], object]] = []

    def later(self, seconds: float, happen: Callable[[], object]) -> Later:
        self.set.append(happen)
        timers = self.set

        class Timer:
            def cancel(self) -> None:
                if happen in timers:
                    timers.remove(happen)

        return Timer()

    def ring(self) -> None:
        for happen in list(self.set):
            self.set.remove(happen)
            happen()


class Backend:
    """Doubles numbers, when the test lets it."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.budgets: list[Budget] = []
        self.open: list[asyncio.Future[None]] = []
        self.cancelled = 0
        self.most = 0
        self.bad: frozenset[int] = frozenset()
        self.timers = Timers()

    async def call(self, items: Sequence[int], budget: Budget) -> Sequence[int | ProviderError]:
        self.calls.append(list(items))
        self.budgets.append(budget)
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open.append(gate)
        self.most = max(self.most, len(self.open))
        try:
            await gate
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open.remove(gate)
        return [ProviderError(ErrorClass.CONTENT, "bad") if item in self.bad else 2 * item for item in items]

    def batcher(self, *, size: int = 3, calls: int = 2, capacity: int = 100) -> MicroBatcher[int, int]:
        return MicroBatcher(self.call, size=size, seconds=0.01, calls=calls, capacity=capacity, later=self.timers.later)

    def answer(self) -> None:
        """Lets the oldest call end."""
        self.open[0].set_result(None)


async def turns(count: int = 6) -> None:
    """Lets everything happen that can."""
    for _ in range(count):
        await asyncio.sleep(0)


def ask(batcher: MicroBatcher[int, int], *items: int, budget: float = 60) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(batcher.ask(item, Budget(budget))) for item in items]


async def test_a_lone_ask_goes_at_once() -> None:
    backend = Backend()
    batcher = backend.batcher()
    (task,) = ask(batcher, 1)
    await turns()
    assert backend.calls == [[1]]
    assert not backend.timers.set
    backend.answer()
    assert await task == 2
    assert batcher.idle


async def test_what_is_asked_together_goes_together_in_order_of_arrival() -> None:
    backend = Backend()
    tasks = ask(backend.batcher(size=3), 1, 2, 3)
    await turns()
    assert backend.calls == [[1, 2, 3]]
    backend.answer()
    assert await asyncio.gather(*tasks) == [2, 4, 6]


async def test_asks_gather_while_a_call_is_under_way_until_the_window_ends() -> None:
    backend = Backend()
    batcher = backend.batcher()
    first = ask(batcher, 1)
    await turns()
    more = ask(batcher, 2, 3)
    await turns()
    assert backend.calls == [[1]]
    backend.timers.ring()
    await turns()
    assert backend.calls == [[1], [2, 3]]
    backend.answer()
    await turns()
    backend.answer()
    assert await asyncio.gather(*first, *more) == [2, 4, 6]


async def test_the_window_counts_from_the_first_who_waits() -> None:
    backend = Backend()
    batcher = backend.batcher(size=9)
    tasks = ask(batcher, 1)
    await turns()
    for item in (2, 3, 4):
        tasks += ask(batcher, item)
        await turns()
        assert len(backend.timers.set) == 1
    await leave(tasks)


async def test_enough_for_a_full_call_do_not_wait_for_the_window() -> None:
    backend = Backend()
    batcher = backend.batcher(size=3)
    tasks = ask(batcher, 1)
    await turns()
    tasks += ask(batcher, 2, 3, 4, 5)
    await turns()
    assert backend.calls == [[1], [2, 3, 4]]
    await leave(tasks)


async def test_the_end_of_a_call_sends_what_waits() -> None:
    backend = Backend()
    batcher = backend.batcher()
    tasks = ask(batcher, 1)
    await turns()
    tasks += ask(batcher, 2)
    await turns()
    backend.answer()
    await turns()
    assert backend.calls == [[1], [2]]
    await leave(tasks)


async def test_no_more_calls_at_a_time_than_are_allowed() -> None:
    backend = Backend()
    batcher = backend.batcher(size=1, calls=2)
    tasks = ask(batcher, *range(10))
    for _ in range(10):
        await turns()
        assert len(backend.open) <= 2
        backend.answer()
    assert await asyncio.gather(*tasks) == [2 * item for item in range(10)]
    assert backend.most == 2


async def test_an_item_that_fails_fails_alone() -> None:
    backend = Backend()
    backend.bad = frozenset({2})
    tasks = ask(backend.batcher(), 1, 2, 3)
    await turns()
    backend.answer()
    one, two, three = await asyncio.gather(*tasks, return_exceptions=True)
    assert (one, three) == (2, 6)
    assert isinstance(two, ProviderError)
    assert two.kind is ErrorClass.CONTENT


async def test_a_call_that_fails_gives_each_an_error_of_its_own() -> None:
    async def call(items: Sequence[int], budget: Budget) -> Sequence[int | ProviderError]:
        raise ProviderError(ErrorClass.OVERLOADED, "full", status=503, retry_after=2.0)

    batcher: MicroBatcher[int, int] = MicroBatcher(call, size=3, seconds=0.01)
    errors = await asyncio.gather(*ask(batcher, 1, 2), return_exceptions=True)
    assert len({id(error) for error in errors}) == 2
    for error in errors:
        assert isinstance(error, ProviderError)
        assert (error.kind, error.status, error.retry_after, error.detail) == (ErrorClass.OVERLOADED, 503, 2.0, "full")
        assert str(error) == "overloaded: full"


async def test_too_few_results_are_an_error_and_not_somebody_elses() -> None:
    async def call(items: Sequence[int], budget: Budget) -> Sequence[int | ProviderError]:
        return [1]

    batcher: MicroBatcher[int, int] = MicroBatcher(call, size=3, seconds=0.01)
    for error in await asyncio.gather(*ask(batcher, 1, 2), return_exceptions=True):
        assert isinstance(error, ProviderError)
        assert error.kind is ErrorClass.INCOMPLETE


async def test_a_defect_of_the_call_reaches_those_who_asked() -> None:
    async def call(items: Sequence[int], budget: Budget) -> Sequence[int | ProviderError]:
        raise KeyError("x")

    batcher: MicroBatcher[int, int] = MicroBatcher(call, size=3, seconds=0.01)
    assert [type(e) for e in await asyncio.gather(*ask(batcher, 1, 2), return_exceptions=True)] == [KeyError] * 2


async def test_whoever_leaves_takes_nobody_along() -> None:
    backend = Backend()
    batcher = backend.batcher()
    one, two = ask(batcher, 1, 2)
    await turns()
    one.cancel()
    await turns()
    assert backend.cancelled == 0
    backend.answer()
    assert await two == 4
    assert one.cancelled()


async def test_whoever_leaves_the_queue_is_not_sent() -> None:
    backend = Backend()
    batcher = backend.batcher()
    first = ask(batcher, 1)
    await turns()
    two, three = ask(batcher, 2, 3)
    await turns()
    two.cancel()
    await turns()
    backend.answer()
    await turns()
    assert backend.calls == [[1], [3]]
    await leave([*first, two, three])
    assert not backend.timers.set


async def test_a_call_that_nobody_waits_for_is_cancelled() -> None:
    backend = Backend()
    batcher = backend.batcher()
    tasks = ask(batcher, 1, 2)
    await turns()
    await leave(tasks)
    await turns()
    assert backend.cancelled == 1
    assert batcher.idle


async def test_the_budget_of_a_call_is_the_longest_and_each_waits_for_its_own() -> None:
    backend = Backend()
    batcher = backend.batcher()
    (short,), (long,) = ask(batcher, 1, budget=0), ask(batcher, 2, budget=60)
    await turns()
    assert backend.calls == [[1, 2]]
    assert backend.budgets[0].remaining() > 50
    with pytest.raises(ProviderError) as caught:
        await short
    assert caught.value.kind is ErrorClass.TIMEOUT
    backend.answer()
    assert await long == 4


async def test_a_full_queue_refuses() -> None:
    backend = Backend()
    batcher = backend.batcher(size=1, calls=1, capacity=2)
    tasks = ask(batcher, 1)
    await turns()
    tasks += ask(batcher, 2, 3)
    await turns()
    with pytest.raises(ProviderError) as caught:
        await batcher.ask(4, Budget(60))
    assert caught.value.kind is ErrorClass.OVERLOADED
    await leave(tasks)


async def test_closing_ends_everything_and_says_so() -> None:
    backend = Backend()
    batcher = backend.batcher(calls=1)
    tasks = ask(batcher, 1)
    await turns()
    tasks += ask(batcher, 2)
    await turns()
    await batcher.aclose()
    await batcher.aclose()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(error, ProviderError)
        assert error.kind is ErrorClass.TRANSIENT
    assert backend.cancelled == 1
    assert backend.calls == [[1]]
    with pytest.raises(ProviderError):
        await batcher.ask(3, Budget(60))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"calls": 0}, {"capacity": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Backend().batcher(**wrong)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(0, 9)),
            st.tuples(st.just("leave"), st.integers(0, 30)),
            st.sampled_from([("answer", 0), ("ring", 0), ("turn", 0)]),
        ),
        max_size=60,
    ),
    st.integers(1, 4),
    st.integers(1, 3),
)
async def test_at_random_everybody_who_stays_gets_the_result_of_their_own(
    steps: list[tuple[str, int]], size: int, calls: int
) -> None:
    backend = Backend()
    batcher = backend.batcher(size=size, calls=calls)
    tasks: list[tuple[int, asyncio.Task[int]]] = []
    for what, number in steps:
        if what == "ask":
            tasks.append((number, ask(batcher, number)[0]))
        elif what == "leave" and tasks:
            tasks[number % len(tasks)][1].cancel()
        elif what == "answer" and backend.open and not backend.open[0].done():
            backend.answer()
        elif what == "ring":
            backend.timers.ring()
        elif what == "turn":
            await turns(1)
    for _ in range(2 * len(tasks) + 2):
        await turns()
        if backend.open:
            backend.answer()
    for number, task in tasks:
        assert task.done()
        assert task.cancelled() or task.result() == 2 * number
    assert all(len(call) <= size for call in backend.calls)
    assert backend.most <= calls
    assert batcher.idle


async def leave(tasks: list[asyncio.Task[int]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
