"""The relay as it is usually written: grpc.aio in, the openai SDK out, token by token."""

import argparse
from typing import Any

import openai

from bench import place
from bench.baselines import serving
from weconverse.v1 import conversation_pb2 as pb


class _Relay:
    def __init__(self, client: openai.AsyncOpenAI, model: str) -> None:
        self._client = client
        self._model = model

    async def stream(self, request: pb.ConverseRequest, context: Any) -> None:
        stream = await self._client.chat.completions.create(
            model=self._model, messages=[{"role": "user", "content": request.input.parts[0].text}], stream=True
        )
        sequence = 0
        async with stream:
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    sequence += 1
                    delta = pb.TextDelta(text=chunk.choices[0].delta.content)
                    await context.write(pb.StreamConverseResponse(sequence=sequence, delta=delta))


async def _serve(address: str, model: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client:
        await serving.serve(stream=_Relay(client, model).stream)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upstream", required=True, help="host:port")
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    place.run(_serve(options.upstream, options.model), fast_loop=False)


if __name__ == "__main__":
    main()
