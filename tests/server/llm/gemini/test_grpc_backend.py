"""Gemini's gRPC: the vendor's own messages answer, and the vendor's own client asks the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from program.secret import Secret
from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass, Image, Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.endpoint import endpoint_of
from server.llm.gemini.grpc_backend import GeminiGrpcBackend
from server.llm.wire import gemini_pb2 as ours
from server.settings import ModelSettings
from tests.server.llm.gemini_vendor import Reason, answer, text, transports, usage, vendor
from tests.server.llm.grpc_upstream import Call, GrpcUpstream, Handler, fails, hangs, retry_info, says, serve
from tests.server.llm.reading import ASKED, Taken, take, take_with

KEY = "AIza-very-secret-0123456789"
PICTURE = Image("image/png", b"\x89PNG\r\n")
ADDRESS = Image("image/jpeg", uri="https://example.com/cat.jpg")

STOP = answer(finish=Reason.STOP)


@asynccontextmanager
async def backend_for(*handlers: Handler, **more: Any) -> AsyncIterator[tuple[GeminiGrpcBackend, GrpcUpstream]]:
    async with serve(*handlers) as upstream:
        entry = ModelSettings(preset="gemini", transport="grpc", target=upstream.target, model="gemini-x", **more)
        backend = GeminiGrpcBackend(endpoint_of("m", entry))
        try:
            yield backend, upstream
        finally:
            await backend.aclose()


# --- requests ---------------------------------------------------------------------------------

PROMPT = Prompt(
    "m",
    (
        Message(Role.SYSTEM, "简洁"),
        Message(Role.USER, "问"),
        Message(Role.ASSISTANT, "答"),
        Message(Role.USER, "这是什么?", (PICTURE, ADDRESS)),
    ),
    temperature=0.7,
    max_output_tokens=1500,
    request_id="msg-1",
    user="p-1",
)


async def asked_by_the_vendor(request: Any) -> Call:
    async with serve(says(STOP)) as upstream:
        channel = grpc.aio.insecure_channel(upstream.target)
        client = vendor.GenerativeServiceAsyncClient(
            transport=transports.GenerativeServiceGrpcAsyncIOTransport(channel=channel)
        )
        async for _ in await client.stream_generate_content(request, metadata=[("x-goog-api-key", KEY)]):
            pass
        await channel.close()
        return upstream.calls[0]


def read(call: Call) -> Any:
    return vendor.GenerateContentRequest.deserialize(call.request)


async def test_the_vendors_client_asks_the_same() -> None:
    async with backend_for(says(STOP), thinking="on") as (backend, upstream):
        await take_with(KEY, backend, PROMPT)
        mine = upstream.calls[0]
    cap = read(mine).generation_config.max_output_tokens
    # Thoughts get room of their own above the cap.
    assert cap > 1500
    theirs = await asked_by_the_vendor(
        vendor.GenerateContentRequest(
            model="models/gemini-x",
            system_instruction=vendor.Content(parts=[text("简洁")]),
            contents=[
                vendor.Content(role="user", parts=[text("问")]),
                vendor.Content(role="model", parts=[text("答")]),
                vendor.Content(
                    role="user",
                    parts=[
                        vendor.Part(inline_data=vendor.Blob(mime_type="image/png", data=PICTURE.data)),
                        vendor.Part(file_data=vendor.FileData(mime_type="image/jpeg", file_uri=ADDRESS.uri)),
                        text("这是什么?"),
                    ],
                ),
            ],
            generation_config=vendor.GenerationConfig(
                temperature=0.7,
                max_output_tokens=cap,
                thinking_config=vendor.ThinkingConfig(include_thoughts=True, thinking_budget=-1),
            ),
        )
    )
    assert read(mine) == read(theirs)
    for name in ("x-goog-api-key", "x-goog-request-params"):
        assert mine.metadata[name] == theirs.metadata[name]
    assert mine.metadata["x-goog-api-key"] == KEY
    assert mine.metadata["x-client-request-id"] == "msg-1"


async def test_what_is_not_set_is_not_asked() -> None:
    async with backend_for(says(STOP)) as (backend, upstream):
        await take(backend)
    request = read(upstream.calls[0])
    expected = vendor.GenerateContentRequest(
        model="models/gemini-x", contents=[vendor.Content(role="user", parts=[text("你好")])], generation_config={}
    )
    assert request == expected
    assert "x-goog-api-key" not in upstream.calls[0].metadata


async def test_settings_of_either_transport_are_understood() -> None:
    more = {
        "generationConfig": {"topP": 0.5, "seed": 7, "stopSequences": ["。"]},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    }
    async with backend_for(says(STOP), extra_body=more) as (backend, upstream):
        await take(backend, prompt=PROMPT)
    request = read(upstream.calls[0])
    config = request.generation_config
    assert (config.top_p, config.seed, list(config.stop_sequences)) == (0.5, 7, ["。"])
    assert config.temperature == pytest.approx(0.7)
    [setting] = request.safety_settings
    assert setting.category == vendor.HarmCategory.HARM_CATEGORY_HARASSMENT
    assert setting.threshold == vendor.SafetySetting.HarmBlockThreshold.BLOCK_NONE


async def test_a_name_that_needs_quoting() -> None:
    async with serve(says(STOP)) as upstream:
        entry = ModelSettings(preset="gemini", transport="grpc", target=upstream.target, model="tunedModels/我的 a")
        backend = GeminiGrpcBackend(endpoint_of("m", entry))
        await take(backend)
        await backend.aclose()
        [mine] = upstream.calls
    theirs = await asked_by_the_vendor(vendor.GenerateContentRequest(model="tunedModels/我的 a"))
    assert read(mine).model == "tunedModels/我的 a"
    assert mine.metadata["x-goog-request-params"] == theirs.metadata["x-goog-request-params"]


async def test_pictures_for_a_model_that_takes_none() -> None:
    async with backend_for(says(STOP), pictures="none") as (backend, upstream):
        taken, _ = await take(backend, prompt=PROMPT)
    assert taken.error is ErrorClass.BAD_REQUEST
    assert upstream.calls == []


def same(mine: Any, theirs: Any) -> None:
    """Holds if our message has the numbers and types of the vendor's, for every field that it has."""
    for field in mine.fields:
        known = theirs.fields_by_name[field.name]
        kind = (known.number, known.type, known.is_repeated)
        assert (field.number, field.type, field.is_repeated) == kind, field.full_name
        if field.message_type is not None and field.name != "function_call":
            same(field.message_type, known.message_type)
        if field.enum_type is not None:
            numbers = {value.name: value.number for value in known.enum_type.values}
            for value in field.enum_type.values:
                assert numbers[value.name] == value.number, field.full_name


