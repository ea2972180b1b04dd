"""What limits, breakers and accounts see of attempts, however they end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import msgspec
import pytest

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import Chunk, ErrorClass, LimitReached, Message, Prompt, Role
from server.routing.base import Admission, CallFacts, TurnPart
from server.routing.counting import CountedHere
from server.routing.limits import Limits
from server.settings import (
    LimitSettings,
    ModelLimitSettings,
    ModelSettings,
    PriceSettings,
    RoutingSettings,
    SharedLimitSettings,
)
from tests.server.routing.played import ASKED, Clock, Noted, Part, Played, failing, keyed, routed, watch, whole

BOTH = msgspec.structs.replace(ASKED, fallbacks=("b",))
FIRST = Chunk("一二三", model="a")


class Desk:
    """A limiter that notes who comes and what is settled, and refuses as it is told."""

    def __init__(self, refuse: Callable[[CallFacts], LimitReached | None] = lambda facts: None) -> None:
        self._refuse = refuse
        self.asked: list[CallFacts] = []
        self.patience: list[float] = []
        self.inside = 0
        self.settled: list[tuple[Usage | None, int] | None] = []

    def admitted(self, facts: CallFacts, budget: Budget) -> AbstractAsyncContextManager[Admission]:
        self.patience.append(budget.remaining())
        return self._admit(facts)

    @asynccontextmanager
    async def _admit(self, facts: CallFacts) -> AsyncIterator[Admission]:
        self.asked.append(facts)
        refusal = self._refuse(facts)
        if refusal is not None:
            raise refusal
        slip = Slip()
        self.inside += 1
        try:
            yield slip
        finally:
            self.inside -= 1
            self.settled.append(slip.said)


class Slip:
    said: tuple[Usage | None, int] | None = None

    def settle(self, usage: Usage | None, *, written_characters: int = 0) -> None:
        assert self.said is None, "at most once"
        self.said = (usage, written_characters)


def reached(scope: str, retry_after: float) -> LimitReached:
    return LimitReached(scope, "50 requests per minute", retry_after)


async def parts_of(*parts: Part, prompt: Prompt = ASKED) -> list[str]:
    """What each call of one turn is to it."""
    desk, clock = Desk(), Clock()
    async with routed({"a": Played(*parts)}, clock, limiter=desk) as router:
        await watch(router, prompt, Budget(60, clock))
    return [facts.part.value for facts in desk.asked]


async def test_a_turn_counts_once_however_often_it_is_tried() -> None:
    broken, unreached = failing(ErrorClass.TRANSIENT, status=500), failing(ErrorClass.TRANSIENT)
    assert await parts_of(broken, broken, whole()) == ["first", "again", "again"]
    assert await parts_of(failing(ErrorClass.RATE_LIMIT), whole()) == ["first", "again"], "a refusal was a call"
    # What never reached its backend was given back, and so the next one counts.
    assert await parts_of(unreached, broken, whole()) == ["first", "first", "again"]


async def test_what_a_classifier_asks_does_not_count_at_all() -> None:
    aside = msgspec.structs.replace(ASKED, aside=True)
    assert await parts_of(failing(ErrorClass.TRANSIENT, status=500), whole(), prompt=aside) == ["aside", "aside"]


def refusing(refusal: LimitReached, times: int = 1000) -> Callable[[CallFacts], LimitReached | None]:
    left = [times]

    def refuse(facts: CallFacts) -> LimitReached | None:
        left[0] -= 1
        return refusal if facts.model == "a" and left[0] >= 0 else None

    return refuse


async def test_what_limits_are_told() -> None:
    desk, clock = Desk(), Clock()
    prompt = msgspec.structs.replace(
        BOTH, messages=(Message(Role.USER, "你好"),), user="p-1", caller="crm", max_output_tokens=700
    )
    models = {"a": keyed("k", groups=("account",))}
    backends = {"a": Played(failing(ErrorClass.TRANSIENT, status=500)), "b": Played(whole())}
    async with routed(backends, clock, models=models, limiter=desk) as router:
        await watch(router, prompt, Budget(30, clock))
        await watch(router, ASKED, Budget(30, clock))
    assert desk.asked[0] == CallFacts("a", "account", "p-1", "crm", 6, 700)
    assert desk.asked[1] == CallFacts("b", "models.b", "p-1", "crm", 6, 700, TurnPart.AGAIN)
    # Not long where another model is left, and never all of the budget.
    assert desk.patience == [5.0, 5.0, 29.0, 28.5, 27.5]


@pytest.mark.parametrize("scope", ["person", "caller", "total"])
async def test_a_limit_of_somebody_ends_the_turn(scope: str) -> None:
    other = Played(whole())
    desk = Desk(refusing(reached(scope, 1.0)))
    async with routed({"a": Played(whole()), "b": other}, Clock(), limiter=desk) as router:
        shown = await watch(router, BOTH)
    assert isinstance(shown.error, LimitReached)
    assert (shown.error.scope, shown.error.attempts, other.calls) == (scope, 0, 0)


async def test_sixty_four_callers_of_a_model_that_thinks_keep_a_cap_on_spending() -> None:
    """Thoughts are paid for: what is reserved is the cap that is sent, and not the one of the prompt."""
    price = PriceSettings(input=1.0, output=2.0)
    models = {"a": ModelSettings(price=price, limits=ModelLimitSettings(requests_per_minute=0))}
    limits = Limits(models, SharedLimitSettings(total=LimitSettings(spending_per_day=0.1)), CountedHere(), Noted())
    thinks = Played(([Chunk("好", finish=FinishReason.STOP, usage=Usage(6, 8500))], None))
    observer, asked = Noted(), msgspec.structs.replace(ASKED, max_output_tokens=700)
    async with routed(
        {"a": thinks},
        Clock(),
        models=models,
        limiter=limits,
        observer=observer,
        most_output={"a": lambda prompt: 8192 + (prompt.max_output_tokens or 0)},
    ) as router:
        shown = await asyncio.gather(*(watch(router, asked) for _ in range(64)))
    assert 0.07 < sum(cost for _, _, cost in observer.paid) <= 0.1
    assert {each.error.code for each in shown if each.error is not None} == {"limit.total"}


@pytest.mark.parametrize("scope", ["model", "quota_group"])
async def test_a_limit_of_a_model_leads_to_the_next(scope: str) -> None:
    desk, observer = Desk(refusing(reached(scope, 40.0))), Noted()
    backend = Played(whole())
    async with routed({"a": backend, "b": Played(whole("另"))}, Clock(), limiter=desk, observer=observer) as router:
        shown = await watch(router, BOTH)
        assert (shown.text, shown.usage) == ("另", None), "what was not called is no attempt"
        alone = await watch(router, ASKED)
    assert isinstance(alone.error, LimitReached)
    assert (alone.error.retry_after, alone.error.model, alone.error.attempts) == (40.0, "a", 0)
    assert (backend.calls, observer.breakers) == (0, [])


async def test_a_short_wait_for_a_limit_is_worth_it() -> None:
    clock = Clock()
    desk = Desk(refusing(reached("model", 1.5), times=1))
    async with routed({"a": Played(whole())}, clock, limiter=desk) as router:
        assert (await watch(router, ASKED, Budget(30, clock))).text == "好"
    assert clock.naps == [1.5]


async def test_nobody_waits_for_a_limit_for_ever() -> None:
    clock = Clock()
    desk = Desk(refusing(reached("model", 0.0)))
    async with routed({"a": Played(whole())}, clock, limiter=desk) as router:
        shown = await watch(router, ASKED, Budget(30, clock))
    assert isinstance(shown.error, LimitReached)
    assert len(desk.asked) == ModelSettings().max_attempts


async def test_another_account_where_one_is_at_its_limit() -> None:
    clock = Clock()

    def refuse(facts: CallFacts) -> LimitReached | None:
        return reached("quota_group", 30.0) if facts.quota_group == "full" else None

    backend = Played(whole())
    models = {"a": keyed("one", "two", groups=("full", "free"))}
    async with routed({"a": backend}, clock, models=models, limiter=Desk(refuse)) as router:
        for _ in range(4):
            assert (await watch(router, ASKED, Budget(30, clock))).text == "好"
    assert backend.keys == ["two"] * 4


# --- what is settled ------------------------------------------------------------------------

REFUSED = (Usage(), 0)
BROKEN = (None, 3)


@pytest.mark.parametrize(
    ("kind", "nothing", "text"),
    [
        (ErrorClass.TRANSIENT, (None, 0), BROKEN),
        (ErrorClass.TIMEOUT, (None, 0), BROKEN),
        (ErrorClass.INCOMPLETE, (None, 0), BROKEN),
        (ErrorClass.CONTENT, (None, 0), BROKEN),
        (ErrorClass.OVERLOADED, REFUSED, BROKEN),
        (ErrorClass.RATE_LIMIT, REFUSED, BROKEN),
        (ErrorClass.QUOTA, REFUSED, BROKEN),
        (ErrorClass.AUTH, REFUSED, BROKEN),
        (ErrorClass.CONTEXT, REFUSED, BROKEN),
        (ErrorClass.BAD_REQUEST, REFUSED, BROKEN),
        (ErrorClass.NOT_FOUND, REFUSED, BROKEN),
    ],
)
async def test_failures_are_settled(
    kind: ErrorClass, nothing: tuple[Usage | None, int], text: tuple[Usage | None, int]
) -> None:
    for before, said in (((), nothing), ((FIRST,), text)):
        desk = Desk()
        models = {"a": ModelSettings(max_attempts=1)}
        backend = Played(failing(kind, *before, status=500))
        async with routed({"a": backend}, Clock(), models=models, limiter=desk) as router:
            await watch(router)
        assert desk.settled == [said]
        assert desk.inside == 0


async def test_a_call_that_never_reached_its_backend_costs_nothing() -> None:
    desk = Desk()
    models = {"a": ModelSettings(max_attempts=1)}
    async with routed({"a": Played(failing(ErrorClass.TRANSIENT))}, Clock(), models=models, limiter=desk) as router:
        await watch(router)
    assert desk.settled == [None]


async def test_successes_are_settled_by_count_or_by_what_was_written() -> None:
    counted = [Chunk("好", finish=FinishReason.STOP, usage=Usage(5, 6))]
    uncounted = [Chunk(reasoning="想想"), Chunk("好"), Chunk("的", finish=FinishReason.STOP)]
    desk = Desk()
    async with routed({"a": Played((counted, None), (uncounted, None))}, Clock(), limiter=desk) as router:
        await watch(router)
        await watch(router)
    assert desk.settled == [(Usage(5, 6), 1), (None, 4)]


async def test_a_call_that_was_left_is_settled_by_what_was_written() -> None:
    desk = Desk()
    async with (
        routed({"a": Played(([FIRST, FIRST, FIRST], None))}, Clock(), limiter=desk) as router,
        aclosing(router.generate(ASKED, Budget(30))) as chunks,
    ):
        async for _ in chunks:
            assert desk.inside == 1
            break
    assert desk.settled == [(None, 3)]
    assert desk.inside == 0


# --- breakers -------------------------------------------------------------------------------


async def test_an_open_breaker_fails_fast_and_says_for_how_long() -> None:
    clock, observer = Clock(), Noted()
    backend = Played(*[failing(ErrorClass.TRANSIENT, status=500)] * 10, whole())
    settings, models = RoutingSettings(), {"a": ModelSettings(max_attempts=1)}
    async with routed({"a": backend, "b": Played(whole("另"))}, clock, models=models, observer=observer) as router:
        for _ in range(10):
            await watch(router, ASKED, Budget(30, clock))
        clock.now += 4
        fast = await watch(router, ASKED, Budget(30, clock))
        assert fast.error is not None
        assert (fast.error.kind, fast.error.retry_after, fast.error.attempts) == (ErrorClass.TRANSIENT, 6.0, 0)
        assert (await watch(router, BOTH, Budget(30, clock))).text == "另"
        assert (backend.calls, clock.naps) == (10, [])
        clock.now += settings.breaker_open_seconds
        assert (await watch(router, BOTH, Budget(30, clock))).text == "好"
    assert observer.breakers == [("a", "open"), ("a", "half_open"), ("a", "closed")]
    assert observer.failovers == [], "what was not called did not fail over"


async def test_a_breaker_that_opens_while_a_call_waits_to_be_let_in() -> None:
    clock, gate = Clock(), asyncio.Event()

    class Slow(Desk):
        @asynccontextmanager
        async def _admit(self, facts: CallFacts) -> AsyncIterator[Admission]:
            if facts.person == "waits":
                await gate.wait()
            async with super()._admit(facts) as admission:
                yield admission

    desk, backend = Slow(), Played(failing(ErrorClass.TRANSIENT))
    async with routed({"a": backend, "b": Played(whole("另"))}, clock, limiter=desk) as router:
        prompt = msgspec.structs.replace(BOTH, user="waits")
        waiting = asyncio.create_task(watch(router, prompt, Budget(30, clock)))
        for _ in range(5):
            await watch(router, ASKED, Budget(30, clock))
        calls = backend.calls
        gate.set()
        assert (await waiting).text == "另"
    assert backend.calls == calls
    assert desk.inside == 0


async def test_five_failures_to_connect_open_it() -> None:
    clock, observer = Clock(), Noted()
    models = {"a": ModelSettings(max_attempts=1)}
    async with routed({"a": Played(failing(ErrorClass.TRANSIENT))}, clock, models=models, observer=observer) as router:
        for _ in range(5):
            await watch(router, ASKED, Budget(30, clock))
    assert observer.breakers == [("a", "open")]


@pytest.mark.parametrize(
    "kind",
    [ErrorClass.RATE_LIMIT, ErrorClass.BAD_REQUEST, ErrorClass.CONTENT, ErrorClass.CONTEXT],
)
async def test_who_answers_is_healthy(kind: ErrorClass) -> None:
    clock, observer = Clock(), Noted()
    models = {"a": ModelSettings(max_attempts=1)}
    async with routed({"a": Played(failing(kind))}, clock, models=models, observer=observer) as router:
        for _ in range(50):
            await watch(router, ASKED, Budget(30, clock))
            clock.now += 61
    assert observer.breakers == []


async def test_callers_with_little_time_do_not_open_it_for_the_others() -> None:
    clock, observer = Clock(), Noted()

    class Slow(Played):
        async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
            clock.now += budget.remaining()
            async with aclosing(super().generate(prompt, budget, key)) as chunks:
                async for chunk in chunks:
                    yield chunk

    settings = RoutingSettings(breaker_min_calls=1)
    async with routed({"a": Slow(failing(ErrorClass.TIMEOUT))}, clock, settings=settings, observer=observer) as router:
        for _ in range(20):
            await watch(router, ASKED, Budget(1.5, clock))
        assert observer.breakers == []
        await watch(router, ASKED, Budget(ModelSettings().first_token_seconds, clock))
    assert observer.breakers == [("a", "open")]


async def test_empty_replies_do_not_open_it_and_a_full_cap_is_not_tried_again() -> None:
    clock, observer = Clock(), Noted()
    thoughts = [Chunk(reasoning="想"), Chunk(finish=FinishReason.LENGTH)]
    backend = Played((thoughts, None))
    async with routed({"a": backend}, clock, observer=observer) as router:
        for _ in range(20):
            shown = await watch(router, ASKED, Budget(30, clock))
            assert shown.error is not None
            assert shown.error.kind is ErrorClass.INCOMPLETE
    assert (backend.calls, observer.breakers) == (20, [])
