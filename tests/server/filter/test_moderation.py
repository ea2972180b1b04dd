"""The second opinion against a real server on a port of its own: every way in which it may answer, or fail to."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from program.secret import Secret
from server.budget import Budget
from server.filter.entries import Action, Direction
from server.filter.moderation import MAX_ANSWER_BYTES, UNAVAILABLE_TAG, HttpModeration, Opinion, check_moderation
from server.settings import ModerationSettings

TEXT = "今天天气不错"
BLOCKED = Opinion(Action.BLOCK, UNAVAILABLE_TAG)


class Observer:
    def __init__(self) -> None:
        self.outcomes: list[tuple[Direction, str]] = []

    def moderated(self, direction: Direction, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.outcomes.append((direction, outcome))


class Request:
    def __init__(self, head: str, body: bytes) -> None:
        self.line, *lines = head.split("\r\n")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = json.loads(body)


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


class Hook:
    """A server of sockets, so that it can answer in ways that no HTTP library allows."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.url = ""

    def settings(self, **more: Any) -> ModerationSettings:
        return ModerationSettings(**{"url": self.url, "budget_seconds": 10.0, **more})


@asynccontextmanager
async def hook(answer: Answer) -> AsyncIterator[Hook]:
    served = Hook()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        tasks.add(asyncio.create_task(serve(reader, writer)))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.closing(writer),
            contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError),
        ):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode()
                length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
                request = Request(head, await reader.readexactly(length))
                served.requests.append(request)
                await answer(request, writer)
                if writer.is_closing():
                    break
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/check"
    async with server:
        try:
            yield served
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(body: bytes | dict[str, Any], status: str = "200 OK", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(data, status, **headers))
        await writer.drain()

    return answer


async def ask(
    settings: ModerationSettings, observer: Observer | None = None, direction: Direction = Direction.INPUT
) -> Opinion:
    async with HttpModeration(settings, observer) as moderation:
        return await moderation.opinion(TEXT, direction, "sales", Budget(30))


async def test_a_text_that_is_allowed_passes() -> None:
    observer = Observer()
    async with hook(says({"allow": True})) as served:
        assert await ask(served.settings(api_key=Secret("geheim")), observer, Direction.OUTPUT) == Opinion()
    [request] = served.requests
    assert request.line == "POST /check HTTP/1.1"
    assert request.body == {"direction": "output", "assistant": "sales", "text": TEXT}
    assert request.headers["authorization"] == "Bearer geheim"
    assert request.headers["content-type"] == "application/json"
    assert observer.outcomes == [(Direction.OUTPUT, "allowed")]


@pytest.mark.parametrize(
    ("answer", "opinion"),
    [
        ({"allow": False}, Opinion(Action.BLOCK, "moderation")),
        ({"allow": False, "tag": "ads", "action": "hand_over"}, Opinion(Action.HAND_OVER, "ads")),
        ({"allow": False, "tag": None, "action": "flag", "score": 0.3}, Opinion(Action.FLAG, "moderation")),
        ({"allow": False, "tag": "a\nb" + "x" * 99}, Opinion(Action.BLOCK, "ab" + "x" * 61)),
        ({"allow": True, "tag": "ads", "action": "block"}, Opinion()),
    ],
)
async def test_a_refusal_has_an_action_and_a_tag(answer: dict[str, Any], opinion: Opinion) -> None:
    observer = Observer()
    async with hook(says(answer)) as served:
        # A failure would be allowed here, so that it cannot be taken for a refusal.
        assert await ask(served.settings(when_unavailable="allow"), observer) == opinion
    assert observer.outcomes == [(Direction.INPUT, "allowed" if answer["allow"] else "refused")]


BAD = [
    (says({"allow": True}, "500 Oops"), "status"),
    (says({"allow": True}, "201 Created"), "status"),
    (says(b"", "302 Found", Location="/elsewhere"), "status"),
    (says(b""), "garbage"),
    (says(b"<html>"), "garbage"),
    (says(b"\xff\xfe"), "garbage"),
    (says(b"{}"), "garbage"),
    (says({"allow": "yes"}), "garbage"),
    (says({"allow": 1}), "garbage"),
    (says({"allow": False, "action": "mask"}), "garbage"),
    (says(b'{"allow": true}' + b" " * MAX_ANSWER_BYTES), "garbage"),
    (says(b"[" * MAX_ANSWER_BYTES), "garbage"),
    (says({"allow": True}, **{"Content-Encoding": "gzip"}), None),
]


@pytest.mark.parametrize("unavailable", ["allow", "block"])
@pytest.mark.parametrize(("answer", "reason"), BAD)
async def test_an_answer_that_is_none_is_what_the_operator_said(
    answer: Answer, reason: str | None, unavailable: str
) -> None:
    observer = Observer()
    async with hook(answer) as served:
        with structlog.testing.capture_logs() as log:
            opinion = await ask(served.settings(when_unavailable=unavailable), observer)
    assert len(served.requests) == 1  # no redirect was followed, nothing was repeated
    if reason is None:  # the body is read as it is, whatever it says of its packing
        assert opinion == Opinion()
        return
    assert opinion == (BLOCKED if unavailable == "block" else Opinion())
    assert observer.outcomes == [(Direction.INPUT, reason)]
    assert [line["reason"] for line in log if line["event"] == "moderation_failed"] == [reason]
    assert TEXT not in str(log)