def test_our_numbers_are_the_vendors() -> None:
    for mine, theirs in (
        (ours.GenerateContentRequest, vendor.GenerateContentRequest),
        (ours.GenerateContentResponse, vendor.GenerateContentResponse),
    ):
        same(mine.DESCRIPTOR, theirs.pb(theirs()).DESCRIPTOR)


def test_settings_that_cannot_work() -> None:
    more: dict[str, Any] = {"extra_body": {"generationConfig": {"colour": 1}}}
    entry = ModelSettings(preset="gemini", transport="grpc", api_key=Secret(KEY), **more)
    with pytest.raises(ValueError, match=r"^models\.m\.extra_body: .*colour") as caught:
        build_backends({"m": entry})
    assert "\n" not in str(caught.value)


# --- replies ----------------------------------------------------------------------------------


async def test_a_reply_with_thoughts_and_counts() -> None:
    counts = usage(
        prompt_token_count=20,
        cached_content_token_count=16,
        candidates_token_count=2,
        thoughts_token_count=5,
        total_token_count=27,
    )
    answers = [
        answer(text("想", thought=True), **usage(prompt_token_count=20)),
        answer(text("你")),
        answer(text("好"), finish=Reason.STOP, **counts),
    ]
    async with backend_for(says(*answers)) as (backend, _):
        taken, found = await take(backend)
    assert taken == Taken("你好", "想", FinishReason.STOP, Usage(20, 7, cached_input_token_count=16))
    assert (found[0].model, found[-1].model) == ("m", "m")


