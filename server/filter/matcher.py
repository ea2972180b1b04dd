"""Finds every occurrence of many words in a text, those inside of one another too."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Protocol

MAX_WORD_CHARACTERS: Final = 64
"""Content characters of the longest word: what a stream has to hold back is bounded by it."""

Match = tuple[int, int, int]
"""Start and end in the text, and the number of the word."""


class Matcher(Protocol):
    """Immutable; made once for a list of words."""

    def matches(self, text: str) -> list[Match]:
        """Every match, overlapping ones included, in the order of their ends. Linear in the text."""
        ...


class Prefixes:
    """Tells whether a text could still become one of the words.

    The depth of an automaton's state without access to the automaton: the sorted words,
    searched by bisection, with a look at the first two characters before that.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Args: not empty, none longer than :data:`MAX_WORD_CHARACTERS`."""
        self._sorted = sorted(words)
        self._begins = {word[:length] for word in words for length in (1, 2) if len(word) > length}
        self._longest = max(map(len, words), default=1)

    def first_live(self, text: str, start: int) -> int:
        """The first position from ``start`` on from which the text is the beginning, and no more, of a word.

        The text's length if there is none.
        """
        length = len(text)
        for position in range(max(start, length - self._longest + 1), length):
            rest = text[position:]
            if rest[:2] in self._begins and (len(rest) <= 2 or self._begins_a_word(rest)):
                return position
        return length

    def _begins_a_word(self, rest: str) -> bool:
        where = bisect_left(self._sorted, rest)
        # The word itself sorts before everything it begins.
        if where < len(self._sorted) and self._sorted[where] == rest:
            where += 1
        return where < len(self._sorted) and self._sorted[where].startswith(rest)
