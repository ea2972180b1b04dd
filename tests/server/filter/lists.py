"""Small word lists for tests, and what a careful reader finds with them."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import rjieba

from server.filter.automaton import build_matcher
from server.filter.entries import Direction, Entry, Pattern
from server.filter.fold import fold_word
from server.filter.matcher import Matcher, Prefixes

Boundary = Literal["any", "word"]


class SmallList(msgspec.Struct, frozen=True):
    """Words as ``WordStream`` takes them."""

    patterns: Sequence[Pattern]
    matcher: Matcher
    prefixes: Prefixes
    repeats: bool = False

    def pattern(self, number: int) -> Pattern:
        return self.patterns[number]


def small_list(denied: Iterable[tuple[str, Boundary]], allowed: Iterable[str] = ()) -> SmallList:
    patterns: dict[str, Pattern] = {}
    for word, boundary in denied:
        folded = fold_word(word)
        patterns[folded] = Pattern(folded, (Entry(id=word, word=word, boundary=boundary),))
    for word in allowed:
        folded = fold_word(word)
        known = patterns.get(folded)
        patterns[folded] = Pattern(folded, known.entries if known else (), allows=True)
    words = list(patterns)
    return SmallList(list(patterns.values()), build_matcher(words), Prefixes(words))


class Letter(msgspec.Struct):
    """A folded character with what stands before it."""

    folded: str
    written: str
    at: int
    gap: str
    first: bool
    """Whether it is the first, and the last, of its source character."""
    last: bool = True


SYMBOLS, CLAUSES, SPACES, NOTHING = "-*", "，", " ", "\u200b"
LETTERS = {
    "代": "代",
    "開": "开",
    "开": "开",
    "发": "发",
    "a": "a",
    "Ｂ": "b",
    "ⓑ": "b",
    "㎏": "kg",
    "單": "单",
    "刷": "刷",
}
ALPHABET = SYMBOLS + CLAUSES + SPACES + NOTHING + "\n" + "".join(LETTERS)


def read(text: str) -> list[Letter]:
    """A text over :data:`ALPHABET`, letter by letter."""
    letters: list[Letter] = []
    gap = ""
    for at, each in enumerate(text):
        if each in LETTERS:
            for number, folded in enumerate(LETTERS[each]):
                letters.append(Letter(folded, each, at, gap, first=number == 0))
                letters[-1].last = number == len(LETTERS[each]) - 1
                gap = ""
        elif each != NOTHING:
            gap += each
    return [*letters, Letter("", "", len(text), gap, first=True)]


def found(words: SmallList, text: str) -> list[tuple[str, int, int]]:
    """The hits in a whole text, by the rules as they are written down."""
    letters = read(text)
    allowed = [
        (start, end)
        for pattern in words.patterns
        if pattern.allows
        for start, end in _occurrences(letters, pattern.word)
        if _meant(letters, start, end, "any")
    ]
    hits = []
    for pattern in words.patterns:
        for entry in pattern.entries:
            for start, end in _occurrences(letters, pattern.word):
                if _meant(letters, start, end, entry.boundary) and not any(
                    first <= start and end <= last for first, last in allowed
                ):
                    hits.append((entry.id, letters[start].at, letters[end - 1].at + 1))
    return sorted(hits, key=lambda hit: (hit[1], -hit[2], hit[0]))


def _occurrences(letters: Sequence[Letter], word: str) -> list[tuple[int, int]]:
    content = "".join(letter.folded for letter in letters)
    ends = [(start, start + len(word)) for start in range(len(content)) if content.startswith(word, start)]
    return [(start, end) for start, end in ends if letters[start].first and letters[end - 1].last]


def _meant(letters: Sequence[Letter], start: int, end: int, boundary: Boundary) -> bool:
    inner = [letters[position].gap for position in range(start + 1, end)]
    if any("\n" in gap or len(gap) > 4 for gap in inner):
        return False
    if len(inner) == 1 and any(mark in inner[0] for mark in CLAUSES):
        return False
    if any(gap == "" for gap in inner):
        for position, gap in enumerate(inner, start + 1):
            is_prose = any(mark in gap for mark in CLAUSES + SPACES)
            meets = letters[position - 1].folded.isascii() != letters[position].folded.isascii()
            if is_prose and not (gap == " " and meets):
                return False
    first, last = letters[start].folded, letters[end - 1].folded
    if first.isascii() and start and letters[start].gap == "" and letters[start - 1].folded.isascii():
        return False
    behind = letters[end]
    if last.isascii() and behind.gap == "" and behind.folded and behind.folded.isascii():
        return False
    return boundary == "any" or _is_own_word(letters, start, end)


def _is_own_word(letters: Sequence[Letter], start: int, end: int) -> bool:
    left = start
    while left > 0 and start - left < 8 and letters[left].gap == "":
        left -= 1
    right = end
    while right < end + 4 and letters[right].gap == "" and letters[right].folded:
        right += 1
    window = letters[left:right]
    return any(
        {start - left, end - left} <= _edges("".join(each))
        for each in ([letter.folded for letter in window], [letter.written for letter in window])
    )


def _edges(text: str) -> set[int]:
    edges, position = {0}, 0
    for token in rjieba.cut(text, False):
        position += len(token)
        edges.add(position)
    return edges


EVERYTHING = Direction.BOTH
