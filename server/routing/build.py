"""The settings become a router."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from server.budget import Clock
from server.llm.base import Backend, Prompt
from server.routing.base import Limiter, ModelObserver
from server.routing.checks import check_spending
from server.routing.key_files import KeyFiles, keys_in
from server.routing.keys import KeyPool, KeySource, QuotaGroup
from server.routing.model import Model
from server.routing.router import Router
from server.routing.splits import Names
from server.settings import AssistantSettings, KeySettings, ModelSettings, RoutingSettings, Settings

_FILE: Final = "file:"

Takes = Callable[[Prompt], bool]
"""Whether a model can read a prompt, for its pictures."""

MostOutput = Callable[[Prompt], int]
"""How many tokens a model may write for a prompt, thoughts included."""


@asynccontextmanager
async def routing(
    settings: Settings,
    backends: Mapping[str, Backend],
    limiter: Limiter,
    observer: ModelObserver,
    *,
    takes: Mapping[str, Takes],
    most_output: Mapping[str, MostOutput],
    clock: Clock = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    random: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[Router]:
    """A router over all models, whose files of keys are watched while it is open. Closes the backends.

    Args:
        takes: what each model can read, by name.
        most_output: what each may write at the most.

    Raises:
        ValueError: for an entry that cannot work. The message begins with its field.
    """
    check_spending(settings)
    entry = settings.routing
    names = Names(settings.models, settings.splits, random=random)
    files = KeyFiles(entry.reread_keys_seconds, observer, clock=clock, wall_clock=wall_clock, sleep=sleep)
    groups: dict[str, QuotaGroup] = {}
    models = {}
    for name, model in settings.models.items():
        pool = _pool(name, model, entry, groups, files, observer)
        models[name] = Model(
            name,
            model,
            entry,
            backends[name],
            pool,
            limiter,
            observer,
            takes=takes[name],
            most_output=most_output[name],
            clock=clock,
        )
        observer.keys_usable(name, pool.usable(clock()))
    router = Router(models, names, entry, observer, clock=clock, random=random, sleep=sleep)
    try:
        async with _watching(files):
            yield router
    finally:
        await router.aclose()


# --- keys -----------------------------------------------------------------------------------


def _pool(
    name: str,
    settings: ModelSettings,
    routing_settings: RoutingSettings,
    groups: dict[str, QuotaGroup],
    files: KeyFiles,
    observer: ModelObserver,
) -> KeyPool:
    """The keys of a model. A quota group that two models name is the same account."""
    _check_keys(name, settings)
    pool = KeyPool(name, routing_settings, observer.keys_usable)
    for place, entry in _entries(settings):
        account = entry.quota_group or f"models.{name}"
        group = groups.setdefault(account, QuotaGroup(account, routing_settings))
        source = KeySource(place, _path(entry), entry.weight, entry.max_age_days)
        pool.add_source(source, group, _texts(entry) or ("",))
        if source.path:
            files.add(name, pool, source)
    return pool


def _check_keys(name: str, settings: ModelSettings) -> None:
    if settings.keys and settings.api_key:
        raise ValueError(f"models.{name}.keys: stands in the place of `api_key`, which is set too; remove one of them")
    for index, entry in enumerate(settings.keys):
        if not _texts(entry):
            raise ValueError(f"models.{name}.keys[{index}].secret: holds no key; put one into it, or remove the entry")


def _path(entry: KeySettings) -> str:
    reference = entry.secret.reference
    return reference.removeprefix(_FILE) if reference.startswith(_FILE) else ""


def _texts(entry: KeySettings) -> tuple[str, ...]:
    """The keys of an entry; none where it is empty."""
    text = entry.secret.reveal()
    if _path(entry):
        return keys_in(text)
    return (text,) if text else ()


def _entries(settings: ModelSettings) -> Iterator[tuple[str, KeySettings]]:
    if not settings.keys:
        yield "api_key", KeySettings(secret=settings.api_key)
    for index, entry in enumerate(settings.keys):
        yield f"keys[{index}]", entry


@asynccontextmanager
async def _watching(files: KeyFiles) -> AsyncIterator[None]:
    if not len(files):
        yield
        return
    task = asyncio.create_task(files.watch())
    try:
        yield
    finally:
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, Exception):  # a defect: it ends by being cancelled, and no other way
            raise result


def keys_of(name: str, settings: ModelSettings) -> list[tuple[str, str]]:
    """Every key of a model as it is now, behind its place in the settings; an empty one where none is needed.

    Raises:
        ValueError: as :func:`routing`.
    """
    _check_keys(name, settings)
    return [
        (place if len(texts) == 1 else f"{place}, line {number}", text)
        for place, entry in _entries(settings)
        for texts in [_texts(entry) or ("",)]
        for number, text in enumerate(texts, 1)
    ]


# --- for people -----------------------------------------------------------------------------


def describe(settings: Settings) -> Iterator[str]:
    """Who would answer whom, and with how many keys: a line for each assistant, intent and model.

    Raises:
        ValueError: as :func:`routing`.
    """
    Names(settings.models, settings.splits, random=random.random)
    for name, model in settings.models.items():
        _check_keys(name, model)
    check_spending(settings)
    for name, assistant in settings.assistants.items():
        own = _in_order((assistant.model, *assistant.fallback_models), settings)
        yield f"would answer as assistants/{name} with {own}"
        for intent, entry in assistant.intents.items():
            if entry.models:
                yield f"would answer assistants/{name}, intent {intent}, with {_in_order(entry.models, settings)}"
    for name in _used(settings.assistants, settings):
        yield _keys_in_words(name, settings.models[name])


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
        for name in names:
            split = settings.splits.get(name)
            found.update(dict.fromkeys(split.weights if split is not None else (name,)))
    return tuple(name for name in found if name in settings.models)


def _keys_in_words(name: str, settings: ModelSettings) -> str:
    groups, count = set(), 0
    for _, entry in _entries(settings):
        texts = _texts(entry)
        count += len(texts)
        groups.add(entry.quota_group)
    keys = f"{_counted(count, 'key')} of {_counted(len(groups), 'quota group')}" if count else "no key"
    return f"would call models/{name} with {keys}, up to {_counted(settings.max_attempts, 'time')} a turn"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
