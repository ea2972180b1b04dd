"""What the filter refuses of a regular expression before it is compiled. Knows RE2's way of writing, not RE2."""

import re
from typing import Final

_PIECE: Final = re.compile(
    r"\\Q.*?(?:\\E|\Z)"  # literal text
    r"|\\[pP]\{[^}]*\}"  # \p{^Greek} holds a caret
    r"|\\."
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]"  # a class, in which a bracket at the beginning means itself
    r"|.",
    re.DOTALL,
)
_ANCHORS: Final = frozenset({"^", "$", r"\A", r"\z"})
_BORDERS: Final = frozenset({r"\b", r"\B"})
_BYTE: Final = r"\C"


def without_borders(pattern: str) -> str:
    r"""A regular expression with nothing in the place of each ``\b`` and ``\B``: it matches whatever the first
    does, and more.

    Raises:
        ValueError: for an anchor, or for a byte of a character. The message says the rule and the remedy.
    """
    pieces = _PIECE.findall(pattern)
    for piece in pieces:
        if piece in _ANCHORS:
            raise ValueError(
                rf"has {piece}, but a reply that is being written has no lines to anchor at; leave it out, "
                rf"or write \{piece} for the character, or \b where a word begins or ends"
                if piece in "^$"
                else rf"has {piece}, but a reply that is being written has no place to anchor at; leave it out"
            )
        if piece == _BYTE:
            raise ValueError(r"has \C, which cuts characters apart; write (?s:.) for any character")
    return "".join("(?:)" if piece in _BORDERS else piece for piece in pieces)
