"""Vectors over HTTP: a server that behaves, one that does not, and one that is away."""

import asyncio
import base64
import json
import math
import struct
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from openai import AsyncOpenAI

from program.secret import Secret
from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.embedder import FAILURES_IN_A_ROW, REST_SECONDS, OptionalEmbedder, unit
from server.llm.embeddings import BYTES_PER_TEXT, HttpEmbedder, read_vectors
from server.settings import EmbeddingSettings
from tests.server.llm.embedding_server import embedding_server
from tests.server.llm.ngram_embedder import DIMENSION, NgramEmbedder, ngram_vector
from tests.server.llm.upstream import CHUNKED_HEAD, chunked, hangs, says, serve

KEY = "sk-embeddings-0123456789"
TEXTS = ["年假有几天", "怎么连VPN", "打印机脱机", "食堂几点开门"]


@asynccontextmanager
async def embedder_for(url: str, **more: object) -> AsyncIterator[HttpEmbedder]:
    embedder = HttpEmbedder("e", EmbeddingSettings(base_url=url, **more))  # type: ignore[arg-type]
    try:
        yield embedder
    finally:
        await embedder.aclose()


def close(one: "array[float]", other: "array[float]") -> bool:
    return len(one) == len(other) and all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(one, other, strict=True))


def product(one: "array[float]", other: "array[float]") -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


# --- a server that behaves ----------------------------------------------------------------


async def test_the_fake_server_speaks_as_others_read_it() -> None:
    """The vendor's own client is the referee of the server that the other tests lean on."""
    async with embedding_server() as server, AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        server.backwards = True
        packed = await client.embeddings.create(model="m", input=TEXTS)
        plain = await client.embeddings.create(model="m", input=TEXTS, encoding_format="float")
        assert server.requests[0]["encoding_format"] == "base64"
        for response in (packed, plain):
            for item in response.data:
                assert close(array("f", item.embedding), ngram_vector(TEXTS[item.index]))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
async def test_vectors_come_back_in_the_order_of_the_texts(packed: bool, backwards: bool) -> None:
    async with embedding_server() as server, embedder_for(server.url, api_key=Secret(KEY)) as embedder:
        server.base64, server.backwards = packed, backwards
        vectors = await embedder.embed_all(TEXTS, Budget(10))
        assert all(close(vector, ngram_vector(text)) for vector, text in zip(vectors, TEXTS, strict=True))
        assert server.requests == [{"model": "e", "input": TEXTS}]
        assert server.keys == [f"Bearer {KEY}"]


async def test_what_is_asked_for_together_goes_together() -> None:
    async with embedding_server() as server, embedder_for(server.url, model="text-x", batch_size=3) as embedder:
        budget = Budget(10)
        vectors = await asyncio.gather(*(embedder.embed(text, budget) for text in TEXTS))
        assert all(close(vector, ngram_vector(text)) for vector, text in zip(vectors, TEXTS, strict=True))
        assert sorted(len(request["input"]) for request in server.requests) == [1, 3]
        assert server.requests[0]["model"] == embedder.identity == "text-x"
        await embedder.embed_all(TEXTS, budget)
        assert [len(request["input"]) for request in server.requests[2:]] == [3, 1]


async def test_a_shorter_vector_is_asked_for_and_belongs_to_another_identity() -> None:
    async with embedding_server() as server, embedder_for(server.url, dimensions=64) as embedder:
        vector = await embedder.embed("年假", Budget(10))
        assert len(vector) == 64
        assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-6)
        assert server.requests[0]["dimensions"] == 64
        assert server.keys == [None]
        assert embedder.identity == "e:64"


async def test_a_refused_text_does_not_fail_the_others() -> None:
    async with embedding_server() as server, embedder_for(server.url) as embedder:
        server.refuses = TEXTS[1]
        budget = Budget(10)
        results = await asyncio.gather(*(embedder.embed(text, budget) for text in TEXTS), return_exceptions=True)
        assert [isinstance(result, ProviderError) for result in results] == [False, True, False, False]
        assert len(server.requests) == 1 + len(TEXTS)
        with pytest.raises(ProviderError) as caught:
            await embedder.embed_all(TEXTS, budget)
        assert caught.value.kind is ErrorClass.BAD_REQUEST


