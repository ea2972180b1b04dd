"""Recordings over HTTP: a server that listens, one that does not, and one that is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from openai import AsyncOpenAI

from program.secret import Secret
from server.budget import Budget
from server.llm.transcription import HttpTranscriber
from server.settings import SpeechSettings

KEY = "sk-speech-0123456789"


class Ears:
    """A server with an OpenAI-style ``/audio/transcriptions``."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: Callable[[], Awaitable[web.StreamResponse]] = self.hears
        self.forms: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    async def hears(self) -> web.StreamResponse:
        return web.json_response({"text": " 下周三开会 "})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("Authorization"))
        form: dict[str, Any] = {}
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                with value.file as file:
                    form[name] = (value.filename, value.content_type, file.read())
            else:
                form[name] = value
        self.forms.append(form)
        return await self.answer()


@asynccontextmanager
async def ears() -> AsyncIterator[Ears]:
    found = Ears()
    app = web.Application()
    app.router.add_post("/v1/audio/transcriptions", found.handle)
    server = TestServer(app)
    await server.start_server()
    found.url = str(server.make_url("/v1"))
    try:
        yield found
    finally:
        await server.close()


@asynccontextmanager
async def transcriber(url: str, **more: Any) -> AsyncIterator[HttpTranscriber]:
    found = HttpTranscriber(SpeechSettings(base_url=url, **more))
    try:
        yield found
    finally:
        await found.aclose()


async def test_the_server_hears_the_same_of_us_as_of_the_vendors_own_client() -> None:
    async with ears() as server:
        async with AsyncOpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
            theirs = await client.audio.transcriptions.create(
                file=("recording.wav", b"RIFFdata", "audio/wav"),
                model="whisper-1",
                language="zh",
                response_format="json",
            )
        async with transcriber(server.url, api_key=Secret(KEY)) as ours:
            said = await ours.transcribe(b"RIFFdata", "wav", Budget(10))
    assert theirs.text.strip() == said == "下周三开会"
    assert server.forms[0] == server.forms[1]
    assert server.keys == [f"Bearer {KEY}"] * 2


async def test_what_is_not_set_is_not_sent() -> None:
    async with ears() as server, transcriber(server.url, language="", model="sense") as ours:
        await ours.transcribe(b"#!AMR\n", "amr", Budget(10))
    assert server.forms == [
        {"file": ("recording.amr", "audio/amr", b"#!AMR\n"), "model": "sense", "response_format": "json"}
    ]
    assert server.keys == [None]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"oops"),
        (401, b'{"error": {"message": "wrong key sk-speech-0123456789"}}'),
        (413, b""),
        (302, b""),
        (200, b"no JSON"),
        (200, b'{"words": []}'),
        (200, b'{"text": null}'),
        (200, b'{"text": "' + b"a" * (1 << 20) + b'"}'),
    ],
)
async def test_what_is_no_transcript_is_none_and_leaks_no_key(
    status: int, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer() -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"Location": "/v1/elsewhere"})

    async with ears() as server, transcriber(server.url, api_key=Secret(KEY)) as ours:
        server.answer = answer
        assert await ours.transcribe(b"RIFF", "wav", Budget(10)) is None
    assert "transcription_failed" in (lines := capsys.readouterr().out)
    assert KEY not in lines


async def test_silence_is_an_empty_text() -> None:
    async def answer() -> web.StreamResponse:
        return web.json_response({"text": ""})

    async with ears() as server, transcriber(server.url) as ours:
        server.answer = answer
        assert await ours.transcribe(b"RIFF", "wav", Budget(10)) == ""


async def test_nobody_waits_longer_than_the_budget() -> None:
    async def answer() -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with ears() as server, transcriber(server.url) as ours:
        server.answer = answer
        assert await ours.transcribe(b"RIFF", "wav", Budget(0.05)) is None


async def test_a_server_that_is_away() -> None:
    async with transcriber("http://127.0.0.1:9") as ours:
        assert await ours.transcribe(b"RIFF", "wav", Budget(10)) is None


@pytest.mark.parametrize(
    ("url", "more", "words"),
    [
        ("nowhere", {}, "must begin with http"),
        ("http://speech.example.com/v1", {}, "plain text"),
        ("https://api.example.com/v1/audio/transcriptions", {}, "must end before"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(url: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r"^base_url: ") as refused:
        HttpTranscriber(SpeechSettings(base_url=url, **more))
    assert words in str(refused.value)
