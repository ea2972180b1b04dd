from prometheus_client import CollectorRegistry

from server.domain import Usage
from server.filter.entries import Action, Direction
from server.ops.metrics import PREFIX, Metrics


def test_routing_is_counted() -> None:
    metrics = Metrics(CollectorRegistry())
    models = metrics.models
    for _ in range(2):
        models.attempt_ended("m", "ok", 1.0)
        models.first_text("m", 0.3)
        models.tokens_used("m", Usage(10, 4, cached_input_token_count=6), 0.5)
    models.attempt_ended("m", "timeout", 1.0)
    models.failed_over("m", after_text=True)
    models.keys_usable("m", 2)
    models.key_age("m", "1:ab12", 0.95)
    models.key_age("m", "1:cd34", 1.95)
    models.key_gone("m", "1:cd34")
    models.key_gone("m", "1:ef56")
    models.key_file_read("m", "api_key", readable=False)
    models.limited("person", enforced=False)
    models.intent_chosen("default", "technical", "rule")
    models.breaker_changed("m", "half_open")

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(PREFIX + name, labels)

    assert value("model_attempts_total", model="m", outcome="ok") == 2
    assert value("model_attempts_total", model="m", outcome="timeout") == 1
    assert value("model_first_text_seconds_count", model="m") == 2
    assert value("model_used_tokens_total", model="m", direction="input") == 20
    assert value("model_used_tokens_total", model="m", direction="cached_input") == 12
    assert value("model_used_tokens_total", model="m", direction="output") == 8
    assert value("model_cost_total", model="m") == 1.0
    assert value("model_failovers_total", model="m", when="after_text") == 1
    assert value("model_keys_usable", model="m") == 2
    assert value("model_key_age_ratio", model="m", key="1:ab12") == 0.95
    assert value("model_key_age_ratio", model="m", key="1:cd34") is None
    assert value("model_key_file_unreadable", model="m", place="api_key") == 1
    assert value("limits_reached_total", scope="person", enforced="false") == 1
    assert value("intents_total", assistant="default", intent="technical", by="rule") == 1
    assert value("model_breaker_open", model="m") == 0.5
    models.breaker_changed("m", "open")
    assert value("model_breaker_open", model="m") == 1.0


def test_the_filter_is_counted() -> None:
    metrics = Metrics(CollectorRegistry())
    for _ in range(2):
        metrics.filter.hit(Direction.OUTPUT, "ads", Action.MASK)
    metrics.filter.hit(Direction.INPUT, "ads", Action.BLOCK)
    metrics.filter.lexicon_loaded(1200, 0.25)
    metrics.filter.lexicon_refused()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(PREFIX + name, labels)

    assert value("filter_hits_total", direction="output", tag="ads", action="mask") == 2
    assert value("filter_hits_total", direction="input", tag="ads", action="block") == 1
    assert value("lexicon_entries") == 1200
    assert value("lexicon_load_seconds") == 0.25
    assert value("lexicon_refused_total") == 1
