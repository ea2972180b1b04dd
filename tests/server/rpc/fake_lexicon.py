"""Word lists of an administrator in memory, which remember what they were asked."""

from typing import Any

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
from server.filter.entries import Action, Direction, Entry

LISTED = ListedEntry(
    Entry("ads.csv:12", "加微信", "ads", 3, "word", Direction.INPUT, Action.REPLACE, "〇"), "加微信", Origin.LIST
)
WITHDRAWN = ListedEntry(Entry("withdrawn:1f", "加微信", "ads"), "加微信", Origin.WITHDRAWN)


class FakeLexicon:
    """Answers everything at once, unless ``error`` is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.withdrawal: ListedEntry | None = WITHDRAWN

    def _called(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    async def list_entries(self, query: EntryQuery, page_size: int, page_token: str) -> EntryPage:
        self._called("list", query, page_size, page_token)
        return EntryPage((LISTED, WITHDRAWN), "next")

    async def try_text(self, text: str, assistant: str, direction: Direction) -> TriedText:
        self._called("try", text, assistant, direction)
        found = [Occurrence(LISTED.entry, 1, 4, why, Action.MASK if why is Why.MEANT else Action.PASS) for why in Why]
        return TriedText("请加微信", tuple(found), Action.MASK, "请＊＊＊")

    async def add(self, new: NewEntry, admin: str) -> ListedEntry:
        self._called("add", new, admin)
        return LISTED

    async def remove(self, entry_id: str, admin: str) -> ListedEntry | None:
        self._called("remove", entry_id, admin)
        return self.withdrawal

    async def reload(self, admin: str) -> Loaded:
        self._called("reload", admin)
        return Loaded(1234, 0.25)

    async def changes(self, page_size: int, page_token: str) -> ChangePage:
        self._called("changes", page_size, page_token)
        rows = [Change(9 - n, 1000.5, "王", kind, LISTED, WITHDRAWN) for n, kind in enumerate(ChangeKind)]
        return ChangePage((*rows, Change(1, 0.0, "王", ChangeKind.RELOADED)), "more")
