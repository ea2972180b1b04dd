"""One fake model a vendor, reached over both of the vendor's transports.

To add a vendor, write its :class:`Vendor` and put it into ``VENDORS``.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import grpc
import grpc.aio
from aiohttp import web
from aiohttp.test_utils import TestServer
from xai_sdk.proto import chat_pb2, chat_pb2_grpc, sample_pb2, usage_pb2

from server.domain import FinishReason
from tests.server.llm.gemini_vendor import Reason, vendor


@dataclass(frozen=True)
class Said:
    """A piece of an answer."""

    text: str
    thought: bool = False


@dataclass(frozen=True)
class Counts:
    """Tokens, as a vendor counts them before this service adds them up."""

    read: int
    cached: int
    thought: int
    written: int


@dataclass(frozen=True)
class Answer:
    """What the model does with a question."""

    pieces: tuple[Said, ...] = ()
    end: FinishReason | None = None
    """``None`` cuts it."""
    counts: Counts | None = None
    refusal: str = ""
    """Instead of an answer: a key of ``REFUSALS``."""


@dataclass(frozen=True)
class Question:
    """What the model was asked, whatever brought it."""

    messages: tuple[tuple[str, str], ...]
    temperature: float | None
    cap: int | None
    key: str


@dataclass
class Model:
    """The model behind both transports."""

    answer: Answer
    asked: list[Question] = field(default_factory=list)


REFUSALS: Final = {
    "UNAUTHENTICATED": (401, grpc.StatusCode.UNAUTHENTICATED),
    "PERMISSION_DENIED": (403, grpc.StatusCode.PERMISSION_DENIED),
    "RESOURCE_EXHAUSTED": (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "NOT_FOUND": (404, grpc.StatusCode.NOT_FOUND),
    "INVALID_ARGUMENT": (400, grpc.StatusCode.INVALID_ARGUMENT),
    "UNAVAILABLE": (503, grpc.StatusCode.UNAVAILABLE),
    "INTERNAL": (500, grpc.StatusCode.INTERNAL),
}
"""How the same refusal looks over HTTP and over gRPC."""


class Vendor(ABC):
    """A fake of a vendor."""

    preset: ClassVar[str]
    ends: ClassVar[Mapping[FinishReason, Any]]
    """The ends that this vendor knows, in its own words for gRPC."""

    @asynccontextmanager
    async def serving(self, model: Model) -> AsyncIterator[tuple[str, str]]:
        """The base address and the gRPC target at which ``model`` answers."""
        async with AsyncExitStack() as stack:
            app = web.Application()
            self.add_http(app, model)
            http = await stack.enter_async_context(TestServer(app))
            server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            self.add_grpc(server, model)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, None)
            yield str(http.make_url(self.path)), f"127.0.0.1:{port}"

    path: ClassVar[str]
    """Of the base address."""

    @abstractmethod
    def add_http(self, app: web.Application, model: Model) -> None:
        """Adds the vendor's HTTP interface."""

    @abstractmethod
    def add_grpc(self, server: grpc.aio.Server, model: Model) -> None:
        """Adds the vendor's gRPC service."""


async def tell(request: web.Request, answer: Answer, events: Iterator[bytes]) -> web.StreamResponse:
    """An HTTP answer as server-sent events, or its refusal."""
    if answer.refusal:
        status, code = REFUSALS[answer.refusal]
        return web.json_response({"error": {"code": status, "message": "no", "status": code.name}}, status=status)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(b"data: " + event + b"\n\n")
        # Lets the client read, so that its pieces are several.
        await asyncio.sleep(0)
    return response


# --- xAI --------------------------------------------------------------------------------------


class Xai(Vendor):
    """``/v1/chat/completions``, and the vendor's own servicer."""

    preset = "xai"
    path = "/v1"
    ends: ClassVar[Mapping[FinishReason, tuple[str, int]]] = {
        FinishReason.STOP: ("stop", sample_pb2.REASON_STOP),
        FinishReason.LENGTH: ("length", sample_pb2.REASON_MAX_LEN),
    }

    def add_http(self, app: web.Application, model: Model) -> None:
        async def completions(request: web.Request) -> web.StreamResponse:
            body = await request.json()
            messages = tuple((message["role"], message["content"]) for message in body["messages"])
            key = request.headers["Authorization"]
            model.asked.append(Question(messages, body.get("temperature"), body.get("max_tokens"), key))
            return await tell(request, model.answer, self._events(model.answer))

        app.router.add_post("/v1/chat/completions", completions)

    def _events(self, answer: Answer) -> Iterator[bytes]:
        for piece in answer.pieces:
            delta = {"reasoning_content" if piece.thought else "content": piece.text}
            yield json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()
        if answer.end is not None:
            choice = {"index": 0, "delta": {}, "finish_reason": self.ends[answer.end][0]}
            yield json.dumps({"choices": [choice]}).encode()
        if answer.counts is not None:
            counts = answer.counts
            usage = {
                "prompt_tokens": counts.read,
                "completion_tokens": counts.written,
                "total_tokens": counts.read + counts.written + counts.thought,
                "prompt_tokens_details": {"cached_tokens": counts.cached},
                "completion_tokens_details": {"reasoning_tokens": counts.thought},
            }
            yield json.dumps({"choices": [], "usage": usage}).encode()
        if answer.end is not None:
            yield b"[DONE]"

    def add_grpc(self, server: grpc.aio.Server, model: Model) -> None:
        chat_pb2_grpc.add_ChatServicer_to_server(_XaiServicer(model), server)


