"""Words as they are written, and words with characters said again and again: two passes over one text."""

from server.filter.entries import Direction, Hit
from server.filter.word_stream import Decided, Words, WordStream


class BothPasses:
    """One text, like :class:`~server.filter.word_stream.WordStream`. What is final for both passes is given."""

    def __init__(self, words: Words, direction: Direction) -> None:
        self._passes = (WordStream(words, direction), WordStream(words, direction, repeated=True))
        self._decided = [0, 0]
        """How far each pass is, in characters of the whole."""
        self._given = 0
        self._ready = ""
        """What the first pass has decided and was not given."""
        self._hits: set[Hit] = set()
        """Found, and not told."""

    def feed(self, text: str) -> Decided:
        """Takes the next piece, and gives what is final now."""
        return self._join([each.feed(text) for each in self._passes])

    def close(self, text: str = "") -> Decided:
        """The rest, with the last piece. Nothing may be fed afterwards."""
        return self._join([each.close(text) for each in self._passes])

    def _join(self, decided: list[Decided]) -> Decided:
        for number, each in enumerate(decided):
            self._decided[number] += len(each.text)
            self._hits.update(each.hits)
        self._ready += decided[0].text
        final = min(self._decided)
        # The pass that is behind has no text of its own to give: both have the same.
        missing = final - self._given
        given, self._ready = self._ready[:missing], self._ready[missing:]
        told = [hit for hit in self._hits if hit.start < final]
        self._hits.difference_update(told)
        self._given = final
        return Decided(given, tuple(sorted(told, key=lambda hit: (hit.start, -hit.end, hit.entry.id))))


def stream_of(words: Words, direction: Direction) -> WordStream | BothPasses:
    """Looks through one text, in as many passes as the lists need."""
    return BothPasses(words, direction) if words.repeats else WordStream(words, direction)
