"""An independent mock of several vendors that breaks on demand: nothing cut is ever complete."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock

from server.budget import Budget
from server.llm.base import Backend, ErrorClass, ProviderError
from server.llm.catalog import build_backends
from server.settings import ModelSettings
from tests.server.llm.reading import ASKED, Taken, take_with

KEY = "sk-test"
VENDORS = {
    "anthropic": ("/anthropic", "claude-haiku-4-5"),
    "gemini": ("/gemini/v1beta", "gemini-2.5-flash"),
    "mistral": ("/mistral/v1", "mistral-small-latest"),
    "openai": ("/v1", "gpt-4.1-mini"),
    "xai": ("/xai/v1", "grok-4"),
}
"""Presets, which are also the mock's names for them."""

pytestmark = pytest.mark.parametrize("vendor", sorted(VENDORS))


@asynccontextmanager
async def backend_for(llmock: LLMock, vendor: str, **more: Any) -> AsyncIterator[Backend]:
    path, model = VENDORS[vendor]
    settings = ModelSettings(preset=vendor, base_url=llmock.url + path, model=model, **more)
    backend = build_backends({"m": settings})["m"]
    try:
        yield backend
    finally:
        await backend.aclose()


async def taken_from(llmock: LLMock, vendor: str, **more: Any) -> Taken:
    async with backend_for(llmock, vendor, **more) as backend:
        taken, _ = await take_with(KEY, backend)
    return taken


async def _failure(backend: Backend) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async with aclosing(backend.generate(ASKED, Budget(20), KEY)) as chunks:
            async for _ in chunks:
                pass
    return caught.value


async def test_a_reply(llmock: LLMock, vendor: str) -> None:
    llmock.reply("一二三")
    taken = await taken_from(llmock, vendor)
    assert taken.text.strip() == "一二三"
    assert taken.complete
    # As Mistral it counts nothing.
    assert (taken.usage is not None) is (vendor != "mistral")
    (request,) = llmock.requests
    assert request.provider == vendor
    llmock.assert_resilient(strict=True)


BUSY = {ErrorClass.TRANSIENT, ErrorClass.OVERLOADED}
"""Vendors differ in whether they have a word of their own for being overloaded."""


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        (400, {ErrorClass.BAD_REQUEST}),
        (401, {ErrorClass.AUTH}),
        (403, {ErrorClass.AUTH}),
        (404, {ErrorClass.NOT_FOUND}),
        (429, {ErrorClass.RATE_LIMIT}),
        (500, {ErrorClass.TRANSIENT}),
        (503, BUSY),
        (529, BUSY),
    ],
)
async def test_refusals(llmock: LLMock, vendor: str, status: int, kinds: set[ErrorClass]) -> None:
    llmock.fail(status)
    taken = await taken_from(llmock, vendor)
    assert taken[:4] == ("", "", None, None)
    assert taken.error in kinds
    # A backend makes one attempt; whether there is another is decided elsewhere.
    assert len(llmock.requests) == 1


async def test_a_rate_limit_says_how_long(llmock: LLMock, vendor: str) -> None:
    llmock.rate_limit(retry_after=3)
    async with backend_for(llmock, vendor) as backend:
        error = await _failure(backend)
    assert (error.kind, error.retry_after) == (ErrorClass.RATE_LIMIT, 3.0)


async def test_a_prompt_that_is_too_long(llmock: LLMock, vendor: str) -> None:
    llmock.context_overflow()
    assert (await taken_from(llmock, vendor)).error is ErrorClass.CONTEXT


Break = Callable[[LLMock, int], LLMock]

BREAKS: dict[str, Break] = {
    "disconnect": lambda llmock, chunks: llmock.disconnect(after_chunks=chunks),
    "truncate": lambda llmock, chunks: llmock.truncate(after_chunks=chunks),
    "malformed": lambda llmock, chunks: llmock.corrupt(after_chunks=chunks),
}


@pytest.mark.parametrize("after", [1, 2, 3, 4])
@pytest.mark.parametrize("fault", sorted(BREAKS))
async def test_what_is_cut_is_not_complete(llmock: LLMock, vendor: str, fault: str, after: int) -> None:
    BREAKS[fault](llmock.reply("一 二 三 四 五 六 七 八", times=2), after)
    async with backend_for(llmock, vendor) as backend:
        taken, _ = await take_with(KEY, backend)
        assert not taken.complete
        assert taken.error is ErrorClass.INCOMPLETE
        assert "八" not in taken.text
        # The error says that a second attempt may help, and so the mock's verdict is that it was seen.
        again, _ = await take_with(KEY, backend)
    assert again.complete
    assert again.text.startswith(taken.text.rstrip())
    assert not llmock.verdict().errors


async def test_a_stall(llmock: LLMock, vendor: str) -> None:
    llmock.reply("一 二 三 四 五 六 七 八").stall(after_chunks=4, seconds=30)
    taken = await taken_from(llmock, vendor, idle_seconds=0.2, first_token_seconds=5)
    assert taken.error is ErrorClass.TIMEOUT
    assert "八" not in taken.text


async def test_a_slow_first_token(llmock: LLMock, vendor: str) -> None:
    llmock.slow_first_token(30)
    taken = await taken_from(llmock, vendor, first_token_seconds=0.2)
    assert taken == Taken("", "", None, None, ErrorClass.TIMEOUT)


async def test_a_tool_that_nobody_offered(llmock: LLMock, vendor: str) -> None:
    llmock.call_tool("get_weather", {"city": "北京"})
    assert (await taken_from(llmock, vendor)).error is ErrorClass.INCOMPLETE
