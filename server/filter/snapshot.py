"""The word lists at one moment: what the files say, and what administrators changed. Immutable."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from server.filter.automaton import build_matcher
from server.filter.base import ListedEntry, Overlay
from server.filter.compiled import Compiled
from server.filter.entries import Pattern
from server.filter.matcher import Beginnings, Match, Matcher, Prefixes
from server.filter.numbered import Numbered


class Snapshot:
    """:class:`~server.filter.word_stream.Words`: the lists, and an overlay over them."""

    def __init__(self, lists: Compiled, overlay: Overlay) -> None:
        """Builds what finds the overlay's words: some milliseconds for thousands of them."""
        self.lists = lists
        self.overlay = overlay
        self._added = _patterns_of(overlay.added)
        words = [pattern.word for pattern in self._added]
        self.matcher: Matcher = lists.matcher
        self.prefixes: Beginnings = lists.prefixes
        if words:
            self.matcher = _BothMatchers(lists.matcher, build_matcher(words), len(lists))
            self.prefixes = _BothBeginnings(lists.prefixes, Prefixes(words))
        self.repeats = lists.repeats
        """See :attr:`server.filter.word_stream.Words.repeats`."""
        self.version = _version(lists, overlay)
        """The same for the same words that mean the same."""

    def __len__(self) -> int:
        """Entries in force, those of one word counted each."""
        return len(ListedRows(self.lists, self.overlay.withdrawn)) + len(self.overlay.added)

    def pattern(self, number: int) -> Pattern:
        """See :meth:`server.filter.word_stream.Words.pattern`."""
        if number >= len(self.lists):
            return self._added[number - len(self.lists)]
        pattern = self.lists.pattern(number)
        return Pattern(pattern.word) if pattern.word in self.overlay.withdrawn else pattern


class TaggedRows(Numbered[ListedEntry]):
    """The rows of one tag without those of withdrawn words, made when they are asked for."""

    def __init__(self, lists: Compiled, withdrawn: frozenset[str], tag: str) -> None:
        """Goes through all rows once."""
        gone = {row for word in withdrawn for row in lists.rows_of(word)}
        self._lists = lists
        self._rows = [row for row in lists.rows_tagged(tag) if row not in gone]

    def __len__(self) -> int:
        return len(self._rows)

    def _at(self, number: int) -> ListedEntry:
        return self._lists.row(self._rows[number])


class ListedRows(Numbered[ListedEntry]):
    """The rows of lists without those of withdrawn words, made when they are asked for."""

    def __init__(self, lists: Compiled, withdrawn: frozenset[str]) -> None:
        self._lists = lists
        gone = sorted(row for word in withdrawn for row in lists.rows_of(word))
        self._gone = [row - count for count, row in enumerate(gone)]
        """For each withdrawn row, how many stay before it."""

    def __len__(self) -> int:
        return self._lists.rows - len(self._gone)

    def _at(self, number: int) -> ListedEntry:
        return self._lists.row(number + bisect_right(self._gone, number))


class _BothMatchers:
    def __init__(self, lists: Matcher, added: Matcher, first_added: int) -> None:
        self._lists = lists
        self._added = added
        self._first_added = first_added

    def matches(self, text: str) -> list[Match]:
        added = self._added.matches(text)
        found = self._lists.matches(text)
        if not added:
            return found
        more = ((start, end, number + self._first_added) for start, end, number in added)
        return sorted((*found, *more), key=lambda match: (match[1], match[0]))


class _BothBeginnings:
    def __init__(self, lists: Beginnings, added: Beginnings) -> None:
        self._lists = lists
        self._added = added

    def first_live(self, text: str, start: int) -> int:
        return min(self._lists.first_live(text, start), self._added.first_live(text, start))


def _patterns_of(added: Sequence[ListedEntry]) -> list[Pattern]:
    by_word: dict[str, list[ListedEntry]] = {}
    for each in added:
        by_word.setdefault(each.folded, []).append(each)
    return [
        Pattern(word, tuple(each.entry for each in listed if not each.allows), any(each.allows for each in listed))
        for word, listed in by_word.items()
    ]


def _version(lists: Compiled, overlay: Overlay) -> str:
    if not overlay.added and not overlay.withdrawn:
        return lists.version
    changes = msgspec.json.encode((lists.version, overlay.added, sorted(overlay.withdrawn)))
    return hashlib.blake2b(changes, digest_size=8).hexdigest()
