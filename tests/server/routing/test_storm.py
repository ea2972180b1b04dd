"""Many turns over models that fail at random: almost all end in an answer, and nothing is called in a loop."""

import asyncio
import random
from collections.abc import AsyncGenerator

import msgspec
import pytest

from server.budget import Budget
from server.domain import FinishReason
from server.llm.base import RETRYABLE, Backend, Chunk, ErrorClass, Prompt, ProviderError
from server.settings import RoutingSettings
from tests.server.routing.played import ASKED, Clock, Noted, Played, failing, routed, watch

TURNS = 2000
KINDS = sorted(RETRYABLE, key=lambda kind: kind.value)


class Shaky:
    """Fails a share of its calls, in any way, at any token."""

    def __init__(self, name: str, chance: random.Random, share: float) -> None:
        self._tokens = [f"{name}{index}" for index in range(10)]
        self._chance = chance
        self._share = share
        self.calls = 0

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        self.calls += 1
        fails_at = self._chance.randrange(11) if self._chance.random() < self._share else None
        for index, token in enumerate(self._tokens):
            if index == fails_at:
                break
            yield Chunk(token)
        if fails_at is None:
            yield Chunk(finish=FinishReason.STOP)
            return
        kinds = [ErrorClass.INCOMPLETE, ErrorClass.TIMEOUT] if fails_at else KINDS
        kind = self._chance.choice(kinds)
        hint = self._chance.choice([None, 0.5]) if kind is ErrorClass.RATE_LIMIT else None
        raise ProviderError(kind, "by chance", retry_after=hint, status=503)

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("seed", range(5))
async def test_a_fifth_of_all_calls_fails(seed: int) -> None:
    clock, chance = Clock(), random.Random(seed)
    one, two = Shaky("甲", chance, 0.2), Shaky("乙", chance, 0.2)
    backends: dict[str, Backend] = {"a": one, "b": two}
    answers = {"".join(f"甲{index}" for index in range(10)), "".join(f"乙{index}" for index in range(10))}
    prompt = msgspec.structs.replace(ASKED, fallbacks=("b",))
    answered = 0
    async with routed(backends, clock, random=chance.random) as router:
        for _ in range(TURNS):
            shown = await watch(router, prompt, Budget(60, clock))
            if shown.error is None:
                assert shown.text in answers
                answered += 1
            clock.now += 0.1
    assert answered >= 0.995 * TURNS
    assert one.calls + two.calls <= 1.6 * TURNS


async def test_an_outage_is_not_multiplied() -> None:
    """64 callers who come back again and again, against a model that is down: few calls reach it."""
    clock, observer = Clock(), Noted()
    backend = Played(failing(ErrorClass.TRANSIENT, status=500))
    async with routed({"a": backend}, clock, observer=observer) as router:
        for _ in range(30):
            shown = await asyncio.gather(*(watch(router, budget=Budget(60, clock)) for _ in range(64)))
            assert all(each.error is not None for each in shown)
            clock.now += 1
    # The first row is under way at once; then the breaker lets a probe or two through every 10, 20, 40 seconds.
    assert backend.calls < 64 * 1.2 + 20
    assert observer.breakers[:2] == [("a", "open"), ("a", "half_open")]


async def test_second_attempts_are_few_even_while_the_breaker_is_closed() -> None:
    clock = Clock()
    backend = Played(failing(ErrorClass.INCOMPLETE, status=500))
    settings = RoutingSettings(breaker_min_calls=100_000)
    async with routed({"a": backend}, clock, settings=settings) as router:
        for _ in range(400):
            await watch(router, budget=Budget(60, clock))
            clock.now += 0.01
    assert 400 < backend.calls < 400 * 1.25 + 20


async def test_no_turn_calls_in_a_loop() -> None:
    """Whatever is said, a turn makes at most ``max_attempts`` calls, and some more for keys."""
    chance = random.Random(1)
    clock = Clock()
    everything = list(ErrorClass)
    for _ in range(300):
        parts = [
            failing(
                chance.choice(everything), *chance.choice([(), (Chunk("一"),)]), retry_after=chance.choice([None, 0.0])
            )
            for _ in range(40)
        ]
        backend = Played(*parts)
        async with routed({"a": backend, "b": backend}, clock, random=chance.random) as router:
            shown = await watch(router, msgspec.structs.replace(ASKED, fallbacks=("b",)), Budget(600, clock))
        assert shown.error is not None
        assert shown.error.attempts == backend.calls <= 5
