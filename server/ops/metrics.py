"""What the service counts: every metric with its name, its labels and a sentence.

No label ever names a person, a conversation or a turn; values of labels come from
enumerations, from the settings or from the contract, so the number of series has a bound
(below 2000, with ten models). Children of labels are bound once, because looking one up costs four times
as much as counting.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from server.domain import CacheOutcome, FinishReason, Turn, TurnState
from server.llm.base import ErrorClass
from server.media.base import MediaKind
from server.ops.filter_metrics import FilterMetrics
from server.ops.model_metrics import ModelMetrics

PREFIX: Final = "weconverse_"

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 0.8, 1.5, 3.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
_CALLS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Definition(NamedTuple):
    """A metric, as the documentation shows it."""

    name: str
    """Without the prefix."""
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


CATALOGUE: Final = (
    Definition("turns_total", "counter", "Turns that ended: succeeded, blocked, failed or cancelled.", ("outcome",)),
    Definition("turn_failures_total", "counter", "Turns that ended with an error, by its reason.", ("reason",)),
    Definition("turn_seconds", "histogram", "Seconds from a turn's arrival to its end.", ("outcome",), _SLOW),
    Definition("first_delta_seconds", "histogram", "Seconds from a turn's arrival to its first text.", (), _SLOW),
    Definition("turns_running", "gauge", "Turns that run or wait."),
    Definition(
        "semantic_cache_total",
        "counter",
        "Questions that the exact cache did not know, to the one by meaning: hit, miss, unsuitable or no_vector.",
        ("outcome",),
    ),
    Definition("cache_total", "counter", "Questions to the reply cache: hit, miss or coalesced.", ("outcome",)),
    Definition("model_seconds", "histogram", "Seconds of a model call with a complete reply.", ("model",), _SLOW),
    Definition("model_errors_total", "counter", "Model calls that were given up on.", ("model", "class")),
    Definition(
        "model_tokens_total", "counter", "Tokens that models read and wrote, as they count them.", ("direction",)
    ),
    Definition(
        "model_attempts_total",
        "counter",
        "Calls to backends that ended: ok, cancelled, or the class of the error.",
        ("model", "outcome"),
    ),
    Definition(
        "model_first_text_seconds",
        "histogram",
        "Seconds from a call to a backend to its first text or thought.",
        ("model",),
        _SLOW,
    ),
    Definition(
        "model_used_tokens_total",
        "counter",
        "Tokens of calls to backends, by estimate where a backend does not count. Cached input is a part of input.",
        ("model", "direction"),
    ),
    Definition(
        "model_cost_total", "counter", "Money spent, in the currency of the prices in the settings.", ("model",)
    ),
    Definition(
        "model_failovers_total",
        "counter",
        "Replies that another model took over from this one, before or after the first text.",
        ("model", "when"),
    ),
    Definition(
        "model_breaker_open", "gauge", "The circuit breaker: 1 open, 0.5 letting a probe through, 0 closed.", ("model",)
    ),
    Definition("model_keys_usable", "gauge", "Keys that are neither refused nor resting.", ("model",)),
    Definition(
        "model_key_age_ratio",
        "gauge",
        "The age of a key as a share of `max_age_days`: above 0.9 it should be replaced.",
        ("model", "key"),
    ),
    Definition(
        "model_key_file_unreadable",
        "gauge",
        "1 while a file of keys cannot be read or holds none: the keys it had last stay in use.",
        ("model", "place"),
    ),
    Definition(
        "limits_reached_total",
        "counter",
        "Calls that ran into a limit of this service; `enforced` is false in shadow mode.",
        ("scope", "enforced"),
    ),
    Definition(
        "intents_total",
        "counter",
        "Questions by intent, and who chose it: caller, rule, classifier or default.",
        ("assistant", "intent", "by"),
    ),
    Definition(
        "filter_hits_total",
        "counter",
        "Listed words that were found, by whose words they were, tag and action.",
        ("direction", "tag", "action"),
    ),
    Definition(
        "moderation_seconds",
        "histogram",
        "Seconds of a question to the external moderation, by its outcome.",
        ("direction", "outcome"),
        _CALLS,
    ),
    Definition("lexicon_entries", "gauge", "Words that are looked for."),
    Definition("lexicon_load_seconds", "gauge", "Seconds that reading and building the lists took last time."),
    Definition(
        "lexicon_refused_total", "counter", "Changed lists that could not be used; those before them stayed in force."
    ),
    Definition(
        "media_total",
        "counter",
        "Files of people by kind: read, cut, passed, shrunk, or why not (the names of `Media.Missing`).",
        ("kind", "outcome"),
    ),
    Definition("media_seconds", "histogram", "Seconds of reading one of them.", ("kind",), _CALLS),
    Definition("inbox_depth", "gauge", "Turns that are owed to people and not yet delivered."),
    Definition(
        "inbox_oldest_age_seconds", "gauge", "Seconds since the oldest of them arrived; 0 when nothing is owed."
    ),
    Definition("delivery_offers_total", "counter", "Owed turns that were offered to a channel instance."),
    Definition("pushes_total", "counter", "Messages of `Push` that were taken on."),
    Definition("delivery_reports_total", "counter", "What channels said of deliveries, by outcome.", ("outcome",)),
    Definition("commit_seconds", "histogram", "Seconds of one commit of the turn store.", (), _FAST),
    Definition("commit_batch_size", "histogram", "Writes that shared one commit.", (), _SIZES),
    Definition("loop_lag_seconds", "histogram", "Seconds by which the event loop was late, once a second.", (), _FAST),
    Definition("rpc_calls_total", "counter", "Calls that ended, by method and status code.", ("method", "code")),
    Definition("rpc_seconds", "histogram", "Seconds of a call, streams included.", ("method",), _CALLS),
    Definition("rpc_in_flight", "gauge", "Calls under way.", ("method",)),
    Definition("rpc_messages_sent_total", "counter", "Messages that streams sent.", ("method",)),
)


class Metrics:
    """Every metric of :data:`CATALOGUE`, in one registry, and what rooms call to count.

    Fits ``server.turn.observer.TurnObserver``. Belongs to the event loop, but for
    :meth:`committed`, which the writer thread of a store may call.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Args: the registry to use; a new one, with figures of the process, if ``None``."""
        if registry is None:
            registry = CollectorRegistry()
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=registry)
        self.registry: Final = registry
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for definition in CATALOGUE:
            self._register(definition)
        self.models: Final = ModelMetrics(self._counters, self._gauges, self._histograms)
        self.filter: Final = FilterMetrics(self._counters, self._gauges, self._histograms)
        self._bind()

    def _register(self, definition: Definition) -> None:
        name = PREFIX + definition.name
        if definition.kind == "counter":
            self._counters[definition.name] = Counter(name, definition.help, definition.labels, registry=self.registry)
        elif definition.kind == "gauge":
            self._gauges[definition.name] = Gauge(name, definition.help, definition.labels, registry=self.registry)
        else:
            self._histograms[definition.name] = Histogram(
                name, definition.help, definition.labels, registry=self.registry, buckets=definition.buckets
            )

    def _bind(self) -> None:
        turns, seconds = self._counters["turns_total"], self._histograms["turn_seconds"]
        self._turn_outcomes = {
            outcome: (turns.labels(outcome).inc, seconds.labels(outcome).observe)
            for outcome in ("succeeded", "blocked", "failed", "cancelled")
        }
        self._cache = {
            outcome: self._counters["cache_total"].labels(outcome.name.lower()).inc
            for outcome in (CacheOutcome.MISS, CacheOutcome.HIT, CacheOutcome.COALESCED)
        }
        self._semantic = {
            outcome: self._counters["semantic_cache_total"].labels(outcome).inc
            for outcome in ("hit", "miss", "unsuitable", "no_vector")
        }
        self._reports = {
            outcome: self._counters["delivery_reports_total"].labels(outcome).inc
            for outcome in ("progress", "delivered", "retry", "waiting", "undeliverable")
        }
        self._tokens_in = self._counters["model_tokens_total"].labels("input").inc
        self._tokens_out = self._counters["model_tokens_total"].labels("output").inc
        self._failures: dict[str, Callable[[], None]] = {}
        self._models: dict[str, Callable[[float], None]] = {}
        self._first_delta = self._histograms["first_delta_seconds"].observe
        self.delivery_offered = self._counters["delivery_offers_total"].inc
        self.pushed = self._counters["pushes_total"].inc
        self.loop_was_late = self._histograms["loop_lag_seconds"].observe
        self._commit_seconds = self._histograms["commit_seconds"].observe
        self._commit_size = self._histograms["commit_batch_size"].observe
        self.turns_running = self._gauges["turns_running"].set
        self.inbox_depth = self._gauges["inbox_depth"].set
        self.inbox_oldest_age = self._gauges["inbox_oldest_age_seconds"].set

    # --- turns ------------------------------------------------------------------------------

    def turn_ended(self, turn: Turn, seconds: float) -> None:
        """A turn ended, after ``seconds`` since it arrived."""
        count, observe = self._turn_outcomes[_outcome(turn)]
        count()
        observe(seconds)
        if turn.first_delta_latency is not None:
            self._first_delta(turn.first_delta_latency)
        if turn.failure is not None:
            self._failed(turn.failure.reason)
        if turn.usage is not None and turn.cache_outcome is not CacheOutcome.HIT:
            self._tokens_in(turn.usage.input_token_count)
            self._tokens_out(turn.usage.output_token_count)

    def _failed(self, reason: str) -> None:
        count = self._failures.get(reason)
        if count is None:
            count = self._failures[reason] = self._counters["turn_failures_total"].labels(reason).inc
        count()

    def cache_used(self, outcome: CacheOutcome) -> None:
        """The reply cache was asked."""
        count = self._cache.get(outcome)
        if count is not None:
            count()

    def semantic_asked(self, outcome: str) -> None:
        """The cache of answers by meaning was asked; its hits are hits of :meth:`cache_used` too."""
        self._semantic[outcome]()

    def media_read(self, kind: MediaKind, outcome: str, seconds: float) -> None:
        """A part of a message was dealt with; see ``server.media.base.MediaObserver``."""
        self._counters["media_total"].labels(kind, outcome).inc()
        self._histograms["media_seconds"].labels(kind).observe(seconds)

    def model_answered(self, model: str, seconds: float) -> None:
        """A model call gave a complete reply."""
        observe = self._models.get(model)
        if observe is None:
            observe = self._models[model] = self._histograms["model_seconds"].labels(model).observe
        observe(seconds)

    def model_failed(self, model: str, kind: ErrorClass) -> None:
        """A model call was given up on."""
        self._counters["model_errors_total"].labels(model, kind.value).inc()

    def delivery_reported(self, outcome: str) -> None:
        """A channel reported on a delivery."""
        self._reports[outcome]()

    def committed(self, size: int, seconds: float) -> None:
        """The turn store committed ``size`` writes together. May be called from the writer's thread."""
        self._commit_size(size)
        self._commit_seconds(seconds)

    # --- calls ------------------------------------------------------------------------------

    def method(self, name: str) -> "MethodMeter":
        """Counts the calls of one RPC; ``name`` as ``ConversationService/Converse``."""
        return MethodMeter(
            name,
            self._counters["rpc_calls_total"],
            self._histograms["rpc_seconds"],
            self._gauges["rpc_in_flight"],
            self._counters["rpc_messages_sent_total"],
        )


