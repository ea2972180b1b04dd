"""Changes to word lists by an administrator: on disk first, then in force. Part of the composition.

The rooms do not know each other: here the lists of the filter meet the log of the store.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import structlog

from server.errors import InvalidField, LexiconRefused, ResourceNotFound
from server.filter.base import (
    Change,
    ChangeableLexicon,
    ChangeKind,
    ChangePage,
    EntryPage,
    EntryQuery,
    LexiconAdmin,
    ListedEntry,
    Loaded,
    NewEntry,
    Origin,
    TriedText,
)
from server.filter.changed_entries import added_entry, overlay_of, select, withdrawal_of
from server.filter.entries import Direction
from server.filter.entry_record import from_json, to_json
from server.filter.policy import Policy
from server.filter.trial import judged
from server.store.audit import AuditLog, AuditRow, Kept
from server.store.page_token import make_token, read_token

T = TypeVar("T")

_log = structlog.get_logger(__name__)

MAX_CHANGED: Final = 10_000
"""Entries that administrators may have added or withdrawn at a time. Each is read at every start and gone
through at every change; more of them belong into a file."""

MAX_TAGS: Final = 100
"""Different tags among them: tags are labels of metrics."""


class LexiconAdministration(LexiconAdmin):
    """:class:`server.filter.base.LexiconAdmin` over lists, and a log of what was done to them.

    Changes are made one after the other, each by a task of its own that outlives its
    caller: what was recorded also takes effect. Belongs to one event loop.
    """

    def __init__(
        self,
        lexicon: ChangeableLexicon,
        audit: AuditLog,
        policies: Mapping[str, Policy],
        assistants: Collection[str],
        clock: Callable[[], float],
        *,
        max_changed: int = MAX_CHANGED,
        max_tags: int = MAX_TAGS,
    ) -> None:
        """Args:
        policies: by the name of the assistant; those without one look for nothing.
        assistants: all of them.
        clock: POSIX seconds.
        max_changed, max_tags: of entries that were added or withdrawn; of those that were added.
        """
        self._lexicon = lexicon
        self._audit = audit
        self._policies = policies
        self._assistants = assistants
        self._clock = clock
        self._max_changed = max_changed
        self._max_tags = max_tags
        self._changed: dict[str, ListedEntry] = {}
        """What administrators added or withdrew, by id."""
        self._one_at_a_time = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._reloading: set[asyncio.Task[Loaded]] = set()

    async def open(self) -> None:
        """Brings what was changed before the last stop into force again.

        Raises:
            StoreUnavailable: if it cannot be read.
            LexiconRefused: if the lists cannot be built with it.
        """
        kept = [_readable(each) for each in await self._audit.kept()]
        self._changed = {each.entry.id: each for each in kept if each is not None}
        if self._changed:
            await self._lexicon.lay_over(overlay_of(self._changed.values()))

    async def aclose(self) -> None:
        """Waits for the changes that were begun, and leaves reloads: the next start reads the files anyway.

        No more may be asked for.
        """
        for task in self._reloading:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    # --- looking ----------------------------------------------------------------------

    async def list_entries(self, query: EntryQuery, page_size: int, page_token: str) -> EntryPage:
        """See :meth:`server.filter.base.LexiconAdmin.list_entries`."""
        listing = f"lexicon {query.tag} {query.prefix} {query.origin}"
        start = read_token(listing, page_token) if page_token else 0
        wanted = msgspec.structs.replace(query, prefix=self._lexicon.fold(query.prefix))
        changed = tuple(self._changed.values())
        found, end = await asyncio.to_thread(self._select, changed, wanted, start, page_size)
        return EntryPage(found, "" if end is None else make_token(listing, end))

    def _select(
        self, changed: Sequence[ListedEntry], query: EntryQuery, start: int, limit: int
    ) -> tuple[tuple[ListedEntry, ...], int | None]:
        """In a thread: lists may have a million entries."""
        listed = self._lexicon.listed(query.tag) if query.origin in (None, Origin.LIST) else ()
        return select(changed, listed, query, start, limit)

    async def try_text(self, text: str, assistant: str, direction: Direction) -> TriedText:
        """See :meth:`server.filter.base.LexiconAdmin.try_text`."""
        if assistant not in self._assistants:
            raise ResourceNotFound(f"assistants/{assistant}")
        # A long text against many words takes its time, which running turns need not spend.
        return await asyncio.to_thread(self._judged, text, self._policies.get(assistant), direction)

    def _judged(self, text: str, policy: Policy | None, direction: Direction) -> TriedText:
        return judged(text, self._lexicon.occurrences(text, direction), policy, direction)

    async def changes(self, page_size: int, page_token: str) -> ChangePage:
        """See :meth:`server.filter.base.LexiconAdmin.changes`."""
        page = await self._audit.page(page_size, page_token)
        return ChangePage(tuple(map(_change, page.rows)), page.next_page_token)

    # --- changing ---------------------------------------------------------------------

    async def add(self, new: NewEntry, admin: str) -> ListedEntry:
        """See :meth:`server.filter.base.LexiconAdmin.add`."""
        return await self._to_the_end(self._add(new, admin))

    async def remove(self, entry_id: str, admin: str) -> ListedEntry | None:
        """See :meth:`server.filter.base.LexiconAdmin.remove`."""
        return await self._to_the_end(self._remove(entry_id, admin))

    async def reload(self, admin: str) -> Loaded:
        """See :meth:`server.filter.base.LexiconAdmin.reload`."""
        task = asyncio.ensure_future(self._reload(admin))
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)
        return await self._to_the_end(task)

    async def _add(self, new: NewEntry, admin: str) -> ListedEntry:
        async with self._one_at_a_time:
            after = added_entry(new, self._lexicon.fold(new.word))
            self._check(after)
            before = self._changed.get(after.entry.id)
            if before != after:
                self._check_room(after, before)
                await self._make(ChangeKind.REPLACED if before else ChangeKind.ADDED, admin, before, after)
            return after

    async def _remove(self, entry_id: str, admin: str) -> ListedEntry | None:
        async with self._one_at_a_time:
            before = self._changed.get(entry_id)
            if before is not None:
                restored = before.origin is Origin.WITHDRAWN
                await self._make(ChangeKind.RESTORED if restored else ChangeKind.REMOVED, admin, before, None)
                return None
            forms = await asyncio.to_thread(self._lexicon.forms, entry_id)
            if not forms:
                raise ResourceNotFound(f"lexiconEntries/{entry_id}")
            before, withdrawal = withdrawal_of(forms, self._lexicon.fold(forms[0].entry.word))
            self._check_room(withdrawal, None)
            await self._make(ChangeKind.REMOVED, admin, before, withdrawal)
            return withdrawal

    async def _reload(self, admin: str) -> Loaded:
        async with self._one_at_a_time:
            await self._audit.append(AuditRow(time=self._clock(), admin=admin, kind=ChangeKind.RELOADED.value))
            return await self._lexicon.reload()

    async def _make(self, kind: ChangeKind, admin: str, before: ListedEntry | None, after: ListedEntry | None) -> None:
        """Records a change, then brings it into force; undoes both if the lists cannot be built with it."""
        await self._record(kind, admin, before, after)
        changed = dict(self._changed)
        if before is not None:
            changed.pop(before.entry.id, None)
        if after is not None:
            changed[after.entry.id] = after
        try:
            await self._lexicon.lay_over(overlay_of(changed.values()))
        except LexiconRefused:
            was = before if before is not None and before.entry.id in self._changed else None
            await self._record(ChangeKind.RESTORED if was else ChangeKind.REMOVED, admin, after, was)
            raise
        self._changed = changed

    async def _record(
        self, kind: ChangeKind, admin: str, before: ListedEntry | None, after: ListedEntry | None
    ) -> None:
        about = after or before
        assert about is not None  # a reload is recorded by itself
        entry = about.entry
        row = AuditRow(
            time=self._clock(),
            admin=admin,
            kind=kind.value,
            entry=entry.id,
            tag=entry.tag,
            word=entry.word,
            action="" if entry.action is None else entry.action.name.lower(),
            before=None if before is None else to_json(before),
            after=None if after is None else to_json(after),
        )
        keep = None if after is None else Kept(entry.id, to_json(after))
        await self._audit.append(row, keep=keep, drop=() if before is None else (before.entry.id,))
        _log.info("lexicon_changed", admin=admin, change=kind.value, entry=entry.id, tag=entry.tag)

    def _check(self, entry: ListedEntry) -> None:
        try:
            self._lexicon.check(entry)
        except InvalidField as error:
            raise InvalidField(f"entry.{error.field}", error.rule) from None

    def _check_room(self, after: ListedEntry, before: ListedEntry | None) -> None:
        if before is None and len(self._changed) >= self._max_changed:
            raise InvalidField(
                "entry", f"would be change {self._max_changed + 1} to the lists; move them into a file first"
            )
        tags = {each.entry.tag for each in self._changed.values() if each.origin is Origin.ADDED}
        if after.origin is Origin.ADDED and len(tags | {after.entry.tag}) > self._max_tags:
            raise InvalidField(
                "entry.tag", f"would be tag {self._max_tags + 1} of added entries; use one that is there"
            )

    async def _to_the_end(self, change: Coroutine[Any, Any, T] | asyncio.Task[T]) -> T:
        task = asyncio.ensure_future(change)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # Looked at here, because a caller that left no longer does.


def _change(row: AuditRow) -> Change:
    return Change(
        row.sequence,
        row.time,
        row.admin,
        ChangeKind(row.kind),
        None if row.before is None else from_json(row.before),
        None if row.after is None else from_json(row.after),
    )


def _readable(kept: Kept) -> ListedEntry | None:
    """``None`` for what cannot be read: one broken row must not keep the service from starting."""
    try:
        return from_json(kept.entry)
    except ValueError as error:
        _log.error("lexicon_change_unreadable", entry=kept.id, error=str(error))
        return None
