"""Takes a whole reply from a reader or a provider, as one comparable value."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import NamedTuple

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import Backend, Chunk, ErrorClass, Message, Prompt, Provider, ProviderError, Role
from server.llm.http_call import Reader
from server.llm.openai.chunks import ReplyReader

ASKED = Prompt(model="m", messages=(Message(Role.USER, "你好"),))


class Taken(NamedTuple):
    text: str
    reasoning: str
    finish: FinishReason | None
    usage: Usage | None
    error: ErrorClass | None = None

    @property
    def complete(self) -> bool:
        return self.finish is not None and self.error is None


def put_together(chunks: list[Chunk], error: ProviderError | None = None) -> Taken:
    finish = [chunk.finish for chunk in chunks if chunk.finish is not None]
    assert len(finish) <= 1
    assert not finish or chunks[-1].finish is not None
    return Taken(
        "".join(chunk.text for chunk in chunks),
        "".join(chunk.reasoning for chunk in chunks),
        finish[0] if finish else None,
        chunks[-1].usage if finish else None,
        error.kind if error else None,
    )


def read_pieces(pieces: Iterable[bytes], reader: Reader | None = None) -> Taken:
    reader = ReplyReader("m") if reader is None else reader
    chunks: list[Chunk] = []
    for piece in pieces:
        if reader.failure is None:
            chunk = reader.feed(piece)
            if chunk is not None:
                assert chunk.text or chunk.reasoning
                chunks.append(chunk)
    try:
        chunks.append(reader.close())
    except ProviderError as error:
        return put_together(chunks, error)
    return put_together(chunks)


async def take(provider: Provider, budget: Budget | None = None, prompt: Prompt = ASKED) -> tuple[Taken, list[Chunk]]:
    return await _take(provider.generate(prompt, budget or Budget(20)))


async def take_with(
    key: str, backend: Backend, prompt: Prompt = ASKED, budget: Budget | None = None
) -> tuple[Taken, list[Chunk]]:
    return await _take(backend.generate(prompt, budget or Budget(20), key))


async def _take(generator: AsyncGenerator[Chunk, None]) -> tuple[Taken, list[Chunk]]:
    chunks: list[Chunk] = []
    try:
        async with aclosing(generator) as generated:
            async for chunk in generated:
                chunks.append(chunk)
    except ProviderError as error:
        return put_together(chunks, error), chunks
    return put_together(chunks), chunks
