"""A bare asyncio gRPC server with one or both of the two conversing RPCs."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from bench import place
from weconverse.v1 import conversation_pb2 as pb

Unary = Callable[[pb.ConverseRequest, Any], Awaitable[pb.ConverseResponse]]
Stream = Callable[[pb.ConverseRequest, Any], Awaitable[None]]
_SERVICE = "weconverse.v1.ConversationService"


async def serve(*, converse: Unary | None = None, stream: Stream | None = None) -> None:
    """Serves until it is told to stop. ``stream`` writes to its context, as the product's handlers do."""
    handlers = {}
    if converse is not None:
        handlers["Converse"] = grpc.unary_unary_rpc_method_handler(
            converse, pb.ConverseRequest.FromString, pb.ConverseResponse.SerializeToString
        )
    if stream is not None:
        handlers["StreamConverse"] = grpc.unary_stream_rpc_method_handler(
            stream, pb.ConverseRequest.FromString, pb.StreamConverseResponse.SerializeToString
        )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await place.announce_and_wait({"grpc": port})
    await server.stop(0)
