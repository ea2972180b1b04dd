"""Who is asked after a failure: each class, before text and after it, with one route and with several."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import pytest

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import NO_MODEL_TAKES_PICTURES, RETRYABLE, Chunk, ErrorClass, Image, Message, Prompt, Role
from server.settings import ModelSettings, PriceSettings, RoutingSettings
from tests.server.routing.played import ASKED, LAST, Clock, Noted, Played, failing, keyed, routed, watch, whole

BOTH = msgspec.structs.replace(ASKED, fallbacks=("b",))
THREE = msgspec.structs.replace(ASKED, fallbacks=("b", "c"))
FIRST = Chunk("一", model="a")
THOUGHT = Chunk(reasoning="嗯", model="a")

GOES_ON = RETRYABLE | {ErrorClass.QUOTA, ErrorClass.AUTH, ErrorClass.CONTEXT, ErrorClass.NOT_FOUND}
"""The classes after which another model is asked."""


@pytest.mark.parametrize("before", [(), (THOUGHT,), (FIRST,)], ids=["nothing", "thoughts", "text"])
@pytest.mark.parametrize("kind", list(ErrorClass))
async def test_one_route(kind: ErrorClass, before: tuple[Chunk, ...]) -> None:
    clock, backend, observer = Clock(), Played(failing(kind, *before), whole()), Noted()
    async with routed({"a": backend}, clock, observer=observer) as router:
        shown = await watch(router, budget=Budget(60, clock))
    if kind in RETRYABLE:
        assert (shown.text, shown.finish, shown.restarts) == ("好", FinishReason.STOP, int(before == (FIRST,)))
        assert shown.usage == Usage(attempt_count=2)
        assert clock.naps == [2.5 if kind is ErrorClass.RATE_LIMIT else 0.5]
        assert observer.attempts == [("a", kind.value), ("a", "ok")]
    else:
        assert shown.error is not None
        assert (shown.error.kind, shown.error.attempts, shown.error.model) == (kind, 1, "a")
        assert shown.error.text_passed_on is (before == (FIRST,))
        assert (backend.calls, clock.naps) == (1, [])
    assert observer.failovers == []
    assert backend.open == 0
    assert backend.closed


@pytest.mark.parametrize("before", [(), (THOUGHT,), (FIRST,)], ids=["nothing", "thoughts", "text"])
@pytest.mark.parametrize("kind", list(ErrorClass))
async def test_two_routes(kind: ErrorClass, before: tuple[Chunk, ...]) -> None:
    clock, observer = Clock(), Noted()
    broken, other = Played(failing(kind, *before)), Played(whole())
    async with routed({"a": broken, "b": other}, clock, observer=observer) as router:
        shown = await watch(router, BOTH, Budget(60, clock))
    if kind in GOES_ON:
        assert (shown.text, shown.finish) == ("好", FinishReason.STOP)
        assert shown.restarts == int(before == (FIRST,))
        assert shown.usage == Usage(attempt_count=2)
        assert observer.failovers == [("a", before == (FIRST,))]
        assert other.prompts[0].model == "b"
    else:
        assert shown.error is not None
        assert (shown.error.kind, shown.error.model, other.calls) == (kind, "a", 0)
    assert (broken.calls, clock.naps) == (1, [])
    assert broken.open == other.open == 0


@pytest.mark.parametrize("kind", list(ErrorClass))
async def test_all_routes_fail(kind: ErrorClass) -> None:
    clock = Clock()
    one, two = Played(failing(kind)), Played(failing(kind))
    async with routed({"a": one, "b": two}, clock) as router:
        shown = await watch(router, BOTH, Budget(600, clock))
    assert shown.error is not None
    assert shown.error.kind is kind
    assert shown.error.attempts == one.calls + two.calls
    if kind in RETRYABLE:
        assert one.calls + two.calls <= RoutingSettings().max_attempts
        assert max(one.calls, two.calls) <= ModelSettings().max_attempts
        assert abs(one.calls - two.calls) <= 1, "all are tried once before one is tried twice"
    else:
        assert one.calls == 1
        assert two.calls == int(kind in GOES_ON)


async def test_attempts_have_a_bound_and_the_waits_double() -> None:
    clock, backend = Clock(), Played(failing(ErrorClass.TRANSIENT))
    settings = RoutingSettings(max_attempts=10)
    async with routed({"a": backend}, clock, settings=settings, models={"a": ModelSettings(max_attempts=4)}) as router:
        shown = await watch(router, budget=Budget(60, clock))
    assert shown.error is not None
    assert (backend.calls, shown.error.attempts) == (4, 4)
    assert clock.naps == [0.5, 1.0, 2.0]


async def test_waits_are_random_below_their_bound() -> None:
    clock, backend = Clock(), Played(failing(ErrorClass.INCOMPLETE))
    async with routed({"a": backend}, clock, random=lambda: 0.25) as router:
        await watch(router, budget=Budget(60, clock))
    assert clock.naps == [0.125, 0.25]


@pytest.mark.parametrize("kind", [ErrorClass.TRANSIENT, ErrorClass.OVERLOADED, ErrorClass.RATE_LIMIT])
@pytest.mark.parametrize(("asked", "least"), [(2.0, 2.0), (0.1, 0.1), (0.0, 0.0), (4.9, 4.9)])
async def test_what_a_backend_asks_for_is_the_least(kind: ErrorClass, asked: float, least: float) -> None:
    clock, backend = Clock(), Played(failing(kind, retry_after=asked), whole())
    async with routed({"a": backend}, clock, random=lambda: 0.0) as router:
        shown = await watch(router, budget=Budget(60, clock))
    assert shown.text == "好"
    assert sum(clock.naps) == pytest.approx(least)


@pytest.mark.parametrize("kind", [ErrorClass.TRANSIENT, ErrorClass.OVERLOADED, ErrorClass.RATE_LIMIT])
async def test_nobody_waits_for_a_backend_that_asks_for_too_long(kind: ErrorClass) -> None:
    clock, backend, other = Clock(), Played(failing(kind, retry_after=5.1), whole()), Played(whole("另"))
    async with routed({"a": backend, "b": other}, clock) as router:
        alone = await watch(router, budget=Budget(60, clock))
        both = await watch(router, BOTH, Budget(60, clock))
        meanwhile = await watch(router, budget=Budget(60, clock))
    assert alone.error is not None
    assert (alone.error.kind, alone.error.retry_after) == (kind, 5.1)
    assert both.text == "另", "later turns know of the wait, too"
    assert meanwhile.error is not None
    assert meanwhile.error.retry_after == pytest.approx(5.1)
    assert meanwhile.error.attempts == 0
    assert (backend.calls, clock.naps) == (1, [])


async def test_a_later_turn_waits_for_what_was_asked_of_an_earlier_one() -> None:
    clock = Clock()
    backend = Played(failing(ErrorClass.RATE_LIMIT, retry_after=4.0), whole())
    async with routed({"a": backend}, clock, random=lambda: 0.0) as router:
        await watch(router, budget=Budget(2, clock))
        shown = await watch(router, budget=Budget(60, clock))
    assert (shown.text, clock.naps) == ("好", [4.0])


@pytest.mark.parametrize("kind", [ErrorClass.TIMEOUT, ErrorClass.INCOMPLETE])
async def test_a_hint_behind_any_failure_counts_for_its_turn(kind: ErrorClass) -> None:
    clock = Clock()
    backend = Played(failing(kind, retry_after=3.0), failing(kind, retry_after=5.1), whole())
    async with routed({"a": backend}, clock, random=lambda: 0.0) as router:
        shown = await watch(router, budget=Budget(60, clock))
    assert shown.error is not None
    assert (shown.error.retry_after, backend.calls, clock.naps) == (5.1, 2, [3.0])


async def test_all_are_tried_once_before_one_is_tried_twice() -> None:
    clock, order = Clock(), []

    class Telling(Played):
        def __init__(self, name: str) -> None:
            super().__init__(failing(ErrorClass.TIMEOUT))
            self.name = name

        async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
            order.append(self.name)
            async with aclosing(super().generate(prompt, budget, key)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async with routed({name: Telling(name) for name in "abc"}, clock, random=lambda: 0.0) as router:
        await watch(router, THREE, Budget(60, clock))
    assert "".join(order) == "abcab"


async def test_a_backend_that_ends_without_an_end_is_incomplete() -> None:
    backend = Played(([FIRST], None))
    async with routed({"a": backend}, Clock(), models={"a": ModelSettings(max_attempts=1)}) as router:
        shown = await watch(router)
    assert shown.error is not None
    assert (shown.error.kind, shown.error.model, shown.error.text_passed_on) == (ErrorClass.INCOMPLETE, "a", True)


async def test_nothing_begins_with_less_than_a_second() -> None:
    clock, backend = Clock(), Played(failing(ErrorClass.TRANSIENT), whole())
    async with routed({"a": backend}, clock) as router:
        late = await watch(router, budget=Budget(0.9, clock))
        assert late.error is not None
        assert (late.error.kind, late.error.attempts, backend.calls) == (ErrorClass.TIMEOUT, 0, 0)
        shown = await watch(router, budget=Budget(1.4, clock))
    assert shown.error is not None
    assert (shown.error.kind, backend.calls, clock.naps) == (ErrorClass.TRANSIENT, 1, [])


async def test_refused_content_is_carried_on_only_where_that_is_set() -> None:
    clock = Clock()
    one, two = Played(failing(ErrorClass.CONTENT)), Played(whole())
    async with routed({"a": one, "b": two}, clock, settings=RoutingSettings(carry_refused_content=True)) as router:
        assert (await watch(router, BOTH)).text == "好"


async def test_a_blocked_end_is_an_end() -> None:
    blocked = Chunk(finish=FinishReason.PROVIDER_BLOCKED)
    one, two = Played(failing(ErrorClass.INCOMPLETE, FIRST)), Played(([blocked], None))
    async with routed({"a": one, "b": two}, Clock()) as router:
        shown = await watch(router, BOTH)
    assert (shown.finish, shown.restarts) == (FinishReason.PROVIDER_BLOCKED, 0)


async def test_a_prompt_that_is_too_long_goes_to_one_other_model() -> None:
    long = [Played(failing(ErrorClass.CONTEXT)) for _ in "abc"]
    async with routed(dict(zip("abc", long, strict=True)), Clock()) as router:
        shown = await watch(router, THREE)
    assert shown.error is not None
    assert shown.error.kind is ErrorClass.CONTEXT
    assert [backend.calls for backend in long] == [1, 1, 0]


@pytest.mark.parametrize(
    ("code", "status"), [("UNIMPLEMENTED", 0), ("", 12), ("unsupported_parameter", 400), ("", 415), ("", 308)]
)
async def test_what_one_backend_cannot_do_another_may(code: str, status: int) -> None:
    clock = Clock()
    one, two = Played(failing(ErrorClass.BAD_REQUEST, code=code, status=status)), Played(whole())
    async with routed({"a": one, "b": two}, clock) as router:
        assert (await watch(router, BOTH)).text == "好"


async def test_a_model_that_is_not_found_rests_and_is_looked_for_when_nothing_else_is_left() -> None:
    clock, observer = Clock(), Noted()
    gone, other = Played(failing(ErrorClass.NOT_FOUND), whole("回")), Played(whole())
    async with routed({"a": gone, "b": other}, clock, observer=observer) as router:
        for _ in range(5):
            assert (await watch(router, BOTH)).text == "好"
        assert gone.calls == 1
        alone = await watch(router)
        assert alone.error is not None
        assert (alone.error.kind, alone.error.attempts) == (ErrorClass.NOT_FOUND, 0)
        clock.now += 1
        assert (await watch(router)).text == "回", "one call may look"
        assert (await watch(router, BOTH)).text == "回", "and what it finds ends the rest"
    assert observer.failovers == [("a", False)]


async def test_an_overloaded_model_is_tired_not_gone() -> None:
    clock = Clock()
    tired, other = Played(failing(ErrorClass.OVERLOADED), whole("回")), Played(whole())
    async with routed({"a": tired, "b": other}, clock) as router:
        assert (await watch(router, BOTH)).text == "好"
        assert (await watch(router, BOTH)).text == "好", "others are preferred"
        assert tired.calls == 1
        assert (await watch(router)).text == "回", "where there are none it is called"
        assert (await watch(router, BOTH)).text == "回"


async def test_the_most_telling_error() -> None:
    clock = Clock()
    backends = {
        "a": Played(failing(ErrorClass.AUTH)),
        "b": Played(failing(ErrorClass.TRANSIENT)),
        "c": Played(failing(ErrorClass.NOT_FOUND)),
    }
    async with routed(backends, clock, settings=RoutingSettings(max_attempts=3)) as router:
        shown = await watch(router, THREE, Budget(60, clock))
    assert shown.error is not None
    assert (shown.error.kind, shown.error.model, shown.error.attempts) == (ErrorClass.TRANSIENT, "b", 3)


async def test_a_stop_is_the_last_word() -> None:
    backends = {"a": Played(failing(ErrorClass.TRANSIENT)), "b": Played(failing(ErrorClass.CONTENT))}
    async with routed(backends, Clock()) as router:
        shown = await watch(router, BOTH)
    assert shown.error is not None
    assert (shown.error.kind, shown.error.model) == (ErrorClass.CONTENT, "b")


# --- a reply that begins anew ---------------------------------------------------------------


async def test_a_new_beginning_waits_for_text_and_brings_its_thoughts_along() -> None:
    second = [
        Chunk(reasoning="想", model="b"),
        Chunk(" \n"),
        Chunk(reasoning="再想"),
        Chunk("答"),
        Chunk("案", finish=FinishReason.STOP, usage=Usage(1, 2)),
    ]
    one, two = Played(failing(ErrorClass.INCOMPLETE, THOUGHT, FIRST)), Played((second, None))
    async with routed({"a": one, "b": two}, Clock()) as router:
        shown = await watch(router, BOTH)
    assert (shown.text, shown.reasoning, shown.model) == (" \n答案", "想再想", "b")
    assert shown.ever == ["", "一", " \n答", " \n答案"]
    assert shown.usage == Usage(1, 2, attempt_count=2)


async def test_thoughts_alone_go_on_without_a_restart() -> None:
    one, two = Played(failing(ErrorClass.TIMEOUT, THOUGHT)), Played(([Chunk(reasoning="想"), LAST], None))
    async with routed({"a": one, "b": two}, Clock()) as router:
        shown = await watch(router, BOTH)
    assert (shown.text, shown.reasoning, shown.restarts) == ("好", "嗯想", 0)


async def test_white_space_that_was_handed_out_counts_as_text() -> None:
    one, two = Played(failing(ErrorClass.TIMEOUT, Chunk("\n"))), Played(whole())
    async with routed({"a": one, "b": two}, Clock()) as router:
        shown = await watch(router, BOTH)
    assert (shown.text, shown.restarts) == ("好", 1)


@pytest.mark.parametrize("finish", [FinishReason.STOP, FinishReason.LENGTH])
async def test_a_reply_with_nothing_to_read_is_none(finish: FinishReason) -> None:
    nothing = [Chunk(reasoning="想"), Chunk("\n", finish=finish)]
    one, two = Played((nothing, None)), Played(whole())
    async with routed({"a": one, "b": two}, Clock()) as router:
        shown = await watch(router, BOTH)
    assert (shown.text, shown.reasoning, shown.restarts) == ("好", "想", 0)
    broken = Played(failing(ErrorClass.INCOMPLETE, FIRST))
    async with routed({"a": broken, "b": Played((nothing, None)), "c": Played(whole())}, Clock()) as router:
        shown = await watch(router, THREE)
    assert (shown.text, shown.restarts, shown.ever) == ("好", 1, ["一", "好"])


async def test_begun_anew_by_a_backend_with_routes_of_its_own() -> None:
    chunks = [Chunk("  "), Chunk("新", restart=True), Chunk("的", finish=FinishReason.STOP)]
    one, two = Played(failing(ErrorClass.INCOMPLETE, FIRST)), Played((chunks, None))
    async with routed({"a": one, "b": two}, Clock()) as router:
        shown = await watch(router, BOTH)
    assert shown.ever == ["一", "新", "新的"]


async def test_no_restart_where_that_is_set() -> None:
    one, two = Played(failing(ErrorClass.INCOMPLETE, FIRST)), Played(whole())
    async with routed({"a": one, "b": two}, Clock(), settings=RoutingSettings(restart_after_text=False)) as router:
        shown = await watch(router, BOTH)
    assert shown.error is not None
    assert (shown.error.kind, shown.error.text_passed_on, two.calls) == (ErrorClass.INCOMPLETE, True, 0)


async def test_when_nobody_can_finish_what_was_begun() -> None:
    one, two = Played(failing(ErrorClass.INCOMPLETE, FIRST)), Played(failing(ErrorClass.QUOTA))
    models = {"a": ModelSettings(max_attempts=1)}
    async with routed({"a": one, "b": two}, Clock(), models=models) as router:
        shown = await watch(router, BOTH)
    assert shown.error is not None
    assert (shown.error.kind, shown.error.text_passed_on, shown.error.attempts) == (ErrorClass.INCOMPLETE, True, 2)
    assert shown.text == "一"


# --- names, pictures, ends --------------------------------------------------------------------


async def test_an_unknown_model() -> None:
    async with routed({"a": Played(whole())}, Clock()) as router:
        shown = await watch(router, msgspec.structs.replace(ASKED, model="nobody"))
    assert shown.error is not None
    assert (shown.error.kind, shown.error.model) == (ErrorClass.NOT_FOUND, "nobody")


async def test_pictures_go_where_they_can_be_seen() -> None:
    picture = Message(Role.USER, "这是什么", (Image("image/png", b"png"),))
    prompt = Prompt(model="a", messages=(picture,), fallbacks=("b",))
    blind, seeing = Played(whole()), Played(whole("猫"))
    async with routed({"a": blind, "b": seeing}, Clock(), takes={"a": lambda prompt: False}) as router:
        assert (await watch(router, prompt)).text == "猫"
        alone = await watch(router, msgspec.structs.replace(prompt, fallbacks=()))
    assert alone.error is not None
    assert (alone.error.kind, alone.error.code) == (ErrorClass.BAD_REQUEST, NO_MODEL_TAKES_PICTURES)
    assert blind.calls == 0


async def test_a_model_is_asked_once_however_often_it_is_named() -> None:
    clock, backend = Clock(), Played(failing(ErrorClass.QUOTA))
    async with routed({"a": backend}, clock) as router:
        await watch(router, msgspec.structs.replace(ASKED, fallbacks=("a", "a")))
    assert backend.calls == 1


async def test_leaving_closes_the_backend_and_counts_for_nothing() -> None:
    clock, observer = Clock(), Noted()
    backend = Played(([Chunk("一"), Chunk("二"), LAST], None))
    async with routed({"a": backend}, clock, observer=observer) as router:
        for _ in range(50):
            async with aclosing(router.generate(ASKED, Budget(60, clock))) as chunks:
                async for _ in chunks:
                    assert backend.open == 1
                    break
            assert backend.open == 0
        assert (await watch(router, budget=Budget(60, clock))).text == "一二好"
    assert observer.attempts == [("a", "cancelled")] * 50 + [("a", "ok")]
    assert observer.breakers == []


async def test_all_is_accounted_for_before_the_last_chunk_goes_out() -> None:
    clock, observer = Clock(), Noted()
    usage = Usage(1_000_000, 500_000, cached_input_token_count=200_000)
    backend = Played(([Chunk("好", finish=FinishReason.STOP, usage=usage)], None))
    models = {"a": keyed("k", price=PriceSettings(input=2.0, cached_input=0.5, output=8.0))}
    async with (
        routed({"a": backend}, clock, models=models, observer=observer) as router,
        aclosing(router.generate(ASKED, Budget(60, clock))) as chunks,
    ):
        async for chunk in chunks:
            assert chunk.usage == usage
            assert backend.open == 0
            assert observer.attempts == [("a", "ok")]
    ((model, paid, cost),) = observer.paid
    assert (model, paid) == ("a", usage)
    assert cost == pytest.approx(0.8 * 2 + 0.2 * 0.5 + 0.5 * 8)


async def test_cancelling_a_wait_is_no_error() -> None:
    clock, backend = Clock(), Played(failing(ErrorClass.RATE_LIMIT, retry_after=4.0))
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    clock.sleep = sleep  # type: ignore[method-assign]  # a wait without an end
    async with routed({"a": backend}, clock) as router:
        task = asyncio.create_task(watch(router, budget=Budget(60, clock)))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert backend.open == 0


async def test_closing_closes_all() -> None:
    one, two = Played(whole()), Played(whole())
    async with routed({"a": one, "b": two}, Clock()):
        pass
    assert one.closed
    assert two.closed
