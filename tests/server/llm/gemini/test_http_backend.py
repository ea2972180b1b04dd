"""Gemini over sockets that say exact bytes; the vendor's own messages read what is asked, and what is answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from google.protobuf import json_format

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass, Image, Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.gemini.chunks import ReplyReader
from server.llm.gemini.http_backend import GeminiHttpProvider
from server.settings import ModelSettings
from tests.server.llm import recording
from tests.server.llm.gemini_vendor import vendor
from tests.server.llm.gemini_words import WHOLE, counted, finish, piece, sse
from tests.server.llm.reading import ASKED, Taken, read_pieces, take, take_with
from tests.server.llm.upstream import CHUNKED_HEAD, HEAD, Request, chunked, hangs, says, serve

STOP = FinishReason.STOP
KEY = "AIza-very-secret-0123456789"
SERVED = HEAD + WHOLE


@asynccontextmanager
async def provider_for(url: str, **more: Any) -> AsyncIterator[GeminiHttpProvider]:
    settings = ModelSettings(protocol="gemini", base_url=url, **more)
    provider = build_backends({"m": settings})["m"]
    assert isinstance(provider, GeminiHttpProvider)
    try:
        yield provider
    finally:
        await provider.aclose()


async def failing(provider: GeminiHttpProvider, prompt: Prompt = ASKED) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async with aclosing(provider.generate(prompt, Budget(20), KEY)) as chunks:
            async for _ in chunks:
                pass
    return caught.value


def refusal(status: int, error: dict[str, object], headers: str = "") -> bytes:
    # Gemini wraps errors of a streamed call in a list.
    body = json.dumps([{"error": error}]).encode()
    head = f"HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


async def test_a_reply() -> None:
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url) as provider:
        taken, chunks = await take(provider)
    assert taken == Taken("你好", "", STOP, Usage(5, 7))
    assert chunks[0].model == chunks[-1].model == "m"


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "models/gemini-2.5-flash"])
async def test_how_it_is_asked(model: str) -> None:
    prompt = Prompt(
        "m",
        (Message(Role.SYSTEM, "简洁"), Message(Role.USER, "看", (Image("image/png", b"\x89PNG"),))),
        temperature=0.3,
        max_output_tokens=100,
        request_id="msg 1",
    )
    async with serve(says(SERVED)) as upstream:
        async with provider_for(upstream.url, model=model, thinking="off") as provider:
            await take_with(KEY, provider, prompt)
        request = upstream.requests[0]
    assert request.head.startswith("POST /v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse HTTP/1.1\r\n")
    assert request.header("x-goog-api-key") == KEY
    assert request.header("authorization") is None
    assert request.header("x-client-request-id") == "msg%201"
    body = json.loads(request.body)
    # The vendor's own message refuses fields that it does not know.
    json_format.ParseDict(body, vendor.GenerateContentRequest.pb()())
    assert body["generationConfig"] == {
        "temperature": 0.3,
        "maxOutputTokens": 100,
        "thinkingConfig": {"thinkingBudget": 0},
    }


async def test_extra_fields_are_laid_over_table_by_table() -> None:
    extra = {"generationConfig": {"topP": 0.5}, "safetySettings": []}
    prompt = Prompt("m", ASKED.messages, temperature=9.0)
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url, extra_body=extra) as provider:
        await take(provider, prompt=prompt)
        body = json.loads(upstream.requests[0].body)
    assert body["generationConfig"] == {"temperature": 2.0, "topP": 0.5}
    assert (body["safetySettings"], body["contents"][0]["parts"]) == ([], [{"text": "你好"}])


async def test_the_address_may_leave_out_the_version_and_have_a_query() -> None:
    async with serve(says(SERVED)) as upstream:
        root = upstream.url.removesuffix("/v1") + "/proxy?tenant=a"
        async with provider_for(root, model="tunedModels/mine#1") as provider:
            await take(provider)
        line = upstream.requests[0].head.split("\r\n")[0]
    assert line == "POST /proxy/v1beta/tunedModels/mine%231:streamGenerateContent?tenant=a&alt=sse HTTP/1.1"


async def test_pictures_go_only_where_they_are_taken() -> None:
    prompt = Prompt("m", (Message(Role.USER, "看", (Image("image/png", b"\x89PNG"),)),))
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url, pictures="none") as provider:
        error = await failing(provider, prompt)
        assert (error.kind, error.code, error.model) == (ErrorClass.BAD_REQUEST, "media", "m")
        assert not upstream.requests


@pytest.mark.parametrize("name", ["aimock_gemini_stream", "aimock_gemini_tool_stream", "llmock_gemini_truncate"])
async def test_recordings_over_a_socket(name: str) -> None:
    recorded = recording.load(name)
    expected = read_pieces([recorded.body], ReplyReader("m"))
    places = list(range(0, 14, 2))

    async def replay(request: Request) -> None:
        split = len(recorded.raw) * places.pop() // 14
        await request.say(recorded.raw[:split])
        # Lets the first part arrive as a part of its own; correctness does not hang on it.
        await asyncio.sleep(0.002)
        await request.say(recorded.raw[split:])

    async with serve(replay) as upstream:
        for _ in range(len(places)):
            async with provider_for(upstream.url) as provider:
                assert (await take(provider))[0] == expected


@pytest.mark.parametrize("cut", range(1, len(WHOLE), 17))
async def test_a_body_that_is_cut_is_not_complete(cut: int) -> None:
    async def cuts(request: Request) -> None:
        await request.say(CHUNKED_HEAD + chunked(WHOLE[:cut]))

    async with serve(cuts) as upstream, provider_for(upstream.url) as provider:
        taken, _ = await take(provider)
    # The last object ends four bytes before the stream does.
    assert taken.complete is (cut >= len(WHOLE) - 4)
    assert taken.error is (None if taken.complete else ErrorClass.INCOMPLETE)


def exhausted(quota: str, delay: str = "7s") -> dict[str, object]:
    violation = {"quotaMetric": "x", "quotaId": quota}
    return {
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "message": "You exceeded your current quota",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
        ],
    }


MINUTE, DAY = exhausted("GenerateRequestsPerMinutePerProject"), exhausted("GenerateRequestsPerDayPerProject")


@pytest.mark.parametrize(
    ("answer", "kind", "hint"),
    [
        (refusal(429, MINUTE), ErrorClass.RATE_LIMIT, 7.0),
        (refusal(429, DAY), ErrorClass.QUOTA, 7.0),
        (HEAD + sse({"error": MINUTE}), ErrorClass.RATE_LIMIT, 7.0),
        (HEAD + sse({"error": DAY}), ErrorClass.QUOTA, 7.0),
        (refusal(400, {"code": 400, "status": "INVALID_ARGUMENT", "message": "bad"}), ErrorClass.BAD_REQUEST, None),
        (
            refusal(
                400,
                {
                    "code": 400,
                    "status": "INVALID_ARGUMENT",
                    "message": "API key not valid. Please pass a valid API key.",
                    "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
                },
            ),
            ErrorClass.AUTH,
            None,
        ),
        (
            refusal(
                400,
                {
                    "code": 400,
                    "status": "FAILED_PRECONDITION",
                    "message": "User location is not supported for the API use.",
                },
            ),
            ErrorClass.AUTH,
            None,
        ),
        (
            refusal(
                400,
                {
                    "code": 400,
                    "status": "INVALID_ARGUMENT",
                    "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).",
                },
            ),
            ErrorClass.CONTEXT,
            None,
        ),
        (refusal(403, {"code": 403, "status": "PERMISSION_DENIED", "message": KEY}), ErrorClass.AUTH, None),
        (refusal(404, {"code": 404, "status": "NOT_FOUND", "message": "models/x"}), ErrorClass.NOT_FOUND, None),
        (refusal(503, {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}), ErrorClass.TRANSIENT, None),
        (refusal(504, {"code": 504, "status": "DEADLINE_EXCEEDED", "message": "x"}), ErrorClass.TRANSIENT, None),
        (HEAD + sse({"promptFeedback": {"blockReason": "SAFETY"}}), ErrorClass.CONTENT, None),
    ],
)
async def test_refusals(answer: bytes, kind: ErrorClass, hint: float | None) -> None:
    async with serve(says(answer)) as upstream, provider_for(upstream.url) as provider:
        error = await failing(provider)
    assert (error.kind, error.retry_after, error.model) == (kind, hint, "m")
    assert KEY not in repr(error) + str(error) + error.detail


async def test_silence_after_thoughts() -> None:
    async def thinks(request: Request) -> None:
        await request.say(HEAD + sse({"candidates": [{"content": {"parts": [{"text": "想", "thought": True}]}}]}))
        await hangs(request)

    async with serve(thinks) as upstream, provider_for(upstream.url, idle_seconds=0.1) as provider:
        taken, _ = await take(provider)
    assert (taken.reasoning, taken.error) == ("想", ErrorClass.TIMEOUT)


async def test_leaving_closes_the_connection() -> None:
    async def drips(request: Request) -> None:
        await request.say(HEAD + sse(piece("好")))
        await hangs(request)

    async with serve(drips) as upstream, provider_for(upstream.url) as provider:
        async with aclosing(provider.generate(ASKED, Budget(20))) as chunks:
            async for _ in chunks:
                break
        await asyncio.wait_for(upstream.requests[0].closed_by_client.wait(), 5)


async def test_a_connection_is_used_again() -> None:
    async def answer(request: Request) -> None:
        await request.say(CHUNKED_HEAD + chunked(WHOLE) + b"0\r\n\r\n")

    async with serve(answer, keep_alive=True) as upstream, provider_for(upstream.url) as provider:
        for _ in range(3):
            assert (await take(provider))[0].complete
        assert (len(upstream.requests), upstream.connections) == (3, 1)


async def test_the_vendors_messages_read_the_same_in_what_is_answered() -> None:
    last = finish("MAX_TOKENS", "好") | counted(
        promptTokenCount=10, candidatesTokenCount=3, thoughtsTokenCount=8, cachedContentTokenCount=6
    )
    responses = [piece("你"), last]
    theirs = [
        vendor.GenerateContentResponse(json_format.ParseDict(one, vendor.GenerateContentResponse.pb()()))
        for one in responses
    ]
    async with serve(says(HEAD + sse(*responses))) as upstream, provider_for(upstream.url) as provider:
        taken, _ = await take(provider)
    assert taken.text == "".join(one.candidates[0].content.parts[0].text for one in theirs)
    assert theirs[-1].candidates[0].finish_reason.name == "MAX_TOKENS"
    assert taken.finish is FinishReason.LENGTH
    counts = theirs[-1].usage_metadata
    assert taken.usage == Usage(
        counts.prompt_token_count,
        counts.candidates_token_count + counts.thoughts_token_count,
        cached_input_token_count=counts.cached_content_token_count,
    )
