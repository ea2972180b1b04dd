"""A gRPC server that does what a test says, method by method."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2


@dataclass
class Call:
    """One call as the server sees it."""

    request: bytes
    context: grpc.aio.ServicerContext  # type: ignore[type-arg]  # generic in the stubs only
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, message: Message | bytes) -> None:
        await self.context.write(message if isinstance(message, bytes) else message.SerializeToString())

    async def fail(self, code: grpc.StatusCode, message: str = "", *details: Message) -> None:
        """Ends the call with a status, and with what ``google.rpc`` says beside it."""
        if details:
            status = status_pb2.Status(code=code.value[0], message=message, details=[packed(item) for item in details])
            self.context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await self.context.abort(code, message)

    @property
    def metadata(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.context.invocation_metadata() or ()}


def packed(message: Message) -> any_pb2.Any:
    found = any_pb2.Any()
    found.Pack(message)
    return found


def retry_info(milliseconds: int) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(milliseconds)
    return error_details_pb2.RetryInfo(retry_delay=delay)


Handler = Callable[[Call], Awaitable[None]]


@dataclass
class GrpcUpstream:
    target: str
    server: grpc.aio.Server
    calls: list[Call] = field(default_factory=list)


class _AnyMethod(grpc.GenericRpcHandler):
    """Every method of every service is a stream answered by the next handler."""

    def __init__(self, upstream: GrpcUpstream, handlers: tuple[Handler, ...]) -> None:
        self._upstream = upstream
        self._handlers = handlers

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:  # type: ignore[type-arg]
        return grpc.unary_stream_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
        call = Call(request, context)
        calls = self._upstream.calls
        calls.append(call)
        try:
            await self._handlers[min(len(calls), len(self._handlers)) - 1](call)
        except asyncio.CancelledError:
            call.cancelled.set()
            raise


@asynccontextmanager
async def serve(
    *handlers: Handler,
    address: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, int]] = (),
) -> AsyncIterator[GrpcUpstream]:
    """Each call gets the next handler, and those behind the last get the last."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *options])
    upstream = GrpcUpstream("", server)
    server.add_generic_rpc_handlers((_AnyMethod(upstream, handlers),))
    port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    upstream.target = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield upstream
    finally:
        await server.stop(None)


def says(*messages: Message | bytes) -> Handler:
    async def handler(call: Call) -> None:
        for message in messages:
            await call.say(message)

    return handler


def fails(code: grpc.StatusCode, message: str = "", *details: Message, after: tuple[Message, ...] = ()) -> Handler:
    async def handler(call: Call) -> None:
        for said in after:
            await call.say(said)
        await call.fail(code, message, *details)

    return handler


async def hangs(call: Call) -> None:
    await asyncio.Event().wait()
