"""AdminService over a real port: who may call it, what is passed on, what comes back."""

import hashlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidField, LexiconRefused, ResourceNotFound, StoreUnavailable
from server.filter.base import (
    ChangeKind,
    EntryQuery,
    NewEntry,
    Origin,
)
from server.filter.entries import Action, Direction
from server.rpc import admin_checks, admin_convert
from server.settings import CallerSettings, GrpcSettings
from tests.server.rpc.fake_lexicon import FakeLexicon
from tests.server.rpc.fakes import Open, open_server
from weconverse.v1 import admin_pb2 as pb
from weconverse.v1 import conversation_pb2

MESSAGE = pb.LexiconEntry(
    name="lexiconEntries/ads.csv:12",
    word="加微信",
    tag="ads",
    level=3,
    boundary=pb.LexiconEntry.OWN_WORD,
    direction=pb.LexiconEntry.INPUT,
    action=pb.LexiconEntry.REPLACE,
    replacement="〇",
    folded_word="加微信",
    origin=pb.LexiconEntry.LIST,
)


def sha(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


CALLERS = (CallerSettings(name="adapter", token_sha256=(sha("caller"),)),)
ADMINS = (
    CallerSettings(name="王", token_sha256=(sha("admin"), sha("next"))),
    CallerSettings(name="李", token_sha256=(sha("other"),)),
)
AS_ADMIN = (("authorization", "Bearer admin"),)


def settings(**more: Any) -> GrpcSettings:
    return GrpcSettings(address="127.0.0.1:0", **{"admins": ADMINS, **more})


async def failure(call: Any) -> tuple[str, str, dict[str, str]]:
    """Code, reason and metadata of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    [details] = [value for key, value in caught.value.trailing_metadata() or () if key == "grpc-status-details-bin"]
    assert isinstance(details, bytes)
    info = error_details_pb2.ErrorInfo()
    status = status_pb2.Status.FromString(details)
    assert status.details[0].Unpack(info)
    return caught.value.code().name, info.reason, dict(info.metadata)


# --- who may ------------------------------------------------------------------------------


def every_call(server: Open) -> list[Callable[..., Any]]:
    """Each with a request that would be good."""
    admin = server.admin
    return [
        lambda **more: admin.ListLexiconEntries(pb.ListLexiconEntriesRequest(), **more),
        lambda **more: admin.TestText(pb.TestTextRequest(text="好", direction=pb.LexiconEntry.INPUT), **more),
        lambda **more: admin.AddLexiconEntry(pb.AddLexiconEntryRequest(entry=pb.LexiconEntry(word="加微信")), **more),
        lambda **more: admin.RemoveLexiconEntry(pb.RemoveLexiconEntryRequest(name="lexiconEntries/a"), **more),
        lambda **more: admin.ReloadLexicon(pb.ReloadLexiconRequest(), **more),
        lambda **more: admin.ListLexiconAudit(pb.ListLexiconAuditRequest(), **more),
    ]


@pytest.mark.parametrize(
    ("callers", "token", "expected"),
    [
        ((), None, ("UNAUTHENTICATED", "CALLER_UNKNOWN", {})),  # an open loopback, and still nobody
        ((), "Bearer caller", ("UNAUTHENTICATED", "CALLER_UNKNOWN", {})),
        ((), "Basic admin", ("UNAUTHENTICATED", "CALLER_UNKNOWN", {})),
        (CALLERS, None, ("UNAUTHENTICATED", "CALLER_UNKNOWN", {})),
        (CALLERS, "Bearer caller", ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED", {"caller": "adapter"})),
        (CALLERS, "Bearer wrong", ("UNAUTHENTICATED", "CALLER_UNKNOWN", {})),
        (CALLERS, "Bearer ", ("UNAUTHENTICATED", "CALLER_UNKNOWN", {})),
    ],
)
async def test_nobody_but_an_administrator_gets_in(
    callers: tuple[CallerSettings, ...], token: str | None, expected: Any
) -> None:
    lexicon = FakeLexicon()
    async with open_server(settings(callers=callers), lexicon=lexicon) as server:
        for call in every_call(server):
            assert await failure(call(metadata=token and (("authorization", token),))) == expected
    assert lexicon.calls == []


@pytest.mark.parametrize("callers", [(), CALLERS])
async def test_every_administrator_gets_in_by_every_token(callers: tuple[CallerSettings, ...]) -> None:
    lexicon = FakeLexicon()
    async with open_server(settings(callers=callers), lexicon=lexicon) as server:
        for token in ("admin", "next", "other"):
            for call in every_call(server):
                await call(metadata=(("authorization", f"bearer {token}"),))
        names = [call[-1] for call in lexicon.calls if call[0] in ("add", "remove", "reload")]
        assert names == ["王"] * 6 + ["李"] * 3


async def test_the_token_of_an_administrator_is_good_for_nothing_else() -> None:
    request = conversation_pb2.GetTurnRequest(name="conversations/a/turns/b")
    async with open_server(settings(callers=CALLERS), lexicon=FakeLexicon()) as server:
        assert (await failure(server.conversation.GetTurn(request, metadata=AS_ADMIN)))[1] == "CALLER_UNKNOWN"
        await server.conversation.GetTurn(request, metadata=(("authorization", "Bearer caller"),))


@pytest.mark.parametrize(("admins", "lexicon"), [((), FakeLexicon()), (ADMINS, None)])
async def test_without_administrators_or_lists_there_is_no_such_service(
    admins: tuple[CallerSettings, ...], lexicon: FakeLexicon | None
) -> None:
    async with open_server(settings(admins=admins), lexicon=lexicon) as server:
        for call in every_call(server):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(metadata=AS_ADMIN)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        check = health_pb2_grpc.HealthStub(server.channel).Check
        with pytest.raises(grpc.aio.AioRpcError):
            await check(health_pb2.HealthCheckRequest(service="weconverse.v1.AdminService"))


async def test_its_health_is_reported_where_it_is() -> None:
    async with open_server(settings(), lexicon=FakeLexicon()) as server:
        check = health_pb2_grpc.HealthStub(server.channel).Check
        answer = await check(health_pb2.HealthCheckRequest(service="weconverse.v1.AdminService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


# --- what is passed on --------------------------------------------------------------------


async def test_entries_come_in_pages() -> None:
    lexicon = FakeLexicon()
    async with open_server(settings(), lexicon=lexicon) as server:
        asked = pb.ListLexiconEntriesRequest(
            page_size=5, page_token="t", tag="ads", prefix="加", origin=pb.LexiconEntry.WITHDRAWN
        )
        page = await server.admin.ListLexiconEntries(asked, metadata=AS_ADMIN)
        for size in (0, 1001):
            await server.admin.ListLexiconEntries(pb.ListLexiconEntriesRequest(page_size=size), metadata=AS_ADMIN)
    assert lexicon.calls == [
        ("list", EntryQuery("ads", "加", Origin.WITHDRAWN), 5, "t"),
        ("list", EntryQuery(), 50, ""),
        ("list", EntryQuery(), 1000, ""),
    ]
    assert page.next_page_token == "next"
    assert page.entries[0] == MESSAGE
    assert page.entries[1] == pb.LexiconEntry(
        name="lexiconEntries/withdrawn:1f",
        word="加微信",
        tag="ads",
        boundary=pb.LexiconEntry.ANYWHERE,
        folded_word="加微信",
        origin=pb.LexiconEntry.WITHDRAWN,
    )


async def test_a_text_is_tried() -> None:
    lexicon = FakeLexicon()
    async with open_server(settings(), lexicon=lexicon) as server:
        asked = pb.TestTextRequest(text="请加微信", direction=pb.LexiconEntry.OUTPUT)
        tried = await server.admin.TestText(asked, metadata=AS_ADMIN)
        asked = pb.TestTextRequest(text="好", assistant="assistants/sales", direction=pb.LexiconEntry.INPUT)
        await server.admin.TestText(asked, metadata=AS_ADMIN)
    assert lexicon.calls == [
        ("try", "请加微信", "default", Direction.OUTPUT),
        ("try", "好", "sales", Direction.INPUT),
    ]
    assert (tried.folded_text, tried.action, tried.shown_text) == ("请加微信", pb.LexiconEntry.MASK, "请＊＊＊")
    meant, *dropped = tried.occurrences
    assert meant == pb.TestTextResponse.Occurrence(
        entry="lexiconEntries/ads.csv:12",
        word="加微信",
        tag="ads",
        start=1,
        end=4,
        verdict=pb.TestTextResponse.Occurrence.MEANT,
        action=pb.LexiconEntry.MASK,
    )
    verdict = pb.TestTextResponse.Occurrence.Verdict
    assert {each.verdict for each in dropped} == set(verdict.values()) - {
        verdict.Value("VERDICT_UNSPECIFIED"),
        verdict.Value("MEANT"),
    }
    assert {each.action for each in dropped} == {pb.LexiconEntry.ACTION_UNSPECIFIED}


async def test_an_entry_is_added() -> None:
    lexicon = FakeLexicon()
    async with open_server(settings(), lexicon=lexicon) as server:
        assert await server.admin.AddLexiconEntry(pb.AddLexiconEntryRequest(entry=MESSAGE), metadata=AS_ADMIN) == (
            MESSAGE
        )
        least = pb.LexiconEntry(word=" 加微信\u3000", allowed=True)
        await server.admin.AddLexiconEntry(pb.AddLexiconEntryRequest(entry=least), metadata=AS_ADMIN)
    assert lexicon.calls == [
        ("add", NewEntry("加微信", "ads", 3, "word", Direction.INPUT, Action.REPLACE, "〇"), "王"),
        ("add", NewEntry("加微信", allows=True), "王"),
    ]


async def test_an_entry_is_removed() -> None:
    lexicon = FakeLexicon()
    async with open_server(settings(), lexicon=lexicon) as server:
        request = pb.RemoveLexiconEntryRequest(name="lexiconEntries/广告/ads.csv:12")
        answer = await server.admin.RemoveLexiconEntry(request, metadata=AS_ADMIN)
        assert answer.withdrawal.name == "lexiconEntries/withdrawn:1f"
        lexicon.withdrawal = None
        answer = await server.admin.RemoveLexiconEntry(request, metadata=AS_ADMIN)
        assert not answer.HasField("withdrawal")
    assert lexicon.calls[0] == ("remove", "广告/ads.csv:12", "王")


async def test_lists_are_read_anew() -> None:
    async with open_server(settings(), lexicon=FakeLexicon()) as server:
        answer = await server.admin.ReloadLexicon(pb.ReloadLexiconRequest(), metadata=AS_ADMIN)
        assert (answer.entry_count, answer.elapsed.ToMilliseconds()) == (1234, 250)


async def test_changes_come_in_pages() -> None:
    lexicon = FakeLexicon()
    async with open_server(settings(), lexicon=lexicon) as server:
        page = await server.admin.ListLexiconAudit(pb.ListLexiconAuditRequest(page_token="t"), metadata=AS_ADMIN)
    assert lexicon.calls == [("changes", 50, "t")]
    kinds = pb.LexiconChange.Kind
    assert [kinds.Name(each.kind) for each in page.changes[:-1]] == [kind.name for kind in ChangeKind]
    first, last = page.changes[0], page.changes[-1]
    assert (first.sequence, first.admin, first.time.ToMilliseconds()) == (9, "王", 1_000_500)
    assert (first.before, first.after.name) == (MESSAGE, "lexiconEntries/withdrawn:1f")
    assert not last.HasField("before")
    assert not last.HasField("after")
    assert page.next_page_token == "more"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidField("entry.word", "no"), ("INVALID_ARGUMENT", "INVALID_FIELD", {"field": "entry.word"})),
        (
            LexiconRefused("ads.csv", 3, "is empty"),
            ("FAILED_PRECONDITION", "LEXICON_REFUSED", {"file": "ads.csv", "line": "3"}),
        ),
        (
            ResourceNotFound("lexiconEntries/a"),
            ("NOT_FOUND", "RESOURCE_NOT_FOUND", {"resourceName": "lexiconEntries/a"}),
        ),
        (StoreUnavailable("sqlite"), ("UNAVAILABLE", "STORE_UNAVAILABLE", {"store": "sqlite"})),
    ],
)
async def test_what_goes_wrong_is_told(error: Exception, expected: Any) -> None:
    lexicon = FakeLexicon()
    lexicon.error = error
    async with open_server(settings(), lexicon=lexicon) as server:
        for call in every_call(server):
            assert await failure(call(metadata=AS_ADMIN)) == expected


# --- what is refused ----------------------------------------------------------------------


def added(**fields: Any) -> pb.AddLexiconEntryRequest:
    return pb.AddLexiconEntryRequest(entry=pb.LexiconEntry(**{"word": "加微信", **fields}))


def tried(**fields: Any) -> pb.TestTextRequest:
    return pb.TestTextRequest(**{"text": "好", "direction": pb.LexiconEntry.INPUT, **fields})


def listed(**fields: Any) -> pb.ListLexiconEntriesRequest:
    return pb.ListLexiconEntriesRequest(**fields)


@pytest.mark.parametrize(
    ("check", "request_", "field"),
    [
        (admin_checks.list_entries, listed(page_size=-1), "page_size"),
        (admin_checks.list_entries, listed(page_token="x" * 257), "page_token"),
        (admin_checks.list_entries, listed(tag="x" * 65), "tag"),
        (admin_checks.list_entries, listed(prefix="x" * 65), "prefix"),
        (admin_checks.list_entries, listed(prefix="a\x00"), "prefix"),
        (admin_checks.list_entries, listed(origin=9), "origin"),
        (admin_checks.try_text, tried(text=""), "text"),
        (admin_checks.try_text, tried(text="x" * 20_001), "text"),
        (admin_checks.try_text, tried(assistant="sales"), "assistant"),
        (admin_checks.try_text, tried(direction=0), "direction"),
        (admin_checks.try_text, tried(direction=3), "direction"),
        (admin_checks.add, pb.AddLexiconEntryRequest(), "entry"),
        (admin_checks.add, added(word=""), "entry.word"),
        (admin_checks.add, added(word=" \n"), "entry.word"),
        (admin_checks.add, added(word="a\nb"), "entry.word"),
        (admin_checks.add, added(word="a\u2028b"), "entry.word"),
        (admin_checks.add, added(word="x" * 257), "entry.word"),
        (admin_checks.add, added(tag="x" * 65), "entry.tag"),
        (admin_checks.add, added(replacement="x" * 65), "entry.replacement"),
        (admin_checks.add, added(replacement="a\x1b[2J"), "entry.replacement"),
        (admin_checks.add, added(level=-1), "entry.level"),
        (admin_checks.add, added(level=101), "entry.level"),
        (admin_checks.add, added(boundary=3), "entry.boundary"),
        (admin_checks.add, added(direction=3), "entry.direction"),
        (admin_checks.add, added(action=7), "entry.action"),
        (admin_checks.remove, pb.RemoveLexiconEntryRequest(), "name"),
        (admin_checks.remove, pb.RemoveLexiconEntryRequest(name="ads.csv:12"), "name"),
        (admin_checks.remove, pb.RemoveLexiconEntryRequest(name="lexiconEntries/"), "name"),
        (admin_checks.remove, pb.RemoveLexiconEntryRequest(name="lexiconEntries/" + "x" * 512), "name"),
        (admin_checks.list_audit, pb.ListLexiconAuditRequest(page_size=-1), "page_size"),
        (admin_checks.list_audit, pb.ListLexiconAuditRequest(page_token="x" * 257), "page_token"),
    ],
)
def test_a_bad_request_is_refused_by_field(check: Callable[[Any], None], request_: Any, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        check(request_)
    assert caught.value.field == field


REQUESTS: list[tuple[Any, Callable[[Any], None], Callable[[Any], Any]]] = [
    (pb.ListLexiconEntriesRequest, admin_checks.list_entries, admin_convert.query),
    (pb.AddLexiconEntryRequest, admin_checks.add, lambda request: admin_convert.new_entry(request.entry)),
    (pb.TestTextRequest, admin_checks.try_text, lambda request: admin_convert.direction(request.direction)),
]


@given(st.binary(max_size=200))
def test_whatever_passes_the_checks_can_be_converted(data: bytes) -> None:
    for kind, check, convert in REQUESTS:
        try:
            request = kind.FromString(data)
            check(request)
        except (DecodeError, InvalidField):
            continue
        convert(request)
