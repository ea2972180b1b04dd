"""Finds every occurrence of many words in a text, those inside of one another too."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
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


class Beginnings(Protocol):
    """Tells whether a text could still become one of many words. Immutable."""

    def first_live(self, text: str, start: int) -> int:
        """The first position from ``start`` on from which the text is the beginning, and no more, of a word.

        The text's length if there is none.
        """
        ...


class Prefixes:
    """:class:`Beginnings` of a list of words.

    The depth of an automaton's state without access to the automaton: the sorted words,
    searched by bisection, with a look at the first two characters before that.
    """

    def __init__(self, words: Iterable[str]) -> None:
        """Args: not empty, none longer than :data:`MAX_WORD_CHARACTERS`."""
        ordered = sorted(words)
        self._use(ordered, _begins_of(ordered), max(map(len, ordered), default=1))

    @classmethod
    def load(cls, words: Sequence[str], begins: bytes, longest: int) -> "Prefixes":
        """From what :attr:`begins` and :attr:`longest` were, over the same words, in order."""
        prefixes = cls(())
        prefixes._use(words, begins, longest)
        return prefixes

    def _use(self, words: Sequence[str], begins: bytes, longest: int) -> None:
        self._sorted = words
        self.begins = begins
        """A mark for each first and each two first characters of longer words, at a place that may be shared."""
        self.longest = longest
        """Characters of the longest word."""
        self._places = len(begins) - 1

    def first_live(self, text: str, start: int) -> int:
        """See :meth:`Beginnings.first_live`."""
        length, begins, places = len(text), self.begins, self._places
        for position in range(max(start, length - self.longest + 1), length - 1):
            place = (ord(text[position]) * _FIRST ^ ord(text[position + 1]) * _SECOND) & places
            if begins[place] and self._begins_a_word(text[position:]):
                return position
        last = length - 1
        if last >= start and begins[ord(text[last]) * _FIRST & places] and self._begins_a_word(text[last:]):
            return last
        return length

    def _begins_a_word(self, rest: str) -> bool:
        where = bisect_left(self._sorted, rest)
        # The word itself sorts before everything it begins.
        if where < len(self._sorted) and self._sorted[where] == rest:
            where += 1
        return where < len(self._sorted) and self._sorted[where].startswith(rest)


_FIRST: Final = 0x9E3779B1
_SECOND: Final = 0x85EBCA77
"""Odd numbers without a pattern, which spread code points over the places."""

_FEWEST_PLACES: Final = 1 << 10
_MOST_PLACES: Final = 1 << 23


def _begins_of(words: Sequence[str]) -> bytes:
    places = _FEWEST_PLACES
    while places < min(8 * len(words), _MOST_PLACES):
        places *= 2
    begins = bytearray(places)
    for word in words:
        if len(word) > 1:
            begins[ord(word[0]) * _FIRST & places - 1] = 1
        if len(word) > 2:
            begins[(ord(word[0]) * _FIRST ^ ord(word[1]) * _SECOND) & places - 1] = 1
    return bytes(begins)
