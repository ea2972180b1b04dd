"""The mock upstream over gRPC: ``python -m bench.provider_upstream``.

Our own ``ProviderService``, with the same replies as ``bench.upstream`` gives over HTTP for
the same names of models: a token a message, counts on the last one.
"""

import argparse
import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from bench import place
from bench.upstream import Plan, reply_tokens
from weconverse.provider.v1 import provider_pb2 as pb

_SERVICE = "weconverse.provider.v1.ProviderService"


class _Replies:
    """Prepared bytes of each model's messages; only the first differs from call to call."""

    def __init__(self) -> None:
        self._tails: dict[str, Sequence[bytes]] = {}

    def tail(self, model: str, plan: Plan) -> Sequence[bytes]:
        if model not in self._tails:
            tokens = list(reply_tokens("", 0, plan.tokens))[1:]
            messages = [pb.GenerateResponse(text=token) for token in tokens]
            end = pb.GenerateResponse(
                finish_reason=pb.GenerateResponse.STOP, input_token_count=20, output_token_count=plan.tokens
            )
            self._tails[model] = [message.SerializeToString() for message in (*messages, end)]
        return self._tails[model]

    async def generate(self, request: pb.GenerateRequest, context: Any) -> None:
        plan = Plan.of_model(request.model)
        if plan.first:
            await asyncio.sleep(plan.first)
        question = request.messages[-1].text
        first = pb.GenerateResponse(text=next(reply_tokens(question, len(request.messages), 1)))
        await context.write(first.SerializeToString())
        for message in self.tail(request.model, plan):
            if plan.gap:
                await asyncio.sleep(plan.gap)
            await context.write(message)


def _as_it_is(data: bytes) -> bytes:
    return data


async def _serve() -> None:
    handler = grpc.unary_stream_rpc_method_handler(_Replies().generate, pb.GenerateRequest.FromString, _as_it_is)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Generate": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await place.announce_and_wait({"grpc": port})
    await server.stop(0)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    place.run(_serve())


if __name__ == "__main__":
    main()
