"""Finds what an administrator's regular expressions match in a text that comes in pieces.

A place is decided when so many characters are there as a match may have, and one more, or when
nothing that begins like it can become a match. The whole text is a stream of one piece, so both
are the same by construction, and for every way of cutting.
"""

import re
from collections.abc import Sequence
from typing import Final

from server.filter.entries import Hit
from server.filter.invisible import Thinning
from server.filter.text_pattern import TextPattern
from server.filter.word_stream import Decided

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class PatternStream:
    """One text, like :class:`~server.filter.word_stream.WordStream`, with one pass for each expression.

    Holds no more than the longest match of one of them, and one piece while it looks at it.
    """

    def __init__(self, patterns: Sequence[TextPattern]) -> None:
        """Args: at least one."""
        self._patterns = patterns
        self._thinning = Thinning()
        self._held = ""
        """What is undecided, behind the last character that was given."""
        self._origin = 0
        """Of the held text, in the whole."""
        self._given = 0
        """How far the whole is given."""
        self._decided = [0] * len(patterns)
        """How far the whole is decided, for each expression."""
        self._hits: list[Hit] = []
        """Found, and not told: another expression is not so far."""

    def feed(self, text: str) -> Decided:
        """Takes the next piece, and gives what is final now."""
        return self._decide(text, ended=False)

    def close(self, text: str = "") -> Decided:
        """The rest, with the last piece. Nothing may be fed afterwards."""
        return self._decide(text, ended=True)

    def _decide(self, text: str, *, ended: bool) -> Decided:
        self._held += self._thinning.feed(text)[0]
        # A surrogate alone has no UTF-8, which RE2 reads.
        searched = _SURROGATE.sub("\ufffd", self._held)
        for number, pattern in enumerate(self._patterns):
            spans, decided = pattern.scan(searched, self._decided[number] - self._origin, ended=ended)
            self._decided[number] = self._origin + decided
            self._hits += (Hit(pattern.entry, self._origin + start, self._origin + end) for start, end in spans)
        return self._give(min(self._decided))

    def _give(self, decided: int) -> Decided:
        told = [hit for hit in self._hits if hit.start < decided]
        if told:
            self._hits = [hit for hit in self._hits if hit.start >= decided]
            told.sort(key=lambda hit: (hit.start, -hit.end))
        given = self._held[self._given - self._origin : decided - self._origin]
        origin = max(decided - 1, 0)
        self._held = self._held[origin - self._origin :]
        self._given, self._origin = decided, origin
        return Decided(given, tuple(told))
