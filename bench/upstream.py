"""A mock of an OpenAI-style model server that is never the bottleneck: ``python -m bench.upstream``.

One protocol object a connection, no framework, answers made of prepared bytes. What it does is
in the name of the model, so that every caller can ask for what it measures:
``tokens-64`` answers with 64 tokens at once, ``tokens-64-gap-20`` leaves 20 ms before each,
``tokens-64-first-3000`` waits 3,000 ms before the first.

The reply names the question and the number of messages in the prompt, so that whoever gets it
can tell that it is whole, that it is theirs, and that memory took part (:func:`reply_text`).
``GET /stats`` gives the number of calls.
"""

import argparse
import asyncio
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from bench import place, raw_http

_MARK = re.compile(r"⟨(\w+)⟩")
_TOKEN = "企业服务"
"""Four characters and twelve bytes: about what a model of today puts into an event."""


def mark(number: str) -> str:
    """What makes a question distinct: put it anywhere into the text."""
    return f"⟨{number}⟩"


def reply_tokens(question: str, messages: int, count: int) -> Iterator[str]:
    """The ``count`` tokens of the reply to a question that carries a :func:`mark`."""
    found = _MARK.findall(question)
    yield f"⟨{found[-1] if found else '-'}⟩{messages};"
    for number in range(1, count):
        yield f"{_TOKEN}{number % 10}"


def reply_text(question: str, messages: int, count: int) -> str:
    """The whole reply."""
    return "".join(reply_tokens(question, messages, count))


class Plan(msgspec.Struct, frozen=True):
    """What a model's name asks for; times are seconds."""

    tokens: int
    gap: float = 0.0
    first: float = 0.0

    @classmethod
    def of_model(cls, name: str) -> "Plan":
        words = name.split("-")
        numbers = {key: int(value) for key, value in zip(words[::2], words[1::2], strict=False)}
        return cls(numbers.get("tokens", 1), numbers.get("gap", 0) / 1e3, numbers.get("first", 0) / 1e3)


class _Message(msgspec.Struct):
    role: str
    content: Any = ""


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool = False


_decode = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(model: str, delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    return _chunked(b"data: " + _encode(chunk) + b"\n\n")


def _chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class _Replies:
    """Prepared bytes of each model's stream; only the first token differs from call to call."""

    def __init__(self) -> None:
        self._tails: dict[str, list[bytes]] = {}

    def tail(self, model: str, plan: Plan) -> list[bytes]:
        if model not in self._tails:
            tokens = list(reply_tokens("", 0, plan.tokens))[1:]
            events = [_event(model, {"content": token}) for token in tokens]
            usage = {"prompt_tokens": 20, "completion_tokens": plan.tokens, "total_tokens": 20 + plan.tokens}
            last = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
            end = _event(model, {}, "stop") + _chunked(
                b"data: " + _encode({**last, "choices": [], "usage": usage}) + b"\n\n"
            )
            self._tails[model] = [*events, end + _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"]
        return self._tails[model]


class _Connection(raw_http.Reader):
    """One connection: requests come one after the other, as HTTP/1.1 clients send them."""

    def __init__(self, replies: _Replies, stats: dict[str, int]) -> None:
        super().__init__()
        self._replies = replies
        self._stats = stats
        self._timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def received(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            self.write(raw_http.response(_encode(self._stats)))
        else:
            self._answer(_decode(body))

    def _answer(self, request: _Request) -> None:
        self._stats["calls"] += 1
        plan = Plan.of_model(request.model)
        question = str(request.messages[-1].content)
        send = self._send_stream if request.stream else self._send_whole
        if plan.first:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(plan.first, send, request.model, plan, question, len(request.messages))
        else:
            send(request.model, plan, question, len(request.messages))

    def _send_whole(self, model: str, plan: Plan, question: str, messages: int) -> None:
        message = {"role": "assistant", "content": reply_text(question, messages, plan.tokens)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 20, "completion_tokens": plan.tokens, "total_tokens": 20 + plan.tokens}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
        self.write(raw_http.response(_encode({**body, "usage": usage})))

    def _send_stream(self, model: str, plan: Plan, question: str, messages: int) -> None:
        first = _event(model, {"role": "assistant", "content": next(reply_tokens(question, messages, 1))})
        tail = self._replies.tail(model, plan)
        if not plan.gap:
            self.write(_STREAM_HEAD + first + b"".join(tail))
            return
        self.write(_STREAM_HEAD + first)
        self._send_next(iter(tail), plan.gap)

    def _send_next(self, events: Iterator[bytes], gap: float) -> None:
        def send() -> None:
            event = next(events, None)
            if event is not None:
                self.write(event)
                self._send_next(events, gap)

        self._timer = asyncio.get_running_loop().call_later(gap, send)


async def _serve() -> None:
    replies, stats = _Replies(), {"calls": 0}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(replies, stats), "127.0.0.1", 0, backlog=4096)
    async with server:
        await place.announce_and_wait({"http": server.sockets[0].getsockname()[1]})


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    place.run(_serve())


if __name__ == "__main__":
    main()
