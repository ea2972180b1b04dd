"""xAI's gRPC: the vendor's own servicer answers, and the vendor's own client asks the same."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message as PbMessage
from xai_sdk import AsyncClient
from xai_sdk import chat as sdk
from xai_sdk.proto import chat_pb2 as vendor
from xai_sdk.proto import chat_pb2_grpc, sample_pb2, usage_pb2

from program.secret import Secret
from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import ErrorClass, Image, Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.endpoint import endpoint_of
from server.llm.wire import xai_chat_pb2 as ours
from server.llm.xai_grpc import XaiGrpcBackend
from server.settings import ModelSettings
from tests.server.llm.reading import ASKED, Taken, take, take_with

KEY = "xai-very-secret-0123456789"
PICTURE = Image("image/png", b"\x89PNG\r\n")
ADDRESS = Image("image/jpeg", uri="https://example.com/cat.jpg")


def piece(text: str = "", thought: str = "", finish: int = 0, *, index: int = 0, tools: int = 0) -> Any:
    delta = vendor.Delta(content=text, reasoning_content=thought, role=vendor.ROLE_ASSISTANT)
    delta.tool_calls.extend(vendor.ToolCall(id=str(number)) for number in range(tools))
    output = vendor.CompletionOutputChunk(delta=delta, finish_reason=finish, index=index)
    counts = usage_pb2.SamplingUsage(prompt_tokens=7, completion_tokens=len(text), total_tokens=7 + len(text))
    return vendor.GetChatCompletionChunk(id="c-1", model="grok", outputs=[output], usage=counts)


def counted(**counts: int) -> Any:
    return vendor.GetChatCompletionChunk(id="c-1", model="grok", usage=usage_pb2.SamplingUsage(**counts))


STOP = piece(finish=sample_pb2.REASON_STOP)


class Servicer(chat_pb2_grpc.ChatServicer):  # type: ignore[misc]  # the vendor's package has no types
    """The vendor's service: says what a test wants, and keeps what it was asked."""

    def __init__(self, chunks: list[PbMessage], code: grpc.StatusCode | None = None, message: str = "") -> None:
        self._chunks = chunks
        self._end = code, message
        self.requests: list[vendor.GetCompletionsRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.hangs = False
        self.cancelled = asyncio.Event()

    async def GetCompletionChunk(self, request: PbMessage, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
        self.requests.append(request)
        self.metadata.append({name: str(value) for name, value in context.invocation_metadata() or ()})
        try:
            for chunk in self._chunks:
                await context.write(chunk)
            if self.hangs:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        code, message = self._end
        if code is not None:
            await context.abort(code, message)


@asynccontextmanager
async def serving(servicer: Servicer) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    chat_pb2_grpc.add_ChatServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def backend_for(servicer: Servicer, **more: object) -> AsyncIterator[XaiGrpcBackend]:
    async with serving(servicer) as target:
        entry = ModelSettings(preset="xai", transport="grpc", target=target, model="grok-4", **more)  # type: ignore[arg-type]
        backend = XaiGrpcBackend(endpoint_of("m", entry))
        try:
            yield backend
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
    request_id="msg 1\r\n会话/7",
    user="person-1",
)


async def asked_by_the_vendor(servicer: Servicer, **more: object) -> None:
    url = f"data:image/png;base64,{b64encode(PICTURE.data).decode()}"
    async with serving(servicer) as target:
        client = AsyncClient(api_key=KEY, api_host=target, use_insecure_channel=True)
        try:
            chat = client.chat.create(
                model="grok-4",
                messages=[
                    sdk.system("简洁"),
                    sdk.user("问"),
                    sdk.assistant("答"),
                    sdk.user("这是什么?", sdk.image(url), sdk.image(ADDRESS.uri)),
                ],
                temperature=0.7,
                max_tokens=1500,
                user="person-1",
                **more,
            )
            async for _ in chat.stream():
                pass
        finally:
            await client.close()


def fields(message: PbMessage) -> dict[str, object]:
    return {field.name: value for field, value in message.ListFields()}


async def test_the_vendors_client_asks_the_same() -> None:
    mine, theirs = Servicer([STOP]), Servicer([STOP])
    async with backend_for(mine) as backend:
        await take_with(KEY, backend, PROMPT)
    await asked_by_the_vendor(theirs)
    found, expected = fields(mine.requests[0]), fields(theirs.requests[0])
    # The client always says that it wants one reply, which is what the service gives unasked.
    assert expected.pop("n", 1) == 1
    assert found == expected
    assert set(found) == {"messages", "model", "temperature", "max_tokens", "user"}
    assert mine.metadata[0]["authorization"] == theirs.metadata[0]["authorization"] == f"Bearer {KEY}"
    assert mine.metadata[0]["x-client-request-id"] == "msg%201%0D%0A%E4%BC%9A%E8%AF%9D/7"


async def test_settings_of_either_transport_are_understood() -> None:
    more = {"reasoning_effort": "low", "seed": 7, "stop": ["。", "!"], "top_p": 0.5, "frequency_penalty": 0.25}
    mine, theirs = Servicer([STOP]), Servicer([STOP])
    async with backend_for(mine, extra_body=more) as backend:
        await take_with(KEY, backend, PROMPT)
    await asked_by_the_vendor(theirs, **more)
    expected = fields(theirs.requests[0])
    expected.pop("n", None)
    assert fields(mine.requests[0]) == expected


async def test_the_switch_for_thinking() -> None:
    servicer = Servicer([STOP])
    async with backend_for(servicer, thinking="on") as backend:
        await take(backend)
    assert servicer.requests[0].reasoning_effort == vendor.EFFORT_HIGH


async def test_what_is_not_set_is_not_asked() -> None:
    servicer = Servicer([STOP])
    async with backend_for(servicer) as backend:
        await take(backend)
    assert set(fields(servicer.requests[0])) == {"messages", "model"}
    assert "authorization" not in servicer.metadata[0]
    assert "x-client-request-id" not in servicer.metadata[0]


async def test_a_picture_alone() -> None:
    servicer = Servicer([STOP])
    async with backend_for(servicer) as backend:
        await take(backend, prompt=Prompt("m", (Message(Role.USER, "", (PICTURE,)),)))
    [content] = servicer.requests[0].messages[0].content
    assert content.WhichOneof("content") == "image_url"


async def test_pictures_for_a_model_that_takes_none() -> None:
    servicer = Servicer([STOP])
    async with backend_for(servicer, pictures="none") as backend:
        taken, _ = await take(backend, prompt=PROMPT)
    assert taken.error is ErrorClass.BAD_REQUEST
    assert servicer.requests == []


def test_our_numbers_are_the_vendors() -> None:
    pairs: list[tuple[Any, Any]] = [
        (ours.GetCompletionsRequest, vendor.GetCompletionsRequest),
        (ours.Message, vendor.Message),
        (ours.Content, vendor.Content),
        (ours.GetChatCompletionChunk, vendor.GetChatCompletionChunk),
        (ours.CompletionOutputChunk, vendor.CompletionOutputChunk),
        (ours.Delta, vendor.Delta),
        (ours.ToolCall, vendor.ToolCall),
        (ours.SamplingUsage, usage_pb2.SamplingUsage),
    ]
    for mine, theirs in pairs:
        for field in mine.DESCRIPTOR.fields:
            known = theirs.DESCRIPTOR.fields_by_name[field.name]
            same = (known.number, known.type, known.is_repeated, known.has_presence)
            assert (field.number, field.type, field.is_repeated, field.has_presence) == same, field.full_name
    enums = [
        (ours.MessageRole, vendor.MessageRole),
        (ours.ReasoningEffort, vendor.ReasoningEffort),
        (ours.FinishReason, sample_pb2.FinishReason),
    ]
    for mine_enum, theirs_enum in enums:
        known_values = dict(theirs_enum.items())
        assert {name: known_values[name] for name in mine_enum.keys()} == dict(mine_enum.items())  # noqa: SIM118  # an enum, not a mapping


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"extra_body": {"colour": 1}},
            r"^models\.m\.extra_body\.colour: cannot be sent over gRPC; these can: messages, ",
        ),
        ({"extra_body": {"reasoning_effort": "huge"}}, r"^models\.m\.extra_body: .*EFFORT_HUGE"),
        ({"tls": False, "target": "e.example.com:1"}, r"^models\.m\.tls: e\.example\.com:1 is not on this machine"),
    ],
)
def test_settings_that_cannot_work(more: dict[str, object], message: str) -> None:
    entry = ModelSettings(preset="xai", transport="grpc", api_key=Secret(KEY), **more)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        build_backends({"m": entry})


