"""Servers of a few lines that misbehave on purpose: what the fake service is too polite for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from weconverse.v1 import admin_pb2, channel_pb2, conversation_pb2

Handler = Callable[[Any, Any], Awaitable[Any]]

SERVICES = [
    conversation_pb2.DESCRIPTOR.services_by_name["ConversationService"],
    channel_pb2.DESCRIPTOR.services_by_name["ChannelService"],
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
]


def message_class(name: str) -> type[Message]:
    modules = (conversation_pb2, channel_pb2, admin_pb2)
    return next(getattr(module, name) for module in modules if hasattr(module, name))  # type: ignore[no-any-return]


def rpc_handler(method: Any, handler: Handler) -> Any:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    return make(
        handler,
        request_deserializer=message_class(method.input_type.name).FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


@asynccontextmanager
async def serving(*, port: int = 0, **handlers: Handler) -> AsyncIterator[str]:
    """Serves the methods that are given, and yields the target."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    for service in SERVICES:
        found = {
            method.name: rpc_handler(method, handlers[method.name])
            for method in service.methods
            if method.name in handlers
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, found),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
