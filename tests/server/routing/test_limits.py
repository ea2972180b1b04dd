"""Every limit of the settings, kept whatever comes at once, and given back whatever happens."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from server.domain import Usage
from server.llm.base import ErrorClass, LimitReached
from server.routing.base import TurnPart
from server.settings import LimitSettings, PriceSettings, SharedLimitSettings
from tests.server.routing.limit_kit import DAY, PRICE, Bench

MINUTE_OF_THREE = LimitSettings(requests_per_minute=3)


async def turns(count: int = 8) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def call(bench: Bench, usage: Usage | None = None, *, reached: bool = True, **facts: object) -> None:
    async with bench.admitted(**facts) as admission:
        if reached:
            admission.settle(usage or Usage(10, 20))


async def refusal(bench: Bench, **facts: object) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await call(bench, **facts)
    return caught.value


async def test_fifty_a_minute_without_a_word_in_the_settings() -> None:
    bench = Bench(LimitSettings(requests_per_minute=50))
    for _ in range(50):
        await call(bench)
        bench.pass_by(0.5)
    error = await refusal(bench)
    assert (error.scope, error.limit, error.model) == ("model", "50 requests per minute", "m")
    assert error.kind is ErrorClass.RATE_LIMIT
    assert error.retry_after == pytest.approx(35.0)
    assert bench.heard.limits == [("model", True)]
    bench.pass_by(34.9)
    await refusal(bench)
    bench.pass_by(error.retry_after - 34.9)
    await call(bench)


async def test_sixty_four_callers_at_once_never_pass_fifty_in_any_minute() -> None:
    bench = Bench(LimitSettings(requests_per_minute=50, concurrent_calls=7))
    let_through: list[float] = []
    refused_by: set[str] = set()

    async def caller() -> None:
        for _ in range(12):
            try:
                async with bench.admitted(budget=30) as admission:
                    let_through.append(bench.now)
                    await asyncio.sleep(0)
                    admission.settle(None)
            except LimitReached as error:
                refused_by.add(error.scope)
            await asyncio.sleep(0)
            bench.pass_by(0.19)

    await asyncio.gather(*(caller() for _ in range(64)))
    assert refused_by == {"model"}
    assert len(let_through) > 100
    for begin in let_through:
        assert sum(begin <= at < begin + 60 for at in let_through) <= 50
    assert bench.limits._line.waiting == 0


@pytest.mark.parametrize(
    ("shared", "scope", "same", "other"),
    [
        (SharedLimitSettings(person=MINUTE_OF_THREE), "person", {"person": "p"}, {"person": "q"}),
        (SharedLimitSettings(person=MINUTE_OF_THREE), "person", {"person": "p", "caller": "a"}, {"person": "p"}),
        (SharedLimitSettings(caller=MINUTE_OF_THREE), "caller", {"caller": "a"}, {"caller": "b"}),
        (SharedLimitSettings(caller=MINUTE_OF_THREE), "caller", {}, {"caller": "b"}),
        (SharedLimitSettings(callers={"a": MINUTE_OF_THREE}), "caller", {"caller": "a"}, {"caller": "b"}),
        (SharedLimitSettings(quota_groups={"g": MINUTE_OF_THREE}), "quota_group", {"group": "g"}, {"group": "h"}),
        (SharedLimitSettings(total=MINUTE_OF_THREE), "total", {"model": "n"}, None),
    ],
)
async def test_each_scope_limits_its_own(
    shared: SharedLimitSettings, scope: str, same: dict[str, str], other: dict[str, str] | None
) -> None:
    bench = Bench(shared=shared)
    for _ in range(3):
        await call(bench, **same)
    error = await refusal(bench, **same)
    assert (error.scope, error.limit) == (scope, "3 requests per minute")
    if other is None:
        assert (await refusal(bench, model="m", person="q", caller="b", group="h")).scope == scope
    else:
        await call(bench, **other)


@pytest.mark.parametrize("scope", ["person", "caller", "total"])
async def test_requests_of_people_are_turns_and_those_of_models_are_calls(scope: str) -> None:
    shared = SharedLimitSettings(**{scope: LimitSettings(requests_per_minute=2, tokens_per_minute=150)})
    bench = Bench(LimitSettings(requests_per_minute=5), shared)
    facts: dict[str, object] = {"person": "p", "caller": "a"}
    aside, again = TurnPart.ASIDE, TurnPart.AGAIN
    await call(bench, Usage(10, 0), part=aside, **facts)
    for part in (TurnPart.FIRST, again, aside, TurnPart.FIRST):
        await call(bench, Usage(10, 0), part=part, **facts)
    # What has no room for a turn is not classified either.
    for part in (TurnPart.FIRST, aside):
        assert (await refusal(bench, model="n", part=part, **facts)).limit == "2 requests per minute"
    assert (await refusal(bench, part=again, **facts)).scope == "model"
    for _ in range(3):
        await call(bench, Usage(30, 0), model="n", part=again, **facts)
    assert (await refusal(bench, model="n", part=again, **facts)).limit == "150 tokens per minute"


async def test_a_second_attempt_long_after_the_first_does_not_lift_a_limit() -> None:
    bench = Bench(shared=SharedLimitSettings(person=LimitSettings(requests_per_minute=2)))
    for number in range(10):
        await call(bench, person=str(number), part=TurnPart.AGAIN)
    for _ in range(2):
        await call(bench, person="1")
    assert (await refusal(bench, person="1")).scope == "person"


async def test_a_call_of_nobody_in_particular_has_no_limits_of_a_person() -> None:
    bench = Bench(shared=SharedLimitSettings(person=LimitSettings(requests_per_minute=1)))
    for _ in range(5):
        await call(bench)


async def test_a_caller_of_its_own_entry_is_free_of_the_default() -> None:
    bench = Bench(shared=SharedLimitSettings(caller=MINUTE_OF_THREE, callers={"a": LimitSettings()}))
    for _ in range(5):
        await call(bench, caller="a")


async def test_a_refused_call_takes_nothing_of_any_limit() -> None:
    bench = Bench(
        LimitSettings(requests_per_minute=5, tokens_per_minute=1000, concurrent_calls=1),
        SharedLimitSettings(person=LimitSettings(requests_per_minute=1), total=LimitSettings(requests_per_minute=4)),
    )
    await call(bench, person="p")
    for _ in range(20):
        assert (await refusal(bench, person="p")).scope == "person"
    for _ in range(3):
        await call(bench)
    assert (await refusal(bench)).scope == "total"


async def test_of_several_the_limit_that_lasts_longest_answers() -> None:
    bench = Bench(LimitSettings(tokens_per_minute=100), SharedLimitSettings(total=LimitSettings(requests_per_minute=2)))
    await call(bench, Usage(0, 0))
    bench.pass_by(10)
    await call(bench, Usage(90, 0))
    error = await refusal(bench)
    assert (error.scope, error.limit) == ("model", "100 tokens per minute")
    bench.pass_by(error.retry_after or 0)
    await call(bench)


async def test_tokens_are_reserved_and_settled() -> None:
    bench = Bench(LimitSettings(tokens_per_minute=100))
    async with bench.admitted(read=40, write=60) as admission:
        assert (await refusal(bench, read=1, write=0)).limit == "100 tokens per minute"
        admission.settle(Usage(40, 5))
    async with bench.admitted(read=40, write=15) as admission:
        # Nobody counted: what was read counts by estimate, and three quarters of a token a character.
        admission.settle(None, written_characters=20)
    assert (await refusal(bench, read=1, write=0)).scope == "model"


async def test_what_never_reached_its_backend_costs_nothing() -> None:
    bench = Bench(
        LimitSettings(requests_per_minute=1, tokens_per_minute=30, concurrent_calls=1, spending_per_day=0.00005),
        price=PRICE,
    )
    for _ in range(10):
        await call(bench, reached=False)
    with pytest.raises(ZeroDivisionError):
        async with bench.admitted():
            raise ZeroDivisionError
    await call(bench)


async def test_settling_twice_counts_once_and_so_does_leaving() -> None:
    bench = Bench(LimitSettings(tokens_per_minute=100, concurrent_calls=1))
    passage = bench.admitted(read=50, write=50)
    async with passage as admission:
        admission.settle(Usage(30, 20))
        admission.settle(None)
        admission.settle(Usage(0, 0))
    await passage.__aexit__(None, None, None)
    admission.settle(Usage(0, 0))
    assert (await refusal(bench, read=51, write=0)).limit == "100 tokens per minute"
    async with bench.admitted(read=50, write=0):
        with pytest.raises(LimitReached, match="1 concurrent calls"):
            await call(bench, read=0, write=0, budget=0)


# --- Money ------------------------------------------------------------------------------


async def test_a_cap_is_reached_to_the_last_unit_and_not_passed() -> None:
    # A call is estimated at 10 + 2 * 20 = 50 millionths, and comes to as much.
    bench = Bench(shared=SharedLimitSettings(callers={"a": LimitSettings(spending_per_day=0.0005)}), price=PRICE)
    for _ in range(10):
        await call(bench, caller="a")
    error = await refusal(bench, caller="a")
    assert (error.scope, error.limit) == ("caller", "spending of 0.0005 per day")
    assert error.retry_after == pytest.approx(DAY)
    await call(bench, caller="b")
    bench.pass_by(error.retry_after)
    await call(bench, caller="a")


async def test_money_is_reserved_by_estimate_and_settled_by_count() -> None:
    bench = Bench(
        LimitSettings(spending_per_day=1.0), price=PriceSettings(input=1000.0, cached_input=100.0, output=5000.0)
    )
    async with bench.admitted(read=100, write=100) as admission:
        # 0.1 + 0.5 are reserved.
        assert (await refusal(bench, read=100, write=100)).limit == "spending of 1 per day"
        admission.settle(Usage(100, 20, cached_input_token_count=100))
    # 0.01 + 0.1 were spent.
    await call(bench, Usage(100, 100), read=100, write=100)
    assert await refusal(bench, read=100, write=40)
    await call(bench, Usage(100, 38), read=100, write=38)


async def test_what_costs_nothing_passes_a_cap_that_is_reached() -> None:
    bench = Bench(shared=SharedLimitSettings(total=LimitSettings(spending_per_day=0.00001)))
    for _ in range(100):
        await call(bench)


@pytest.mark.parametrize("really", [25, 50, 70])
async def test_sixty_four_callers_never_pass_a_cap_by_more_than_the_calls_in_flight(really: int) -> None:
    """Calls are estimated at 50 millionths, and come to less, as much, or more."""
    bench = Bench(shared=SharedLimitSettings(total=LimitSettings(spending_per_day=0.01)), price=PRICE)
    spent = 0

    async def caller() -> None:
        nonlocal spent
        for _ in range(20):
            try:
                async with bench.admitted() as admission:
                    await turns(3)
                    admission.settle(Usage(really, 0))
                    spent += really
            except LimitReached:
                return

    await asyncio.gather(*(caller() for _ in range(64)))
    assert 10_000 - 64 * 50 <= spent <= 10_000 + 64 * max(0, really - 50)
    while spent + 50 <= 10_000:
        await call(bench, Usage(really, 0))
        spent += really
    await refusal(bench)


async def test_an_endless_sender_with_huge_messages_meets_the_cap() -> None:
    bench = Bench(
        shared=SharedLimitSettings(person=LimitSettings(spending_per_day=2.0)), price=PriceSettings(input=1, output=4)
    )
    spent, refused = 0.0, 0
    for _ in range(10_000):
        try:
            async with bench.admitted(person="p", read=350_000, write=1500) as admission:
                admission.settle(Usage(350_000, 1500))
                spent += 0.35 + 0.006
        except LimitReached:
            refused += 1
    assert 2.0 - 0.356 <= spent <= 2.0
    assert refused == 10_000 - 5


# --- Places -----------------------------------------------------------------------------


class Queue:
    """Calls that stay until the test ends them, and the order in which they got their place."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.got: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, name: str, **facts: object) -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, facts))
        await turns()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await turns()

    async def _stay(self, name: str, facts: dict[str, object]) -> None:
        async with self.bench.admitted(**facts) as admission:
            self.got.append(name)
            await self.ends[name].wait()
            admission.settle(Usage())

    async def all_end(self) -> None:
        for end in self.ends.values():
            end.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        assert self.bench.limits._line.waiting == 0
        assert not self.bench.limits._line._lines
        assert all(counts.in_use == 0 for counts in self.bench.limits._state._keys.values())


