"""What is known of one model: whether it can be called now, and what its failures have taught."""

import math
import time
from collections.abc import Callable, Collection
from typing import Final

import msgspec
import structlog

from server.budget import Clock
from server.domain import Usage
from server.llm.base import Backend, ErrorClass, Prompt, ProviderError
from server.llm.failure_lines import log_failure
from server.routing.base import CallFacts, Limiter, ModelObserver, TurnPart
from server.routing.breaker import Breaker, BreakerOpen
from server.routing.input_estimate import InputEstimate
from server.routing.keys import Key, KeyPool
from server.routing.prices import FREE, cost_of
from server.routing.rests import Rest
from server.routing.retry_budget import RetryBudget
from server.settings import ModelSettings, RoutingSettings

_log = structlog.get_logger()

LONGEST_HINTED_REST_SECONDS: Final = 60.0
"""What a `Retry-After` behind a failure that is not about limits can do at most to later turns."""

_TIMES_AS_LONG: Final = 6
"""How far the rest of an overloaded model doubles."""


class Model:
    """An entry of ``models``: its backend, its keys, and its state over all turns.

    Two kinds of rest: while it is *held back* (breaker, a hint, keys, not found) it is not
    called; while it is merely *tired* (overloaded) others are preferred, and it is
    called where there are none.
    """

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        routing: RoutingSettings,
        backend: Backend,
        keys: KeyPool,
        limiter: Limiter,
        observer: ModelObserver,
        *,
        takes: Callable[[Prompt], bool],
        most_output: Callable[[Prompt], int],
        clock: Clock = time.monotonic,
    ) -> None:
        """Args: whether it can read a prompt, for its pictures, and how many tokens it may write for one."""
        self.name: Final = name
        self.backend: Final = backend
        self.keys: Final = keys
        self.limiter: Final = limiter
        self.observer: Final = observer
        self.takes: Final = takes
        self.most_output: Final = most_output
        self.clock: Final = clock
        self.max_attempts: Final = settings.max_attempts
        self.patience: Final = settings.first_token_seconds
        self.breaker: Final = Breaker(routing, self._breaker_changed)
        self.retries: Final = RetryBudget(routing.retry_share)
        self.estimate: Final = InputEstimate()
        self._price = settings.price or FREE
        self._tired = Rest(routing.overload_seconds, routing.overload_seconds * _TIMES_AS_LONG)
        missing = routing.not_found_minutes * 60
        self._missing = Rest(missing, missing)
        self._hinted_until = 0.0

    # --- whether it can be called -------------------------------------------------------------

    def wait(self, now: float, closed: Collection[str] = ()) -> float:
        """Seconds until it can be called: 0 if it can be now, infinite if nothing is known to change soon.

        Args:
            closed: quota groups that this turn must not use.
        """
        if self._missing.until > now or self.breaker.wait(now) > 0:
            return math.inf
        hinted = max(0.0, self._hinted_until - now)
        return max(hinted, self.keys.wait(now, closed))

    def tired(self, now: float) -> bool:
        """Whether others are better asked first."""
        return self._tired.until > now

    def probe(self, now: float, closed: Collection[str] = ()) -> Key | None:
        """A key for a call that finds out whether a rest is still needed; ``None`` if it must not be called at all."""
        if self.breaker.wait(now) > 0 or self._hinted_until > now:
            return None
        if self._missing.until > now:
            return self.keys.choose(now, closed) if self._missing.takes_probe(now) else None
        return self.keys.probe(now, closed)

    def refusal(self, now: float) -> ProviderError:
        """Why it cannot be called now."""
        waits = self.breaker.wait(now)
        if waits > 0:
            return BreakerOpen(self.name, waits)
        if self._missing.until > now:
            return ProviderError(ErrorClass.NOT_FOUND, "not called, its vendor did not know it", model=self.name)
        if self._hinted_until > now:
            return ProviderError(
                ErrorClass.OVERLOADED,
                "not called, it asked to be left alone",
                model=self.name,
                retry_after=self._hinted_until - now,
            )
        return self.keys.refusal(now)

    # --- a call -------------------------------------------------------------------------------

    def facts(self, prompt: Prompt, key: Key, rough: int, *, counted: bool) -> CallFacts:
        """Args: the prompt's length by the estimate that knows no model; whether an earlier call of the turn counts."""
        return CallFacts(
            model=self.name,
            quota_group=key.group.name,
            person=prompt.user,
            caller=prompt.caller,
            input_tokens=self.estimate.of(rough),
            output_tokens=self.most_output(prompt),
            part=TurnPart.ASIDE if prompt.aside else TurnPart.AGAIN if counted else TurnPart.FIRST,
        )

    def addressed(self, prompt: Prompt) -> Prompt:
        """The prompt with this model's name in it."""
        return prompt if prompt.model == self.name else msgspec.structs.replace(prompt, model=self.name)

    def succeeded(self, key: Key, called_at: float) -> None:
        """A call that was made at ``called_at`` was answered in full."""
        key.succeeded(called_at)
        self._tired.end(called_at)
        self._missing.end(called_at)

    def failed(self, key: Key, error: ProviderError, now: float, called_at: float) -> None:
        """Takes what an error says about this model, a key or an account to all later turns."""
        if self.keys.failed(key, error, now, called_at):
            return
        if error.kind is ErrorClass.NOT_FOUND and self._missing.begin(now, called_at):
            log_failure(_log.error, "model_not_found", error, model=self.name)
        elif error.kind is ErrorClass.OVERLOADED:
            self._tired.begin(now, called_at)
        if error.retry_after and error.kind in (ErrorClass.OVERLOADED, ErrorClass.TRANSIENT):
            hint = min(error.retry_after, LONGEST_HINTED_REST_SECONDS)
            self._hinted_until = max(self._hinted_until, now + hint)

    def paid(self, usage: Usage, rough: int) -> None:
        """The backend counted the tokens of a call, with text alone if ``rough`` is above 0."""
        self.estimate.learn(rough, usage.input_token_count)
        self.observer.tokens_used(self.name, usage, cost_of(self._price, usage))

    def _breaker_changed(self, state: str) -> None:
        self.observer.breaker_changed(self.name, state)
        _log.warning("model_breaker_changed", model=self.name, state=state)
