"""What a turn passes on its way, and who counts it: all that the engine needs beside the settings."""

from collections.abc import Mapping

import msgspec

from server.cache.base import ReplyCache, SemanticCache
from server.cache.coalesce import SharedCalls
from server.filter.base import Screener
from server.filter.moderated_text import Moderation
from server.filter.pii.guard import PiiGuard
from server.llm.base import Provider
from server.media.base import MediaReader
from server.memory.base import Memory
from server.routing.base import IntentChooser
from server.store.base import TurnStore
from server.turn.observer import TurnObserver


class Stations(msgspec.Struct, frozen=True, kw_only=True):
    """One of each. Whoever makes them closes them, but for the shared calls, which end with the turns."""

    store: TurnStore
    memory: Memory
    cache: ReplyCache
    shared: SharedCalls
    screener: Screener
    intents: IntentChooser
    provider: Provider
    observer: TurnObserver
    semantic: SemanticCache | None = None
    media: MediaReader | None = None
    """Without one, media pass as they are."""
    moderation: Moderation | None = None
    guards: Mapping[str, PiiGuard] = {}
    """For personal data, by assistant; others pass it on as it is."""
