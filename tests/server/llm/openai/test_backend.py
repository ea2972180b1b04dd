"""The HTTP provider against sockets that say exact bytes at exact moments."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass, Message, Prompt, ProviderError, Role
from server.llm.endpoint import endpoint_of
from server.llm.openai.backend import OpenAiHttpProvider
from server.settings import ModelSettings
from tests.server.llm import recording
from tests.server.llm.reading import ASKED, Taken, read_pieces, take, take_with
from tests.server.llm.upstream import (
    CHUNKED_HEAD,
    DONE,
    HEAD,
    SERVED,
    Request,
    chunked,
    hangs,
    piece,
    says,
    serve,
)

STOP = FinishReason.STOP
KEY = "sk-very-secret-0123456789"


@asynccontextmanager
async def provider_for(url: str, **more: object) -> AsyncIterator[OpenAiHttpProvider]:
    settings = ModelSettings(base_url=url, **more)  # type: ignore[arg-type]
    provider = OpenAiHttpProvider(endpoint_of("m", settings))
    try:
        yield provider
    finally:
        await provider.aclose()


async def failing(provider: OpenAiHttpProvider, budget: Budget | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async with aclosing(provider.generate(ASKED, budget or Budget(20), KEY)) as chunks:
            async for _ in chunks:
                pass
    return caught.value


async def test_a_reply() -> None:
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url) as provider:
        taken, chunks = await take(provider)
    assert taken == Taken("你好", "", STOP, None)
    assert [chunk.model for chunk in chunks] == ["m"]


async def test_what_is_asked() -> None:
    prompt = Prompt(
        "m",
        (
            Message(Role.SYSTEM, "简洁"),
            Message(Role.USER, "问"),
            Message(Role.ASSISTANT, "答"),
            Message(Role.USER, "再问"),
        ),
        temperature=0.7,
        max_output_tokens=1500,
        request_id="msg 1\r\n会话/7",
        user="person-1",
    )  # fmt: skip
    more = {
        "model": "vendor-model",
        "max_tokens_name": "max_completion_tokens",
        "extra_body": {"thinking": {"type": "off"}},
    }
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url + "/?api-version=1", **more) as provider:
        await take_with(KEY, provider, prompt)
        request = upstream.requests[0]
    assert json.loads(request.body) == {
        "model": "vendor-model",
        "messages": [
            {"role": "system", "content": "简洁"},
            {"role": "user", "content": "问"},
            {"role": "assistant", "content": "答"},
            {"role": "user", "content": "再问"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "max_completion_tokens": 1500,
        "user": "person-1",
        "thinking": {"type": "off"},
    }
    assert request.head.startswith("POST /v1/chat/completions?api-version=1 HTTP/1.1\r\n")
    assert request.header("authorization") == f"Bearer {KEY}"
    assert request.header("content-type") == "application/json"
    assert request.header("x-client-request-id") == "msg%201%0D%0A%E4%BC%9A%E8%AF%9D/7"


async def test_what_is_not_set_is_not_asked() -> None:
    async with serve(says(SERVED)) as upstream:
        provider = OpenAiHttpProvider(endpoint_of("m", ModelSettings(base_url=upstream.url, send_stream_options=False)))
        await take(provider)
        await provider.aclose()
        request = upstream.requests[0]
    assert set(json.loads(request.body)) == {"model", "messages", "stream"}
    assert request.header("authorization") is None
    assert request.header("x-client-request-id") is None


@pytest.mark.parametrize("url", ["", "api.example.com/v1", "ftp://x/v1", "http://"])
async def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        endpoint_of("m", ModelSettings(base_url=url))


CHATS = [
    *("aimock_azure_stream", "aimock_openai_filter_stream", "aimock_openai_reasoning_stream"),
    "aimock_openai_tools_stream",
    *("llmock_openai_disconnect", "llmock_openai_malformed", "llmock_openai_truncate", "llmock_openai_tool_cut"),
    *("llmock_mistral_stream", "llmock_xai_stream", "tserve_chat_nonstream", "tserve_chat_stream", "vllm_chat_batch"),
    *("vllm_chat_n2", "vllm_chat_nonstream", "vllm_chat_stream_contusage", "vllm_chat_stream_usage", "vllm_cut_client"),
    *("vllm_enginedead_midstream", "vllm_json_schema_stream", "vllm_reasoning_stream", "vllm_server_killed_midstream"),
    *("vllm_tool_named_stream", "vllm_tool_required_stream", "llmock_openai_tool_stream"),
]  # fmt: skip


@pytest.mark.parametrize("name", CHATS)
async def test_recordings_over_a_socket(name: str) -> None:
    recorded = recording.load(name)
    expected = read_pieces([recorded.body])
    places = [0, 1, 3, 5, 7, 9, 11, 13]

    async def replay(request: Request) -> None:
        place = places.pop()
        split = len(recorded.raw) * place // 14
        await request.say(recorded.raw[:split])
        # Lets the first part arrive as a part of its own; correctness does not hang on it.
        await asyncio.sleep(0.002)
        await request.say(recorded.raw[split:])

    async with serve(replay) as upstream:
        for _ in range(len(places)):
            # Anew each time: some recordings promise to keep a connection that the replay closes.
            async with provider_for(upstream.url) as provider:
                taken, _ = await take(provider)
            assert taken == expected


REFUSALS = [
    *("llmock_openai_401", "llmock_openai_503", "aimock_openai_429"),
    *("vllm_err_badjson_400", "vllm_err_ctx_400", "vllm_err_model_404"),
]


@pytest.mark.parametrize("name", REFUSALS)
async def test_recorded_refusals_over_a_socket(name: str) -> None:
    recorded = recording.load(name)
    async with serve(says(recorded.raw)) as upstream, provider_for(upstream.url) as provider:
        error = await failing(provider)
    assert (error.status, error.model) == (recorded.status, "m")
    assert error.retry_after == (1.0 if recorded.status in (429, 503) else None)


async def test_a_vendor_has_codes_of_its_own() -> None:
    body = b'{"error":{"code":"insufficient_quota"}}'
    refused = b"HTTP/1.1 429 No\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    in_stream = HEAD + b"data: " + body + b"\n\n"
    async with serve(says(refused), says(in_stream), says(refused), says(in_stream)) as upstream:
        for preset, kind in (("dashscope", ErrorClass.RATE_LIMIT), ("openai", ErrorClass.QUOTA)):
            async with provider_for(upstream.url, preset=preset) as provider:
                assert [(await failing(provider)).kind for _ in range(2)] == [kind, kind]


async def test_headers_of_the_settings_go_along() -> None:
    more = {"extra_headers": {"X-Team": "support", "Authorization": "theirs"}}
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url, **more) as provider:
        await take_with(KEY, provider)
        await take(provider)
        keyed, keyless = upstream.requests
    assert keyed.header("x-team") == keyless.header("x-team") == "support"
    assert keyed.header("authorization") == f"Bearer {KEY}"
    assert keyless.header("authorization") == "theirs"


async def test_a_refusal_that_never_ends_is_still_one() -> None:
    async def endless(request: Request) -> None:
        await request.say(b"HTTP/1.1 500 Oops\r\ncontent-length: 10\r\n\r\nhalf")
        await hangs(request)

    async with serve(endless) as upstream, provider_for(upstream.url, idle_seconds=0.1) as provider:
        error = await failing(provider)
    assert (error.kind, error.detail) == (ErrorClass.TRANSIENT, "HTTP 500: half")


async def test_everything_that_arrived_is_one_chunk() -> None:
    go_on = asyncio.Event()

    async def bursts(request: Request) -> None:
        await request.say(HEAD + b"".join(piece(letter) for letter in "abcdef"))
        await go_on.wait()
        await request.say(b"".join(piece(letter) for letter in "ghij") + piece(finish="stop") + DONE)

    async with serve(bursts) as upstream, provider_for(upstream.url) as provider:
        texts = []
        async with aclosing(provider.generate(ASKED, Budget(20))) as chunks:
            async for chunk in chunks:
                texts.append(chunk.text)
                go_on.set()
    assert texts == ["abcdef", "ghij"]


async def test_a_connection_is_used_again() -> None:
    body = piece("好") + piece(finish="stop") + DONE

    async def answer(request: Request) -> None:
        await request.say(CHUNKED_HEAD + chunked(body))
        await asyncio.sleep(0)
        await request.say(b"0\r\n\r\n")

    async with serve(answer, keep_alive=True) as upstream, provider_for(upstream.url) as provider:
        for _ in range(5):
            taken, _ = await take(provider)
            assert taken.complete
        assert len(upstream.requests) == 5
        assert upstream.connections == 1


async def test_nobody_waits_for_a_body_that_does_not_end() -> None:
    async def lingers(request: Request) -> None:
        await request.say(SERVED)
        await hangs(request)

    async with serve(lingers) as upstream, provider_for(upstream.url) as provider, asyncio.timeout(10):
        taken, _ = await take(provider, Budget(900))
    assert taken.complete


async def test_a_finish_reason_is_enough() -> None:
    async def hangs_then(request: Request) -> None:
        await request.say(HEAD + piece("好") + piece(finish="stop"))
        await hangs(request)

    async def cuts(request: Request) -> None:
        await request.say(CHUNKED_HEAD + chunked(piece("好") + piece(finish="stop")))

    async with serve(hangs_then, cuts) as upstream, provider_for(upstream.url) as provider:
        assert (await take(provider, Budget(1)))[0] == Taken("好", "", STOP, None)
        assert (await take(provider))[0] == Taken("好", "", STOP, None)


async def test_counts_come_behind_the_finish_reason() -> None:
    counted = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'

    async def answer(request: Request) -> None:
        await request.say(HEAD + piece("好", finish="stop"))
        await asyncio.sleep(0.01)
        await request.say(counted + DONE)

    async with serve(answer) as upstream, provider_for(upstream.url) as provider:
        taken, chunks = await take(provider)
    assert taken == Taken("好", "", STOP, Usage(3, 4))
    assert [chunk.text for chunk in chunks] == ["好", ""]


# --- time -------------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    async with serve(hangs) as upstream:
        url = upstream.url
    async with provider_for(url) as provider:
        assert (await failing(provider)).kind is ErrorClass.TRANSIENT


async def test_the_head_never_comes() -> None:
    async with serve(hangs) as upstream, provider_for(upstream.url, first_token_seconds=0.1) as provider:
        assert (await failing(provider)).kind is ErrorClass.TIMEOUT
        await asyncio.wait_for(upstream.requests[0].closed_by_client.wait(), 5)


async def test_comments_roles_and_empty_pieces_are_no_first_text() -> None:
    async def chatters(request: Request) -> None:
        await request.say(HEAD)
        while not request.closed_by_client.is_set():
            await request.say(b": keep-alive\n\n" + piece() + b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n')
            await asyncio.sleep(0.02)

    async with serve(chatters) as upstream, provider_for(upstream.url, first_token_seconds=0.2) as provider:
        async with asyncio.timeout(10):
            error = await failing(provider, Budget(900))
        assert error.kind is ErrorClass.TIMEOUT
        assert "the first text took too long" in error.detail


async def test_thoughts_count_as_first_text_and_comments_keep_a_pause_alive() -> None:
    async def thinks(request: Request) -> None:
        await request.say(HEAD + b'data: {"choices":[{"delta":{"reasoning_content":"..."}}]}\n\n')
        for _ in range(20):
            await asyncio.sleep(0.03)
            await request.say(b": keep-alive\n\n")
        await request.say(piece("好", finish="stop") + DONE)

    more = {"first_token_seconds": 0.3, "idle_seconds": 0.3}
    async with serve(thinks) as upstream, provider_for(upstream.url, **more) as provider:
        assert (await take(provider))[0] == Taken("好", "...", STOP, None)


async def test_silence_between_pieces() -> None:
    async def stops(request: Request) -> None:
        await request.say(HEAD + piece("好"))
        await hangs(request)

    async with serve(stops) as upstream, provider_for(upstream.url, idle_seconds=0.1) as provider:
        taken, _ = await take(provider)
        assert (taken.text, taken.error) == ("好", ErrorClass.TIMEOUT)
        await asyncio.wait_for(upstream.requests[0].closed_by_client.wait(), 5)


async def drips(request: Request) -> None:
    await request.say(HEAD)
    while not request.closed_by_client.is_set():
        await request.say(piece("好"))
        await asyncio.sleep(0.01)


async def test_the_whole_takes_too_long() -> None:
    async with serve(drips) as upstream, provider_for(upstream.url, total_seconds=0.2) as provider:
        taken, _ = await take(provider)
        assert taken.error is ErrorClass.TIMEOUT
        assert taken.text


async def test_the_budget_goes_before_every_setting() -> None:
    async with serve(drips, hangs) as upstream, provider_for(upstream.url) as provider:
        for _ in range(2):
            async with asyncio.timeout(10):
                taken, _ = await take(provider, Budget(0.2))
            assert taken.error is ErrorClass.TIMEOUT


async def test_a_slow_caller_is_not_a_silent_server() -> None:
    sent = asyncio.Event()

    async def answer(request: Request) -> None:
        await request.say(HEAD + piece("一"))
        await sent.wait()
        await request.say(piece("二", finish="stop") + DONE)

    async with serve(answer) as upstream, provider_for(upstream.url, idle_seconds=0.1) as provider:
        texts = []
        async with aclosing(provider.generate(ASKED, Budget(20))) as chunks:
            async for chunk in chunks:
                texts.append(chunk.text)
                await asyncio.sleep(0.3)
                sent.set()
    assert texts == ["一", "二"]


async def test_calls_wait_for_a_free_place_within_their_budget() -> None:
    go_on = asyncio.Event()

    async def answer(request: Request) -> None:
        await go_on.wait()
        await request.say(SERVED)

    async with serve(answer) as upstream, provider_for(upstream.url, max_connections=2) as provider:
        first = [asyncio.create_task(take(provider)) for _ in range(2)]
        while len(upstream.requests) < 2:
            await asyncio.sleep(0.001)
        error = await failing(provider, Budget(0.05))
        assert error.kind is ErrorClass.TIMEOUT
        assert len(upstream.requests) == 2
        waiting = [asyncio.create_task(take(provider)) for _ in range(4)]
        go_on.set()
        assert all(taken.complete for taken, _ in await asyncio.gather(*first, *waiting))


# --- leaving, and what must not get out -------------------------------------------------


async def test_leaving_closes_the_connection() -> None:
    async with serve(drips) as upstream, provider_for(upstream.url) as provider:
        async with aclosing(provider.generate(ASKED, Budget(20))) as chunks:
            async for _ in chunks:
                break
        await asyncio.wait_for(upstream.requests[0].closed_by_client.wait(), 5)


@pytest.mark.parametrize("handler", [hangs, drips])
async def test_cancelling_closes_the_connection(handler: object) -> None:
    async with (
        serve(handler, says(SERVED)) as upstream,  # type: ignore[arg-type]
        provider_for(upstream.url, max_connections=1) as provider,
    ):
        task = asyncio.create_task(take(provider))
        while not upstream.requests:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(upstream.requests[0].closed_by_client.wait(), 5)
        # The place is free again.
        assert (await take(provider, Budget(5)))[0].complete


async def test_closing_the_provider_ends_calls_under_way() -> None:
    async with serve(drips) as upstream, provider_for(upstream.url) as provider:
        task = asyncio.create_task(take(provider))
        while not upstream.requests:
            await asyncio.sleep(0.001)
        await provider.aclose()
        taken, _ = await task
        assert taken.error is ErrorClass.INCOMPLETE or taken.error is ErrorClass.TRANSIENT
        assert (await failing(provider)).kind is ErrorClass.TRANSIENT


async def test_redirects_are_not_followed() -> None:
    async with serve(says(SERVED)) as thief:
        moved = f"HTTP/1.1 307 Moved\r\nlocation: {thief.url}\r\ncontent-length: 0\r\n\r\n".encode()
        async with serve(says(moved)) as upstream, provider_for(upstream.url) as provider:
            error = await failing(provider)
        assert (error.kind, error.status) == (ErrorClass.BAD_REQUEST, 307)
        assert thief.connections == 0


async def test_the_key_stays_out_of_errors() -> None:
    quoting = json.dumps(
        {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}
    ).encode()
    refused = b"HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(quoting), quoting)
    garbage = b"HTTP/1.1 what\r\n\r\n"
    in_stream = HEAD + b"data: " + quoting + b"\n\n"
    async with (
        serve(says(refused), says(garbage), says(in_stream)) as upstream,
        provider_for(upstream.url) as provider,
    ):
        for kind in (ErrorClass.AUTH, ErrorClass.TRANSIENT, ErrorClass.AUTH):
            error: BaseException | None = await failing(provider)
            assert isinstance(error, ProviderError)
            assert error.kind is kind
            while error is not None:
                assert KEY not in repr(error) + str(error) + repr(vars(error))
                error = error.__cause__


@pytest.mark.parametrize("key", [KEY + "\n", KEY + "\r\nx: y", "密钥"])
async def test_a_key_that_no_header_can_hold_is_a_wrong_one(key: str) -> None:
    async with serve(says(SERVED)) as upstream, provider_for(upstream.url) as provider:
        with pytest.raises(ProviderError) as caught:
            await anext(provider.generate(ASKED, Budget(20), key))
        assert caught.value.kind is ErrorClass.AUTH
        assert key not in str(caught.value)
        assert upstream.connections == 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", ErrorClass.TRANSIENT),
        (b"HTTP/1.1 200 O", ErrorClass.TRANSIENT),
        (b"not http at all\r\n\r\n", ErrorClass.TRANSIENT),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ErrorClass.INCOMPLETE),
        (HEAD, ErrorClass.INCOMPLETE),
        (CHUNKED_HEAD + chunked(piece("好")), ErrorClass.INCOMPLETE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n" + piece("好"), ErrorClass.INCOMPLETE),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\nno gzip", ErrorClass.INCOMPLETE),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>busy</html>", ErrorClass.INCOMPLETE),
        (b"HTTP/1.1 503 Busy\r\n\r\n<html>busy</html>", ErrorClass.TRANSIENT),
    ],
)
async def test_broken_answers(answer: bytes, kind: ErrorClass) -> None:
    async with serve(says(answer)) as upstream, provider_for(upstream.url) as provider:
        taken, _ = await take(provider)
    assert taken.error is kind


async def test_a_broken_chunk_length() -> None:
    async def breaks(request: Request) -> None:
        await request.say(CHUNKED_HEAD + chunked(piece("好")))
        await asyncio.sleep(0.02)
        await request.say(b"zz\r\nwhat\r\n")

    async with serve(breaks) as upstream, provider_for(upstream.url, idle_seconds=0.2) as provider:
        taken, _ = await take(provider)
    # aiohttp 3.14 closes the connection without telling the reader, whom the silence must tell.
    # It refuses the head along with it where everything came in one segment.
    assert taken.error in (ErrorClass.INCOMPLETE, ErrorClass.TIMEOUT, ErrorClass.TRANSIENT)


async def test_content_types_are_not_trusted() -> None:
    body = SERVED.replace(b"text/event-stream", b"text/plain")
    reply = b'\n\n{"choices":[{"message":{"content":"\xe5\xa5\xbd"},"finish_reason":"stop"}]}'
    plain = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + reply
    async with serve(says(body), says(plain)) as upstream:
        for text in ("你好", "好"):
            async with provider_for(upstream.url) as provider:
                assert (await take(provider))[0] == Taken(text, "", STOP, None)
