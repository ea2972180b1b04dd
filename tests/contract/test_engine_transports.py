"""vLLM over both of its transports: the same question reaches the model as the same tokens, and its
answer comes back as the same text, thoughts, end and counts.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.domain import FinishReason, Usage
from server.llm.base import Backend, ErrorClass, Message, Prompt, Role
from server.llm.catalog import build_backends
from server.llm.engine.prompt_worker import Worker
from server.llm.engine.token_pieces import vocabulary_of
from server.llm.engine.vocabulary import Detokenizer
from server.llm.prompt_messages import Load, Tokenize, Tokenized
from server.settings import ModelSettings
from tests.server.llm import engine_upstream, upstream
from tests.server.llm.engine_upstream import Engine, Says
from tests.server.llm.reading import Taken, take
from tests.server.llm.tiny_tokenizer import archive, byte_level

PROMPT = Prompt(
    "m",
    (
        Message(Role.SYSTEM, "简洁"),
        Message(Role.USER, "问"),
        Message(Role.ASSISTANT, "答"),
        Message(Role.USER, "再问 😀"),
    ),
    temperature=0.75,
    max_output_tokens=64,
    request_id="msg-1",
)
IDS = list(byte_level().encode("<think>先想想</think>\n\n你好,<b>世界👋", add_special_tokens=False).ids)
CACHED = 2
"""Tokens of the prompt that the model had computed before, as the fake engine says."""


class OverHttp:
    """The HTTP server of the engine: its template, its tokeniser and its way of cutting text into pieces."""

    def __init__(self, says: Says) -> None:
        self._says = says
        self._worker = Worker()
        self._worker.answer(Load(archive()))
        self.asked: list[list[int]] = []
        self.parameters: list[tuple[float, int]] = []

    async def __call__(self, request: upstream.Request) -> None:
        body = json.loads(request.body)
        messages = [(message["role"], message["content"]) for message in body["messages"]]
        prompt = self._worker.answer(Tokenize(messages, {}))
        assert isinstance(prompt, Tokenized)
        self.asked.append(prompt.ids)
        self.parameters.append((body["temperature"], body["max_tokens"]))
        await request.say(upstream.HEAD)
        detokenizer = Detokenizer(vocabulary_of(byte_level()))
        for each in self._says.ids:
            await request.say(upstream.piece(detokenizer.feed([each])))
        if self._says.finish is not None:
            await request.say(upstream.piece(finish=self._says.finish))
            counts = {
                "prompt_tokens": len(prompt.ids),
                "completion_tokens": len(self._says.ids),
                "total_tokens": len(prompt.ids) + len(self._says.ids),
                "prompt_tokens_details": {"cached_tokens": CACHED},
            }
            await request.say(b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n")
            await request.say(upstream.DONE)


@asynccontextmanager
async def backend(**settings: str) -> AsyncIterator[Backend]:
    # What differs is the transport, and the port that each has.
    found = build_backends({"m": ModelSettings(preset="vllm", **settings)})["m"]  # type: ignore[arg-type]
    try:
        yield found
    finally:
        await found.aclose()


async def both(says: Says) -> tuple[Taken, Taken]:
    http = OverHttp(says)
    async with (
        upstream.serve(http) as server,
        backend(transport="http", base_url=server.url) as asked,
    ):
        over_http, _ = await take(asked, prompt=PROMPT)
    engine = Engine("vllm", answers=[says])
    async with (
        engine_upstream.serve(engine),
        backend(transport="grpc", target=engine.target) as asked,
    ):
        over_grpc, _ = await take(asked, prompt=PROMPT)
    [request] = engine.requests
    assert [list(request.tokenized.input_ids)] == http.asked
    assert [(request.sampling_params.temperature, request.sampling_params.max_tokens)] == http.parameters
    return over_http, over_grpc


@pytest.mark.parametrize(("finish", "end"), [("stop", FinishReason.STOP), ("length", FinishReason.LENGTH)])
async def test_a_whole_reply(finish: str, end: FinishReason) -> None:
    over_http, over_grpc = await both(Says(IDS, finish))
    assert over_http == over_grpc
    assert over_grpc._replace(usage=None) == Taken("你好,<b>世界👋", "先想想", end, None)
    assert over_grpc.usage is not None
    assert over_grpc.usage == Usage(over_grpc.usage.input_token_count, len(IDS), cached_input_token_count=CACHED)


@pytest.mark.parametrize("kept", range(0, len(IDS) + 1, 3))
async def test_a_reply_that_is_cut(kept: int) -> None:
    over_http, over_grpc = await both(Says(IDS[:kept], None))
    assert over_http == over_grpc
    assert over_grpc.error is ErrorClass.INCOMPLETE


async def test_an_empty_reply() -> None:
    over_http, over_grpc = await both(Says([], "stop"))
    assert over_http == over_grpc
    assert (over_grpc.text, over_grpc.complete) == ("", True)
