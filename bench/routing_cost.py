"""What routing, limits and breaker cost a call, beside the bare backend. In this process: CPU time only."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import msgspec

from bench.rounds import Figure, Outcome, Setting
from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import Chunk, Message, Prompt, Provider, Role
from server.llm.endpoint import endpoint_of
from server.llm.output_cap import most_output
from server.ops.metrics import Metrics
from server.routing.build import routing
from server.routing.counting import CountedHere
from server.routing.limits import Limits
from server.settings import (
    LimitSettings,
    ModelLimitSettings,
    ModelSettings,
    PriceSettings,
    Settings,
    SharedLimitSettings,
)

_CALLS = 2000
_EVERY = LimitSettings(
    requests_per_minute=10**7, tokens_per_minute=10**10, concurrent_calls=10**4, spending_per_day=10.0**7
)
_EVERY_OF_A_MODEL = ModelLimitSettings(**msgspec.structs.asdict(_EVERY))
"""All kinds of limits, none of which is reached."""

_PRICE = PriceSettings(input=1.0, output=2.0)
_USUAL = ModelSettings(protocol="scripted", limits=ModelLimitSettings(requests_per_minute=10**7), price=_PRICE)
_FULL = ModelSettings(protocol="scripted", limits=_EVERY_OF_A_MODEL, price=_PRICE)
_SETTINGS = {
    "the limit of a model": Settings(models={"first": _USUAL, "second": _USUAL}),
    "all 20 limits": Settings(
        models={"first": _FULL, "second": _FULL},
        limits=SharedLimitSettings(person=_EVERY, caller=_EVERY, total=_EVERY, quota_groups={"models.first": _EVERY}),
    ),
}


class _Instant:
    """A backend that answers at once, in eight pieces."""

    def __init__(self) -> None:
        piece = Chunk("企业服务", model="first")
        self._chunks = (*([piece] * 7), Chunk("。", "", FinishReason.STOP, Usage(120, 30), "first"))

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        for chunk in self._chunks:
            yield chunk

    async def aclose(self) -> None: ...


async def _microseconds(provider: Provider, calls: int) -> float:
    """CPU time of one call."""
    system = Message(Role.SYSTEM, "作为企业服务助手,请用专业简洁的语言回答")
    began = time.process_time()
    for number in range(calls):
        prompt = Prompt(
            "first",
            (system, Message(Role.USER, f"第 {number} 个问题:年假怎么申请?")),
            0.7,
            1500,
            user=f"person-{number % 100}",
            fallbacks=("second",),
            caller="portal",
            conversation=f"c{number}",
        )
        async with aclosing(provider.generate(prompt, Budget(60.0))) as chunks:
            async for _ in chunks:
                pass
    return (time.process_time() - began) / calls * 1e6


async def _measure(settings: Settings, rounds: int, calls: int) -> tuple[float, float]:
    bare, metrics = _Instant(), Metrics()
    limits = Limits(settings.models, settings.limits, CountedHere(), metrics.models)
    await limits.open()
    endpoints = {name: endpoint_of(name, entry) for name, entry in settings.models.items()}
    takes = {name: endpoint.takes for name, endpoint in endpoints.items()}
    caps = {name: most_output(endpoint) for name, endpoint in endpoints.items()}
    backends = dict.fromkeys(settings.models, bare)
    found: dict[str, list[float]] = {"bare": [], "routed": []}
    async with routing(settings, backends, limits, metrics.models, takes=takes, most_output=caps) as router:
        providers: dict[str, Provider] = {"bare": bare, "routed": router}
        for provider in providers.values():
            await _microseconds(provider, calls // 10)
        for _ in range(rounds):
            for name in random.sample(list(providers), len(providers)):
                found[name].append(await _microseconds(providers[name], calls))
    await limits.aclose()
    return statistics.median(found["bare"]), statistics.median(found["routed"])


def routing_cost(setting: Setting) -> Iterator[Outcome]:
    """CPU of a call through the router, less that of the bare backend."""
    for name, settings in _SETTINGS.items():
        bare, routed = asyncio.run(_measure(settings, setting.rounds, setting.number(_CALLS)))
        yield Figure(
            scenario="routing, limits, breaker",
            name=f"CPU of a call, {name}",
            value=routed - bare,
            unit="µs",
            aim=50.0,
            note=f"{routed:.0f} µs with, {bare:.0f} µs without",
        )