# --- replies ----------------------------------------------------------------------------------


async def test_a_reply_with_thoughts_and_counts() -> None:
    chunks = [
        piece(thought="想"),
        piece("你"),
        piece("好"),
        STOP,
        counted(
            prompt_tokens=20, completion_tokens=2, reasoning_tokens=5, total_tokens=27, cached_prompt_text_tokens=16
        ),
    ]
    async with backend_for(Servicer(chunks)) as backend:
        taken, found = await take(backend)
    assert taken == Taken("你好", "想", FinishReason.STOP, Usage(20, 7, cached_input_token_count=16))
    assert (found[0].model, found[-1].model) == ("m", "m")


@pytest.mark.parametrize(
    ("reason", "finish", "error"),
    [
        (sample_pb2.REASON_STOP, FinishReason.STOP, None),
        (sample_pb2.REASON_MAX_LEN, FinishReason.LENGTH, None),
        (sample_pb2.REASON_MAX_CONTEXT, FinishReason.LENGTH, None),
        (sample_pb2.REASON_TIME_LIMIT, FinishReason.LENGTH, None),
        (sample_pb2.REASON_TOOL_CALLS, None, ErrorClass.INCOMPLETE),
        (sample_pb2.REASON_INVALID, None, ErrorClass.INCOMPLETE),
        (99, FinishReason.STOP, None),
    ],
)
async def test_ends(reason: int, finish: FinishReason | None, error: ErrorClass | None) -> None:
    async with backend_for(Servicer([piece("好", finish=reason)])) as backend:
        taken, _ = await take(backend)
    assert (taken.finish, taken.error) == (finish, error)


