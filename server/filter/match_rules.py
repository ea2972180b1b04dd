"""Whether an occurrence of a word is meant as the word. Pure.

Three rules, each of which looks at the occurrence and a bounded surrounding only, so that
a stream can apply them as exactly as a whole text:

- **Gaps.** Symbols may stand anywhere between the characters of a word. Clause punctuation
  and spaces are ordinary prose, and count only if there is something in *every* gap; a
  single space between Latin and Chinese is typography. A word of two characters is not
  looked for across clause punctuation at all.
- **Latin letters and digits** must not go on beyond the word: ``bet`` is not in ``better``.
- **Words of their own**, where the entry asks for it: cut into words, the surrounding has
  an edge at both ends of the occurrence. It is cut as it was written and as it is folded,
  and one is enough: who writes around a filter in traditional characters gets no help
  from a dictionary of simplified ones.
"""

import enum
from functools import lru_cache
from itertools import accumulate
from typing import Final

import msgspec
import rjieba

from server.filter.fold import CLAUSE, SPACE, Folded, is_barrier

LEFT_CONTEXT: Final = 8
RIGHT_CONTEXT: Final = 4
"""Content characters beside an occurrence that decide whether it is a word of its own."""

_REMEMBERED: Final = 512
"""Surroundings whose edges are remembered: a text that says the same a thousand times is cut once."""


class Verdict(enum.Enum):
    """What is known of an occurrence."""

    MEANT = enum.auto()
    OPEN = enum.auto()
    """What comes next decides."""
    PART_OF_A_CHARACTER = enum.auto()
    """Not meant: it begins or ends within a source character that folds to several."""
    GAP = enum.auto()
    """Not meant: what stands between its characters makes it other words."""
    GOES_ON = enum.auto()
    """Not meant: Latin letters or digits go on beside it."""
    NOT_A_WORD = enum.auto()
    """Not meant: it lies across other words."""


class Before(msgspec.Struct, frozen=True):
    """What stands directly before a piece of text, if no gap is between: at most :data:`LEFT_CONTEXT` characters."""

    content: str = ""
    as_written: str = ""
    """As long."""

    def last(self, count: int) -> "Before":
        """The last characters."""
        return Before(self.content[-count:], self.as_written[-count:])


NOTHING_BEFORE: Final = Before()


class Surroundings:
    """A folded piece of text, what came right before it, and whether anything comes behind it."""

    def __init__(self, folded: Folded, before: "Before", *, ended: bool, repeated: bool = False) -> None:
        """Args:
        before: what is directly before the piece.
        ended: whether the piece is the last.
        repeated: whether the folded piece is a collapsed one.
        """
        self._repeated = repeated
        self._folded = folded
        self._before = before
        self._ended = ended

    def verdict(self, start: int, end: int, *, own_word: bool) -> Verdict:
        """Whether ``content[start:end]`` is meant.

        Args:
            own_word: whether it has to be a word of its own.
        """
        folded = self._folded
        if not folded.is_whole(start, end):
            return Verdict.PART_OF_A_CHARACTER
        if not _gaps_allow(folded, start, end):
            return Verdict.GAP
        if self._goes_on_before(start):
            return Verdict.GOES_ON
        if self._repeated and self._is_open(end):
            return Verdict.OPEN  # its last character may be said again
        if _is_latin(folded.content[end - 1]):
            if self._is_open(end):
                return Verdict.OPEN
            if self._touches(end) and _is_latin(folded.content[end]):
                return Verdict.GOES_ON
        return self._own_word(start, end) if own_word else Verdict.MEANT

    def _is_open(self, end: int) -> bool:
        """Whether the next content character is still to come, and could follow without a gap."""
        return not self._ended and end == len(self._folded.content) and not self._folded.gap(end)

    def _touches(self, end: int) -> bool:
        """Whether a content character follows without a gap."""
        return end < len(self._folded.content) and not self._folded.gap(end)

    def _goes_on_before(self, start: int) -> bool:
        if not _is_latin(self._folded.content[start]) or self._folded.gap(start):
            return False
        before = self._folded.content[start - 1] if start else self._before.content[-1:]
        return bool(before) and _is_latin(before)

    def _clause(self, start: int, end: int) -> tuple[int, int]:
        """How far the context of an occurrence reaches without a gap."""
        left, right = max(start - LEFT_CONTEXT, 0), min(end + RIGHT_CONTEXT, len(self._folded.content))
        if not self._folded.is_solid:
            furthest_left, furthest_right = left, right
            left, right = start, end
            while left > furthest_left and not self._folded.gap(left):
                left -= 1
            while right < furthest_right and not self._folded.gap(right):
                right += 1
        return left, right

    def _own_word(self, start: int, end: int) -> Verdict:
        content = self._folded.content
        left, right = self._clause(start, end)
        if right < end + RIGHT_CONTEXT and self._is_open(right):
            return Verdict.OPEN
        before = NOTHING_BEFORE
        if left == 0 and not self._folded.gap(0) and start < LEFT_CONTEXT:
            before = self._before.last(LEFT_CONTEXT - start)
        at = start - left + len(before.content)
        window = before.content + content[left:right]
        if _has_edges(window, at, at + end - start):
            return Verdict.MEANT
        written = before.as_written + self._folded.as_written(left, right)
        if written != window and _has_edges(written, at, at + end - start):
            return Verdict.MEANT
        return Verdict.NOT_A_WORD


def _has_edges(window: str, start: int, end: int) -> bool:
    """Whether a text, cut into words, has an edge at both places."""
    edges = _edges(window)
    return start in edges and end in edges


@lru_cache(_REMEMBERED)
def _edges(window: str) -> frozenset[int]:
    return frozenset(accumulate(map(len, rjieba.cut(window, False)), initial=0))


def _gaps_allow(folded: Folded, start: int, end: int) -> bool:
    gaps = folded.gaps_between(start, end)
    if not gaps:
        return True
    if any(is_barrier(gap) for gap in gaps):
        return False
    if end - start == 2 and CLAUSE in gaps[0]:
        return False
    if len(gaps) == end - start - 1:
        return True
    return all(
        (CLAUSE not in gap and SPACE not in gap) or _is_typography(folded, position, gap)
        for position, gap in _placed(folded, start, end)
    )


def _placed(folded: Folded, start: int, end: int) -> list[tuple[int, str]]:
    return [(position, gap) for position in range(start + 1, end) if (gap := folded.gap(position))]


def _is_typography(folded: Folded, position: int, gap: str) -> bool:
    """A single space where Latin and Chinese meet."""
    content = folded.content
    return gap == SPACE and content[position - 1].isascii() is not content[position].isascii()


def _is_latin(character: str) -> bool:
    return character.isascii()  # content is letters and digits only