async def test_an_answer_without_end_is_left() -> None:
    async def flood(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
                await writer.drain()

    async with hook(flood) as served:
        assert await ask(served.settings()) == BLOCKED


GOOD = response(b'{"allow": true}')


@pytest.mark.parametrize("cut", range(len(GOOD)))
async def test_an_answer_that_is_cut_is_none(cut: int) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(GOOD[:cut])
        await writer.drain()
        writer.close()

    observer = Observer()
    async with hook(answer) as served:
        assert await ask(served.settings(), observer) == BLOCKED
    assert len(served.requests) <= 2
    assert observer.outcomes[0][1] in ("unreachable", "garbage")


async def test_an_answer_may_come_in_pieces() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        for byte in GOOD:
            writer.write(bytes([byte]))
            await writer.drain()

    async with hook(answer) as served:
        assert await ask(served.settings()) == Opinion()


@pytest.mark.parametrize("first", [b"", GOOD[:30]])
async def test_a_slow_answer_is_not_waited_for(first: bytes) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await writer.drain()
        await asyncio.Event().wait()

    observer = Observer()
    async with hook(answer) as served, asyncio.timeout(20):
        assert await ask(served.settings(budget_seconds=0.05), observer) == BLOCKED
    assert observer.outcomes == [(Direction.INPUT, "slow")]


async def test_the_budget_of_the_turn_counts_too() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with (
        asyncio.timeout(20),
        hook(answer) as served,
        HttpModeration(served.settings(budget_seconds=30.0)) as moderation,
    ):
        assert await moderation.opinion(TEXT, Direction.INPUT, "default", Budget(0.05)) == BLOCKED
        assert await moderation.opinion(TEXT, Direction.INPUT, "default", Budget(0)) == BLOCKED


async def test_nobody_there() -> None:
    async with hook(says({"allow": True})) as served:
        pass
    observer = Observer()
    assert await ask(served.settings(), observer) == BLOCKED
    assert observer.outcomes == [(Direction.INPUT, "unreachable")]


async def test_a_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    closed = asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.body["text"] == "第二" and not closed.is_set():
            closed.set()
            writer.close()
            return
        writer.write(GOOD)
        await writer.drain()

    async with hook(answer) as served, HttpModeration(served.settings()) as moderation:
        for text in ("第一", "第二"):
            assert await moderation.opinion(text, Direction.INPUT, "default", Budget(10)) == Opinion()
    assert closed.is_set()
    assert [request.body["text"] for request in served.requests] == ["第一", "第二", "第二"]
    assert served.connections == 2


async def test_only_so_many_questions_run_and_a_place_is_free_after_each() -> None:
    go_on, running, most = asyncio.Event(), 0, 0
    full = asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            full.set()
        await go_on.wait()
        running -= 1
        writer.write(GOOD)
        await writer.drain()

    observer = Observer()
    async with hook(answer) as served, HttpModeration(served.settings(max_calls=2), observer) as moderation:
        tasks = [
            asyncio.create_task(moderation.opinion(TEXT, Direction.INPUT, "default", Budget(30))) for _ in range(6)
        ]
        await full.wait()
        late = await moderation.opinion(TEXT, Direction.INPUT, "default", Budget(0.02))
        assert late == BLOCKED
        assert observer.outcomes == [(Direction.INPUT, "busy")]
        tasks[0].cancel()  # whoever leaves gives its place back
        go_on.set()
        assert await asyncio.gather(*tasks[1:]) == [Opinion()] * 5
    assert most == 2


async def test_half_a_character_can_be_asked_about() -> None:
    async with hook(says({"allow": True})) as served, HttpModeration(served.settings()) as moderation:
        assert await moderation.opinion("好\ud83d", Direction.OUTPUT, "default", Budget(10)) == Opinion()
    assert served.requests[0].body["text"] == "好?"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (ModerationSettings(url="http://moderation.internal/check"), "moderation.url"),
        (ModerationSettings(url="http://10.0.0.8:8080/check"), "moderation.url"),
        (ModerationSettings(url="ftp://example.com/"), "moderation.url"),
        (ModerationSettings(url="example.com/check"), "moderation.url"),
        (ModerationSettings(url="https://"), "moderation.url"),
        (ModerationSettings(url="https://example.com:port/"), "moderation.url"),
        (ModerationSettings(url="https://user:secret@example.com/"), "moderation.url"),
        (ModerationSettings(url="https://example.com/", api_key=Secret("a\nb")), "moderation.api_key"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(settings: ModerationSettings, field: str) -> None:
    for use in (HttpModeration, lambda settings: check_moderation(settings, ())):
        with pytest.raises(ValueError, match=r"; |must be") as caught:
            use(settings)
        assert str(caught.value).startswith(f"{field}: ")
    assert "secret" not in str(caught.value).replace("the secret", "")


@pytest.mark.parametrize(
    "settings",
    [
        ModerationSettings(url="https://moderation.internal/check"),
        ModerationSettings(url="http://[::1]:8080/check"),
        ModerationSettings(url="http://localhost/check"),
        ModerationSettings(url="http://moderation.internal/check", plain_http=True),
    ],
)
def test_what_can_be_used_is_taken(settings: ModerationSettings) -> None:
    HttpModeration(settings)
    check_moderation(settings, ())


def test_an_assistant_that_does_not_exist_is_no_reason_to_ask_nobody() -> None:
    settings = ModerationSettings(url="https://example.com/", assistants=("default", "salse"))
    with pytest.raises(ValueError, match=r"^moderation.assistants: .*'salse'"):
        check_moderation(settings, {"default", "sales"})
    check_moderation(settings, {"default", "salse"})
    check_moderation(ModerationSettings(assistants=("nobody",)), ())  # nobody is asked at all