def places(count: int, **shared: LimitSettings) -> Queue:
    return Queue(Bench(LimitSettings(concurrent_calls=count), SharedLimitSettings(**shared)))


async def test_places_are_given_in_order_of_arrival() -> None:
    queue = places(2)
    for name in "abcde":
        await queue.begin(name)
    assert queue.got == ["a", "b"]
    await queue.end("b")
    await queue.end("a")
    assert queue.got == ["a", "b", "c", "d"]
    # Whoever comes now comes behind those who wait, even in the moment a place becomes free.
    queue.ends["c"].set()
    await queue.begin("f")
    assert queue.got == ["a", "b", "c", "d", "e"]
    await queue.all_end()
    assert queue.got[-1] == "f"


async def test_whoever_waits_for_a_person_does_not_hold_up_others() -> None:
    queue = places(2, person=LimitSettings(concurrent_calls=1))
    await queue.begin("a1", person="a")
    for number in range(2, 6):
        await queue.begin(f"a{number}", person="a")
    await queue.begin("b1", person="b")
    assert queue.got == ["a1", "b1"]
    await queue.end("b1")
    await queue.begin("c1", person="c")
    assert queue.got == ["a1", "b1", "c1"]
    await queue.all_end()
    assert [name for name in queue.got if name[0] == "a"] == [f"a{number}" for number in range(1, 6)]


