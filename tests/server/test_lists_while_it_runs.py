"""A whole server whose word lists are changed by an administrator while people talk to it."""

import asyncio
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import structlog

from server.compose import running
from server.settings import (
    AssistantSettings,
    CallerSettings,
    FilterSettings,
    GrpcSettings,
    ModelLimitSettings,
    ModelSettings,
    OperationsSettings,
    PolicySettings,
    Settings,
    StoreSettings,
    TextSettings,
)
from weconverse import (
    AdminClient,
    CallerNotAllowed,
    ConversationClient,
    LexiconChange,
    LexiconEntry,
    LexiconRefused,
    Turn,
    Unimplemented,
    text_of,
)

BLOCKED = "这个不谈。"


def sha(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def settings(folder: Path, *, admins: bool = True) -> Settings:
    return Settings(
        grpc=GrpcSettings(
            address="127.0.0.1:0",
            drain_seconds=10,
            callers=(CallerSettings(name="adapter", token_sha256=(sha("caller"),)),),
            admins=(CallerSettings(name="王", token_sha256=(sha("admin"),)),) if admins else (),
        ),
        operations=OperationsSettings(address=""),
        store=StoreSettings(path=str(folder / "turns.db")),
        models={
            "default": ModelSettings(
                protocol="scripted", tokens_per_second=0, limits=ModelLimitSettings(requests_per_minute=0)
            )
        },
        filter=FilterSettings(
            lists=(str(folder / "lists"),),
            reload_seconds=3600.0,
            policies={"default": PolicySettings(other_input="block", other_output="block")},
        ),
        assistants={"default": AssistantSettings(texts=TextSettings(input_blocked=BLOCKED))},
    )


class Day:
    """A server that runs, somebody who talks to it, and an administrator."""

    def __init__(self, people: ConversationClient, admin: AdminClient, stranger: AdminClient) -> None:
        self.people = people
        self.admin = admin
        self.stranger = stranger

    async def is_blocked(self, text: str) -> bool:
        turn = await self.people.converse("demo", text)
        blocked = turn.finish_reason == Turn.INPUT_BLOCKED
        assert (text_of(turn.reply) == BLOCKED) == blocked
        return blocked

    @classmethod
    async def begin(cls, folder: Path, stack: AsyncExitStack, *, admins: bool = True) -> "Day":
        server = await stack.enter_async_context(running(settings(folder, admins=admins)))
        target = f"127.0.0.1:{server.port}"
        return cls(
            await stack.enter_async_context(ConversationClient(target, token="caller")),
            await stack.enter_async_context(AdminClient(target, token="admin")),
            await stack.enter_async_context(AdminClient(target, token="caller")),
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "ads.txt").write_text("加微信\n刷单\n", encoding="utf-8")
    return tmp_path


async def test_a_day_of_an_administrator(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        with structlog.testing.capture_logs() as log:
            day = await Day.begin(folder, stack)
            assert (await day.is_blocked("请加微信"), await day.is_blocked("请加薇信")) == (True, False)
            added = await day.admin.add_entry("加薇信", tag="ads")
            assert await day.is_blocked("请加薇信")
            tested = await day.admin.test_text("请加薇信", LexiconEntry.INPUT)
            assert (tested.action, tested.occurrences[0].entry) == (LexiconEntry.BLOCK, added.name)
            withdrawal = await day.admin.remove_entry("ads.txt:1")
            assert withdrawal is not None
            assert not await day.is_blocked("请加微信")
            (folder / "lists" / "ads.txt").write_text("加微信\n刷单\n代开发票\n", encoding="utf-8")
            assert (await day.admin.reload()).entry_count == 3
            assert (await day.is_blocked("代开发票"), await day.is_blocked("请加微信")) == (True, False)
            (folder / "lists" / "ads.txt").write_text("加微信\n刷\n", encoding="utf-8")
            with pytest.raises(LexiconRefused) as caught:
                await day.admin.reload()
            assert caught.value.metadata == {"file": "ads.txt", "line": "2"}
            assert await day.is_blocked("代开发票")
        assert "薇" not in str(log)  # neither words nor texts
        assert {line["caller"] for line in log if line.get("method", "").startswith("AdminService/")} == {"王"}
    (folder / "lists" / "ads.txt").write_text("加微信\n刷单\n", encoding="utf-8")
    async with AsyncExitStack() as stack:
        day = await Day.begin(folder, stack)
        assert (await day.is_blocked("请加微信"), await day.is_blocked("请加薇信")) == (False, True)
        await day.admin.remove_entry(withdrawal.name)
        await day.admin.remove_entry(added.name)
        assert (await day.is_blocked("请加微信"), await day.is_blocked("请加薇信")) == (True, False)
        kinds = [LexiconChange.Kind.Name(change.kind) async for change in day.admin.audit()]
        assert kinds == ["REMOVED", "RESTORED", "RELOADED", "RELOADED", "REMOVED", "ADDED"]


async def test_a_caller_may_not(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        day = await Day.begin(folder, stack)
        with pytest.raises(CallerNotAllowed) as caught:
            await day.stranger.add_entry("你好")
        assert caught.value.metadata == {"caller": "adapter"}
        assert not await day.is_blocked("你好")


async def test_added_words_count_without_lists_and_administrators_too(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        await (await Day.begin(folder, stack)).admin.add_entry("加薇信")
    bare = settings(folder, admins=False)
    bare = msgspec.structs.replace(bare, filter=msgspec.structs.replace(bare.filter, lists=()))
    async with running(bare) as server, ConversationClient(f"127.0.0.1:{server.port}", token="caller") as people:
        assert (await people.converse("demo", "请加薇信")).finish_reason == Turn.INPUT_BLOCKED
        assert (await people.converse("demo", "请加微信")).finish_reason == Turn.STOP


async def test_without_administrators_nobody_may_and_what_was_changed_stays(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        await (await Day.begin(folder, stack)).admin.add_entry("加薇信")
    async with AsyncExitStack() as stack:
        day = await Day.begin(folder, stack, admins=False)
        with pytest.raises(Unimplemented):
            await day.admin.reload()
        assert await day.is_blocked("请加薇信")


async def test_an_administrator_needs_no_file_to_begin_with(folder: Path) -> None:
    (folder / "lists" / "ads.txt").unlink()
    async with AsyncExitStack() as stack:
        day = await Day.begin(folder, stack)
        assert not await day.is_blocked("请加微信")
        await day.admin.add_entry("加微信")
        assert await day.is_blocked("请加微信")


async def test_many_changes_at_once_all_count(folder: Path) -> None:
    words = [f"暗号{number}号" for number in range(40)]
    async with AsyncExitStack() as stack:
        day = await Day.begin(folder, stack)
        entries = await asyncio.gather(*(day.admin.add_entry(word) for word in words))
        assert len({entry.name for entry in entries}) == 40
        assert {entry.word async for entry in day.admin.list_entries(origin=LexiconEntry.ADDED, page_size=7)} == set(
            words
        )
        assert await day.is_blocked("请说暗号7号")
