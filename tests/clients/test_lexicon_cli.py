"""``python -m weconverse lexicon`` as an administrator uses it: in a process of its own."""

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.clients.raw import Handler, serving
from tests.clients.test_cli import run
from weconverse import LexiconEntry
from weconverse.v1 import admin_pb2 as pb

ENTRY = LexiconEntry(
    name="lexiconEntries/ads.csv:12", word="加\t微信", tag="ads", action=LexiconEntry.BLOCK, origin=LexiconEntry.LIST
)
SHOWN = "ads.csv:12\t加 微信\tads\tblock\tlist\n"


def answering(answer: Any, requests: list[Any]) -> Handler:
    async def handle(request: Any, context: Any) -> Any:
        requests.append((request, dict(context.invocation_metadata()).get("authorization")))
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "no")
        return answer

    return handle


async def test_list_prints_a_line_for_each_entry() -> None:
    requests: list[Any] = []
    allowed = LexiconEntry(name="lexiconEntries/allowed:1f", word="防刷单", allowed=True, origin=LexiconEntry.ADDED)
    plain = LexiconEntry(name="lexiconEntries/x.txt:1", word="刷单\x1b[2J", tag="x", origin=9)  # type: ignore[arg-type]  # a value to come
    answer = pb.ListLexiconEntriesResponse(entries=[ENTRY, allowed, plain])
    async with serving(ListLexiconEntries=answering(answer, requests)) as target:
        arguments = ("lexicon", "list", "--tag", "ads", "--prefix", "加", "--origin", "withdrawn", "--target", target)
        code, out, err = await run(*arguments, WECONVERSE_TOKEN="geheim")
    assert (code, err) == (0, "")
    assert out == SHOWN + "allowed:1f\t防刷单\t\tallowed\tadded\nx.txt:1\t刷单[2J\tx\t-\t9\n"
    assert requests == [
        (pb.ListLexiconEntriesRequest(tag="ads", prefix="加", origin=LexiconEntry.WITHDRAWN), "Bearer geheim")
    ]


async def test_test_says_what_would_become_of_a_text() -> None:
    requests: list[Any] = []
    occurrence = pb.TestTextResponse.Occurrence
    found = {"entry": ENTRY.name, "word": "加微信", "tag": "ads", "start": 1, "end": 4}
    answer = pb.TestTextResponse(
        folded_text="请加微信",
        occurrences=[
            occurrence(**found, verdict=occurrence.MEANT, action=LexiconEntry.MASK),  # type: ignore[arg-type]  # as above
            occurrence(**found, verdict=occurrence.NOT_A_WORD),  # type: ignore[arg-type]  # as above
        ],
        action=LexiconEntry.MASK,
        shown_text="请＊＊＊",
    )
    async with serving(TestText=answering(answer, requests)) as target:
        code, out, _ = await run("lexicon", "test", "-", "--target", target, stdin="请加微信".encode())
        await run("lexicon", "test", "好", "--direction", "output", "--assistant", "sales", "--target", target)
    assert code == 0
    assert out.splitlines() == [
        "folded\t请加微信",
        "meant\t1-4\t加微信\tads\tmask\tads.csv:12",
        "not_a_word\t1-4\t加微信\tads\t-\tads.csv:12",
        "action\tmask",
        "shown\t请＊＊＊",
    ]
    assert [request for request, _ in requests] == [
        pb.TestTextRequest(text="请加微信", direction=LexiconEntry.INPUT),
        pb.TestTextRequest(text="好", direction=LexiconEntry.OUTPUT, assistant="assistants/sales"),
    ]


async def test_add_and_remove_print_what_there_is_now() -> None:
    requests: list[Any] = []
    handlers: dict[str, Any] = {
        "AddLexiconEntry": answering(ENTRY, requests),
        "RemoveLexiconEntry": answering(pb.RemoveLexiconEntryResponse(withdrawal=ENTRY), requests),
    }
    async with serving(**handlers) as target:
        everything = (
            *("--tag", "ads", "--level", "3", "--boundary", "word", "--direction", "output"),
            *("--action", "replace", "--replacement", "〇", "--allow"),
        )
        assert await run("lexicon", "add", "加微信", *everything, "--target", target) == (0, SHOWN, "")
        assert await run("lexicon", "add", "加微信", "--target", target) == (0, SHOWN, "")
        assert await run("lexicon", "remove", "ads.csv:12", "--target", target) == (0, SHOWN, "")
    assert [request for request, _ in requests] == [
        pb.AddLexiconEntryRequest(
            entry=LexiconEntry(
                word="加微信",
                tag="ads",
                level=3,
                boundary=LexiconEntry.OWN_WORD,
                direction=LexiconEntry.OUTPUT,
                action=LexiconEntry.REPLACE,
                replacement="〇",
                allowed=True,
            )
        ),
        pb.AddLexiconEntryRequest(entry=LexiconEntry(word="加微信")),
        pb.RemoveLexiconEntryRequest(name="lexiconEntries/ads.csv:12"),
    ]


async def test_a_removal_without_a_withdrawal_prints_nothing() -> None:
    async with serving(RemoveLexiconEntry=answering(pb.RemoveLexiconEntryResponse(), [])) as target:
        assert await run("lexicon", "remove", "added:1f", "--target", target) == (0, "", "")


async def test_reload_and_audit() -> None:
    reloaded = pb.ReloadLexiconResponse(entry_count=7)
    reloaded.elapsed.FromMilliseconds(1500)
    time = Timestamp(seconds=1_700_000_000)
    changes = [
        pb.LexiconChange(sequence=3, time=time, admin="王", kind=pb.LexiconChange.REMOVED, before=ENTRY),
        pb.LexiconChange(sequence=2, time=time, admin="王", kind=pb.LexiconChange.RELOADED),
        pb.LexiconChange(sequence=1, time=time, admin="王", kind=pb.LexiconChange.ADDED, after=ENTRY),
    ]
    requests: list[Any] = []
    handlers: dict[str, Any] = {
        "ReloadLexicon": answering(reloaded, []),
        "ListLexiconAudit": answering(pb.ListLexiconAuditResponse(changes=changes), requests),
    }
    async with serving(**handlers) as target:
        assert await run("lexicon", "reload", "--target", target) == (
            0,
            "7 entries are in force, after 1.500 s\n",
            "",
        )
        code, out, _ = await run("lexicon", "audit", "--last", "2", "--target", target)
    assert code == 0
    assert out.splitlines() == [
        "3\t2023-11-14T22:13:20+00:00\t王\tremoved\tads.csv:12\t加 微信",
        "2\t2023-11-14T22:13:20+00:00\t王\treloaded\t-\t-",
    ]
    assert requests[0][0] == pb.ListLexiconAuditRequest(page_size=2)


async def test_a_no_is_one_line_and_a_code() -> None:
    async with serving(ReloadLexicon=answering(grpc.StatusCode.PERMISSION_DENIED, [])) as target:
        assert await run("lexicon", "reload", "--target", target) == (1, "", "weconverse: PERMISSION_DENIED: no\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("lexicon",),
        ("lexicon", "add"),
        ("lexicon", "remove", "lexiconEntries/"),
        ("lexicon", "add", "词", "--action", "destroy"),
        ("lexicon", "reload", "--token", "geheim", "--target", "example.com:1"),
        ("lexicon", "test", "好", "--assistant", "a/b"),
    ],
)
async def test_a_command_that_cannot_be_meant_is_refused(arguments: tuple[str, ...]) -> None:
    code, out, err = await run(*arguments)
    assert (code, out) == (2, "")
    assert "error: " in err
