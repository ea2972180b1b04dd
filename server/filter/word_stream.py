"""Finds words in a text that comes in pieces, and says how far it is decided.

What could still become a word, or an allowed phrase around one, is held back; everything
before it is final. The whole text is a stream of one piece, so both are the same by
construction, and for every way of cutting.

Why a found word that begins before the hold point is final: a longer word, or an allowed
phrase that covers it, would have to begin at or before it and be unfinished; then what is
there of it would itself be the beginning of a word, and the hold point would not be behind.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from server.filter.entries import Direction, Entry, Hit, Pattern
from server.filter.fold import Folded, content_of, fold_characters, is_barrier
from server.filter.invisible import MAX_IN_A_ROW, Thinning
from server.filter.match_rules import LEFT_CONTEXT, NOTHING_BEFORE, Before, Surroundings, Verdict
from server.filter.matcher import Beginnings, Match, Matcher


class Words(Protocol):
    """Words, allowed phrases and what finds them: one immutable state of the lists."""

    @property
    def matcher(self) -> Matcher: ...
    @property
    def prefixes(self) -> Beginnings: ...
    @property
    def repeats(self) -> bool:
        """Whether an entry is to be found with characters said again and again."""
        ...

    def pattern(self, number: int) -> Pattern:
        """By the number of the matcher's words."""
        ...


_LOOK_BACK: Final = (LEFT_CONTEXT + 1) * (MAX_IN_A_ROW + 1)
"""Characters of what was given that are kept: as many as the context can have, with all that may be between."""

_Denied = tuple[int, int, Entry]
"""Start and end in content characters, and what was found there."""


class Decided(msgspec.Struct, frozen=True):
    """What has become final: a stretch of the source that continues the last one, and every hit that
    begins in it, in the order of their starts, the longer first. A hit may reach beyond the stretch."""

    text: str
    hits: tuple[Hit, ...] = ()


