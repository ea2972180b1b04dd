"""Changes to real lists, recorded in a real store: in force at once, after a reload, after a restart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.administration import LexiconAdministration
from server.errors import InvalidField, LexiconRefused, ResourceNotFound, StoreUnavailable
from server.filter.base import (
    Change,
    ChangeKind,
    EntryQuery,
    ListedEntry,
    Loaded,
    NewEntry,
    Origin,
    Overlay,
    Why,
)
from server.filter.entries import Action, Direction
from server.filter.lexicons import Lexicons
from server.filter.policy import Policy
from server.settings import FilterSettings, PolicySettings
from server.store.audit import AuditLog, AuditPage, AuditRow, Kept
from server.store.sqlite import open_sqlite

POLICY = Policy(PolicySettings(input={"ads": "block"}, output={"ads": "mask"}, other_input="flag"))
LISTS = "word,tag,variants,allow\n加微信,ads,+v|jiavx,\n刷单,ads,,\n发票,ads,,\n正规发票,ads,,yes\n"


class Desk:
    """The administration of a folder of lists."""

    def __init__(self, admin: LexiconAdministration, lists: Lexicons, audit: AuditLog) -> None:
        self.admin = admin
        self.lists = lists
        self.audit = audit

    async def found(self, text: str) -> list[tuple[str, Why]]:
        tried = await self.admin.try_text(text, "sales", Direction.INPUT)
        return [(each.entry.word, each.why) for each in tried.occurrences]

    async def listed(self, query: EntryQuery = EntryQuery(), size: int = 100) -> list[tuple[str, str]]:  # noqa: B008
        found: list[ListedEntry] = []
        token = ""
        while True:
            page = await self.admin.list_entries(query, size, token)
            assert len(page.entries) == size or not page.next_page_token
            found += page.entries
            token = page.next_page_token
            if not token:
                return [(each.origin.value, each.entry.word) for each in found]

    async def changes(self) -> Sequence[Change]:
        return (await self.admin.changes(100, "")).changes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "ads.csv").write_text(LISTS.replace("+v|", ""), encoding="utf-8")
    return lists


@asynccontextmanager
async def desk(
    folder: Path, lexicon: Callable[[Lexicons], Any] = lambda lists: lists, **limits: int
) -> AsyncIterator[Desk]:
    """Open for as long as the context lasts; opened again, it is the same after a restart."""
    ticks = iter(range(1000, 9000))
    async with (
        open_sqlite(folder.parent / "turns.db") as store,
        Lexicons(FilterSettings(lists=(str(folder),), reload_seconds=3600.0)) as lists,
    ):
        admin = LexiconAdministration(
            lexicon(lists), store.audit, {"sales": POLICY}, ("sales", "plain"), lambda: next(ticks), **limits
        )
        await admin.open()
        try:
            yield Desk(admin, lists, store.audit)
        finally:
            await admin.aclose()


# --- looking ------------------------------------------------------------------------------


async def test_entries_are_listed_in_pages_and_by_what_is_asked_for(folder: Path) -> None:
    async with desk(folder) as at:
        words = {"加微信", "刷单", "发票", "正规发票"}
        for size in (1, 2, 100):
            listed = await at.listed(size=size)
            assert {word for _, word in listed} == words
            assert len(listed) == 5  # a variant is an entry of its own, with the word of its line
        await at.admin.add(NewEntry("加薇信", tag="more"), "王")
        assert (await at.listed())[0] == ("added", "加薇信")
        assert await at.listed(EntryQuery(tag="more")) == [("added", "加薇信")]
        for size in (1, 100):
            assert await at.listed(EntryQuery(prefix="加"), size) == [("added", "加薇信"), ("list", "加微信")]
        assert await at.listed(EntryQuery(prefix="正規")) == [("list", "正规发票")]  # folded before it is compared
        assert await at.listed(EntryQuery(prefix="JIA")) == [("list", "加微信")]
        assert await at.listed(EntryQuery(origin=Origin.ADDED, prefix="发")) == []


async def test_a_token_is_good_for_its_own_list_alone(folder: Path) -> None:
    async with desk(folder) as at:
        token = (await at.admin.list_entries(EntryQuery(), 1, "")).next_page_token
        for query, bad in ((EntryQuery(tag="ads"), token), (EntryQuery(), token[:-4]), (EntryQuery(), "x")):
            with pytest.raises(InvalidField) as caught:
                await at.admin.list_entries(query, 1, bad)
            assert caught.value.field == "page_token"


async def test_a_text_is_tried_under_the_policy_of_an_assistant(folder: Path) -> None:
    async with desk(folder) as at:
        tried = await at.admin.try_text("请加-微-信 正规发票", "sales", Direction.OUTPUT)
        assert tried.folded == "请加微信正规发票"
        assert [(each.entry.word, each.start, each.end, each.why, each.action) for each in tried.occurrences] == [
            ("加微信", 1, 6, Why.MEANT, Action.MASK),
            ("发票", 9, 11, Why.ALLOWED, Action.PASS),
        ]
        assert (tried.action, tried.shown) == (Action.MASK, "请＊＊＊＊＊ 正规发票")
        asked = await at.admin.try_text("请加微信", "sales", Direction.INPUT)
        assert (asked.action, asked.shown) == (Action.BLOCK, "")
        free = await at.admin.try_text("请加微信", "plain", Direction.INPUT)
        assert (free.action, free.shown, free.occurrences[0].action) == (Action.PASS, "请加微信", Action.PASS)
        with pytest.raises(ResourceNotFound) as caught:
            await at.admin.try_text("好", "nobody", Direction.INPUT)
        assert caught.value.metadata == {"resourceName": "assistants/nobody"}


# --- changing -----------------------------------------------------------------------------


async def test_an_added_word_counts_at_once_and_after_a_reload_and_a_restart(folder: Path) -> None:
    new = NewEntry("加薇信", "more", 7, "any", Direction.INPUT, Action.MASK, "〇")
    async with desk(folder) as at:
        began = at.lists.current
        added = await at.admin.add(new, "王")
        assert added.origin is Origin.ADDED
        assert (added.entry.word, added.folded, added.entry.boundary) == ("加薇信", "加薇信", "any")
        assert added.entry.id.startswith("added:")
        assert "薇" not in added.entry.id
        assert at.lists.current is not began  # whoever began with the old lists keeps them
        await at.admin.reload("王")
        assert await at.found("请加薇信") == [("加薇信", Why.MEANT)]
        assert await at.changes() == (
            Change(2, 1001, "王", ChangeKind.RELOADED),
            Change(1, 1000, "王", ChangeKind.ADDED, None, added),
        )
    async with desk(folder) as at:
        assert await at.found("请加薇信") == [("加薇信", Why.MEANT)]
        assert (await at.changes())[1].after == added


async def test_adding_again_replaces_and_the_same_again_does_nothing(folder: Path) -> None:
    async with desk(folder) as at:
        first = await at.admin.add(NewEntry("加薇信"), "王")
        assert first.entry.boundary == "word"
        assert await at.admin.add(NewEntry("加薇信"), "王") == first
        again = await at.admin.add(NewEntry("加 薇 信", "more", action=Action.FLAG), "李")  # the same when it is folded
        assert again.entry.id == first.entry.id
        allowed = await at.admin.add(NewEntry("加薇信", allows=True), "李")
        assert allowed.entry.id != first.entry.id
        assert [(each.kind, each.before, each.after, each.admin) for each in await at.changes()] == [
            (ChangeKind.ADDED, None, allowed, "李"),
            (ChangeKind.REPLACED, first, again, "李"),
            (ChangeKind.ADDED, None, first, "王"),
        ]
        assert len(await at.audit.kept()) == 2


async def test_an_allowed_phrase_saves_what_is_inside_of_it(folder: Path) -> None:
    async with desk(folder) as at:
        assert await at.found("防刷单") == [("刷单", Why.MEANT)]
        await at.admin.add(NewEntry("防刷单", allows=True), "王")
        assert await at.found("防刷单") == [("刷单", Why.ALLOWED)]


async def test_an_added_word_can_be_removed(folder: Path) -> None:
    async with desk(folder) as at:
        added = await at.admin.add(NewEntry("加薇信"), "王")
        assert await at.admin.remove(added.entry.id, "李") is None
        assert await at.found("请加薇信") == []
        assert (await at.changes())[0] == Change(2, 1001, "李", ChangeKind.REMOVED, added, None)
        with pytest.raises(ResourceNotFound) as caught:
            await at.admin.remove(added.entry.id, "李")
        assert caught.value.metadata == {"resourceName": f"lexiconEntries/{added.entry.id}"}
    async with desk(folder) as at:
        assert await at.found("请加薇信") == []


async def test_a_word_of_a_file_is_withdrawn_with_its_variants_and_can_come_back(folder: Path) -> None:
    async with desk(folder) as at:
        assert await at.found("加微信 jiavx") == [("加微信", Why.MEANT), ("加微信", Why.MEANT)]
        withdrawal = await at.admin.remove("ads.csv:2", "王")
        assert withdrawal is not None
        assert (withdrawal.origin, withdrawal.folded, withdrawal.variants) == (Origin.WITHDRAWN, "加微信", ("jiavx",))
        change = (await at.changes())[0]
        assert change.before is not None
        assert (change.kind, change.before.entry.id, change.after) == (ChangeKind.REMOVED, "ads.csv:2", withdrawal)
        # The line moves; the word stays away.
        (folder / "ads.csv").write_text("word,tag,variants\n刷单,ads,\n加微信,ads,jiavx\n", encoding="utf-8")
        await at.admin.reload("王")
        assert await at.found("加微信 jiavx 刷单") == [("刷单", Why.MEANT)]
        assert await at.listed() == [("withdrawn", "加微信"), ("list", "刷单")]
        with pytest.raises(ResourceNotFound):
            await at.admin.remove("ads.csv:3", "王")
    async with desk(folder) as at:
        assert await at.found("加微信 jiavx") == []
        assert await at.admin.remove(withdrawal.entry.id, "李") is None
        assert await at.found("加微信 jiavx") == [("加微信", Why.MEANT), ("加微信", Why.MEANT)]
        assert (await at.changes())[0] == Change(3, 1000, "李", ChangeKind.RESTORED, withdrawal, None)


async def test_a_word_can_be_withdrawn_from_the_files_and_added_anew(folder: Path) -> None:
    async with desk(folder) as at:
        await at.admin.remove("ads.csv:3", "王")
        added = await at.admin.add(NewEntry("刷单", "mine"), "王")
        assert [each.entry for each in (await at.admin.try_text("刷单", "sales", Direction.INPUT)).occurrences] == [
            added.entry
        ]
        await at.admin.remove(added.entry.id, "王")
        assert await at.found("刷单") == []


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (NewEntry("…"), "entry.word"),
        (NewEntry("字"), "entry.word"),
        (NewEntry("长" * 65), "entry.word"),
        (NewEntry("加薇信", tag="two words"), "entry.tag"),
    ],
)
async def test_what_no_list_may_have_is_refused_and_not_recorded(folder: Path, new: NewEntry, field: str) -> None:
    async with desk(folder) as at:
        with pytest.raises(InvalidField) as caught:
            await at.admin.add(new, "王")
        assert caught.value.field == field
        assert (await at.changes(), await at.audit.kept()) == ((), ())


async def test_changes_and_their_tags_are_bounded(folder: Path) -> None:
    async with desk(folder, max_changed=3, max_tags=2) as at:
        await at.admin.add(NewEntry("加薇信", "one"), "王")
        await at.admin.add(NewEntry("加威信", "two"), "王")
        with pytest.raises(InvalidField) as caught:
            await at.admin.add(NewEntry("加维信", "three"), "王")
        assert caught.value.field == "entry.tag"
        await at.admin.remove("ads.csv:3", "王")
        for change in (at.admin.add(NewEntry("加维信", "two"), "王"), at.admin.remove("ads.csv:4", "王")):
            with pytest.raises(InvalidField) as caught:
                await change
            assert caught.value.field == "entry"
        await at.admin.add(NewEntry("加威信", "one"), "王")  # in the place of another
        assert len(await at.changes()) == 4


async def test_a_bad_file_changes_nothing(folder: Path) -> None:
    async with desk(folder) as at:
        await at.admin.add(NewEntry("加薇信"), "王")
        (folder / "ads.csv").write_text("word,tag\n刷单,ads\n字,ads\n", encoding="utf-8")
        with pytest.raises(LexiconRefused) as caught:
            await at.admin.reload("王")
        assert caught.value.metadata == {"file": "ads.csv", "line": "3"}
        assert await at.found("加微信 加薇信") == [("加微信", Why.MEANT), ("加薇信", Why.MEANT)]
        assert [each.kind for each in await at.changes()] == [ChangeKind.RELOADED, ChangeKind.ADDED]


# --- when something is in the way ---------------------------------------------------------


class Watched:
    """Lists that note what was on disk when a change came into force, and that can be told to wait or to refuse."""

    def __init__(self, lists: Lexicons, kept: Callable[[], Awaitable[tuple[Kept, ...]]]) -> None:
        self._lists = lists
        self._kept = kept
        self.seen: list[int] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.waiting = asyncio.Event()
        self.refuse = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lists, name)

    async def lay_over(self, overlay: Overlay) -> Loaded:
        self.seen.append(len(await self._kept()))
        self.waiting.set()
        await self.go_on.wait()
        if self.refuse:
            raise LexiconRefused("filter.lists", None, "no")
        return await self._lists.lay_over(overlay)

    async def reload(self) -> Loaded:
        self.waiting.set()
        await self.go_on.wait()
        return await self._lists.reload()


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[Desk, Watched]]:
    made: list[Watched] = []

    async def kept() -> tuple[Kept, ...]:
        return await at.audit.kept()

    def watch(lists: Lexicons) -> Watched:
        made.append(Watched(lists, kept))
        return made[0]

    async with desk(folder, watch) as at:
        yield at, made[0]


async def test_a_change_is_on_disk_before_it_counts(folder: Path) -> None:
    async with watched(folder) as (at, lists):
        added = await at.admin.add(NewEntry("加薇信"), "王")
        await at.admin.remove("ads.csv:3", "王")
        await at.admin.remove(added.entry.id, "王")
        assert lists.seen == [1, 2, 1]


async def test_a_caller_that_leaves_does_not_stop_its_change(folder: Path) -> None:
    async with watched(folder) as (at, lists):
        lists.go_on.clear()
        leaving = asyncio.create_task(at.admin.add(NewEntry("加薇信"), "王"))
        waiting = asyncio.create_task(at.admin.add(NewEntry("加威信"), "李"))
        await lists.waiting.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await at.found("加薇信") == []  # recorded, and not in force yet
        lists.go_on.set()
        await waiting
        assert await at.found("加薇信 加威信") == [("加薇信", Why.MEANT), ("加威信", Why.MEANT)]


async def test_closing_waits_for_what_was_begun(folder: Path) -> None:
    async with watched(folder) as (at, lists):
        lists.go_on.clear()
        leaving = asyncio.create_task(at.admin.add(NewEntry("加薇信"), "王"))
        await lists.waiting.wait()
        leaving.cancel()
        closing = asyncio.create_task(at.admin.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        lists.go_on.set()
        await closing
        assert await at.found("加薇信") == [("加薇信", Why.MEANT)]


async def test_closing_does_not_wait_for_files(folder: Path) -> None:
    async with watched(folder) as (at, lists):
        lists.go_on.clear()
        reading = asyncio.create_task(at.admin.reload("王"))
        await lists.waiting.wait()
        waiting = asyncio.create_task(at.admin.add(NewEntry("加薇信"), "李"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(at.admin.aclose())
        with pytest.raises(asyncio.CancelledError):
            await reading
        lists.go_on.set()
        await waiting  # stood behind it, and was begun
        await closing
        assert await at.found("加薇信") == [("加薇信", Why.MEANT)]


async def test_what_the_lists_refuse_is_undone_on_disk(folder: Path) -> None:
    async with watched(folder) as (at, lists):
        first = await at.admin.add(NewEntry("加薇信"), "王")
        lists.refuse = True
        for change in (
            at.admin.add(NewEntry("加薇信", "more"), "王"),
            at.admin.add(NewEntry("加威信"), "王"),
            at.admin.remove("ads.csv:3", "王"),
            at.admin.remove(first.entry.id, "王"),
        ):
            with pytest.raises(LexiconRefused):
                await change
            assert [each.id for each in await at.audit.kept()] == [first.entry.id]
        lists.refuse = False
        assert await at.listed(EntryQuery(origin=Origin.ADDED)) == [("added", "加薇信")]
    async with desk(folder) as again:
        kept = await again.admin.list_entries(EntryQuery(origin=Origin.ADDED), 10, "")
        assert kept.entries == (first,)


class BrokenLog:
    """A store whose disk is full, until it is not."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self.broken = True

    async def append(self, row: AuditRow, *, keep: Kept | None = None, drop: Sequence[str] = ()) -> int:
        if self.broken:
            raise StoreUnavailable("sqlite")
        return await self._log.append(row, keep=keep, drop=drop)

    async def kept(self) -> tuple[Kept, ...]:
        return await self._log.kept()

    async def page(self, page_size: int, page_token: str) -> AuditPage:
        return await self._log.page(page_size, page_token)


