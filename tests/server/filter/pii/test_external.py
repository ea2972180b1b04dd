"""The external recogniser against a real server on a port of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from program.secret import Secret
from server.budget import Budget
from server.filter.pii.external import MAX_ANSWER_BYTES, HttpRecogniser, RecogniserFailed
from server.filter.pii.guard import PiiGuard
from server.filter.pii.kinds import Finding, PiiKind
from server.settings import PiiRecogniserSettings, PiiSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_post("/find", handler)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/find"
    finally:
        await runner.cleanup()


def answering(body: object, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, headers={"Location": "/find"} if status == 302 else {})

    return handler


async def reason_of(handler: Handler, **more: object) -> str:
    async with serving(handler) as url:
        settings = PiiRecogniserSettings(url=url, **more)  # type: ignore[arg-type] # whatever the test sets
        async with HttpRecogniser(settings) as recogniser:
            with pytest.raises(RecogniserFailed) as failed:
                await recogniser.find("王小明来了", Budget(10))
            return failed.value.reason


async def test_what_it_finds() -> None:
    asked: list[tuple[str, object]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append((request.headers.get("Authorization", ""), await request.json()))
        spans = [
            {"kind": "NAME", "start": 1, "end": 4, "confidence": 0.9},
            {"kind": "ORGANISATION", "start": 4, "end": 5},
            {"kind": "name", "start": 0, "end": 1, "confidence": 0.1},
        ]
        return web.json_response({"spans": spans, "model": "x"})

    async with (
        serving(handler) as url,
        HttpRecogniser(PiiRecogniserSettings(url=url, api_key=Secret("k"))) as recogniser,
    ):
        found = await recogniser.find("😀王小明来\ud800", Budget(10))
    assert found == (Finding(PiiKind.NAME, 1, 4, 0.9), Finding(PiiKind.OTHER, 4, 5, 1.0))
    assert asked == [("Bearer k", {"text": "😀王小明来?"})]


async def test_together_with_a_guard() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        text = (await request.json())["text"]
        return web.json_response({"spans": [{"kind": "name", "start": text.index("王"), "end": text.index("王") + 3}]})

    async with serving(handler) as url:
        settings = PiiSettings(mode="placeholders", recogniser=PiiRecogniserSettings(url=url))
        async with HttpRecogniser(settings.recogniser) as recogniser:
            guarded = await PiiGuard(settings, recogniser).guard(["转告王小明13912345678"], Budget(10))
    assert guarded.texts == ("转告[姓名1][手机号1]",)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"spans": []}, 500, "status"),
        ({"spans": []}, 302, "status"),
        ("no JSON", 200, "garbage"),
        ({"found": []}, 200, "garbage"),
        ({"spans": [{"kind": "name", "start": 0, "end": 6}]}, 200, "garbage"),
        ({"spans": [{"kind": "name", "start": -1, "end": 2}]}, 200, "garbage"),
        ({"spans": [{"kind": "name", "start": 2, "end": 2}]}, 200, "garbage"),
        ("x" * (MAX_ANSWER_BYTES + 1), 200, "garbage"),
    ],
)
async def test_answers_that_cannot_be_used(body: object, status: int, reason: str) -> None:
    assert await reason_of(answering(body, status)) == reason


class Waiting:
    """A server that says nothing until it is told."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()

    async def answer(self, _: web.Request) -> web.StreamResponse:
        self.arrived.set()
        await self.released.wait()
        return web.json_response({"spans": []})


async def test_a_slow_one_costs_no_more_than_its_budget() -> None:
    waiting = Waiting()
    async with (
        serving(waiting.answer) as url,
        HttpRecogniser(PiiRecogniserSettings(url=url, budget_seconds=0.05)) as recogniser,
    ):
        with pytest.raises(RecogniserFailed, match="slow"):
            await recogniser.find("一", Budget(60))
        waiting.released.set()


async def test_waiting_for_a_free_place_counts() -> None:
    waiting = Waiting()
    async with (
        serving(waiting.answer) as url,
        HttpRecogniser(PiiRecogniserSettings(url=url, budget_seconds=30, max_calls=1)) as recogniser,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(recogniser.find("一", Budget(60)))
        await waiting.arrived.wait()
        with pytest.raises(RecogniserFailed, match="busy"):
            await recogniser.find("二", Budget(0.05))
        waiting.released.set()
        assert await first == ()


async def test_nobody_listens() -> None:
    async with serving(answering({"spans": []})) as url:
        pass
    async with HttpRecogniser(PiiRecogniserSettings(url=url)) as recogniser:
        with pytest.raises(RecogniserFailed, match="unreachable"):
            await recogniser.find("一", Budget(5))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (PiiRecogniserSettings(url="ftp://x/y"), "url: must be an http or https address"),
        (PiiRecogniserSettings(url="http://example.com/find"), "url: what people write would travel in plain text"),
        (PiiRecogniserSettings(url="https://u:p@example.com/find"), "url: holds a user or a password"),
        (PiiRecogniserSettings(url="https://example.com", api_key=Secret("钥")), "api_key: only visible ASCII"),
    ],
)
def test_settings_that_cannot_be_used_say_why(settings: PiiRecogniserSettings, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HttpRecogniser(settings)
