"""What routing would do by its settings, in words for an operator."""

import random
from collections.abc import Iterator, Mapping

from server.routing.checks import check_routing
from server.routing.key_entries import entries, texts_of
from server.routing.limit_words import all_in_words
from server.routing.limits import claim_of
from server.routing.splits import Names
from server.settings import AssistantSettings, ModelSettings, Settings


def describe(settings: Settings) -> Iterator[str]:
    """Who would answer whom, and with how many keys: a line for each assistant, intent and model.

    Raises:
        ValueError: as :func:`server.routing.build.routing`.
    """
    Names(settings.models, settings.splits, random=random.random)
    check_routing(settings)
    for name, assistant in settings.assistants.items():
        own = _in_order((assistant.model, *assistant.fallback_models), settings)
        yield f"would answer as assistants/{name} with {own}"
        for intent, entry in assistant.intents.items():
            if entry.models:
                yield f"would answer assistants/{name}, intent {intent}, with {_in_order(entry.models, settings)}"
        if assistant.classifier.model:
            yield f"would ask {assistant.classifier.model} for the intents of assistants/{name} that no rule chooses"
    for name in _used(settings.assistants, settings):
        yield _keys_in_words(name, settings.models[name])
    for name, model in settings.models.items():
        yield f"would hold models/{name} to {all_in_words(claim_of('model', name, model.limits)) or 'no limit'}"


def _in_order(names: tuple[str, ...], settings: Settings) -> str:
    words = []
    for name in names:
        split = settings.splits.get(name)
        if split is None:
            words.append(name)
            continue
        total = sum(split.weights.values())
        shares = ", ".join(f"{model} {weight / total:.1%}" for model, weight in split.weights.items())
        words.append(f"{name} ({shares})")
    return ", then ".join(words)


def _used(assistants: Mapping[str, AssistantSettings], settings: Settings) -> tuple[str, ...]:
    """The models that some assistant may come to."""
    found: dict[str, None] = {}
    for entry in assistants.values():
        names = [entry.model, *entry.fallback_models]
        for intent in entry.intents.values():
            names += intent.models
        if entry.classifier.model:
            names.append(entry.classifier.model)
        for name in names:
            split = settings.splits.get(name)
            found.update(dict.fromkeys(split.weights if split is not None else (name,)))
    return tuple(name for name in found if name in settings.models)


def _keys_in_words(name: str, settings: ModelSettings) -> str:
    groups, count = set(), 0
    for _, entry in entries(settings):
        texts = texts_of(entry)
        count += len(texts)
        groups.add(entry.quota_group)
    keys = f"{_counted(count, 'key')} of {_counted(len(groups), 'quota group')}" if count else "no key"
    return f"would call models/{name} with {keys}, up to {_counted(settings.max_attempts, 'time')} a turn"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
