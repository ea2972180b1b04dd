"""What is reserved for an answer is the cap that is really sent."""

from typing import Any

import msgspec
import pytest

from program.secret import Secret
from server.budget import Budget
from server.llm.base import Message, Prompt, Provider, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.endpoint import endpoint_of
from server.llm.output_cap import UNBOUNDED_OUTPUT_TOKENS, most_output
from server.settings import ModelSettings
from tests.server.llm.upstream import Upstream, says, serve

ASKED = Prompt("m", (Message(Role.USER, "你好"),), max_output_tokens=700)
REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


def entry_of(**entry: Any) -> ModelSettings:
    return ModelSettings(**{"api_key": Secret("k"), **entry})


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"preset": "openai"}, ("max_completion_tokens",)),
        ({"preset": "deepseek"}, ("max_tokens",)),
        ({"preset": "deepseek", "extra_body": {"max_tokens": 12_000}}, ("max_tokens",)),
        ({"preset": "anthropic"}, ("max_tokens",)),
        ({"preset": "anthropic", "thinking": "on"}, ("max_tokens",)),
        ({"preset": "anthropic", "thinking": "off"}, ("max_tokens",)),
        (
            {"preset": "anthropic", "extra_body": {"thinking": {"type": "enabled", "budget_tokens": 20_000}}},
            ("max_tokens",),
        ),
        ({"preset": "anthropic", "thinking": "on", "extra_body": {"max_tokens": 900}}, ("max_tokens",)),
        ({"preset": "gemini"}, ("generationConfig", "maxOutputTokens")),
        ({"preset": "gemini", "thinking": "off"}, ("generationConfig", "maxOutputTokens")),
        (
            {"preset": "gemini", "extra_body": {"generationConfig": {"maxOutputTokens": 50_000}}},
            ("generationConfig", "maxOutputTokens"),
        ),
    ],
)
async def test_as_much_as_the_request_allows(entry: dict[str, Any], where: tuple[str, ...]) -> None:
    async with serve(says(REFUSED)) as upstream:
        settings = entry_of(**entry, base_url=upstream.url, model="m")
        backend = build_backends({"m": settings})["m"]
        sent = await _body(backend, upstream)
    for name in where:
        sent = sent[name]
    assert most_output(endpoint_of("m", settings))(ASKED) == sent


async def _body(backend: Provider, upstream: Upstream) -> Any:
    try:
        with pytest.raises(ProviderError):
            async for _ in backend.generate(ASKED, Budget(10)):
                pass
    finally:
        await backend.aclose()
    return msgspec.json.decode(upstream.requests[0].body)


def test_engines_take_the_cap_of_the_prompt_before_that_of_the_settings() -> None:
    entry = entry_of(protocol="vllm_engine", target="127.0.0.1:9", extra_body={"max_tokens": 5})
    assert most_output(endpoint_of("m", entry))(ASKED) == 700


def test_where_no_cap_is_sent_some_length_is_assumed() -> None:
    silent = msgspec.structs.replace(ASKED, max_output_tokens=None)
    for preset in ("openai", "gemini"):
        assert most_output(endpoint_of("m", entry_of(preset=preset)))(silent) == UNBOUNDED_OUTPUT_TOKENS


@pytest.mark.parametrize("preset", ["triton", "weconverse", "vllm"])
def test_others_are_sent_what_the_prompt_asks_for(preset: str) -> None:
    for transport in ("http", "grpc"):
        if preset == "vllm" or transport == "grpc":
            settings = entry_of(
                preset=preset, transport=transport, **{"base_url" if transport == "http" else "target": _at(transport)}
            )
            assert most_output(endpoint_of("m", settings))(ASKED) == 700


def _at(transport: str) -> str:
    return "http://127.0.0.1:9/v1" if transport == "http" else "127.0.0.1:9"
