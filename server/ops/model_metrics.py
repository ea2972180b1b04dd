"""What routing counts: attempts, money, keys, breakers, limits, intents."""

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from server.domain import Usage

_BREAKER_STATES: Final = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


class ModelMetrics:
    """Fits ``server.routing.base.ModelObserver``. Children of labels are bound when they first occur."""

    def __init__(
        self, counters: Mapping[str, Counter], gauges: Mapping[str, Gauge], histograms: Mapping[str, Histogram]
    ) -> None:
        """Args: by the names of ``server.ops.metrics.CATALOGUE``."""
        self._counters = counters
        self._gauges = gauges
        self._histograms = histograms
        self._attempts: dict[tuple[str, str], Callable[[], None]] = {}
        self._first: dict[str, Callable[[float], None]] = {}
        self._used: dict[str, tuple[Callable[[float], None], ...]] = {}

    def attempt_ended(self, model: str, outcome: str, seconds: float) -> None:
        """One call to a backend ended."""
        count = self._attempts.get((model, outcome))
        if count is None:
            count = self._counters["model_attempts_total"].labels(model, outcome).inc
            self._attempts[model, outcome] = count
        count()

    def first_text(self, model: str, seconds: float) -> None:
        """The first text or thought of a call came."""
        observe = self._first.get(model)
        if observe is None:
            observe = self._first[model] = self._histograms["model_first_text_seconds"].labels(model).observe
        observe(seconds)

    def tokens_used(self, model: str, usage: Usage, cost: float) -> None:
        """A call was paid for."""
        used = self._used.get(model)
        if used is None:
            tokens = self._counters["model_used_tokens_total"]
            used = self._used[model] = (
                tokens.labels(model, "input").inc,
                tokens.labels(model, "cached_input").inc,
                tokens.labels(model, "output").inc,
                self._counters["model_cost_total"].labels(model).inc,
            )
        read, cached, wrote, paid = used
        read(usage.input_token_count)
        wrote(usage.output_token_count)
        # Most calls have neither, and to count costs as much as all the rest of this.
        if usage.cached_input_token_count:
            cached(usage.cached_input_token_count)
        if cost:
            paid(cost)

    def failed_over(self, model: str, after_text: bool) -> None:
        """The next model took over from this one."""
        self._counters["model_failovers_total"].labels(model, "after_text" if after_text else "before_text").inc()

    def breaker_changed(self, model: str, state: str) -> None:
        """A circuit breaker opened, closed, or lets a probe through."""
        self._gauges["model_breaker_open"].labels(model).set(_BREAKER_STATES[state])

    def keys_usable(self, model: str, count: int) -> None:
        """How many keys of a model can be used now."""
        self._gauges["model_keys_usable"].labels(model).set(count)

    def key_age(self, model: str, key: str, share: float) -> None:
        """The age of a key, as a share of what is allowed."""
        self._gauges["model_key_age_ratio"].labels(model, key).set(share)

    def key_gone(self, model: str, key: str) -> None:
        """A key was taken out: its age would stand there for ever, and grow old in nobody's hands."""
        self._gauges["model_key_age_ratio"].remove(model, key)

    def key_file_read(self, model: str, place: str, readable: bool) -> None:
        """A file of keys was looked at."""
        self._gauges["model_key_file_unreadable"].labels(model, place).set(not readable)

    def limited(self, scope: str, enforced: bool) -> None:
        """A call ran into a limit."""
        self._counters["limits_reached_total"].labels(scope, "true" if enforced else "false").inc()

    def intent_chosen(self, assistant: str, intent: str, by: str) -> None:
        """What kind of question it was."""
        self._counters["intents_total"].labels(assistant, intent, by).inc()