KNOWN: list[Any] = list(Reason)
BLOCKED = {
    Reason.SAFETY,
    Reason.RECITATION,
    Reason.LANGUAGE,
    Reason.BLOCKLIST,
    Reason.PROHIBITED_CONTENT,
    Reason.SPII,
    Reason.IMAGE_SAFETY,
}
TOOLS = {Reason.MALFORMED_FUNCTION_CALL, Reason.UNEXPECTED_TOOL_CALL, Reason.TOO_MANY_TOOL_CALLS}


@pytest.mark.parametrize("reason", [reason for reason in KNOWN if reason], ids=lambda reason: str(reason.name))
async def test_every_reason_that_the_vendor_knows(reason: Any) -> None:
    async with backend_for(says(answer(text("好"), finish=reason))) as (backend, _):
        taken, _ = await take(backend)
    if reason in TOOLS:
        assert taken.error is ErrorClass.INCOMPLETE
    elif reason in BLOCKED:
        assert taken.finish is FinishReason.PROVIDER_BLOCKED
    elif reason == Reason.MAX_TOKENS:
        assert taken.finish is FinishReason.LENGTH
    else:
        assert taken.complete


async def test_a_reason_that_nobody_knows_yet() -> None:
    async with backend_for(says(answer(text("好"), finish=99))) as (backend, _):
        taken, _ = await take(backend)
    assert taken.finish is FinishReason.STOP


async def test_a_question_that_is_refused() -> None:
    feedback = vendor.GenerateContentResponse.PromptFeedback(block_reason="SAFETY")
    refused = vendor.GenerateContentResponse.pb(vendor.GenerateContentResponse(prompt_feedback=feedback))
    async with backend_for(says(refused)) as (backend, _):
        taken, _ = await take(backend)
    assert taken.error is ErrorClass.CONTENT


async def test_a_call_of_a_tool_is_no_answer() -> None:
    tool = vendor.Part(function_call=vendor.FunctionCall(name="f", args={"a": 1}))
    async with backend_for(says(answer(tool, finish=Reason.STOP))) as (backend, _):
        taken, _ = await take(backend)
    assert taken.error is ErrorClass.INCOMPLETE


async def test_one_of_several_replies_is_read() -> None:
    other = answer(text("别的"), finish=Reason.MAX_TOKENS, index=1)
    async with backend_for(says(answer(text("好"), index=0), other, STOP)) as (backend, _):
        taken, _ = await take(backend)
    assert (taken.text, taken.finish) == ("好", FinishReason.STOP)


@pytest.mark.parametrize("kept", range(4))
@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
async def test_a_reply_that_is_cut_is_never_complete(kept: int, code: grpc.StatusCode | None) -> None:
    answers = tuple(answer(text(word)) for word in "一二三"[:kept])
    handler = says(*answers) if code is None else fails(code, after=answers)
    async with backend_for(handler) as (backend, _):
        taken, _ = await take(backend)
    assert taken.text == "一二三"[:kept]
    assert taken.error is (ErrorClass.TRANSIENT if code and not kept else ErrorClass.INCOMPLETE)
    assert not taken.complete


async def test_a_limit_says_how_long() -> None:
    async with backend_for(fails(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{KEY} is slow", retry_info(37_000))) as (
        backend,
        _,
    ):
        with pytest.raises(ProviderError) as caught:
            await anext(backend.generate(ASKED, Budget(20), KEY))
    error = caught.value
    assert (error.kind, error.retry_after, error.model) == (ErrorClass.RATE_LIMIT, 37.0, "m")
    assert KEY not in f"{error} {error.detail}"


async def test_leaving_ends_the_call_there() -> None:
    async def handler(call: Call) -> None:
        await call.say(answer(text("好")))
        await hangs(call)

    async with backend_for(handler) as (backend, upstream):
        chunks = backend.generate(ASKED, Budget(20), KEY)
        assert (await anext(chunks)).text == "好"
        await chunks.aclose()
        await asyncio.wait_for(upstream.calls[0].cancelled.wait(), 5)
