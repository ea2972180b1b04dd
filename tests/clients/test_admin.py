"""The client of administrators over a real connection."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.clients.raw import serving
from weconverse import AdminClient, LexiconEntry, StoreUnavailable, Unavailable, WeConverseError
from weconverse.v1 import admin_pb2 as pb

ENTRY = LexiconEntry(name="lexiconEntries/added:1f", word="加微信", tag="ads")


class Recorded:
    """Answers with what it is given, one after the other, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self._answers = list(answers)

    async def __call__(self, request: Any, context: Any) -> Any:
        copy = type(request)()
        copy.CopyFrom(request)
        self.requests.append(copy)
        self.metadata.append(dict(context.invocation_metadata()))
        answer = self._answers.pop(0)
        if isinstance(answer, status_pb2.Status):
            trailing = (("grpc-status-details-bin", answer.SerializeToString()),)
            await context.abort(grpc.StatusCode.UNAVAILABLE, answer.message, trailing_metadata=trailing)
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "no")
        return answer


def handler(recorded: Recorded) -> Any:
    async def handle(request: Any, context: Any) -> Any:
        return await recorded(request, context)

    return handle


async def test_entries_are_listed_page_by_page() -> None:
    other = LexiconEntry(name="lexiconEntries/ads.csv:1", word="刷单")
    recorded = Recorded(
        pb.ListLexiconEntriesResponse(entries=[ENTRY], next_page_token="t"),
        pb.ListLexiconEntriesResponse(entries=[other]),
    )
    async with serving(ListLexiconEntries=handler(recorded)) as target, AdminClient(target, token="geheim") as admin:
        found = [
            entry async for entry in admin.list_entries(tag="ads", prefix="加", origin=LexiconEntry.ADDED, page_size=1)
        ]
    assert found == [ENTRY, other]
    asked = pb.ListLexiconEntriesRequest(tag="ads", prefix="加", origin=LexiconEntry.ADDED, page_size=1)
    assert recorded.requests[0] == asked
    asked.page_token = "t"
    assert recorded.requests[1] == asked
    assert {each["authorization"] for each in recorded.metadata} == {"Bearer geheim"}


async def test_a_text_is_tested() -> None:
    answer = pb.TestTextResponse(folded_text="请加微信", action=LexiconEntry.MASK)
    recorded = Recorded(answer, answer)
    async with serving(TestText=handler(recorded)) as target, AdminClient(target) as admin:
        assert await admin.test_text("请加微信", LexiconEntry.INPUT) == answer
        await admin.test_text("请加微信", LexiconEntry.OUTPUT, assistant="sales")
    assert recorded.requests == [
        pb.TestTextRequest(text="请加微信", direction=LexiconEntry.INPUT),
        pb.TestTextRequest(text="请加微信", direction=LexiconEntry.OUTPUT, assistant="assistants/sales"),
    ]


async def test_an_entry_is_added() -> None:
    recorded = Recorded(ENTRY)
    async with serving(AddLexiconEntry=handler(recorded)) as target, AdminClient(target) as admin:
        added = await admin.add_entry(
            "加微信",
            tag="ads",
            level=3,
            boundary=LexiconEntry.ANYWHERE,
            direction=LexiconEntry.OUTPUT,
            action=LexiconEntry.REPLACE,
            replacement="〇",
            allowed=True,
        )
    assert added == ENTRY
    assert recorded.requests[0].entry == LexiconEntry(
        word="加微信",
        tag="ads",
        level=3,
        boundary=LexiconEntry.ANYWHERE,
        direction=LexiconEntry.OUTPUT,
        action=LexiconEntry.REPLACE,
        replacement="〇",
        allowed=True,
    )


async def test_an_entry_is_removed_by_its_name() -> None:
    recorded = Recorded(pb.RemoveLexiconEntryResponse(withdrawal=ENTRY), pb.RemoveLexiconEntryResponse())
    async with serving(RemoveLexiconEntry=handler(recorded)) as target, AdminClient(target) as admin:
        assert await admin.remove_entry("广告/ads.csv:12") == ENTRY
        assert await admin.remove_entry("lexiconEntries/added:1f") is None
        with pytest.raises(ValueError, match="is named by"):
            await admin.remove_entry("lexiconEntries/")
    assert [each.name for each in recorded.requests] == ["lexiconEntries/广告/ads.csv:12", "lexiconEntries/added:1f"]


async def test_files_are_read_anew_and_changes_listed() -> None:
    reloads = Recorded(pb.ReloadLexiconResponse(entry_count=7))
    audits = Recorded(
        pb.ListLexiconAuditResponse(changes=[pb.LexiconChange(sequence=2)], next_page_token="t"),
        pb.ListLexiconAuditResponse(changes=[pb.LexiconChange(sequence=1)]),
    )
    handlers = {"ReloadLexicon": handler(reloads), "ListLexiconAudit": handler(audits)}
    async with serving(**handlers) as target, AdminClient(target) as admin:
        assert (await admin.reload()).entry_count == 7
        assert [change.sequence async for change in admin.audit(page_size=1)] == [2, 1]
    assert [(each.page_size, each.page_token) for each in audits.requests] == [(1, ""), (1, "t")]


async def test_the_channel_repeats_no_change() -> None:
    recorded = Recorded(grpc.StatusCode.UNAVAILABLE, pb.RemoveLexiconEntryResponse())
    async with serving(RemoveLexiconEntry=handler(recorded)) as target, AdminClient(target) as admin:
        with pytest.raises(Unavailable):
            await admin.remove_entry("added:1f")
    assert len(recorded.requests) == 1


async def test_a_call_waits_where_the_service_says_so() -> None:
    status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="full")
    for detail in (
        error_details_pb2.ErrorInfo(reason="STORE_UNAVAILABLE", domain="weconverse.v1"),
        error_details_pb2.RetryInfo(retry_delay={"nanos": 1_000_000}),
    ):
        status.details.add().Pack(detail)
    recorded = Recorded(status, pb.RemoveLexiconEntryResponse(), status)
    async with serving(RemoveLexiconEntry=handler(recorded)) as target:
        async with AdminClient(target) as admin:
            await admin.remove_entry("added:1f")
        async with AdminClient(target, honour_retry_info=False) as admin:
            with pytest.raises(StoreUnavailable):
                await admin.remove_entry("added:1f")
    assert len(recorded.requests) == 3


async def test_a_service_without_administrators_says_so() -> None:
    async with serving() as target, AdminClient(target) as admin:
        with pytest.raises(WeConverseError) as caught:
            await admin.reload()
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_a_token_is_not_sent_in_plain_text() -> None:
    with pytest.raises(ValueError, match="plain text"):
        AdminClient("example.com:50051", token="geheim")
