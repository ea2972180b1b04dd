"""Several passes over one text: for words as they are written, for words with characters said again and again, and
for the administrator's regular expressions."""

from collections.abc import Sequence
from typing import Protocol

from server.filter.entries import Direction, Hit
from server.filter.pattern_stream import PatternStream
from server.filter.text_pattern import TextPattern, towards
from server.filter.word_stream import Decided, Words, WordStream


class Pass(Protocol):
    """Looks through one text, and decides it from its beginning to its end."""

    def feed(self, text: str) -> Decided:
        """Takes the next piece, and gives what is final now."""
        ...

    def close(self, text: str = "") -> Decided:
        """The rest, with the last piece. Nothing may be fed afterwards."""
        ...


class Passes:
    """Several passes as one: what is final for all of them is given."""

    def __init__(self, passes: Sequence[Pass]) -> None:
        """Args: at least one. All of them give the same text in the end."""
        self._passes = passes
        self._decided = [0] * len(passes)
        """How far each pass is, in characters of the whole."""
        self._given = 0
        self._ready = ""
        """What the first pass has decided and was not given."""
        self._hits: set[Hit] = set()
        """Found, and not told."""

    def feed(self, text: str) -> Decided:
        """See :meth:`Pass.feed`."""
        return self._join([each.feed(text) for each in self._passes])

    def close(self, text: str = "") -> Decided:
        """See :meth:`Pass.close`."""
        return self._join([each.close(text) for each in self._passes])

    def _join(self, decided: list[Decided]) -> Decided:
        for number, each in enumerate(decided):
            self._decided[number] += len(each.text)
            self._hits.update(each.hits)
        self._ready += decided[0].text
        final = min(self._decided)
        # A pass that is behind has no text of its own to give: all have the same.
        missing = final - self._given
        given, self._ready = self._ready[:missing], self._ready[missing:]
        told = [hit for hit in self._hits if hit.start < final]
        self._hits.difference_update(told)
        self._given = final
        return Decided(given, tuple(sorted(told, key=lambda hit: (hit.start, -hit.end, hit.entry.id))))


def stream_of(words: Words, direction: Direction, patterns: Sequence[TextPattern] = ()) -> Pass:
    """Looks through one text, in as many passes as lists and patterns need."""
    passes: list[Pass] = [WordStream(words, direction)]
    if words.repeats:
        passes.append(WordStream(words, direction, repeated=True))
    if wanted := towards(patterns, direction):
        passes.append(PatternStream(wanted))
    return passes[0] if len(passes) == 1 else Passes(passes)