async def test_a_call_of_a_tool_is_no_answer() -> None:
    async with backend_for(Servicer([piece(tools=1), STOP])) as backend:
        taken, _ = await take(backend)
    assert taken.error is ErrorClass.INCOMPLETE


async def test_one_of_several_replies_is_read() -> None:
    other = piece("别的", finish=sample_pb2.REASON_MAX_LEN, index=1)
    async with backend_for(Servicer([piece("好"), other, STOP])) as backend:
        taken, _ = await take(backend)
    assert (taken.text, taken.finish) == ("好", FinishReason.STOP)


@pytest.mark.parametrize("kept", range(4))
@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
async def test_a_reply_that_is_cut_is_never_complete(kept: int, code: grpc.StatusCode | None) -> None:
    chunks = [piece("一"), piece("二"), piece("三")][:kept]
    async with backend_for(Servicer(chunks, code)) as backend:
        taken, _ = await take(backend)
    assert taken.text == "一二三"[:kept]
    assert taken.error is (ErrorClass.TRANSIENT if code and not kept else ErrorClass.INCOMPLETE)
    assert not taken.complete


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, ErrorClass.AUTH),
        (grpc.StatusCode.PERMISSION_DENIED, ErrorClass.AUTH),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ErrorClass.RATE_LIMIT),
        (grpc.StatusCode.NOT_FOUND, ErrorClass.NOT_FOUND),
        (grpc.StatusCode.INVALID_ARGUMENT, ErrorClass.BAD_REQUEST),
        (grpc.StatusCode.UNAVAILABLE, ErrorClass.TRANSIENT),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ErrorClass.TIMEOUT),
    ],
)
async def test_errors(code: grpc.StatusCode, kind: ErrorClass) -> None:
    async with backend_for(Servicer([], code, f"{KEY} is no good")) as backend:
        with pytest.raises(ProviderError) as caught:
            await anext(backend.generate(ASKED, Budget(20), KEY))
    assert (caught.value.kind, caught.value.model) == (kind, "m")
    assert caught.value.said == "******** is no good"
    assert KEY not in f"{caught.value}{caught.value.detail}"


async def test_leaving_ends_the_call_there() -> None:
    servicer = Servicer([piece("好")])
    servicer.hangs = True
    async with backend_for(servicer) as backend:
        chunks = backend.generate(ASKED, Budget(20), KEY)
        assert (await anext(chunks)).text == "好"
        await chunks.aclose()
        await asyncio.wait_for(servicer.cancelled.wait(), 5)


async def test_a_deadline_ends_the_call_there() -> None:
    servicer = Servicer([piece("好")])
    servicer.hangs = True
    async with backend_for(servicer) as backend:
        taken, _ = await take(backend, Budget(0.2))
        assert (taken.text, taken.error) == ("好", ErrorClass.TIMEOUT)
        await asyncio.wait_for(servicer.cancelled.wait(), 5)
