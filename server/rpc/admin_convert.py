"""Between the messages of ``AdminService`` and values. Pure; requests are checked before."""

from typing import Final, Literal

from server.filter.base import (
    Change,
    ChangeKind,
    ChangePage,
    EntryPage,
    EntryQuery,
    ListedEntry,
    Loaded,
    NewEntry,
    Occurrence,
    Origin,
    TriedText,
    Why,
)
from server.filter.entries import Action, Direction
from server.rpc.convert import fill_duration, fill_time
from weconverse.v1 import admin_pb2 as pb

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000
MAX_OCCURRENCES: Final = 1000

_DIRECTIONS: Final = {
    pb.LexiconEntry.DIRECTION_UNSPECIFIED: Direction.BOTH,
    pb.LexiconEntry.INPUT: Direction.INPUT,
    pb.LexiconEntry.OUTPUT: Direction.OUTPUT,
}
_BOUNDARIES: Final[dict[pb.LexiconEntry.Boundary.ValueType, Literal["", "any", "word"]]] = {
    pb.LexiconEntry.BOUNDARY_UNSPECIFIED: "",
    pb.LexiconEntry.ANYWHERE: "any",
    pb.LexiconEntry.OWN_WORD: "word",
}
_ACTIONS: Final = {
    pb.LexiconEntry.PASS: Action.PASS,
    pb.LexiconEntry.FLAG: Action.FLAG,
    pb.LexiconEntry.MASK: Action.MASK,
    pb.LexiconEntry.REPLACE: Action.REPLACE,
    pb.LexiconEntry.HAND_OVER: Action.HAND_OVER,
    pb.LexiconEntry.BLOCK: Action.BLOCK,
}
_ORIGINS: Final = {
    pb.LexiconEntry.LIST: Origin.LIST,
    pb.LexiconEntry.ADDED: Origin.ADDED,
    pb.LexiconEntry.WITHDRAWN: Origin.WITHDRAWN,
}
_VERDICTS: Final = {
    Why.MEANT: pb.TestTextResponse.Occurrence.MEANT,
    Why.GAP: pb.TestTextResponse.Occurrence.GAP,
    Why.PART_OF_A_CHARACTER: pb.TestTextResponse.Occurrence.PART_OF_A_CHARACTER,
    Why.GOES_ON: pb.TestTextResponse.Occurrence.GOES_ON,
    Why.NOT_A_WORD: pb.TestTextResponse.Occurrence.NOT_A_WORD,
    Why.ALLOWED: pb.TestTextResponse.Occurrence.ALLOWED,
    Why.OTHER_DIRECTION: pb.TestTextResponse.Occurrence.OTHER_DIRECTION,
}
_KINDS: Final = {
    ChangeKind.ADDED: pb.LexiconChange.ADDED,
    ChangeKind.REPLACED: pb.LexiconChange.REPLACED,
    ChangeKind.REMOVED: pb.LexiconChange.REMOVED,
    ChangeKind.RESTORED: pb.LexiconChange.RESTORED,
    ChangeKind.RELOADED: pb.LexiconChange.RELOADED,
}
_DIRECTION_OF: Final = {value: message for message, value in _DIRECTIONS.items()}
_BOUNDARY_OF: Final = {value: message for message, value in _BOUNDARIES.items()}
_ACTION_OF: Final = {value: message for message, value in _ACTIONS.items()}
_ORIGIN_OF: Final = {value: message for message, value in _ORIGINS.items()}


# --- from the wire ------------------------------------------------------------------------


def page_size(asked: int) -> int:
    """How many rows a page has: 0 means the default, and too many the most."""
    return min(asked, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def query(request: pb.ListLexiconEntriesRequest) -> EntryQuery:
    """Which entries to list."""
    return EntryQuery(request.tag, request.prefix, _ORIGINS.get(request.origin))


def direction(value: pb.LexiconEntry.Direction.ValueType) -> Direction:
    """Whose words are meant."""
    return _DIRECTIONS[value]


def new_entry(message: pb.LexiconEntry) -> NewEntry:
    """An entry to add."""
    return NewEntry(
        word=message.word.strip(),
        tag=message.tag or "default",
        level=message.level,
        boundary=_BOUNDARIES[message.boundary],
        direction=_DIRECTIONS[message.direction],
        action=_ACTIONS.get(message.action),
        replacement=message.replacement,
        allows=message.allowed,
    )


# --- to the wire --------------------------------------------------------------------------


def entry(listed: ListedEntry) -> pb.LexiconEntry:
    """An entry as an administrator sees it."""
    value = listed.entry
    return pb.LexiconEntry(
        name=f"lexiconEntries/{value.id}",
        word=value.word,
        tag=value.tag,
        level=value.level,
        boundary=_BOUNDARY_OF[value.boundary],
        direction=_DIRECTION_OF[value.direction],
        action=pb.LexiconEntry.ACTION_UNSPECIFIED if value.action is None else _ACTION_OF[value.action],
        replacement=value.replacement,
        allowed=listed.allows,
        folded_word=listed.folded,
        origin=_ORIGIN_OF[listed.origin],
    )


def entries(page: EntryPage) -> pb.ListLexiconEntriesResponse:
    """A page of entries."""
    return pb.ListLexiconEntriesResponse(entries=map(entry, page.entries), next_page_token=page.next_page_token)


def tried(text: TriedText) -> pb.TestTextResponse:
    """What the filter would make of a text."""
    return pb.TestTextResponse(
        folded_text=text.folded,
        occurrences=map(_occurrence, text.occurrences[:MAX_OCCURRENCES]),
        action=_ACTION_OF[text.action],
        shown_text=text.shown,
    )


def _occurrence(each: Occurrence) -> pb.TestTextResponse.Occurrence:
    return pb.TestTextResponse.Occurrence(
        entry=f"lexiconEntries/{each.entry.id}",
        word=each.entry.word,
        tag=each.entry.tag,
        start=each.start,
        end=each.end,
        verdict=_VERDICTS[each.why],
        action=_ACTION_OF[each.action] if each.why is Why.MEANT else pb.LexiconEntry.ACTION_UNSPECIFIED,
    )


def loaded(lists: Loaded) -> pb.ReloadLexiconResponse:
    """What is in force after a reload."""
    message = pb.ReloadLexiconResponse(entry_count=lists.entries)
    fill_duration(message.elapsed, lists.seconds)
    return message


def audit(page: ChangePage) -> pb.ListLexiconAuditResponse:
    """A page of the audit log."""
    return pb.ListLexiconAuditResponse(changes=map(_change, page.changes), next_page_token=page.next_page_token)


def _change(change: Change) -> pb.LexiconChange:
    message = pb.LexiconChange(sequence=change.sequence, admin=change.admin, kind=_KINDS[change.kind])
    fill_time(message.time, change.time)
    if change.before is not None:
        message.before.CopyFrom(entry(change.before))
    if change.after is not None:
        message.after.CopyFrom(entry(change.after))
    return message
