"""The ``openai`` package as referee: it and this service say the same to the same server."""

import json
from typing import Any

import openai
import pytest

from program.secret import Secret
from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import Image, Message, Prompt, Role
from server.llm.endpoint import endpoint_of
from server.llm.openai.backend import OpenAiHttpProvider
from server.settings import ModelSettings
from tests.server.llm.reading import Taken, take_with
from tests.server.llm.upstream import DONE, HEAD, Request, piece, says, serve

KEY = "sk-very-secret-0123456789"
COUNTS = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
SERVED = (
    HEAD
    # As Azure begins: no choices, and no identity.
    + b'data: {"id":"","object":"","created":0,"model":"","choices":[],"prompt_filter_results":[]}\n\n'
    + piece("你", model="x", object="chat.completion.chunk", id="c", created=1)
    + piece("好", "stop", model="x", object="chat.completion.chunk", id="c", created=1)
    + b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"x","choices":[],"usage":%s}\n\n'
    % json.dumps({**COUNTS, "total_tokens": 11}).encode()
    + DONE
)
PROMPT = Prompt(
    "m",
    (
        Message(Role.SYSTEM, "简洁"),
        Message(Role.USER, "这是什么?", (Image("image/png", data=b"\x89PNG"),)),
        Message(Role.ASSISTANT, "图"),
        Message(Role.USER, "再说"),
    ),
    temperature=0.7,
    max_output_tokens=1500,
    user="person-1",
    request_id="r-1",
)


ASKED: dict[str, Any] = {
    "model": "x",
    "messages": [
        {"role": "system", "content": "简洁"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "这是什么?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
            ],
        },
        {"role": "assistant", "content": "图"},
        {"role": "user", "content": "再说"},
    ],
    "temperature": 0.7,
    "stream": True,
    "stream_options": {"include_usage": True},
}


async def ask_with_the_sdk(client: openai.AsyncOpenAI, **more: Any) -> str:
    stream = await client.chat.completions.create(**ASKED, **more)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def ask_with_ours(**entry: Any) -> Taken:
    settings = ModelSettings(**{"model": "x", "api_key": Secret(KEY), **entry})
    provider = OpenAiHttpProvider(endpoint_of("m", settings))
    taken, _ = await take_with(KEY, provider, PROMPT, Budget(20))
    await provider.aclose()
    return taken


def equal(theirs: Request, ours: Request, *headers: str) -> None:
    assert json.loads(ours.body) == json.loads(theirs.body)
    assert ours.head.splitlines()[0] == theirs.head.splitlines()[0]
    for header in ("content-type", *headers):
        assert ours.header(header) == theirs.header(header), header


WHOLE = Taken("你好", "", FinishReason.STOP, Usage(9, 2, cached_input_token_count=4))


async def test_openai() -> None:
    async with serve(says(SERVED)) as upstream:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=upstream.url, max_retries=0) as client:
            text = await ask_with_the_sdk(client, max_completion_tokens=1500, safety_identifier="person-1")
        taken = await ask_with_ours(preset="openai", base_url=upstream.url)
        theirs, ours = upstream.requests
    assert text == "你好"
    assert taken == WHOLE
    equal(theirs, ours, "authorization")
    assert ours.header("authorization") == f"Bearer {KEY}"


async def test_azure_with_its_older_address() -> None:
    async with serve(says(SERVED)) as upstream:
        origin = upstream.url.removesuffix("/v1")
        async with openai.AsyncAzureOpenAI(
            api_key=KEY, azure_endpoint=origin, azure_deployment="x", api_version="2024-10-21", max_retries=0
        ) as client:
            text = await ask_with_the_sdk(client, max_completion_tokens=1500, user="person-1")
        taken = await ask_with_ours(preset="azure", base_url=f"{origin}/openai/deployments/x?api-version=2024-10-21")
        theirs, ours = upstream.requests
    assert text == "你好"
    assert taken == WHOLE
    equal(theirs, ours, "api-key")
    assert ours.header("api-key") == KEY
    assert ours.header("authorization") is None
    assert ours.head.startswith("POST /openai/deployments/x/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n")


@pytest.mark.parametrize("preset", ["deepseek", "vllm"])
async def test_others_are_asked_as_the_sdk_asks_them(preset: str) -> None:
    user: dict[str, Any] = {"extra_body": {"user_id": "person-1"}} if preset == "deepseek" else {"user": "person-1"}
    async with serve(says(SERVED)) as upstream:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=upstream.url, max_retries=0) as client:
            await ask_with_the_sdk(client, max_tokens=1500, **user)
        await ask_with_ours(preset=preset, base_url=upstream.url, pictures="any")
        theirs, ours = (json.loads(request.body) for request in upstream.requests)
    for message in ours["messages"]:
        message.pop("reasoning_content", None)
    assert ours == theirs
