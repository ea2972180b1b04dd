"""Whether a person asks to start afresh. Pure."""

import functools
import unicodedata
from collections.abc import Collection
from typing import Final

_ENDS: Final = " \t\r\n。.!~,、'\"“”「」"


def asks_to_forget(text: str, words: Collection[str]) -> bool:
    """Whether the whole message is one of the reset words.

    Case, width, white space at the ends and the full stop or exclamation mark behind do
    not matter. A question mark does: ``重新开始?`` asks whether to.

    Args:
        words: as the settings have them; hashable, such as a tuple.
    """
    # A reset word is short. Folding every long message would be for nothing.
    if len(text) > 256:
        return False
    return _fold(text) in _folded(tuple(words))


@functools.lru_cache(maxsize=64)
def _folded(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(folded for folded in map(_fold, words) if folded)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip(_ENDS)
