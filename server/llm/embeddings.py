"""Any server with an OpenAI-style ``/embeddings``, over HTTP."""

import asyncio
import base64
import binascii
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
from yarl import URL

from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.base_address import check_base_url, check_secrecy
from server.llm.embedder import unit
from server.llm.failures import failure_in_stream
from server.llm.http_call import HttpOrigin, Outgoing
from server.llm.microbatch import MicroBatcher
from server.settings import EmbeddingSettings, ModelSettings

BYTES_PER_TEXT: Final = 256 << 10
"""Bytes of an answer for each text: 8,192 numbers with 20 digits, and some."""

READ_ON_LOOP_BYTES: Final = 64 << 10
"""Longer answers are read in a thread. Reading takes some 5 ms for each megabyte."""

_BLAMES_THE_TEXT: Final = frozenset({ErrorClass.BAD_REQUEST, ErrorClass.CONTENT, ErrorClass.CONTEXT})
"""When several texts were sent together, one of them may have brought this on the others."""


class _Item(msgspec.Struct, frozen=True):
    embedding: list[float] | str
    index: int | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Item]


_decode = msgspec.json.Decoder(_Answer).decode


class HttpEmbedder:
    """An :class:`~server.llm.embedder.Embedder`. Texts asked for at the same time share a call."""

    def __init__(self, name: str, settings: EmbeddingSettings, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Args: the name of the entry in the settings; POSIX time for the dates in ``Retry-After``.

        Raises:
            ValueError: if ``base_url`` is not an address, or the key would be readable on its way there.
        """
        self._name = name
        self._settings = settings
        check_base_url(settings.base_url)
        if settings.api_key or settings.api_key.reference:
            check_secrecy(settings.base_url, plain_http=settings.plain_http)
        self._url = URL(_endpoint(settings.base_url), encoded=True)
        self._key = settings.api_key.reveal()
        self._dimension = settings.dimensions
        seconds = settings.budget_seconds
        # The budget of each call is what counts; these only keep it from taking longer than the setting.
        patience = ModelSettings(
            connect_seconds=seconds, first_token_seconds=seconds, idle_seconds=seconds, max_connections=16
        )
        self._origin = HttpOrigin(name, patience, wall_clock=wall_clock)
        self._batcher = MicroBatcher(
            self._vectors, size=settings.batch_size, seconds=settings.batch_milliseconds / 1000
        )

    @property
    def identity(self) -> str:
        """The vendor's name of the model, with the length that vectors were asked to have, if any."""
        model = self._settings.model or self._name
        return f"{model}:{self._settings.dimensions}" if self._settings.dimensions else model

    async def embed(self, text: str, budget: Budget) -> "array[float]":
        """See :meth:`server.llm.embedder.Embedder.embed`."""
        return await self._batcher.ask(text, budget)

    async def embed_all(self, texts: Sequence[str], budget: Budget) -> "list[array[float]]":
        """See :meth:`server.llm.embedder.Embedder.embed_all`. One call at a time, each with as many as may share it."""
        vectors: list[array[float]] = []
        for start in range(0, len(texts), self._settings.batch_size):
            for vector in await self._vectors(texts[start : start + self._settings.batch_size], budget):
                if isinstance(vector, ProviderError):
                    raise vector
                vectors.append(vector)
        return vectors

    async def aclose(self) -> None:
        """See :meth:`server.llm.embedder.Embedder.aclose`."""
        await self._batcher.aclose()
        await self._origin.aclose()

    async def _vectors(self, texts: Sequence[str], budget: Budget) -> "Sequence[array[float] | ProviderError]":
        """One call for all of ``texts``; one for each, should the backend not take them together."""
        try:
            return await self._fetch(texts, budget)
        except ProviderError as error:
            if len(texts) == 1 or error.kind not in _BLAMES_THE_TEXT:
                raise
        return [await self._alone(text, budget) for text in texts]

    async def _alone(self, text: str, budget: Budget) -> "array[float] | ProviderError":
        try:
            return (await self._fetch([text], budget))[0]
        except ProviderError as error:
            return error

    async def _fetch(self, texts: Sequence[str], budget: Budget) -> "list[array[float]]":
        # A lone half of a character pair is no text that JSON could carry.
        sendable = [text.encode("utf-8", "replace").decode() for text in texts]
        body: dict[str, object] = {"model": self._settings.model or self._name, "input": sendable}
        if self._settings.dimensions:
            body["dimensions"] = self._settings.dimensions
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        request = Outgoing(self._url, msgspec.json.encode(body), headers, self._key)
        answer = await self._origin.fetch(request, budget, BYTES_PER_TEXT * (len(texts) + 1))
        try:
            if len(answer) > READ_ON_LOOP_BYTES:
                vectors = await asyncio.to_thread(read_vectors, answer, len(texts))
            else:
                vectors = read_vectors(answer, len(texts))
            self._check_dimension(vectors)
        except ProviderError as error:
            error.model = self._name
            raise
        return vectors

    def _check_dimension(self, vectors: "list[array[float]]") -> None:
        for vector in vectors:
            # The first answer says how long they are, where the settings do not.
            self._dimension = self._dimension or len(vector)
            if len(vector) != self._dimension:
                raise ProviderError(
                    ErrorClass.INCOMPLETE, f"a vector has {len(vector)} numbers where {self._dimension} were expected"
                )


def read_vectors(answer: bytes, count: int) -> "list[array[float]]":
    """The vectors of an answer, in the order of the texts. Pure.

    Numbers may come as a list, or as the base64 of 32-bit floats, little end first.

    Raises:
        ProviderError: INCOMPLETE, or what an error object in the answer says, if there are not exactly ``count``.
    """
    try:
        items = _decode(answer).data
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise failure_in_stream(answer) from None
    try:
        return [unit(_numbers(item.embedding)) for item in _in_order(items, count)]
    except ValueError as error:
        raise ProviderError(ErrorClass.INCOMPLETE, "the embeddings cannot be used", said=str(error)) from None


def _in_order(items: list[_Item], count: int) -> list[_Item]:
    if len(items) != count:
        raise ValueError(f"{len(items)} vectors for {count} texts")
    if all(item.index is None for item in items):
        return items
    by_index = {item.index: item for item in items}
    if by_index.keys() != set(range(count)):
        raise ValueError("their indexes do not fit the texts")
    return [by_index[index] for index in range(count)]


def _numbers(embedding: list[float] | str) -> "list[float] | array[float]":
    if isinstance(embedding, list):
        return embedding
    numbers = array("f")
    try:
        numbers.frombytes(base64.b64decode(embedding, validate=True))
    except binascii.Error:
        raise ValueError("a vector is not base64") from None
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _endpoint(base_url: str) -> str:
    """The address of the call; a query behind the base address is kept (Azure's ``api-version``)."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/embeddings", fragment=""))