class _XaiServicer(chat_pb2_grpc.ChatServicer):  # type: ignore[misc]  # the vendor's package has no types
    def __init__(self, model: Model) -> None:
        self._model = model

    async def GetCompletionChunk(self, request: Any, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        self._model.asked.append(
            Question(
                tuple(
                    (_XAI_ROLES[message.role], "".join(content.text for content in message.content))
                    for message in request.messages
                ),
                round(request.temperature, 6) if request.HasField("temperature") else None,
                request.max_tokens if request.HasField("max_tokens") else None,
                metadata["authorization"],
            )
        )
        answer = self._model.answer
        if answer.refusal:
            await context.abort(REFUSALS[answer.refusal][1], "no")
        for piece in answer.pieces:
            await context.write(_xai_chunk(piece))
        if answer.end is not None:
            await context.write(_xai_chunk(Said(""), Xai.ends[answer.end][1], answer.counts))


_XAI_ROLES: Final = {chat_pb2.ROLE_SYSTEM: "system", chat_pb2.ROLE_USER: "user", chat_pb2.ROLE_ASSISTANT: "assistant"}


def _xai_chunk(piece: Said, finish: int = 0, counts: Counts | None = None) -> Any:
    delta = chat_pb2.Delta(**{"reasoning_content" if piece.thought else "content": piece.text})
    output = chat_pb2.CompletionOutputChunk(delta=delta, finish_reason=finish)
    if counts is None:
        return chat_pb2.GetChatCompletionChunk(outputs=[output])
    usage = usage_pb2.SamplingUsage(
        prompt_tokens=counts.read,
        completion_tokens=counts.written,
        reasoning_tokens=counts.thought,
        total_tokens=counts.read + counts.written + counts.thought,
        cached_prompt_text_tokens=counts.cached,
    )
    return chat_pb2.GetChatCompletionChunk(outputs=[output], usage=usage)


# --- Gemini -----------------------------------------------------------------------------------


class Gemini(Vendor):
    """``:streamGenerateContent`` over both: the same messages of the vendor's, as JSON and as protobuf."""

    preset = "gemini"
    path = "/v1beta"
    ends: ClassVar[Mapping[FinishReason, Any]] = {
        FinishReason.STOP: Reason.STOP,
        FinishReason.LENGTH: Reason.MAX_TOKENS,
        FinishReason.PROVIDER_BLOCKED: Reason.SAFETY,
    }

    def add_http(self, app: web.Application, model: Model) -> None:
        async def generate(request: web.Request) -> web.StreamResponse:
            asked = vendor.GenerateContentRequest.from_json(await request.text())
            model.asked.append(self._question(asked, request.headers["x-goog-api-key"]))
            events = (
                vendor.GenerateContentResponse.to_json(
                    response, always_print_fields_with_no_presence=False, use_integers_for_enums=False, indent=None
                ).encode()
                for response in self._responses(model.answer)
            )
            return await tell(request, model.answer, events)

        app.router.add_post("/v1beta/models/vendor-model:streamGenerateContent", generate)

    def add_grpc(self, server: grpc.aio.Server, model: Model) -> None:
        async def generate(request: Any, context: Any) -> None:
            metadata = dict(context.invocation_metadata())
            model.asked.append(self._question(request, metadata["x-goog-api-key"]))
            if model.answer.refusal:
                await context.abort(REFUSALS[model.answer.refusal][1], "no")
            for response in self._responses(model.answer):
                await context.write(response)

        handler = grpc.unary_stream_rpc_method_handler(
            generate,
            request_deserializer=vendor.GenerateContentRequest.deserialize,
            response_serializer=vendor.GenerateContentResponse.serialize,
        )
        service = "google.ai.generativelanguage.v1beta.GenerativeService"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"StreamGenerateContent": handler}),)
        )

    def _question(self, request: Any, key: str) -> Question:
        messages = [("system", part.text) for part in request.system_instruction.parts]
        messages += [
            ("assistant" if content.role == "model" else content.role, part.text)
            for content in request.contents
            for part in content.parts
        ]
        config = request.generation_config
        return Question(tuple(messages), round(config.temperature, 6), config.max_output_tokens, key)

    def _responses(self, answer: Answer) -> Iterator[Any]:
        for piece in answer.pieces:
            part = vendor.Part(text=piece.text, thought=piece.thought)
            candidate = vendor.Candidate(content=vendor.Content(role="model", parts=[part]))
            yield vendor.GenerateContentResponse(candidates=[candidate])
        if answer.end is not None:
            last = vendor.GenerateContentResponse(candidates=[vendor.Candidate(finish_reason=self.ends[answer.end])])
            if answer.counts is not None:
                last.usage_metadata = vendor.GenerateContentResponse.UsageMetadata(
                    prompt_token_count=answer.counts.read,
                    cached_content_token_count=answer.counts.cached,
                    thoughts_token_count=answer.counts.thought,
                    candidates_token_count=answer.counts.written,
                )
            yield last


VENDORS: Final[Mapping[str, Vendor]] = {vendor.preset: vendor for vendor in (Xai(), Gemini())}