class WordStream:
    """One text. Keeps the state of the lists that it began with.

    What it holds is bounded: the longest word, with the gaps that a word may have, and so
    many invisible characters as :class:`~server.filter.invisible.Thinning` leaves.
    Positions count without those that it takes.
    """

    def __init__(self, words: Words, direction: Direction, *, repeated: bool = False) -> None:
        """Args:
        direction: whose words it is.
        repeated: looks for characters said again and again, for the entries that ask for it, and for nothing else.
        """
        self._repeated = repeated
        self._words = words
        self._direction = direction
        self._thinning = Thinning()
        self._held = ""
        self._held_folded = ""
        self._position = 0
        """Of the held text, in the whole."""
        self._given = ""
        """The end of what was given: enough of it to tell what stands before the held text."""
        self._allowed: list[tuple[int, int]] = []
        """Allowed phrases that reach into the held text, in content characters from its beginning."""

    def feed(self, text: str) -> Decided:
        """Takes the next piece, and gives what is final now."""
        return self._decide(text, ended=False)

    def close(self, text: str = "") -> Decided:
        """The rest, with the last piece. Nothing may be fed afterwards."""
        return self._decide(text, ended=True)

    def _decide(self, text: str, *, ended: bool) -> Decided:
        text, folded_text = self._thinning.feed(text)
        self._held += text
        self._held_folded += folded_text
        if not self._repeated:
            content = content_of(self._held_folded)
            found = self._words.matcher.matches(content)
            live = len(content) if ended else self._words.prefixes.first_live(content, 0)
            # What nearly every piece of a reply is comes to its end here: without a word in it, and with
            # nothing held back, or without a gap. The rest of the work is for the others.
            if not found and live == len(content):
                return Decided(self._pass_on(len(self._held)))
            if not (found or self._allowed) and len(content) == len(self._held_folded) == len(self._held):
                return Decided(self._pass_on(live))
        folded = Folded(self._held, self._held_folded)
        if self._repeated:
            folded = folded.collapsed()
            found = self._words.matcher.matches(folded.content)
        denied, hold = self._judge(folded, found, ended=ended) if found else ([], len(folded.content))
        if ended:
            hold = len(folded.content)
        elif not is_barrier(folded.gap(len(folded.content))):
            live = self._words.prefixes.first_live(folded.content, _behind_last_barrier(folded))
            hold = min(hold, live)
        return self._give(folded, denied, hold)

    def _judge(self, folded: Folded, found: Sequence[Match], *, ended: bool) -> tuple[list[_Denied], int]:
        """Words that are meant, allowed phrases noted, and where the first open one begins."""
        denied: list[_Denied] = []
        hold = len(folded.content)
        around = Surroundings(folded, self._before(), ended=ended, repeated=self._repeated)
        for start, end, number in found:
            pattern = self._words.pattern(number)
            if pattern.allows:
                verdict = around.verdict(start, end, own_word=False)
                if verdict is Verdict.MEANT:
                    self._allowed.append((start, end))
                    continue
                if verdict is Verdict.OPEN:
                    hold = min(hold, start)
            for entry in pattern.entries:
                if self._direction not in entry.direction or (self._repeated and not entry.repeats):
                    continue
                own_word = entry.boundary == "word" and not self._repeated
                verdict = around.verdict(start, end, own_word=own_word)
                if verdict is Verdict.MEANT and (not self._repeated or folded.is_repeated(start, end)):
                    denied.append((start, end, entry))
                elif verdict is Verdict.OPEN:
                    hold = min(hold, start)
        return denied, hold

    def _give(self, folded: Folded, denied: list[_Denied], hold: int) -> Decided:
        cut = folded.start(hold)
        while hold and folded.start(hold - 1) == cut and hold < len(folded.content):
            hold -= 1  # in the middle of a source character that folds to several
        hits = self._hits(folded, denied, hold) if denied else ()
        # Phrases that begin behind it are found again.
        self._allowed = [(first - hold, last - hold) for first, last in self._allowed if first < hold < last]
        return Decided(self._pass_on(cut), hits)

    def _pass_on(self, count: int) -> str:
        """Gives so many characters of the held text."""
        given, self._held = self._held[:count], self._held[count:]
        if count:
            self._held_folded = fold_characters(self._held) if self._held else ""
            self._position += count
            self._given = (self._given + given)[-_LOOK_BACK:]
            if not self._held:
                self._allowed = []
        return given

    def _hits(self, folded: Folded, denied: list[_Denied], hold: int) -> tuple[Hit, ...]:
        allowed, position = Spans(self._allowed), self._position
        hits = [
            Hit(entry, position + folded.start(start), position + folded.end(end))
            for start, end, entry in denied
            if start < hold and not allowed.cover(start, end)
        ]
        hits.sort(key=lambda hit: (hit.start, -hit.end))
        return tuple(hits)

    def _before(self) -> Before:
        """What stands right before the held text."""
        folded = Folded(self._given)
        if self._repeated:
            folded = folded.collapsed()
        begin = end = len(folded.content)
        if folded.gap(end):
            return NOTHING_BEFORE
        while begin and end - begin < LEFT_CONTEXT and not folded.gap(begin):
            begin -= 1
        return Before(folded.content[begin:end], folded.as_written(begin, end))


class Spans:
    """Many stretches, asked in logarithmic time whether one of them covers another."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._furthest: list[int] = []
        """How far those reach that start there or before."""
        for start, end in sorted(spans):
            self._starts.append(start)
            self._furthest.append(max(end, self._furthest[-1] if self._furthest else end))

    def cover(self, start: int, end: int) -> bool:
        """Whether one of them contains ``start`` to ``end``."""
        before = bisect_right(self._starts, start)
        return before > 0 and self._furthest[before - 1] >= end


def _behind_last_barrier(folded: Folded) -> int:
    """The first position from which no barrier follows; the end's own gap is not looked at."""
    if folded.is_solid:
        return 0
    for position, gap in reversed(folded.gaps()):
        if position < len(folded.content) and is_barrier(gap):
            return position
    return 0
