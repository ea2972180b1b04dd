"""Settings → word lists, policies and second opinions at work. Part of the composition, like ``compose.py``."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from server.administration import LexiconAdministration
from server.errors import LexiconRefused
from server.filter.base import LexiconAdmin, Screener
from server.filter.building import Job, read_rows
from server.filter.lexicons import Lexicons
from server.filter.list_files import find_lists
from server.filter.list_rows import ListError
from server.filter.moderated_text import Moderation
from server.filter.moderation import HttpModeration, check_moderation
from server.filter.pii.external import HttpRecogniser
from server.filter.pii.guard import PiiGuard
from server.filter.policy import policies_of
from server.filter.screening import ListScreener
from server.filter.text_pattern import patterns_of
from server.filter.word_stream import Words
from server.ops.metrics import Metrics
from server.settings import FilterSettings, PiiSettings, Settings
from server.store.audit import AuditLog


class Filtering(msgspec.Struct, frozen=True):
    """The filter of the service."""

    screener: Screener
    moderation: Moderation | None
    guards: Mapping[str, PiiGuard]
    """For personal data, by assistant."""
    lexicon: LexiconAdmin | None
    """What administrators may change; ``None`` where there are none."""


@asynccontextmanager
async def filtering(settings: Settings, audit: AuditLog, metrics: Metrics) -> AsyncIterator[Filtering]:
    """Reads the lists, brings back what administrators changed, and watches the files while it is open.

    Without lists, patterns, administrators and words that they added, nothing is looked for, and nothing is kept ready.

    Raises:
        ValueError: for a list, a pattern or a policy that cannot be used. The message begins with the field.
        StoreUnavailable: if earlier changes cannot be read.
    """
    check_filter(settings)
    policies = policies_of(settings.filter, settings.assistants)
    patterns = patterns_of(settings.filter)
    async with AsyncExitStack() as stack:
        moderation = None
        if settings.moderation.url:
            opinions = await stack.enter_async_context(HttpModeration(settings.moderation, metrics.filter))
            moderation = Moderation(opinions, settings.moderation)
        guards = await _guards(settings, stack)
        if not settings.filter.lists and not patterns and not settings.grpc.admins and not await audit.kept():
            yield Filtering(ListScreener(_no_words, {}), moderation, guards, None)
            return
        lexicons = await stack.enter_async_context(Lexicons(settings.filter, metrics.filter, patterns=patterns))
        administration = LexiconAdministration(lexicons, audit, policies, settings.assistants, time.time)
        stack.push_async_callback(administration.aclose)
        try:
            await administration.open()
        except LexiconRefused as error:
            raise ValueError(f"filter.lists: {error.message}") from error
        screener = ListScreener(lexicons.words, policies, metrics.filter, patterns=patterns)
        yield Filtering(screener, moderation, guards, administration if settings.grpc.admins else None)


async def _guards(settings: Settings, stack: AsyncExitStack) -> dict[str, PiiGuard]:
    """The guards of the assistants that have something to guard, with recognisers that are ready to be asked."""
    guards = {}
    for name, pii in _guarded(settings):
        recogniser = _recogniser(name, pii)
        external = None if recogniser is None else await stack.enter_async_context(recogniser)
        guards[name] = PiiGuard(pii, external)
    return guards


def _guarded(settings: Settings) -> Iterator[tuple[str, PiiSettings]]:
    for name, assistant in settings.assistants.items():
        if assistant.pii.mode != "off" or assistant.pii.mask_output:
            yield name, assistant.pii


def _recogniser(name: str, pii: PiiSettings) -> HttpRecogniser | None:
    try:
        return HttpRecogniser(pii.recogniser) if pii.recogniser.url else None
    except ValueError as error:
        raise ValueError(f"assistants.{name}.pii.recogniser.{error}") from error


def check_filter(settings: Settings) -> None:
    """Checks what needs no file.

    Raises:
        ValueError: as :func:`filtering`.
    """
    policies_of(settings.filter, settings.assistants)
    patterns_of(settings.filter)
    check_moderation(settings.moderation, settings.assistants)
    for name, pii in _guarded(settings):
        _recogniser(name, pii)


def check_lists(settings: FilterSettings) -> None:
    """Reads all word lists, and keeps none of them. Blocks.

    Raises:
        ValueError: as :func:`filtering`.
    """
    try:
        paths = tuple(file.path for file in find_lists(settings.lists))
        read_rows(Job(paths, settings.max_words, settings.single_characters))
    except ListError as error:
        raise ValueError(f"filter.lists: {error}") from None


def _no_words() -> Words:
    raise AssertionError("no assistant has a policy")
