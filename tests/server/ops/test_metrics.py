import asyncio

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from server.domain import CacheOutcome, Content, Failure, FinishReason, Turn, TurnName, TurnState, Usage
from server.llm.base import ErrorClass
from server.ops import tracing
from server.ops.lag import watch
from server.ops.metrics import CATALOGUE, PREFIX, Metrics


def turn(state: TurnState, **fields: object) -> Turn:
    return Turn(TurnName("a", "b"), state, Content(), 0.0, **fields)  # type: ignore[arg-type]


def test_everything_in_the_catalogue_is_shown_with_its_sentence() -> None:
    text = generate_latest(Metrics().registry).decode()
    for definition in CATALOGUE:
        assert f"# HELP {PREFIX}{definition.name} {definition.help}" in text
        assert definition.help.endswith(".")
        assert (definition.kind == "counter") == definition.name.endswith("_total")
        assert (definition.kind == "histogram") == bool(definition.buckets)


def test_turns_are_counted_by_how_they_ended() -> None:
    metrics = Metrics(CollectorRegistry())
    blocked = {"finish_reason": FinishReason.OUTPUT_BLOCKED}
    metrics.turn_ended(turn(TurnState.SUCCEEDED, first_delta_latency=0.2, usage=Usage(5, 7)), 1.0)
    metrics.turn_ended(turn(TurnState.SUCCEEDED, usage=Usage(5, 7), cache_outcome=CacheOutcome.HIT), 1.0)
    metrics.turn_ended(turn(TurnState.SUCCEEDED, **blocked), 1.0)
    metrics.turn_ended(turn(TurnState.FAILED, failure=Failure("TURN_TIMED_OUT")), 1.0)
    metrics.turn_ended(turn(TurnState.CANCELLED), 1.0)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(PREFIX + name, labels)

    outcomes = {name: value("turns_total", outcome=name) for name in ("succeeded", "blocked", "failed", "cancelled")}
    assert outcomes == {"succeeded": 2, "blocked": 1, "failed": 1, "cancelled": 1}
    assert value("turn_failures_total", reason="TURN_TIMED_OUT") == 1
    assert value("first_delta_seconds_count") == 1
    assert value("model_tokens_total", direction="output") == 7
    for outcome in CacheOutcome:
        metrics.cache_used(outcome)
    assert value("cache_total", outcome="coalesced") == 1
    metrics.model_answered("m", 2.0)
    metrics.model_failed("m", ErrorClass.TIMEOUT)
    assert value("model_errors_total", **{"model": "m", "class": "timeout"}) == 1
    metrics.delivery_offered()
    metrics.delivery_reported("retry")
    metrics.committed(12, 0.001)
    assert value("delivery_reports_total", outcome="retry") == 1
    assert value("commit_batch_size_sum") == 12


async def test_the_loop_is_watched_until_it_is_cancelled() -> None:
    seen: list[float] = []
    sampled = asyncio.Event()
    task = asyncio.create_task(watch(seen.append, (sampled.set,), interval=0.001))
    async with asyncio.timeout(5):
        await sampled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(late >= 0 for late in seen)


def test_without_an_sdk_there_is_no_tracer() -> None:
    assert tracing.tracer() is None


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (f"00-{'ab' * 16}-{'cd' * 8}-01", "ab" * 16),
        (f"01-{'ab' * 16}-{'cd' * 8}-01-more", "ab" * 16),
        (f"00-{'00' * 16}-{'cd' * 8}-01", ""),
        (f"00-{'AB' * 16}-{'cd' * 8}-01", ""),
        ("", ""),
    ],
)
def test_the_id_of_a_trace(traceparent: str, expected: str) -> None:
    assert tracing.trace_id(traceparent) == expected
