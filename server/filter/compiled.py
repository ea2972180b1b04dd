"""Word lists in the form in which they are used: numbers and bytes, made once, saved and loaded in little time.

Words are numbered in the order of their folded forms. A word may stand in several lists;
its rows lie next to one another.
"""

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from server.filter.automaton import Automaton, is_installed
from server.filter.base import ListedEntry
from server.filter.entries import Action, Direction, Entry, Pattern
from server.filter.list_rows import Kind, Row
from server.filter.matcher import Matcher, Prefixes
from server.filter.plain_matcher import PlainMatcher
from server.filter.word_table import WordTable

_SEARCHED_AT_A_TIME: Final = 1 << 14


class Saved(msgspec.Struct, frozen=True):
    """Compiled lists as bytes, in pieces. Only for what this program has saved itself, on the same machine."""

    version: str
    kinds: tuple[Kind, ...]
    longest: int
    """Characters of the longest word."""
    words: list[bytes]
    written: list[bytes]
    numbers: list[bytes]
    begins: list[bytes]
    automaton: list[bytes]
    """Nothing where its package is not installed."""


class Compiled:
    """All words of all lists. Immutable."""

    def __init__(
        self,
        words: WordTable,
        written: WordTable,
        first_rows: "array[int]",
        rows: tuple["array[int]", "array[int]"],
        kinds: Sequence[Kind],
        found_by: tuple[Matcher, Prefixes],
        version: str,
    ) -> None:
        """Args:
        words: folded and sorted, each once.
        written: for each row.
        first_rows: for each word, and the number of all rows.
        rows: number of the kind, and line of each row.
        version: the same for the same words that mean the same.
        """
        self._words = words
        self._written = written
        self._first_rows = first_rows
        self._row_kinds, self._row_lines = rows
        self._kinds = kinds
        self.matcher, self.prefixes = found_by
        self.version = version
        self.repeats = any(kind.repeats for kind in kinds)
        """Whether an entry is to be found with characters said again and again."""

    def __len__(self) -> int:
        return len(self._words)

    @property
    def rows(self) -> int:
        """How many rows there are of all words together."""
        return len(self._row_kinds)

    def pattern(self, number: int) -> Pattern:
        """See :meth:`server.filter.word_stream.Words.pattern`."""
        rows = self._rows(number)
        entries = tuple(self._entry(row) for row in rows if not self._kind(row).allows)
        return Pattern(self._words[number], entries, allows=len(entries) < len(rows))

    def rows_of(self, folded: str) -> range:
        """The rows of a folded word; none if it is not in the lists."""
        number = bisect_left(self._words, folded)
        known = number < len(self._words) and self._words[number] == folded
        return self._rows(number) if known else range(0)

    def rows_named(self, entry_id: str) -> list[int]:
        """The rows of the entry of that id: one for each form of its word; none if there is none."""
        file, _, line = entry_id.rpartition(":")
        found: list[int] = []
        if not (line.isascii() and line.isdigit()):
            return found
        at, number, lines = 0, int(line), self._row_lines
        while at < len(lines):
            try:
                # In slices, because other threads wait while one is searched.
                at = lines.index(number, at, at + _SEARCHED_AT_A_TIME)
            except ValueError:
                at += _SEARCHED_AT_A_TIME
                continue
            if self._kind(at).file == file:
                found.append(at)
            at += 1
        return found

    def rows_tagged(self, tag: str) -> "array[int]":
        """The rows of all entries with a tag."""
        wanted = {number for number, kind in enumerate(self._kinds) if kind.tag == tag}
        return array("I", (row for row, kind in enumerate(self._row_kinds) if kind in wanted))

    def row(self, row: int) -> ListedEntry:
        """A row as it is shown. Rows are in the order of their folded words."""
        word = bisect_right(self._first_rows, row) - 1
        return ListedEntry(self._entry(row), self._words[word], allows=self._kind(row).allows)

    def _rows(self, number: int) -> range:
        return range(self._first_rows[number], self._first_rows[number + 1])

    def _kind(self, row: int) -> Kind:
        return self._kinds[self._row_kinds[row]]

    def _entry(self, row: int) -> Entry:
        kind = self._kind(row)
        return Entry(
            id=f"{kind.file}:{self._row_lines[row]}",
            word=self._written[row],
            tag=kind.tag,
            level=kind.level,
            boundary=kind.boundary,
            direction=Direction(kind.direction),
            action=None if kind.action is None else Action(kind.action),
            replacement=kind.replacement,
            repeats=kind.repeats,
        )

    def save(self) -> Saved:
        """As bytes."""
        return Saved(
            self.version,
            tuple(self._kinds),
            self.prefixes.longest,
            self._words.save(),
            self._written.save(),
            [each.tobytes() for each in (self._first_rows, self._row_kinds, self._row_lines)],
            [self.prefixes.begins],
            [self.matcher.save()] if isinstance(self.matcher, Automaton) else [],
        )

    @classmethod
    def load(cls, saved: Saved) -> "Compiled":
        """From bytes, in a hundredth of the time. Blocks, and lets other threads run."""
        words = WordTable.load(saved.words)
        matcher: Matcher = Automaton.load(saved.automaton[0]) if saved.automaton else PlainMatcher(words)
        prefixes = Prefixes.load(words, saved.begins[0], saved.longest)
        first_rows, row_kinds, row_lines = map(_numbers, saved.numbers)
        written = WordTable.load(saved.written)
        found_by = (matcher, prefixes)
        return cls(words, written, first_rows, (row_kinds, row_lines), saved.kinds, found_by, saved.version)


def compile_rows(rows: Sequence[Row], *, plain: bool = False) -> Compiled:
    """Makes the rows of all lists ready for use. Blocks: a million take seconds.

    Args:
        plain: uses the matcher in plain Python, even where the fast one is installed.
    """
    ordered = sorted(rows, key=lambda row: row.folded)
    first_rows = array("I")
    words: list[str] = []
    for number, row in enumerate(ordered):
        if not words or words[-1] != row.folded:
            words.append(row.folded)
            first_rows.append(number)
    first_rows.append(len(ordered))
    kinds: dict[Kind, int] = {}
    row_kinds = array("I", [kinds.setdefault(row.kind, len(kinds)) for row in ordered])
    row_lines = array("I", [row.line for row in ordered])
    table = WordTable(words)
    matcher: Matcher = Automaton.build(words) if words and is_installed() and not plain else PlainMatcher(table)
    written = WordTable(row.word for row in ordered)
    found_by = (matcher, Prefixes(table))
    version = _version(words, first_rows, row_kinds, kinds)
    return Compiled(table, written, first_rows, (row_kinds, row_lines), tuple(kinds), found_by, version)


def _version(words: Iterable[str], first_rows: "array[int]", row_kinds: "array[int]", kinds: Mapping[Kind, int]) -> str:
    digest = hashlib.blake2b(msgspec.json.encode(tuple(kinds)), digest_size=8)
    for numbers in (first_rows, row_kinds):
        digest.update(numbers.tobytes())
    for word in words:
        digest.update(word.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _numbers(data: bytes) -> "array[int]":
    numbers = array("I")
    numbers.frombytes(data)
    return numbers