def _outcome(turn: Turn) -> str:
    if turn.state is not TurnState.SUCCEEDED:
        return "cancelled" if turn.state is TurnState.CANCELLED else "failed"
    return "blocked" if turn.finish_reason in _BLOCKED else "succeeded"


_BLOCKED = frozenset({FinishReason.INPUT_BLOCKED, FinishReason.OUTPUT_BLOCKED, FinishReason.PROVIDER_BLOCKED})


class MethodMeter:
    """The children of one RPC method, bound once; those of a status code when it first occurs."""

    def __init__(self, method: str, calls: Counter, seconds: Histogram, in_flight: Gauge, sent: Counter) -> None:
        self._method = method
        self._calls = calls
        self._codes: dict[str, Callable[[], None]] = {}
        self._observe = seconds.labels(method).observe
        self._sent = sent.labels(method).inc
        self.began = in_flight.labels(method).inc
        self._left = in_flight.labels(method).dec

    def ended(self, code: str, seconds: float, messages: int) -> None:
        """A call ended with the status ``code``, after ``seconds`` and ``messages`` sent on its stream."""
        self._left()
        count = self._codes.get(code)
        if count is None:
            count = self._codes[code] = self._calls.labels(self._method, code).inc
        count()
        self._observe(seconds)
        if messages:
            self._sent(messages)
