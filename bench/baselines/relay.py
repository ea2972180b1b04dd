"""The thinnest relay: gRPC in, OpenAI-style HTTP out, nothing in between.

grpc.aio and aiohttp, no memory, no cache, no store, no checks; the reply of a stream is
passed on token by token as it comes. ``--model`` is what it asks the upstream for.
"""

import argparse
from typing import Any

import aiohttp
import msgspec

from bench import place
from bench.baselines import serving
from weconverse.v1 import conversation_pb2 as pb


class _Message(msgspec.Struct, frozen=True):
    content: str = ""


class _Choice(msgspec.Struct):
    delta: _Message = _Message()
    message: _Message = _Message()


class _Reply(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Reply).decode
_encode = msgspec.json.Encoder().encode
_HEADERS = {"Content-Type": "application/json"}


class _Relay:
    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self._session = session
        self._url = url
        self._model = model

    def _body(self, request: pb.ConverseRequest, *, stream: bool) -> bytes:
        messages = [{"role": "user", "content": request.input.parts[0].text}]
        return _encode({"model": self._model, "messages": messages, "stream": stream})

    async def converse(self, request: pb.ConverseRequest, _context: Any) -> pb.ConverseResponse:
        async with self._session.post(self._url, data=self._body(request, stream=False), headers=_HEADERS) as response:
            text = _decode(await response.read()).choices[0].message.content
        reply = pb.Content(parts=[pb.Part(text=text)])
        return pb.ConverseResponse(turn=pb.Turn(name=f"{request.conversation}/turns/1", reply=reply))

    async def stream(self, request: pb.ConverseRequest, context: Any) -> None:
        sequence = 0
        tail = b""
        async with self._session.post(self._url, data=self._body(request, stream=True), headers=_HEADERS) as response:
            async for piece in response.content.iter_any():
                *events, tail = (tail + piece).split(b"\n\n")
                for event in events:
                    if event == b"data: [DONE]":
                        continue
                    choices = _decode(event[6:]).choices
                    if choices and choices[0].delta.content:
                        sequence += 1
                        delta = pb.TextDelta(text=choices[0].delta.content)
                        await context.write(pb.StreamConverseResponse(sequence=sequence, delta=delta))


async def _serve(url: str, model: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        relay = _Relay(session, url, model)
        await serving.serve(converse=relay.converse, stream=relay.stream)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upstream", required=True, help="host:port")
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    place.run(_serve(f"http://{options.upstream}/v1/chat/completions", options.model), fast_loop=False)


if __name__ == "__main__":
    main()