# --- one that does not --------------------------------------------------------------------


def item(vector: object, index: int | None = None) -> dict[str, object]:
    return {"embedding": vector} if index is None else {"embedding": vector, "index": index}


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_both_ways_to_write_numbers_and_no_indexes() -> None:
    answer = json.dumps({"data": [item([3, 4.0]), item(packed(-3, 4))]}).encode()
    assert [list(vector) for vector in read_vectors(answer, 2)] == [
        pytest.approx([0.6, 0.8]),
        pytest.approx([-0.6, 0.8]),
    ]


@pytest.mark.parametrize(
    "data",
    [
        [],
        [item([1.0], 0)],
        [item([1.0], 0), item([1.0], 1), item([1.0], 2)],
        [item([1.0], 0), item([1.0], 0)],
        [item([1.0], 1), item([1.0], 2)],
        [item([1.0], 0), item([1.0])],
        [item([1.0], 0), item([0.0, 0.0], 1)],
        [item([1.0], 0), item([], 1)],
        [item([1.0], 0), item([1e200], 1)],
        [item([1.0], 0), item("no base64!", 1)],
        [item([1.0], 0), item(base64.b64encode(b"abc").decode(), 1)],
        [item([1.0], 0), item(packed(math.nan), 1)],
        [item([1.0], 0), item(packed(math.inf), 1)],
        [item([1.0], 0), item(["1.0"], 1)],
        [item([1.0], 0), item(None, 1)],
        "data",
        None,
    ],
)
def test_answers_that_cannot_be_used(data: object) -> None:
    with pytest.raises(ProviderError) as caught:
        read_vectors(json.dumps({"data": data}).encode(), 2)
    assert caught.value.kind is ErrorClass.INCOMPLETE


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", ErrorClass.INCOMPLETE),
        (b"<html>", ErrorClass.INCOMPLETE),
        (b'{"data": [{"embedding": [1', ErrorClass.INCOMPLETE),
        (b'{"error": {"message": "no money", "code": "insufficient_quota"}}', ErrorClass.QUOTA),
    ],
)
def test_a_200_that_is_none(answer: bytes, kind: ErrorClass) -> None:
    with pytest.raises(ProviderError) as caught:
        read_vectors(answer, 1)
    assert caught.value.kind is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, ErrorClass.AUTH), (404, ErrorClass.NOT_FOUND), (429, ErrorClass.RATE_LIMIT), (503, ErrorClass.TRANSIENT)],
)
async def test_refusals_keep_their_class_and_lose_the_key(status: int, kind: ErrorClass) -> None:
    async with embedding_server() as server, embedder_for(server.url, api_key=Secret(KEY)) as embedder:
        server.answer = web.Response(status=status, text=json.dumps({"error": {"message": f"key {KEY}"}}))
        with pytest.raises(ProviderError) as caught:
            await embedder.embed("年假", Budget(10))
        error = caught.value
        assert (error.kind, error.model, error.status) == (kind, "e", status)
        assert KEY not in error.detail
        assert KEY not in str(error)


async def test_vectors_that_change_their_length_are_refused() -> None:
    async with embedding_server() as server, embedder_for(server.url) as embedder:
        await embedder.embed("年假", Budget(10))
        server.answer = web.json_response({"data": [item([1.0, 2.0], 0)]})
        with pytest.raises(ProviderError, match=f"2 numbers where {DIMENSION}"):
            await embedder.embed("年假", Budget(10))


async def test_long_answers_are_read_like_short_ones() -> None:
    texts = [f"第{number}个问题" for number in range(32)]
    async with embedding_server() as server, embedder_for(server.url) as embedder:
        vectors = await embedder.embed_all(texts, Budget(10))
        assert all(close(vector, ngram_vector(text)) for vector, text in zip(vectors, texts, strict=True))


async def test_an_answer_without_end_is_left() -> None:
    endless = CHUNKED_HEAD + chunked(b" " * (2 * BYTES_PER_TEXT + 1))
    async with serve(says(endless)) as upstream, embedder_for(upstream.url) as embedder:
        with pytest.raises(ProviderError, match="exceeds") as caught:
            await embedder.embed("年假", Budget(10))
        assert caught.value.kind is ErrorClass.INCOMPLETE


