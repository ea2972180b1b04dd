"""The administrator's regular expressions in a service that runs, without any list of words."""

import hashlib
from pathlib import Path

import pytest

from program.settings import SettingsError
from server.compose import plan, running
from server.settings import (
    CallerSettings,
    FilterSettings,
    GrpcSettings,
    ModelLimitSettings,
    ModelSettings,
    OperationsSettings,
    PatternSettings,
    Settings,
    StoreSettings,
)
from weconverse.admin import AdminClient
from weconverse.client import ConversationClient
from weconverse.v1.admin_pb2 import LexiconEntry
from weconverse.v1.conversation_pb2 import Turn

pytest.importorskip("re2", reason="google-re2 is an extra")


def sha(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def settings(folder: Path, *, admins: bool, **patterns: PatternSettings) -> Settings:
    return Settings(
        grpc=GrpcSettings(
            address="127.0.0.1:0",
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
        filter=FilterSettings(reload_seconds=3600.0, patterns=patterns),
    )


async def test_a_message_is_stopped_by_a_pattern_alone(tmp_path: Path) -> None:
    order = PatternSettings(pattern=r"PO-\d{4}", action="block")
    async with (
        running(settings(tmp_path, admins=False, order=order)) as server,
        ConversationClient(f"127.0.0.1:{server.port}", token="caller") as people,
    ):
        assert (await people.converse("demo", "查PO-1234")).finish_reason == Turn.INPUT_BLOCKED
        assert (await people.converse("demo", "查PO-123")).finish_reason == Turn.STOP


async def test_an_administrator_sees_what_a_pattern_does(tmp_path: Path) -> None:
    order = PatternSettings(pattern=r"PO-\d{4}", tag="internal", action="replace", replacement="单号")
    async with (
        running(settings(tmp_path, admins=True, order=order)) as server,
        AdminClient(f"127.0.0.1:{server.port}", token="admin") as admin,
    ):
        tested = await admin.test_text("查PO-1234", LexiconEntry.OUTPUT)
        (occurrence,) = tested.occurrences
        assert (tested.action, tested.shown_text) == (LexiconEntry.REPLACE, "查单号")
        assert (occurrence.entry, occurrence.word, occurrence.tag) == (
            "lexiconEntries/patterns.order",
            r"PO-\d{4}",
            "internal",
        )


def test_a_plan_refuses_what_a_start_would(tmp_path: Path) -> None:
    bad = settings(tmp_path, admins=False, order=PatternSettings(pattern="PO$"))
    with pytest.raises(SettingsError) as caught:
        list(plan(bad))
    assert caught.value.field == "filter.patterns.order.pattern"
