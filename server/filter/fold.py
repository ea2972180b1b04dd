"""The form in which text and word lists are compared: character by character, without any state.

What is only dress goes: width, case, marks, invisible characters, look-alikes,
traditional forms. Since every character is folded by itself, a piece of a stream folds to
the same as its place in the whole, and every folded character knows where it stood.

A character of a text becomes one of three things:

- **content**: letters and digits, one or several for a source character (``㎏`` is ``kg``);
- a **gap**: a symbol, clause punctuation or a space, which a word may be torn apart with;
- a **barrier**: a line break, over which no word reaches.

Marks, controls and what cannot be seen become nothing: they are no content, and no gap either.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from server.filter.look_alikes import look_alikes

SYMBOL: Final = "\ue000"
CLAUSE: Final = "\ue001"
SPACE: Final = "\ue002"
BARRIER: Final = "\ue003"
NOTHING: Final = "\ue004"
"""How gaps, barriers and what is nothing are written in a folded text. A private character of a source text
is a symbol like any other, so these five never mean anything else."""

MAX_GAP: Final = 4
"""Gap characters in a row; more of them are a barrier."""

MAX_REPEATS: Final = 16
"""How often a character may be said in a row to count as said once; what is held of a stream is bounded by it."""

_LINE_BREAKS: Final = frozenset("\n\r\v\f\x85\u2028\u2029")
_INVISIBLE_LETTERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
_INVISIBLE: Final = frozenset({"Mn", "Me", "Cf", "Cc"})
_CLAUSE_MARKS: Final = frozenset(",;:!?，。、；：！？｡､…‥⋯")
_AROUND: Final = "().,"
"""What the compatibility form of ``⑴`` or ``⒈`` has beside its letter or digit."""


def _simplified() -> dict[str, str]:
    text = files("server.filter").joinpath("data/simplified.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {traditional: line[0] for line in lines for traditional in line[1:]}


class _Table(dict[int, str]):
    """For ``str.translate``: filled in when a character is first met, so bounded by Unicode."""

    def __init__(self) -> None:
        super().__init__()
        self._look_alikes = look_alikes()
        self._simplified = _simplified()

    def __missing__(self, code: int) -> str:
        folded = self[code] = self._fold(chr(code))
        return folded

    def _fold(self, character: str) -> str:
        if character in _LINE_BREAKS:
            return BARRIER
        if character == "\t":
            return SPACE
        if character in _INVISIBLE_LETTERS or unicodedata.category(character) in _INVISIBLE:
            return NOTHING
        content = self._content(character)
        if content.isalnum():
            return content
        if unicodedata.category(character)[0] == "Z":
            return SPACE
        return CLAUSE if character in _CLAUSE_MARKS or content in _CLAUSE_MARKS else SYMBOL

    def _content(self, character: str) -> str:
        # Hangul would fall apart into letters; nothing about it is dress.
        text = character if "\uac00" <= character <= "\ud7a3" else unicodedata.normalize("NFKD", character)
        bare = "".join(each for each in text if unicodedata.category(each) not in _INVISIBLE)
        plain = "".join(self._plain(each) for each in bare)
        return plain.strip(_AROUND) if len(plain) > 1 else plain

    def _plain(self, character: str) -> str:
        lower = character.casefold()
        lower = self._look_alikes.get(lower, lower)
        for _ in range(3):  # a chain of variants is at most this long; a longer one would only stay unfolded
            simple = self._simplified.get(lower)
            if simple is None:
                break
            lower = simple
        return lower


_TABLE: Final = _Table()
_BETWEEN: Final = re.compile(f"[{SYMBOL}-{NOTHING}]+")
_RUN: Final = re.compile(f"[^{SYMBOL}-{NOTHING}]+")


def content_of(folded: str) -> str:
    """The content of what :func:`fold_characters` gave, without its gaps."""
    return _BETWEEN.sub("", folded)


class Folded:
    """A text in folded form. Positions of ``content`` are counted from 0, as in the source."""

    __slots__ = ("_gap_positions", "_gaps", "_index", "_last", "_text", "content")

    def __init__(self, text: str, folded: str | None = None) -> None:
        """Args: what :func:`fold_characters` made of the text, where that is known."""
        self._text = text
        if folded is None:
            folded = text.translate(_TABLE)
        # No character becomes fewer than one, so as many as before are the same ones.
        source: Sequence[int] = range(len(text)) if len(folded) == len(text) else _sources(text)
        self._gap_positions: list[int] = []
        self._gaps: list[str] = []
        if _BETWEEN.search(folded) is None:
            self.content = folded
            self._index = self._last = source
            return
        runs = [match.span() for match in _RUN.finditer(folded)]
        self.content = "".join([folded[start:end] for start, end in runs])
        self._index = self._last = [position for start, end in runs for position in source[start:end]]
        self._note_gaps(folded, runs)

    def _note_gaps(self, folded: str, runs: Sequence[tuple[int, int]]) -> None:
        last = position = 0
        for start, end in runs:
            self._note_gap(position, folded[last:start])
            position += end - start
            last = end
        self._note_gap(position, folded[last:])

    def _note_gap(self, position: int, between: str) -> None:
        gap = between.replace(NOTHING, "")
        if gap:
            self._gap_positions.append(position)
            self._gaps.append(gap)

    @property
    def is_solid(self) -> bool:
        """Whether there is no gap at all."""
        return not self._gaps

    def start(self, position: int) -> int:
        """Where the source character of a content character begins; the source's length behind the last."""
        return self._index[position] if position < len(self._index) else len(self._text)

    def end(self, position: int) -> int:
        """Where the source character of the content character before ``position`` ends."""
        return self._last[position - 1] + 1 if position else 0

    def as_written(self, start: int, end: int) -> str:
        """The source characters of ``content[start:end]``, one for each content character, without what is between."""
        return "".join([self._text[position] for position in self._index[start:end]])

    def gap(self, position: int) -> str:
        """What stands before a content character, or behind the last: gap and barrier characters, or nothing."""
        where = bisect_left(self._gap_positions, position)
        if where < len(self._gap_positions) and self._gap_positions[where] == position:
            return self._gaps[where]
        return ""

    def gaps(self) -> Sequence[tuple[int, str]]:
        """Every gap with the position of the content character behind it, in their order."""
        return list(zip(self._gap_positions, self._gaps, strict=True))

    def gaps_between(self, start: int, end: int) -> Sequence[str]:
        """The gaps inside of ``content[start:end]``, only those that there are."""
        first = bisect_left(self._gap_positions, start + 1)
        last = bisect_left(self._gap_positions, end)
        return self._gaps[first:last]

    def is_whole(self, start: int, end: int) -> bool:
        """Whether ``content[start:end]`` begins and ends on whole source characters."""
        first, last = self._index, self._last
        return (start == 0 or last[start - 1] != first[start]) and (end == len(first) or last[end - 1] != first[end])

    def is_repeated(self, start: int, end: int) -> bool:
        """Whether a character of ``content[start:end]`` stands for several that were said in a row."""
        return self._index[start:end] != self._last[start:end]

    def collapsed(self) -> "Folded":
        """The same with each character once that follows itself, up to :data:`MAX_REPEATS` times in a row."""
        kept: list[int] = []
        lasts: list[int] = []
        repeats = 0
        solid = self.is_solid
        for position, character in enumerate(self.content):
            again = bool(kept) and character == self.content[kept[-1]] and (solid or not self.gap(position))
            if again and repeats < MAX_REPEATS:
                repeats += 1
                lasts[-1] = position
            else:
                repeats = 1
                kept.append(position)
                lasts.append(position)
        new = Folded("")
        new._text = self._text
        new.content = "".join([self.content[position] for position in kept])
        new._index = [self._index[position] for position in kept]
        new._last = [self._last[position] for position in lasts]
        new._gap_positions = [bisect_left(kept, position) for position in self._gap_positions]
        new._gaps = self._gaps
        return new


def fold(text: str) -> Folded:
    """A text in folded form. Linear in its length."""
    return Folded(text)


def fold_characters(text: str) -> str:
    """Every character by itself, with :data:`NOTHING` and gaps as characters. What it gives for two texts in a row
    is what it gives for both together."""
    return text.translate(_TABLE)


def fold_word(word: str) -> str:
    """The content of a word of a list; its gaps go, as they would in a text."""
    return _BETWEEN.sub("", word.translate(_TABLE))


def is_barrier(gap: str) -> bool:
    """Whether no word reaches over a gap."""
    return len(gap) > MAX_GAP or BARRIER in gap


def _sources(text: str) -> Sequence[int]:
    """For each folded character, the position of the source character that it came from."""
    table = _TABLE
    return [position for position, character in enumerate(text) for _ in table[ord(character)]]