async def test_silence_ends_with_the_budget() -> None:
    async with serve(hangs) as upstream, embedder_for(upstream.url) as embedder:
        with pytest.raises(ProviderError) as caught:
            await embedder.embed("年假", Budget(0.05))
        assert caught.value.kind is ErrorClass.TIMEOUT


@pytest.mark.parametrize("url", ["", "embeddings.internal/v1", "ftp://host/v1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        HttpEmbedder("e", EmbeddingSettings(base_url=url))


# --- doing without ------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Moody:
    """An embedder that fails when told to."""

    identity = "moody"

    def __init__(self) -> None:
        self.asked = 0
        self.error: ProviderError | None = None

    async def embed(self, text: str, budget: Budget) -> "array[float]":
        self.asked += 1
        if self.error is not None:
            raise self.error
        return unit([1.0])

    async def embed_all(self, texts: object, budget: Budget) -> "list[array[float]]":
        raise NotImplementedError

    async def aclose(self) -> None: ...


async def test_after_failures_it_rests_and_then_one_ask_finds_out() -> None:
    clock, moody = Clock(), Moody()
    optional = OptionalEmbedder(moody, 1, clock)
    moody.error = ProviderError(ErrorClass.TRANSIENT, "away")
    for _ in range(FAILURES_IN_A_ROW + 5):
        assert await optional.vector("年假", Budget(10)) is None
    assert moody.asked == FAILURES_IN_A_ROW
    clock.now = REST_SECONDS
    assert [await optional.vector("年假", Budget(10)) for _ in range(5)] == [None] * 5
    assert moody.asked == FAILURES_IN_A_ROW + 1
    clock.now, moody.error = 2 * REST_SECONDS, None
    assert all([await optional.vector("年假", Budget(10)) for _ in range(5)])
    assert moody.asked == FAILURES_IN_A_ROW + 6


@pytest.mark.parametrize("kind", [ErrorClass.CONTENT, ErrorClass.CONTEXT])
async def test_a_text_that_is_refused_says_nothing_about_the_next(kind: ErrorClass) -> None:
    moody = Moody()
    optional = OptionalEmbedder(moody, 1, Clock())
    moody.error = ProviderError(kind, "no")
    for _ in range(20):
        assert await optional.vector("年假", Budget(10)) is None
    assert moody.asked == 20


async def test_a_caller_in_a_hurry_says_nothing_either() -> None:
    moody = Moody()
    optional = OptionalEmbedder(moody, 1, Clock())
    moody.error = ProviderError(ErrorClass.TIMEOUT, "late")
    for _ in range(20):
        assert await optional.vector("年假", Budget(0)) is None
    assert moody.asked == 20


async def test_nobody_is_there_and_nobody_notices() -> None:
    async with serve(hangs) as upstream, embedder_for(upstream.url) as embedder:
        assert await OptionalEmbedder(embedder, 0.05).vector("年假", Budget(10)) is None


# --- without a model ----------------------------------------------------------------------


async def test_ngrams_are_near_when_texts_look_alike() -> None:
    embedder = NgramEmbedder()
    one, near, far = await embedder.embed_all(["打印机一直脱机", "打印机总是脱机", "年假能结转吗"], Budget(1))
    assert math.isclose(math.hypot(*one), 1, abs_tol=1e-6)
    assert one == await embedder.embed("打印机一直脱机", Budget(1))
    assert product(one, near) > 0.5 > product(one, far)
    assert len(await embedder.embed("", Budget(1))) == DIMENSION
    await embedder.aclose()


def test_a_key_travels_in_plain_text_only_where_that_is_allowed() -> None:
    address, key = "http://embeddings.corp.example/v1", Secret("k")
    with pytest.raises(ValueError, match=r"^base_url: .* plain text; use https://, or set plain_http"):
        HttpEmbedder("e", EmbeddingSettings(base_url=address, api_key=key))
    HttpEmbedder("e", EmbeddingSettings(base_url=address, api_key=key, plain_http=True))
    HttpEmbedder("e", EmbeddingSettings(base_url=address))
    HttpEmbedder("e", EmbeddingSettings(base_url="http://127.0.0.1:1/v1", api_key=key))
