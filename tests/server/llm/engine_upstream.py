"""A token engine that does what a test says: one process of vLLM or SGLang, as its protocol shows it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from server.llm.engine.dialects import Dialect, SglangDialect, VllmDialect
from server.llm.wire import engine_pb2, sglang_engine_pb2, vllm_engine_pb2
from tests.server.llm.tiny_tokenizer import archive, digest

DIALECTS: dict[str, tuple[type[VllmDialect] | type[SglangDialect], Any]] = {
    "vllm": (VllmDialect, vllm_engine_pb2),
    "sglang": (SglangDialect, sglang_engine_pb2),
}


@dataclass
class Says:
    """How one Generate is answered."""

    ids: Sequence[int] = ()
    finish: str | None = "stop"
    """``None``: the stream ends without a word."""
    size: int = 1
    """Tokens a message."""
    status: grpc.StatusCode | None = None
    """Fails with it behind the tokens."""
    words: str = ""
    hangs: bool = False
    """Says nothing more behind the tokens."""
    endless: bool = False
    """Says the last tokens again and again."""


@dataclass
class Engine:
    """What the engine is and does; tests change it while it runs."""

    dialect: str
    archive: bytes = field(default_factory=archive)
    named: str | None = None
    """The digest that it names; ``None``: the right one."""
    chunk_bytes: int = 1000
    healthy: bool = True
    info: dict[str, Any] = field(default_factory=dict)
    answers: list[Says] = field(default_factory=list)
    """The last one again and again."""
    target: str = ""
    requests: list[Any] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    """Names of the methods that were called."""
    aborted: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    cancelled: asyncio.Queue[str] = field(default_factory=asyncio.Queue)


class _Servicer(grpc.GenericRpcHandler):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        kind, self._pb = DIALECTS[engine.dialect]
        self._dialect: Dialect = kind()
        self._handlers: dict[str, Any] = {
            self._dialect.generate.path: grpc.unary_stream_rpc_method_handler(self._generate),
            self._dialect.tokenizer.path: grpc.unary_stream_rpc_method_handler(self._tokenizer),
            self._dialect.health.path: grpc.unary_unary_rpc_method_handler(self._health),
            self._dialect.model_info.path: grpc.unary_unary_rpc_method_handler(self._info),
            self._dialect.abort.path: grpc.unary_unary_rpc_method_handler(self._abort),
        }

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        path = details.method or ""
        self._engine.calls.append(path.rpartition("/")[2])
        return self._handlers.get(path)

    async def _generate(self, data: bytes, context: Any) -> None:
        request = self._pb.GenerateRequest.FromString(data)
        engine = self._engine
        engine.requests.append(request)
        says = engine.answers[min(len(engine.requests), len(engine.answers)) - 1]
        try:
            await self._answer(request, says, context)
        except asyncio.CancelledError:
            engine.cancelled.put_nowait(request.request_id)
            raise

    async def _answer(self, request: Any, says: Says, context: Any) -> None:
        pb, read = self._pb, len(request.tokenized.input_ids)
        part: Sequence[int] = ()
        for at in range(0, len(says.ids), says.size):
            part = says.ids[at : at + says.size]
            chunk = pb.GenerateChunk(token_ids=part, prompt_tokens=read, completion_tokens=len(part))
            await context.write(pb.GenerateResponse(chunk=chunk).SerializeToString())
        while says.endless:
            await context.write(pb.GenerateResponse(chunk=chunk).SerializeToString())
        if says.hangs:
            await asyncio.Event().wait()
        if says.status is not None:
            await context.abort(says.status, says.words)
        if says.finish is not None:
            end = pb.GenerateComplete(output_ids=part, finish_reason=says.finish, prompt_tokens=read, cached_tokens=2)
            await context.write(pb.GenerateResponse(complete=end).SerializeToString())

    async def _tokenizer(self, data: bytes, context: Any) -> None:
        whole, size = self._engine.archive, self._engine.chunk_bytes
        named = digest(whole) if self._engine.named is None else self._engine.named
        for at in range(0, len(whole), size):
            last = at + size >= len(whole)
            chunk = engine_pb2.TokenizerChunk(data=whole[at : at + size], sha256=named if last else "")
            await context.write(chunk.SerializeToString())

    async def _health(self, data: bytes, context: Any) -> bytes:
        return engine_pb2.HealthCheckResponse(healthy=self._engine.healthy, message="warming up").SerializeToString()

    async def _info(self, data: bytes, context: Any) -> bytes:
        told = {"served_model_name": "tiny", "is_generation": True, "max_context_length": 512} | self._engine.info
        info: bytes = self._pb.ModelInfo(**told).SerializeToString()
        return info

    async def _abort(self, data: bytes, context: Any) -> bytes:
        request = self._pb.AbortRequest.FromString(data)
        ids = [request.request_id] if self._engine.dialect == "sglang" else request.request_ids
        for each in ids:
            self._engine.aborted.put_nowait(each)
        return b""


@asynccontextmanager
async def serve(engine: Engine, address: str = "127.0.0.1:0") -> AsyncIterator[Engine]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Servicer(engine),))
    engine.target = f"127.0.0.1:{server.add_insecure_port(address)}"
    await server.start()
    try:
        yield engine
    finally:
        await server.stop(None)
