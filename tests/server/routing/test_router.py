"""Second attempts: when, how long after, and never once something was handed out."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import pytest

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import RETRYABLE, Chunk, ErrorClass, Prompt, ProviderError
from server.llm.endpoint import endpoint_of
from server.llm.openai_http import OpenAiHttpProvider
from server.routing.router import Router
from server.settings import ModelSettings
from tests.server.llm.reading import ASKED, Taken, take
from tests.server.llm.upstream import HEAD, SERVED, piece, says, serve

LAST = Chunk("好", finish=FinishReason.STOP, model="m")


class Played:
    """A provider that plays one part for each call: chunks to give, then an error to raise or ``None``."""

    def __init__(self, *parts: tuple[Sequence[Chunk], ProviderError | None]) -> None:
        self._parts = parts
        self.calls = 0
        self.open = 0
        self.closed = False

    async def generate(self, prompt: Prompt, budget: Budget) -> AsyncGenerator[Chunk, None]:
        chunks, error = self._parts[min(self.calls, len(self._parts) - 1)]
        self.calls += 1
        self.open += 1
        try:
            for chunk in chunks:
                yield chunk
            if error is not None:
                raise error
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        self.closed = True


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def failed(kind: ErrorClass, retry_after: float | None = None) -> ProviderError:
    return ProviderError(kind, "played", retry_after=retry_after)


def router_for(provider: Played, clock: Clock, attempts: int = 3, random: Callable[[], float] = lambda: 1.0) -> Router:
    return Router({"m": provider}, {"m": attempts}, random=random, sleep=clock.sleep)


async def refused(router: Router, budget: Budget) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async with aclosing(router.generate(ASKED, budget)) as chunks:
            async for _ in chunks:
                pass
    return caught.value


@pytest.mark.parametrize("kind", list(ErrorClass))
async def test_what_is_tried_again(kind: ErrorClass) -> None:
    clock, provider = Clock(), Played(([], failed(kind)), ([LAST], None))
    taken, chunks = await take(router_for(provider, clock), Budget(60, clock))
    if kind in RETRYABLE:
        assert taken.complete
        assert chunks[-1].usage == Usage(attempt_count=2)
        assert clock.naps == [0.5]
    else:
        assert taken.error is kind
        assert provider.calls == 1
    assert provider.open == 0


async def test_attempts_have_a_bound_and_the_error_tells() -> None:
    clock, provider = Clock(), Played(([], failed(ErrorClass.TRANSIENT)))
    error = await refused(router_for(provider, clock), Budget(60, clock))
    assert (provider.calls, error.attempts, error.text_passed_on, error.model) == (3, 3, False, "m")
    assert clock.naps == [0.5, 1.0]


async def test_backoff_doubles_up_to_a_bound_with_full_jitter() -> None:
    clock, provider = Clock(), Played(([], failed(ErrorClass.TRANSIENT)))
    await refused(router_for(provider, clock, attempts=8, random=lambda: 0.5), Budget(600, clock))
    assert clock.naps == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


@pytest.mark.parametrize(("asked", "waited"), [(2.0, 2.0), (0.1, 0.5), (0.0, 0.5), (None, 0.5)])
async def test_what_the_backend_asks_for_is_the_least(asked: float | None, waited: float) -> None:
    clock, provider = Clock(), Played(([], failed(ErrorClass.RATE_LIMIT, asked)), ([LAST], None))
    await take(router_for(provider, clock), Budget(60, clock))
    assert clock.naps == [waited]


@pytest.mark.parametrize(("retry_after", "calls"), [(8.9, 2), (9.5, 1), (3600.0, 1)])
async def test_nobody_waits_beyond_the_budget(retry_after: float, calls: int) -> None:
    clock, provider = Clock(), Played(([], failed(ErrorClass.RATE_LIMIT, retry_after)))
    error = await refused(router_for(provider, clock, attempts=2), Budget(10, clock))
    assert provider.calls == calls
    assert clock.now < 10
    assert error.retry_after == retry_after


@pytest.mark.parametrize(("chunk", "text"), [(Chunk("好"), True), (Chunk(reasoning="嗯"), False)])
async def test_nothing_is_tried_again_once_something_was_handed_out(chunk: Chunk, text: bool) -> None:
    clock, provider = Clock(), Played(([chunk], failed(ErrorClass.INCOMPLETE)), ([LAST], None))
    error = await refused(router_for(provider, clock), Budget(60, clock))
    assert (provider.calls, error.attempts, error.text_passed_on) == (1, 1, text)


async def test_a_provider_without_an_end_is_incomplete() -> None:
    clock, provider = Clock(), Played(([Chunk("好")], None))
    error = await refused(router_for(provider, clock), Budget(60, clock))
    assert (error.kind, error.model) == (ErrorClass.INCOMPLETE, "m")


async def test_counts_keep_their_attempts() -> None:
    counted = Chunk("好", finish=FinishReason.STOP, usage=Usage(3, 4))
    clock, provider = Clock(), Played(([], failed(ErrorClass.TIMEOUT)), ([counted], None))
    _, chunks = await take(router_for(provider, clock), Budget(60, clock))
    assert chunks[-1].usage == Usage(3, 4, 2)
    once = Played(([LAST], None))
    _, chunks = await take(router_for(once, clock), Budget(60, clock))
    assert chunks[-1].usage is None


async def test_an_unknown_model() -> None:
    taken, _ = await take(Router({}, {}))
    assert taken.error is ErrorClass.NOT_FOUND


async def test_leaving_closes_the_provider() -> None:
    clock, provider = Clock(), Played(([Chunk("一"), Chunk("二"), LAST], None))
    async with aclosing(router_for(provider, clock).generate(ASKED, Budget(60, clock))) as chunks:
        async for _ in chunks:
            assert provider.open == 1
            break
    assert provider.open == 0


async def test_cancelling_a_backoff_is_no_error_of_the_provider() -> None:
    provider = Played(([], failed(ErrorClass.TRANSIENT, 3600)))
    task = asyncio.create_task(take(Router({"m": provider}, {"m": 2}), Budget(7200)))
    while not provider.calls:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_closing_closes_all() -> None:
    one, two = Played(([LAST], None)), Played(([LAST], None))
    await Router({"one": one, "two": two}, {}).aclose()
    assert one.closed
    assert two.closed


async def test_over_http() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nretry-after-ms: 30\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    cut_at_once = HEAD + b": nothing\n\n"
    cut_later = HEAD + piece("好")
    clock = Clock()
    async with serve(says(busy), says(cut_at_once), says(SERVED), says(cut_later)) as upstream:
        provider = OpenAiHttpProvider(endpoint_of("m", ModelSettings(base_url=upstream.url)))
        router = Router({"m": provider}, {"m": 3}, random=lambda: 0.0, sleep=clock.sleep)
        taken, _ = await take(router)
        assert taken == Taken("你好", "", FinishReason.STOP, Usage(attempt_count=3))
        assert clock.naps == [0.03, 0.0]
        taken, _ = await take(router)
        assert (taken.text, taken.error) == ("好", ErrorClass.INCOMPLETE)
        assert len(upstream.requests) == 4
        await router.aclose()
