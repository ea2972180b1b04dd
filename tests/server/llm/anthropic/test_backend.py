"""The Messages API over sockets that say exact bytes, and the vendor's own client at the same ones."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anthropic
import pytest

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.anthropic.backend import AnthropicHttpProvider
from server.llm.anthropic.chunks import ReplyReader
from server.llm.base import ErrorClass, Image, Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.endpoint import endpoint_of
from server.settings import ModelSettings
from tests.server.llm import recording
from tests.server.llm.anthropic_words import END, START, WHOLE, delta, event, stop, thought
from tests.server.llm.reading import ASKED, Taken, read_pieces, take, take_with
from tests.server.llm.upstream import CHUNKED_HEAD, HEAD, Request, chunked, hangs, says, serve

STOP = FinishReason.STOP
KEY = "sk-ant-very-secret-0123456789"
SERVED = HEAD + WHOLE


@asynccontextmanager
async def provider_for(url: str, **more: Any) -> AsyncIterator[AnthropicHttpProvider]:
    settings = ModelSettings(protocol="anthropic_messages", base_url=url, **more)
    provider = build_backends({"m": settings})["m"]
    assert isinstance(provider, AnthropicHttpProvider)
    try:
        yield provider
    finally:
        await provider.aclose()


async def failing(provider: AnthropicHttpProvider, prompt: Prompt = ASKED) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async with aclosing(provider.generate(prompt, Budget(20), KEY)) as chunks:
            async for _ in chunks:
                pass
    return caught.value


def refusal(status: int, error: dict[str, object], headers: str = "") -> bytes:
    body = json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()
    head = f"HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


async def test_a_reply() -> None:
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url) as provider:
        taken, chunks = await take(provider)
    assert taken == Taken("你好", "", STOP, Usage(5, 7))
    assert [chunk.model for chunk in chunks] == ["m"]


async def test_how_it_is_asked() -> None:
    prompt = Prompt("m", ASKED.messages, temperature=1.5, max_output_tokens=9, request_id="msg 1", user="person-1")
    more = {"model": "claude", "extra_body": {"top_k": 5}, "extra_headers": {"Anthropic-Beta": "x"}}
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url, **more) as provider:
        await take_with(KEY, provider, prompt)
        request = upstream.requests[0]
    assert request.head.startswith("POST /v1/messages HTTP/1.1\r\n")
    assert request.header("x-api-key") == KEY
    assert request.header("authorization") is None
    assert request.header("anthropic-version") == "2023-06-01"
    assert request.header("anthropic-beta") == "x"
    assert request.header("content-type") == "application/json"
    assert request.header("x-client-request-id") == "msg%201"
    body = json.loads(request.body)
    # Out of range is put to the nearest that is taken.
    assert (body["temperature"], body["max_tokens"], body["top_k"]) == (1.0, 9, 5)
    assert body["metadata"] == {"user_id": "person-1"}


async def test_a_later_version_may_be_asked_for() -> None:
    more = {"extra_headers": {"Anthropic-Version": "2026-10-21"}}
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url, **more) as provider:
        await take(provider)
        head = upstream.requests[0].head.lower()
    assert head.count("anthropic-version") == 1
    assert "anthropic-version: 2026-10-21" in head


async def test_the_settings_reach_it_by_its_preset() -> None:
    settings = ModelSettings(preset="anthropic", model="claude-haiku-4-5", thinking="on", keys=())
    with pytest.raises(ValueError, match=r"models\.m\.api_key"):
        endpoint_of("m", settings)
    async with serve(says(SERVED)) as upstream:
        entry = ModelSettings(preset="anthropic", base_url=upstream.url, model="claude-haiku-4-5", thinking="on")
        provider = AnthropicHttpProvider(endpoint_of("m", entry))
        await take_with(KEY, provider, Prompt("m", ASKED.messages, temperature=0.2, max_output_tokens=100))
        await provider.aclose()
        body = json.loads(upstream.requests[0].body)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["max_tokens"] > 100
    assert "temperature" not in body


async def test_pictures_go_only_where_they_are_taken() -> None:
    prompt = Prompt("m", (Message(Role.USER, "看", (Image("image/png", uri="https://example.com/a.png"),)),))
    async with serve(says(SERVED)) as upstream:
        async with provider_for(upstream.url, pictures="inline") as provider:
            error = await failing(provider, prompt)
        assert (error.kind, error.code, error.model) == (ErrorClass.BAD_REQUEST, "media", "m")
        assert not upstream.requests
        async with provider_for(upstream.url, pictures="any") as provider:
            assert (await take(provider, prompt=prompt))[0].complete


# --- What a model bears ----------------------------------------------------

DEPRECATED = refusal(400, {"type": "invalid_request_error", "message": "`temperature` is deprecated for this model."})
WARM = Prompt("m", ASKED.messages, temperature=0.7)


async def test_a_model_that_bears_no_temperature_is_asked_without() -> None:
    async with serve(says(DEPRECATED), says(SERVED)) as upstream, provider_for(upstream.url) as provider:
        for _ in range(2):
            taken, _ = await take(provider, prompt=WARM)
            assert taken == Taken("你好", "", STOP, Usage(5, 7))
        sent = [json.loads(request.body) for request in upstream.requests]
    # It is told once.
    assert ["temperature" in body for body in sent] == [True, False, False]
    assert {**sent[1], "temperature": 0.7} == sent[0]


ADAPTIVE = refusal(
    400, {"type": "invalid_request_error", "message": "adaptive thinking is not supported on this model"}
)


async def test_a_model_that_does_not_decide_how_much_to_think_is_given_a_budget() -> None:
    async with serve(says(ADAPTIVE), says(SERVED)) as upstream, provider_for(upstream.url, thinking="on") as provider:
        for _ in range(2):
            taken, _ = await take(provider, prompt=WARM)
            assert taken.complete
        sent = [json.loads(request.body)["thinking"] for request in upstream.requests]
    assert [thinking["type"] for thinking in sent] == ["adaptive", "enabled", "enabled"]
    assert "budget_tokens" not in sent[0]
    assert sent[1]["budget_tokens"] >= 1024


async def test_it_is_asked_again_only_once_and_only_for_that() -> None:
    other = refusal(400, {"type": "invalid_request_error", "message": "max_tokens: too high"})
    async with serve(says(DEPRECATED)) as upstream, provider_for(upstream.url) as provider:
        assert (await failing(provider, WARM)).kind is ErrorClass.BAD_REQUEST
        assert len(upstream.requests) == 2
        assert (await failing(provider, WARM)).kind is ErrorClass.BAD_REQUEST
        assert len(upstream.requests) == 3
    async with serve(says(other)) as upstream, provider_for(upstream.url) as provider:
        assert (await failing(provider, WARM)).kind is ErrorClass.BAD_REQUEST
        assert len(upstream.requests) == 1
    async with serve(says(DEPRECATED)) as upstream, provider_for(upstream.url) as provider:
        assert (await failing(provider, ASKED)).kind is ErrorClass.BAD_REQUEST
        assert len(upstream.requests) == 1


# --- Recordings and refusals ----------------------------------------------------------------

RECORDED = [
    *("llmock_anthropic_stream", "aimock_anthropic_thinking_stream", "aimock_anthropic_tool_stream"),
    "vllm_anthropic_messages_stream",
]


@pytest.mark.parametrize("name", RECORDED)
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


@pytest.mark.parametrize("cut", range(len(START), len(WHOLE), 23))
async def test_a_body_that_is_cut_is_not_complete(cut: int) -> None:
    async def cuts(request: Request) -> None:
        await request.say(CHUNKED_HEAD + chunked(WHOLE[:cut]))

    ended = WHOLE.index(b'"output_tokens": 7') + len(b'"output_tokens": 7}}')
    async with serve(cuts) as upstream, provider_for(upstream.url) as provider:
        taken, _ = await take(provider)
    assert taken.complete is (cut >= ended)
    assert taken.error is (None if taken.complete else ErrorClass.INCOMPLETE)


@pytest.mark.parametrize(
    ("answer", "kind", "hint"),
    [
        (recording.load("llmock_anthropic_529").raw, ErrorClass.OVERLOADED, 1.0),
        (recording.load("aimock_anthropic_429").raw, ErrorClass.RATE_LIMIT, 1.0),
        (refusal(529, {"type": "overloaded_error", "message": "Overloaded"}), ErrorClass.OVERLOADED, None),
        (refusal(429, {"type": "rate_limit_error", "message": "x"}, "retry-after: 7\r\n"), ErrorClass.RATE_LIMIT, 7.0),
        (
            refusal(
                429,
                {"type": "rate_limit_error", "message": "x", "details": {"error_code": "enforced_spend_limit_reached"}},
            ),
            ErrorClass.QUOTA,
            None,
        ),
        (refusal(402, {"type": "billing_error", "message": "x"}), ErrorClass.QUOTA, None),
        (
            refusal(400, {"type": "invalid_request_error", "message": "Your credit balance is too low"}),
            ErrorClass.QUOTA,
            None,
        ),
        (
            refusal(400, {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000"}),
            ErrorClass.CONTEXT,
            None,
        ),
        (refusal(401, {"type": "authentication_error", "message": f"bad {KEY}"}), ErrorClass.AUTH, None),
        (refusal(403, {"type": "permission_error", "message": "x"}), ErrorClass.AUTH, None),
        (refusal(404, {"type": "not_found_error", "message": "model: x"}), ErrorClass.NOT_FOUND, None),
        (refusal(413, {"type": "request_too_large", "message": "x"}), ErrorClass.CONTEXT, None),
        (refusal(500, {"type": "api_error", "message": "x"}), ErrorClass.TRANSIENT, None),
        (HEAD + START + event("error", error={"type": "overloaded_error"}), ErrorClass.OVERLOADED, None),
    ],
)
async def test_refusals(answer: bytes, kind: ErrorClass, hint: float | None) -> None:
    async with serve(says(answer)) as upstream, provider_for(upstream.url) as provider:
        error = await failing(provider)
    assert (error.kind, error.retry_after, error.model) == (kind, hint, "m")
    assert KEY not in repr(error) + str(error) + error.detail


async def test_thoughts_are_a_first_sign_and_pings_are_none() -> None:
    async def thinks(request: Request) -> None:
        await request.say(HEAD + START + thought("想"))
        await hangs(request)

    async def pings(request: Request) -> None:
        await request.say(HEAD + START)
        while not request.closed_by_client.is_set():
            await request.say(event("ping"))
            await asyncio.sleep(0.02)

    async with serve(thinks, pings) as upstream:
        async with provider_for(upstream.url, first_token_seconds=30, idle_seconds=0.1) as provider:
            taken, _ = await take(provider)
            assert (taken.reasoning, taken.error) == ("想", ErrorClass.TIMEOUT)
        async with provider_for(upstream.url, first_token_seconds=0.1, idle_seconds=30) as provider:
            assert (await take(provider))[0].error is ErrorClass.TIMEOUT


async def test_leaving_closes_the_connection() -> None:
    async def drips(request: Request) -> None:
        await request.say(HEAD + START + delta("好"))
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


# --- The vendor's own client ------------------------------------------------------------------


async def test_the_vendors_client_asks_the_same_and_reads_the_same() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"}}
    asked = Prompt(
        "m",
        (
            Message(Role.SYSTEM, "简洁"),
            Message(Role.USER, "问"),
            Message(Role.ASSISTANT, "答"),
            Message(Role.USER, "看图", (Image("image/png", b"\x89PNG\r\n"),)),
        ),
        max_output_tokens=1500,
        user="person-1",
    )
    spoken = HEAD + START + thought("想") + delta("你好") + stop("max_tokens", output_tokens=9, input_tokens=6) + END
    async with serve(says(spoken)) as upstream:
        async with provider_for(upstream.url, model="claude-haiku-4-5", thinking="on") as provider:
            taken, _ = await take_with(KEY, provider, asked)
        ours = json.loads(upstream.requests[0].body)
        root = upstream.url.removesuffix("/v1")
        async with anthropic.AsyncAnthropic(api_key=KEY, base_url=root, max_retries=0) as client:
            events = await client.messages.create(
                model="claude-haiku-4-5",
                max_tokens=ours["max_tokens"],
                system="简洁",
                thinking={"type": "adaptive", "display": "summarized"},
                metadata={"user_id": "person-1"},
                messages=[
                    {"role": "user", "content": [{"type": "text", "text": "问"}]},
                    {"role": "assistant", "content": [{"type": "text", "text": "答"}]},
                    {"role": "user", "content": [picture, {"type": "text", "text": "看图"}]},  # type: ignore[list-item]
                ],
                stream=True,
            )
            theirs = [one async for one in events]
        request = upstream.requests[1]
    assert json.loads(request.body) == ours
    assert request.head.split("\r\n")[0] == upstream.requests[0].head.split("\r\n")[0]
    text = "".join(
        one.delta.text for one in theirs if one.type == "content_block_delta" and one.delta.type == "text_delta"
    )
    (end,) = (one for one in theirs if one.type == "message_delta")
    assert (taken.text, taken.reasoning, taken.finish) == (text, "想", FinishReason.LENGTH)
    assert end.delta.stop_reason == "max_tokens"
    assert taken.usage == Usage(end.usage.input_tokens or 0, end.usage.output_tokens)
