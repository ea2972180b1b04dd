"""Backends that play parts, a clock that passes while somebody sleeps, and a router over them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

import msgspec

from program.secret import Secret
from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import Backend, Chunk, ErrorClass, Message, Prompt, Provider, ProviderError, Role
from server.routing.base import Limiter, Unobserved
from server.routing.build import routing
from server.routing.router import Router
from server.settings import KeySettings, ModelSettings, RoutingSettings, Settings, SplitSettings
from tests.server.routing.unlimited import Unlimited

ASKED = Prompt(model="a", messages=(Message(Role.USER, "你好"),))
LAST = Chunk("好", finish=FinishReason.STOP)

Part = tuple[Sequence[Chunk], ProviderError | None]
"""Chunks to give, and then an error to raise."""


def whole(text: str = "好") -> Part:
    return [Chunk(text, finish=FinishReason.STOP)], None


def failing(
    kind: ErrorClass, *before: Chunk, retry_after: float | None = None, code: str = "", status: int = 0
) -> Part:
    return before, ProviderError(kind, "played", retry_after=retry_after, code=code, status=status or None)


def as_asked(prompt: Prompt) -> int:
    """What a model writes at the most that thinks of nothing."""
    return prompt.max_output_tokens or 1000


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(round(seconds, 6))
        self.now += seconds
        await asyncio.sleep(0)


class Played:
    """Plays one part for each call; those behind the last play the last. An error is raised anew by each."""

    def __init__(self, *parts: Part) -> None:
        self.parts = parts
        self.keys: list[str] = []
        self.prompts: list[Prompt] = []
        self.open = 0
        self.closed = False

    @property
    def calls(self) -> int:
        return len(self.keys)

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        chunks, error = self.parts[min(self.calls, len(self.parts) - 1)]
        self.keys.append(key)
        self.prompts.append(prompt)
        self.open += 1
        try:
            for chunk in chunks:
                yield chunk
            if error is not None:
                raise again(error)
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        self.closed = True


class ByKey(Played):
    """Plays by the key of the call."""

    def __init__(self, parts: Callable[[str], Part]) -> None:
        super().__init__()
        self._by_key = parts

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        self.parts = (self._by_key(key),)
        async with aclosing(super().generate(prompt, budget, key)) as chunks:
            async for chunk in chunks:
                yield chunk


def again(error: ProviderError) -> ProviderError:
    return ProviderError(
        error.kind,
        error.detail,
        model=error.model,
        status=error.status,
        code=error.code,
        retry_after=error.retry_after,
    )


class Noted(Unobserved):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.attempts: list[tuple[str, str]] = []
        self.failovers: list[tuple[str, bool]] = []
        self.breakers: list[tuple[str, str]] = []
        self.usable: dict[str, int] = {}
        self.ages: dict[str, float] = {}
        self.readable: dict[str, bool] = {}
        self.paid: list[tuple[str, Usage, float]] = []
        self.first: list[str] = []

    def attempt_ended(self, model: str, outcome: str, seconds: float) -> None:
        self.attempts.append((model, outcome))

    def first_text(self, model: str, seconds: float) -> None:
        self.first.append(model)

    def tokens_used(self, model: str, usage: Usage, cost: float) -> None:
        self.paid.append((model, usage, cost))

    def failed_over(self, model: str, after_text: bool) -> None:
        self.failovers.append((model, after_text))

    def breaker_changed(self, model: str, state: str) -> None:
        self.breakers.append((model, state))

    def keys_usable(self, model: str, count: int) -> None:
        self.usable[model] = count

    def key_age(self, model: str, key: str, share: float) -> None:
        self.ages[key] = share

    def key_gone(self, model: str, key: str) -> None:
        self.ages.pop(key, None)

    def key_file_read(self, model: str, place: str, readable: bool) -> None:
        self.readable[place] = readable


def keyed(*keys: str, groups: Sequence[str] = (), **more: object) -> ModelSettings:
    """A model with keys, each of the quota group at its place."""
    settings = tuple(
        KeySettings(secret=Secret(key), quota_group=groups[index] if groups else "") for index, key in enumerate(keys)
    )
    return msgspec.convert({"keys": settings, **more}, ModelSettings)


@asynccontextmanager
async def routed(
    backends: Mapping[str, Backend],
    clock: Clock,
    *,
    models: Mapping[str, ModelSettings] | None = None,
    splits: Mapping[str, SplitSettings] | None = None,
    settings: RoutingSettings | None = None,
    limiter: Limiter | None = None,
    observer: Noted | None = None,
    takes: Mapping[str, Callable[[Prompt], bool]] | None = None,
    most_output: Mapping[str, Callable[[Prompt], int]] | None = None,
    random: Callable[[], float] = lambda: 1.0,
) -> AsyncIterator[Router]:
    """A router over ``backends``, with time and chance in hand."""
    everything = Settings(
        models={name: (models or {}).get(name, ModelSettings()) for name in backends},
        splits=dict(splits or {}),
        routing=settings or RoutingSettings(),
    )
    async with routing(
        everything,
        backends,
        limiter or Unlimited(),
        observer or Noted(),
        takes={name: (takes or {}).get(name, lambda prompt: True) for name in backends},
        most_output={name: (most_output or {}).get(name, as_asked) for name in backends},
        clock=clock,
        random=random,
        sleep=clock.sleep,
    ) as router:
        yield router


class Shown:
    """What a person sees: restarts applied."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.finish: FinishReason | None = None
        self.usage: Usage | None = None
        self.model = ""
        self.restarts = 0
        self.ever: list[str] = []
        """The text after each chunk."""
        self.error: ProviderError | None = None

    def apply(self, chunk: Chunk) -> None:
        assert self.finish is None, "nothing comes behind the end"
        if chunk.restart:
            assert chunk.text, "what was shown is never replaced by nothing"
            assert not chunk.text.isspace()
            self.restarts += 1
            self.text = self.reasoning = ""
        self.text += chunk.text
        self.reasoning += chunk.reasoning
        self.model = chunk.model or self.model
        self.finish, self.usage = chunk.finish, chunk.usage
        self.ever.append(self.text)


async def watch(provider: Provider, prompt: Prompt = ASKED, budget: Budget | None = None) -> Shown:
    """One turn, to its answer or its error."""
    shown = Shown()
    try:
        async with aclosing(provider.generate(prompt, budget or Budget(60))) as chunks:
            async for chunk in chunks:
                shown.apply(chunk)
    except ProviderError as error:
        shown.error = error
    return shown
