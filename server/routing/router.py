"""Finds the backend of a model and tries again where that can help.

Today a model name leads to one backend. Routing over several belongs in
:meth:`Router._route`: what it gives may become a list, and each attempt take the next.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final

import msgspec

from server.budget import Budget
from server.domain import Usage
from server.llm.base import RETRYABLE, Chunk, ErrorClass, Prompt, Provider, ProviderError

FIRST_BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 8.0

LEAST_SECONDS_FOR_AN_ATTEMPT: Final = 1.0
"""What a wait must leave of the budget: with less, another attempt would only be cut off."""


class Router:
    """A :class:`~server.llm.base.Provider` over providers by model name.

    Retries only what may succeed the second time, and only while nothing of the reply,
    thoughts included, was handed out: nobody can continue another model's sentence.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        attempts: Mapping[str, int],
        *,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Args: backends and attempts in all, by model name (1 where it is missing); jitter in [0, 1)."""
        self._providers = providers
        self._attempts = attempts
        self._random = random
        self._sleep = sleep

    async def generate(self, prompt: Prompt, budget: Budget) -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Provider.generate`."""
        provider = self._route(prompt)
        attempt = 0
        while True:
            attempt += 1
            passed_on = text_passed_on = False
            try:
                async with aclosing(provider.generate(prompt, budget)) as chunks:
                    async for chunk in chunks:
                        if chunk.finish is not None:
                            yield _counted(chunk, attempt)
                            return
                        passed_on = True
                        text_passed_on = text_passed_on or bool(chunk.text)
                        yield chunk
                raise ProviderError(ErrorClass.INCOMPLETE, "the provider ended without a finish reason")
            except ProviderError as error:
                error.attempts = attempt
                error.text_passed_on = text_passed_on
                error.model = error.model or prompt.model
                delay = self._delay(error, attempt)
                if passed_on or not self._again(prompt.model, error, attempt, delay, budget):
                    raise
            await self._sleep(delay)

    async def aclose(self) -> None:
        """Closes all backends, the failing ones too."""
        results = await asyncio.gather(
            *(provider.aclose() for provider in self._providers.values()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _route(self, prompt: Prompt) -> Provider:
        provider = self._providers.get(prompt.model)
        if provider is None:
            raise ProviderError(ErrorClass.NOT_FOUND, "no such model in the settings", model=prompt.model)
        return provider

    def _again(self, model: str, error: ProviderError, attempt: int, delay: float, budget: Budget) -> bool:
        return (
            error.kind in RETRYABLE
            and attempt < self._attempts.get(model, 1)
            and budget.remaining() - delay >= LEAST_SECONDS_FOR_AN_ATTEMPT
        )

    def _delay(self, error: ProviderError, attempt: int) -> float:
        """Full jitter under a doubling bound; never less than the backend asked for."""
        bound = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * float(2 ** (attempt - 1)))
        return max(self._random() * bound, error.retry_after or 0.0)


def _counted(chunk: Chunk, attempts: int) -> Chunk:
    """The last chunk with the attempts in its usage; a first success without counts stays without."""
    if chunk.usage is None and attempts == 1:
        return chunk
    usage = chunk.usage or Usage()
    return msgspec.structs.replace(chunk, usage=msgspec.structs.replace(usage, attempt_count=attempts))
