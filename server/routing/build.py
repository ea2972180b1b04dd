"""The settings become a router."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from server.budget import Clock
from server.llm.base import Backend, Prompt
from server.routing.base import Limiter, ModelObserver
from server.routing.checks import check_routing
from server.routing.key_entries import entries, path_of, texts_of
from server.routing.key_files import KeyFiles
from server.routing.keys import KeyPool, KeySource, QuotaGroup
from server.routing.model import Model
from server.routing.router import Router
from server.routing.splits import Names
from server.settings import ModelSettings, RoutingSettings, Settings

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
    check_routing(settings)
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
    pool = KeyPool(name, routing_settings, observer.keys_usable)
    for place, entry in entries(settings):
        account = entry.quota_group or f"models.{name}"
        group = groups.setdefault(account, QuotaGroup(account, routing_settings))
        source = KeySource(place, path_of(entry), entry.weight, entry.max_age_days)
        pool.add_source(source, group, texts_of(entry) or ("",))
        if source.path:
            files.add(name, pool, source)
    return pool


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