async def test_whoever_is_cancelled_in_line_takes_nothing_and_holds_up_nobody() -> None:
    queue = places(1)
    for name in "abc":
        await queue.begin(name)
    queue.tasks["b"].cancel()
    await queue.end("a")
    assert queue.got == ["a", "c"]
    await queue.all_end()


async def test_whoever_is_cancelled_when_called_calls_the_next() -> None:
    queue = places(1)
    for name in "abc":
        await queue.begin(name)
    queue.ends["a"].set()
    while not queue.tasks["a"].done():
        await asyncio.sleep(0)
    # `b` has been called, and has not run yet.
    queue.tasks["b"].cancel()
    await turns()
    assert queue.got == ["a", "c"]
    await queue.all_end()


async def test_the_wait_ends_with_the_budget() -> None:
    queue = places(4)
    for name in "abcd":
        await queue.begin(name)
    error = await refusal(queue.bench, budget=0)
    assert (error.scope, error.limit) == ("model", "4 concurrent calls")
    assert error.retry_after is not None
    assert error.retry_after > 0
    await queue.all_end()


async def test_who_could_not_pass_anyway_does_not_wait_for_a_place() -> None:
    queue = places(1, total=LimitSettings(requests_per_minute=2))
    await queue.begin("a")
    await queue.begin("waits")
    await queue.begin("b", model="n")
    # The minute is full now; whoever comes is told at once, and whoever waits, when called.
    assert (await refusal(queue.bench)).scope == "total"
    await queue.end("a")
    with pytest.raises(LimitReached, match="2 requests per minute"):
        await queue.tasks["waits"]
    await queue.all_end()


