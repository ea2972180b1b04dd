"""Messages that are commands: words that ask for something else than an answer."""

import functools
import unicodedata
from collections.abc import Collection
from typing import Final

from server.domain import Ask, FinishReason
from server.settings import AssistantSettings
from server.turn.live import LiveTurn
from server.turn.stations import Stations

_ENDS: Final = " \t\r\n。.!~,、'\"“”「」"


async def obey(live: LiveTurn, stations: Stations, entry: AssistantSettings) -> bool:
    """Does what a command asks for, and answers it; whether the message was one.

    Raises:
        StoreUnavailable: if it cannot be written.
    """
    if asks_for_person(live.ask, entry):
        live.turn.finish_reason = FinishReason.HANDED_OFF
        live.add(entry.texts.handed_over)
        return True
    if not asks_to_forget(live.ask, entry):
        return False
    conversation = live.turn.name.conversation
    await stations.store.cut_memory(conversation, time=live.turn.create_time)
    stations.memory.forget(conversation)
    live.add(entry.texts.reset_done)
    live.turn.finish_reason = FinishReason.FLOW
    return True


def asks_to_forget(ask: Ask, entry: AssistantSettings) -> bool:
    """Whether the whole message is one of the reset words."""
    return not ask.input.media and is_one_of(ask.input.text, entry.reset_words)


def asks_for_person(ask: Ask, entry: AssistantSettings) -> bool:
    """Whether the whole message is one of the hand-over words, and the caller can bring a person in."""
    return ask.options.can_hand_off and not ask.input.media and is_one_of(ask.input.text, entry.handover_words)


def is_one_of(text: str, words: Collection[str]) -> bool:
    """Whether the whole message is one of the words.

    Case, width, white space at the ends and the full stop or exclamation mark behind do
    not matter. A question mark does: ``重新开始?`` asks whether to.

    Args:
        words: as the settings have them; hashable, such as a tuple.
    """
    # Such a word is short. Folding every long message would be for nothing.
    if len(text) > 256:
        return False
    return _fold(text) in _folded(tuple(words))


@functools.lru_cache(maxsize=64)
def _folded(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(folded for folded in map(_fold, words) if folded)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip(_ENDS)
