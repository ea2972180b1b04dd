"""The same question over both transports of one model gives the same text, end, counts and errors.

The two settings differ in one line, and the fake behind them is one: see ``transports.py``.
"""

from contextlib import aclosing
from typing import Any

import pytest

from program.secret import Secret
from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import Chunk, ErrorClass, Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.settings import ModelSettings
from tests.contract.transports import REFUSALS, VENDORS, Answer, Counts, Model, Question, Said, Vendor
from tests.server.llm.reading import Taken, put_together

KEY = "key-0123456789"
PROMPT = Prompt(
    "m",
    (
        Message(Role.SYSTEM, "简洁"),
        Message(Role.USER, "问"),
        Message(Role.ASSISTANT, "答"),
        Message(Role.USER, "再问"),
    ),
    temperature=0.75,
    max_output_tokens=64,
    request_id="msg-1",
    user="p-1",
)
PIECES = (Said("先想", thought=True), Said("想", thought=True), Said("你"), Said("好,"), Said("<b>\n\n世界👋"))
COUNTS = Counts(read=20, cached=16, thought=5, written=4)


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return VENDORS[request.param]


async def over(transport: Any, vendor: Vendor, addresses: tuple[str, str]) -> tuple[Taken, ProviderError | None]:
    """Asks over one transport. Nothing but ``transport`` changes in the settings."""
    base_url, target = addresses
    entry = ModelSettings(
        preset=vendor.preset,
        transport=transport,
        base_url=base_url,
        target=target,
        model="vendor-model",
        api_key=Secret(KEY),
    )
    backend = build_backends({"m": entry})["m"]
    chunks: list[Chunk] = []
    error: ProviderError | None = None
    try:
        async with aclosing(backend.generate(PROMPT, Budget(20), KEY)) as generated:
            async for chunk in generated:
                chunks.append(chunk)
    except ProviderError as caught:
        error = caught
    finally:
        await backend.aclose()
    assert [chunk.model for chunk in chunks if chunk.model] in ([], ["m"], ["m", "m"])
    return put_together(chunks, error), error


async def both(vendor: Vendor, answer: Answer) -> tuple[tuple[Taken, ProviderError | None], list[Question]]:
    """The outcome, which is the same over both, and what the model was asked."""
    model = Model(answer)
    async with vendor.serving(model) as addresses:
        http = await over("http", vendor, addresses)
        grpc = await over("grpc", vendor, addresses)
    assert http[0] == grpc[0]
    assert len(model.asked) == 2
    return grpc, model.asked


async def test_a_whole_reply(vendor: Vendor) -> None:
    for end in vendor.ends:
        (taken, _), _ = await both(vendor, Answer(PIECES, end, COUNTS))
        assert taken == Taken("你好,<b>\n\n世界👋", "先想想", end, Usage(20, 9, cached_input_token_count=16))


async def test_a_reply_without_counts(vendor: Vendor) -> None:
    (taken, _), _ = await both(vendor, Answer(PIECES, FinishReason.STOP))
    assert taken == Taken("你好,<b>\n\n世界👋", "先想想", FinishReason.STOP, None)


async def test_an_empty_reply(vendor: Vendor) -> None:
    (taken, _), _ = await both(vendor, Answer((), FinishReason.STOP, COUNTS))
    assert (taken.text, taken.complete) == ("", True)


@pytest.mark.parametrize("kept", range(len(PIECES) + 1))
async def test_a_reply_that_is_cut(vendor: Vendor, kept: int) -> None:
    (taken, _), _ = await both(vendor, Answer(PIECES[:kept]))
    assert taken.error is ErrorClass.INCOMPLETE
    assert taken.text == "".join(piece.text for piece in PIECES[:kept] if not piece.thought)


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal(vendor: Vendor, refusal: str) -> None:
    (taken, error), _ = await both(vendor, Answer(refusal=refusal))
    assert error is not None
    assert error.model == "m"
    assert not taken.text


async def test_the_question(vendor: Vendor) -> None:
    _, (over_http, over_grpc) = await both(vendor, Answer(PIECES, FinishReason.STOP))
    assert over_http == over_grpc
    expected = (("system", "简洁"), ("user", "问"), ("assistant", "答"), ("user", "再问"))
    assert (over_grpc.messages, over_grpc.temperature) == (expected, 0.75)
    assert over_grpc.cap is not None
    assert over_grpc.cap >= 64
    assert KEY in over_grpc.key