async def test_what_cannot_be_recorded_does_not_count(folder: Path) -> None:
    async with desk(folder) as at:
        log = BrokenLog(at.audit)
        admin = LexiconAdministration(at.lists, log, {"sales": POLICY}, ("sales",), lambda: 1.0)
        before = at.lists.current
        for change in (admin.add(NewEntry("加薇信"), "王"), admin.remove("ads.csv:3", "王"), admin.reload("王")):
            with pytest.raises(StoreUnavailable):
                await change
        assert at.lists.current is before
        log.broken = False
        await admin.add(NewEntry("加薇信"), "王")
        assert await at.found("加薇信") == [("加薇信", Why.MEANT)]


async def test_a_row_that_cannot_be_read_does_not_keep_the_others_away(folder: Path) -> None:
    async with desk(folder) as at:
        await at.admin.add(NewEntry("加薇信"), "王")
        for number, broken in enumerate(("{", "{}", '{"id": "x", "word": "x", "folded": "x", "origin": "?"}')):
            row = AuditRow(time=1.0, admin="王", kind="added")
            await at.audit.append(row, keep=Kept(f"added:{number}", broken))
    async with desk(folder) as at:
        assert await at.listed(EntryQuery(origin=Origin.ADDED)) == [("added", "加薇信")]


async def test_an_entry_is_found_among_many_files_and_lines(folder: Path) -> None:
    lines = "\n".join(f"第{number}个词语" for number in range(1, 40_001))
    for file in ("more.txt", "most.txt"):
        (folder / file).write_text(lines.replace("第", file[2]) + "\n", encoding="utf-8")
    async with desk(folder) as at:
        for name, word in (("more.txt:1", "r1个词语"), ("most.txt:39999", "s39999个词语"), ("ads.csv:3", "刷单")):
            [found] = at.lists.forms(name)
            assert found.entry.word == word
            withdrawal = await at.admin.remove(name, "王")
            assert at.lists.forms(name) == []
            assert withdrawal is not None
            await at.admin.remove(withdrawal.entry.id, "王")
        for wrong in ("most.txt:40001", "other.txt:1", "most.txt:", "most.txt", ":1", "most.txt:" + "9" * 400):
            assert at.lists.forms(wrong) == []
        assert len(at.lists.listed("more")) == 40_000
        assert len(at.lists.listed()) == 80_005
        assert at.lists.listed("more")[-1:] == [at.lists.listed("more")[39_999]]
        assert list(at.lists.listed("nobody has it")) == []
