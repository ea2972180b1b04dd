"""What every HTTP backend stands on, where it is not proved through one of them: answers that come whole."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.http_call import HttpOrigin, Outgoing
from server.settings import ModelSettings
from tests.server.llm.upstream import CHUNKED_HEAD, Handler, Request, chunked, hangs, says, serve

KEY = "sk-very-secret-0123456789"
BODY = b'{"data":[1,2,3]}'
ANSWER = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


@asynccontextmanager
async def origin(**entry: object) -> AsyncIterator[HttpOrigin]:
    made = HttpOrigin("m", ModelSettings(**entry))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.aclose()


def outgoing(url: str) -> Outgoing:
    return Outgoing(URL(url), b"{}", {"authorization": f"Bearer {KEY}"}, KEY)


async def fetch(handler: Handler, budget: float = 20, **entry: object) -> bytes:
    async with serve(handler) as upstream, origin(**entry) as made:
        return await made.fetch(outgoing(upstream.url), Budget(budget), 1000)


async def failing(handler: Handler, budget: float = 20, **entry: object) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await fetch(handler, budget, **entry)
    assert caught.value.model == "m"
    return caught.value


async def in_pieces(request: Request) -> None:
    await request.say(CHUNKED_HEAD)
    for at in range(len(BODY)):
        await request.say(chunked(BODY[at : at + 1]))
        await asyncio.sleep(0)
    await request.say(b"0\r\n\r\n")


async def begins(request: Request) -> None:
    await request.say(ANSWER[:-3])
    await hangs(request)


@pytest.mark.parametrize("handler", [says(ANSWER), in_pieces])
async def test_an_answer_that_comes_whole(handler: Handler) -> None:
    assert await fetch(handler) == BODY


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (says(ANSWER[:-3]), ErrorClass.INCOMPLETE),
        (says(CHUNKED_HEAD + chunked(BODY)), ErrorClass.INCOMPLETE),
        (says(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001), ErrorClass.INCOMPLETE),
        (says(b""), ErrorClass.TRANSIENT),
        (says(b"HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n"), ErrorClass.RATE_LIMIT),
        (says(b"HTTP/1.1 308 Moved\r\nlocation: http://h/\r\ncontent-length: 0\r\n\r\n"), ErrorClass.BAD_REQUEST),
    ],
)
async def test_an_answer_that_is_none(handler: Handler, kind: ErrorClass) -> None:
    assert (await failing(handler)).kind is kind


@pytest.mark.parametrize("handler", [begins, hangs])
async def test_an_answer_that_takes_too_long(handler: Handler) -> None:
    assert (await failing(handler, 0.1)).kind is ErrorClass.TIMEOUT
    assert (await failing(handler, total_seconds=0.1)).kind is ErrorClass.TIMEOUT


async def test_the_key_is_blanked_wherever_it_is_quoted() -> None:
    said = f"no such key: {KEY}".encode()
    error = await failing(says(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n" % len(said) + said))
    assert KEY not in str(error) + error.detail
    assert error.detail == "HTTP 401: no such key: ********"


async def test_a_closed_origin_makes_no_calls() -> None:
    async with serve(says(ANSWER)) as upstream, origin() as made:
        await made.aclose()
        with pytest.raises(ProviderError):
            await made.fetch(outgoing(upstream.url), Budget(20), 1000)
        assert upstream.connections == 0
