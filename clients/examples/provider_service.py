"""Any engine as a model backend, in about 60 lines: put yours in the place of ``parrot``.

    python provider_service.py 127.0.0.1:50061

and, in the settings of the server::

    [models.mine]
    transport = "grpc"
    target = "127.0.0.1:50061"

What to look at: the last message says why the reply ended, and a reply without one counts
as cut; when the caller leaves, the engine stops; what an engine says when it fails goes
into this program's log, and not over the wire.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import grpc
import grpc.aio

from weconverse.provider.v1 import provider_pb2_grpc
from weconverse.provider.v1.provider_pb2 import GenerateRequest, GenerateResponse

Engine = Callable[[GenerateRequest], AsyncGenerator[GenerateResponse, None]]


async def parrot(request: GenerateRequest) -> AsyncGenerator[GenerateResponse, None]:
    """Says the question again, one character a token."""
    question = request.messages[-1].text
    cap = request.max_output_tokens if request.HasField("max_output_tokens") else len(question)
    for token in question[:cap]:
        yield GenerateResponse(text=token)
        await asyncio.sleep(0)  # Where a real engine computes; blocking ones belong into a thread.
    yield GenerateResponse(
        finish_reason=GenerateResponse.STOP if cap >= len(question) else GenerateResponse.LENGTH,
        input_token_count=sum(len(message.text) for message in request.messages),
        output_token_count=min(cap, len(question)),
    )


class ProviderService(provider_pb2_grpc.ProviderServiceServicer):
    """Hands out what an engine says."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Generate(  # type: ignore[override]  # noqa: N802  # a coroutine that writes, under the contract's name
        self, request: GenerateRequest, context: grpc.aio.ServicerContext[GenerateRequest, GenerateResponse]
    ) -> None:
        """One reply. A caller who leaves cancels this, and the engine with it."""
        if not request.messages:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "messages: at least one is needed")
        if any(message.images for message in request.messages):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "messages.images: this engine sees no pictures")
        try:
            async with aclosing(self._engine(request)) as pieces:
                async for piece in pieces:
                    await context.write(piece)
        except Exception:  # The edge of this program.
            logging.exception("the engine failed on request %s", request.request_id)
        else:
            return
        await context.abort(grpc.StatusCode.INTERNAL, "the engine failed; its log says why")


async def start(engine: Engine, address: str) -> tuple[grpc.aio.Server, int]:
    """A server that answers, and its port. It has no TLS and asks for no key: for this machine only."""
    # The second one lets callers ask a silent connection for a sign of life every 30 s.
    options = [("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 20_000)]
    server = grpc.aio.server(options=options)
    provider_pb2_grpc.add_ProviderServiceServicer_to_server(ProviderService(engine), server)
    port = server.add_insecure_port(address)
    await server.start()
    return server, port


async def main(address: str) -> None:
    """Serves until SIGTERM or SIGINT, then lets calls finish for up to 20 seconds."""
    server, port = await start(parrot, address)
    print(f"listening on port {port}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop(20)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50061"))
