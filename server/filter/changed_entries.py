"""Entries that administrators add and withdraw: how they are named, and how they are listed with the others. Pure."""

import hashlib
from bisect import bisect_left
from collections.abc import Collection, Sequence
from itertools import chain

import msgspec

from server.filter.base import EntryQuery, ListedEntry, NewEntry, Origin, Overlay
from server.filter.entries import Entry
from server.filter.list_rows import default_boundary


def overlay_of(changed: Collection[ListedEntry]) -> Overlay:
    """What the entries that were added and withdrawn mean for the lists."""
    return Overlay(
        tuple(each for each in changed if each.origin is Origin.ADDED),
        frozenset(
            form for each in changed if each.origin is Origin.WITHDRAWN for form in (each.folded, *each.variants)
        ),
    )


def added_entry(new: NewEntry, folded: str) -> ListedEntry:
    """The entry that an administrator asks for. Args: ``folded`` is its word as it is looked for."""
    entry = Entry(
        id=_id_of("allowed" if new.allows else "added", folded),
        word=new.word,
        tag=new.tag,
        level=new.level,
        boundary=new.boundary or default_boundary(folded),
        direction=new.direction,
        action=new.action,
        replacement=new.replacement,
    )
    return ListedEntry(entry, folded, Origin.ADDED, allows=new.allows)


def withdrawal_of(forms: Sequence[ListedEntry], folded: str) -> tuple[ListedEntry, ListedEntry]:
    """The entry itself of all the forms under which a line of a list is looked for, and its withdrawal."""
    before = next((each for each in forms if each.folded == folded), forms[0])
    entry = msgspec.structs.replace(before.entry, id=_id_of("withdrawn", before.folded))
    variants = tuple(each.folded for each in forms if each is not before)
    return before, ListedEntry(entry, before.folded, Origin.WITHDRAWN, allows=before.allows, variants=variants)


def _id_of(kind: str, folded: str) -> str:
    """The same for the same word, so that adding it again replaces it, whoever asks twice."""
    return f"{kind}:{hashlib.blake2b(folded.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def select(
    changed: Sequence[ListedEntry], listed: Sequence[ListedEntry], query: EntryQuery, start: int, limit: int
) -> tuple[tuple[ListedEntry, ...], int | None]:
    """Up to ``limit`` entries from the position ``start`` on, and the position behind them if more follow."""
    found: list[ListedEntry] = []
    first = len(changed)
    # The files' entries are sorted by their words, so those with one beginning lie together.
    jump = first + bisect_left(listed, query.prefix, key=_folded)
    for position in chain(range(start, first), range(max(start, jump), first + len(listed))):
        each = changed[position] if position < first else listed[position - first]
        if position >= first and not each.folded.startswith(query.prefix):
            break
        if _matches(each, query):
            if len(found) == limit:
                return tuple(found), position
            found.append(each)
    return tuple(found), None


def _folded(each: ListedEntry) -> str:
    return each.folded


def _matches(each: ListedEntry, query: EntryQuery) -> bool:
    return (
        (not query.tag or each.entry.tag == query.tag)
        and each.folded.startswith(query.prefix)
        and query.origin in (None, each.origin)
    )
