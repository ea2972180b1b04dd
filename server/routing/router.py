"""Answers a prompt with the models that may answer it, one after another until one does."""

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final

import msgspec
import structlog

from server.budget import Budget, Clock
from server.domain import Usage
from server.llm.base import NO_MODEL_TAKES_PICTURES, Chunk, ErrorClass, LimitReached, Prompt, ProviderError
from server.llm.failure_lines import log_failure
from server.routing.attempt import Attempt, attempting
from server.routing.base import ModelObserver
from server.routing.breaker import BreakerOpen
from server.routing.candidates import Candidates, Chosen
from server.routing.input_estimate import Length, length_of
from server.routing.model import Model
from server.routing.showing import Showing
from server.routing.splits import Names
from server.settings import RoutingSettings

_log = structlog.get_logger()

LEAST_SECONDS_FOR_AN_ATTEMPT: Final = 1.0
"""What must be left of the budget: with less, an attempt would only be cut off."""


class Router:
    """A :class:`~server.llm.base.Provider` over models.

    Gives the reply of the first model that completes one. When a model breaks off after
    text was handed out, the next begins anew with a chunk marked ``restart``, for nobody
    can continue another model's sentence; where it had only thought aloud, the next goes on
    without one.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        names: Names,
        settings: RoutingSettings,
        observer: ModelObserver,
        *,
        clock: Clock = time.monotonic,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Args: models by name; what their names and those of splits mean; jitter in [0, 1)."""
        self._models = models
        self._names = names
        self._settings = settings
        self._observer = observer
        self._clock = clock
        self._random = random
        self._sleep = sleep

    async def generate(self, prompt: Prompt, budget: Budget) -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Provider.generate`."""
        length = length_of(prompt)
        candidates, showing = Candidates(self._route(prompt, length), self._settings), Showing()
        calls = 0
        chosen: Chosen | None = None
        attempt: Attempt | None = None
        counted = False
        while True:
            chosen = await self._next(candidates, showing, budget, chosen, calls)
            model = chosen.candidate.model
            try:
                patience = self._patience(candidates, budget)
                async with attempting(
                    model, chosen.key, prompt, length, budget, patience, again=chosen.again, counted=counted
                ) as attempt:
                    calls += 1
                    showing.next_route(model.name, attempt.began)
                    async for chunk in attempt.chunks:
                        attempt.written += len(chunk.text) + len(chunk.reasoning)
                        if not showing.settled:
                            passed = showing.take(chunk)
                            if passed is None:
                                continue
                            chunk = passed
                        if chunk.finish is not None:
                            attempt.final = _counted(chunk, calls)
                            break
                        yield chunk
            except ProviderError as error:
                counted = counted or (attempt is not None and attempt.settled)
                await self._failed(candidates, showing, chosen, error, budget)
                continue
            # Everything is accounted for, and the connection free, before the last chunk goes out.
            if attempt.final is not None:
                yield attempt.final
            return

    async def aclose(self) -> None:
        """Closes all backends, the failing ones too."""
        results = await asyncio.gather(
            *(model.backend.aclose() for model in self._models.values()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _route(self, prompt: Prompt, length: Length) -> list[Model]:
        """The models that may answer, in order.

        Raises:
            ProviderError: if there are none.
        """
        names = self._names.resolve(prompt.model, prompt.fallbacks, prompt.conversation or prompt.request_id)
        if not names:
            raise ProviderError(ErrorClass.NOT_FOUND, "no such model in the settings", model=prompt.model)
        models = [self._models[name] for name in names]
        if length.pictures:
            models = [model for model in models if model.takes(prompt)]
        if not models:
            detail = "none of its models takes pictures"
            raise ProviderError(ErrorClass.BAD_REQUEST, detail, model=prompt.model, code=NO_MODEL_TAKES_PICTURES)
        return models

    def _patience(self, candidates: Candidates, budget: Budget) -> Budget:
        """How long to wait for a free place at a model: not long where another one may have one."""
        seconds = math.inf if candidates.alone else self._settings.longest_hint_seconds
        return budget.part(seconds, keep=LEAST_SECONDS_FOR_AN_ATTEMPT)

    async def _next(
        self, candidates: Candidates, showing: Showing, budget: Budget, before: Chosen | None, calls: int
    ) -> Chosen:
        """What to call next, after a wait if need be.

        Raises:
            ProviderError: the most telling one, once nothing is left to try.
        """
        chosen: Chosen | None = None
        while budget.remaining() >= LEAST_SECONDS_FOR_AN_ATTEMPT:
            if showing.text_shown and not self._settings.restart_after_text:
                break
            now = self._clock()
            chosen = candidates.choose(now)
            if chosen is not None:
                break
            wait = candidates.wait(now, self._random())
            if wait > budget.remaining() - LEAST_SECONDS_FOR_AN_ATTEMPT:
                chosen = candidates.probe(now)
                break
            await self._sleep(wait)
        if chosen is None:
            error = candidates.final_error(self._clock())
            error.attempts, error.text_passed_on = calls, showing.text_shown
            raise error
        if before is not None and before.candidate is not chosen.candidate:
            self._observer.failed_over(before.candidate.model.name, showing.text_shown)
        return chosen

    async def _failed(
        self, candidates: Candidates, showing: Showing, chosen: Chosen, error: ProviderError, budget: Budget
    ) -> None:
        model = chosen.candidate.model
        error.model = error.model or model.name
        if not isinstance(error, LimitReached | BreakerOpen):
            facts = {"model": model.name, "key": chosen.key.name, "after_text": showing.text_shown}
            log_failure(_log.warning, "model_attempt_failed", error, **facts)
        if error.kind is ErrorClass.AUTH and model.keys.look_again is not None:
            await model.keys.look_again(budget)
        candidates.failed(chosen, error, self._clock(), self._random())


def _counted(chunk: Chunk, calls: int) -> Chunk:
    """The last chunk with the calls in its usage; a first success without counts stays without."""
    if calls == 1 and (chunk.usage is None or chunk.usage.attempt_count == 1):
        return chunk
    usage = chunk.usage or Usage()
    return msgspec.structs.replace(chunk, usage=msgspec.structs.replace(usage, attempt_count=calls))