async def test_whoever_turns_out_to_wait_for_something_else_lets_the_next_pass_and_keeps_its_rank() -> None:
    queue = places(1, person=LimitSettings(concurrent_calls=1))
    await queue.begin("a", person="a")
    await queue.begin("p on m", person="p")
    await queue.begin("q on m", person="q")
    await queue.begin("p on n", person="p", model="n")
    await queue.begin("p again", person="p", model="n")
    assert queue.got == ["a", "p on n"]
    # The place is for the first in line, who is busy elsewhere by now.
    await queue.end("a")
    assert queue.got == ["a", "p on n", "q on m"]
    await queue.end("q on m")
    await queue.end("p on n")
    assert queue.got == ["a", "p on n", "q on m", "p on m"]
    await queue.all_end()
    assert queue.got[-1] == "p again"


async def test_too_many_in_line_are_refused() -> None:
    queue = places(1)
    queue.bench.limits._line._most_waiting = 2
    for name in "abc":
        await queue.begin(name)
    assert (await refusal(queue.bench)).limit == "1 concurrent calls"
    await queue.all_end()


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "end", "cancel", "turn"]), st.integers(0, 99), st.sampled_from(["p", "q", ""])
        ),
        max_size=50,
    )
)
async def test_at_random_no_place_is_lost_or_given_twice(steps: list[tuple[str, int, str]]) -> None:
    queue = places(2, person=LimitSettings(concurrent_calls=1), total=LimitSettings(concurrent_calls=3))
    inside = lambda: [n for n in queue.got if not queue.tasks[n].done()]  # noqa: E731 - a name for a question
    for step, (what, number, person) in enumerate(steps):
        names = list(queue.tasks)
        if what == "begin":
            await queue.begin(f"{step}{person}", person=person, model="mn"[number % 2])
        elif what == "end" and inside():
            await queue.end(inside()[number % len(inside())])
        elif what == "cancel" and names:
            queue.tasks[names[number % len(names)]].cancel()
        else:
            await turns(1)
        assert len(inside()) <= 3
        assert sum(name.endswith("p") for name in inside()) <= 1
    await turns(20)
    # Nobody waits while there is room.
    assert queue.bench.limits._line.waiting == 0 or len(inside()) >= 1
    while inside():
        await queue.end(inside()[0])
    assert all(task.done() for task in queue.tasks.values())
    assert queue.bench.limits._line.waiting == 0
    await queue.all_end()


# --- Shadow mode ------------------------------------------------------------------------


async def test_shadow_mode_counts_and_refuses_nothing() -> None:
    bench = Bench(
        LimitSettings(requests_per_minute=3, concurrent_calls=1, spending_per_day=0.01),
        SharedLimitSettings(shadow=True),
        price=PRICE,
    )
    with capture_logs() as lines:
        for _ in range(100):
            await call(bench)
    assert bench.heard.limits == [("model", False)] * 97
    assert [(line["event"], line["limit"], line["enforced"]) for line in lines] == [
        ("limit_reached", "3 requests per minute", False)
    ]
    bench.pass_by(11)
    with capture_logs() as lines:
        await call(bench)
    assert lines[0]["calls"] == 97
    async with bench.admitted(model="n"), bench.admitted(model="n"):
        pass
    assert bench.heard.limits[-1] == ("model", False)
