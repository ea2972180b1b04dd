"""What to look at in word lists before they are used."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import rjieba

from server.filter.compiled import Compiled
from server.filter.list_rows import ListError, Row
from server.filter.logged_texts import LoggedText
from server.filter.passes import stream_of
from server.filter.text_pattern import TextPattern

MAX_TOLD: Final = 50
"""Words and lines of each kind that are told; the rest is counted."""


class Finding(NamedTuple):
    """Something to look at: what it is, and where."""

    title: str
    where: tuple[str, ...]
    """Some of the places; never more than :data:`MAX_TOLD`."""
    total: int


class Hits(NamedTuple):
    """What lists find in logged texts."""

    texts: int
    texts_hit: int
    characters: int
    by_entry: Counter[tuple[str, str, str]]
    """Id, tag and word of entries, and how often each was found."""


def findings(rows: Sequence[Row], refused: Sequence[ListError]) -> Iterator[Finding]:
    """Everything that can be told from the lists alone; what there is none of is left out."""
    looked_for = [row for row in rows if not row.kind.allows]
    yield from _told("lines that cannot be used", [str(error) for error in refused])
    yield from _told("words of one character, which hit almost everything", map(_place, filter(_is_single, looked_for)))
    yield from _told(
        "everyday words: each is one word of the dictionary, so ordinary texts may have it",
        map(_place, filter(_is_everyday, looked_for)),
    )
    yield from _told("the same as an earlier word once they are folded", _doubles(rows))


def hits(words: Compiled, texts: Iterable[LoggedText], patterns: Sequence[TextPattern] = ()) -> Hits:
    """Runs lists and patterns over texts, as the filter would."""
    count = hit = characters = 0
    by_entry: Counter[tuple[str, str, str]] = Counter()
    for text, direction in texts:
        found = stream_of(words, direction, patterns).close(text).hits
        count += 1
        hit += bool(found)
        characters += len(text)
        by_entry.update((each.entry.id, each.entry.tag, each.entry.word) for each in found)
    return Hits(count, hit, characters, by_entry)


def _told(title: str, where: Iterable[str]) -> Iterator[Finding]:
    places = list(where)
    if places:
        yield Finding(title, tuple(places[:MAX_TOLD]), len(places))


def _place(row: Row) -> str:
    return f"{row.kind.file}:{row.line} {row.word}"


def _is_single(row: Row) -> bool:
    return len(row.folded) == 1


def _is_everyday(row: Row) -> bool:
    return 1 < len(row.folded) <= 3 and not row.folded.isascii() and rjieba.cut(row.folded, False) == [row.folded]


def _doubles(rows: Sequence[Row]) -> Iterator[str]:
    first: dict[tuple[str, bool], Row] = {}
    for row in rows:
        earlier = first.setdefault((row.folded, row.kind.allows), row)
        if earlier is not row:
            yield f"{_place(row)} = {_place(earlier)}"
