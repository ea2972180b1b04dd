"""Any server with an OpenAI-style ``/chat/completions``, over HTTP."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import msgspec
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from server.budget import Budget
from server.llm.base import Chunk, ErrorClass, Prompt, ProviderError
from server.llm.failures import MAX_DETAIL, failure_of
from server.llm.openai_chunks import ReplyReader
from server.llm.watchdog import Watchdog
from server.settings import ModelSettings

_log = structlog.get_logger(__name__)

END_GRACE_SECONDS: Final = 2.0
"""How long the token counts may take after the finish reason: the reply is whole without them."""

DRAIN_SECONDS: Final = 0.1
"""How long the body may take to end after its last word. In time, the connection can be used again."""

MAX_ERROR_BYTES: Final = 64 << 10
"""Bytes of an error body that are read."""


class OpenAiHttpProvider:
    """A :class:`~server.llm.base.Provider` on aiohttp.

    Time-outs, each the smaller of its setting and what the budget has left: connecting;
    the first text or thought, counted from the request (keep-alive comments do not
    count); silence between two pieces after that (comments do count); the whole.
    Waiting for a free connection is bounded by the budget alone.

    Redirects are not followed: the client would take the key along.
    """

    def __init__(self, name: str, settings: ModelSettings, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Args: the name of the route, and POSIX time for the dates in ``Retry-After``.

        Raises:
            ValueError: if ``base_url`` is not an address.
        """
        self._name = name
        self._settings = settings
        self._wall_clock = wall_clock
        self._url = URL(_endpoint(settings.base_url), encoded=True)
        self._key = settings.api_key.reveal()
        self._places = asyncio.Semaphore(settings.max_connections)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """See :meth:`server.llm.base.Provider.generate`."""
        try:
            async with self._place(budget):
                whole = budget.part(self._settings.total_seconds)
                first = whole.part(self._settings.first_token_seconds)
                async with (
                    self._answer(prompt, first) as response,
                    aclosing(self._read(response, first, whole)) as chunks,
                ):
                    async for chunk in chunks:
                        yield chunk
        except ProviderError as error:
            raise self._named(error) from None

    async def aclose(self) -> None:
        """See :meth:`server.llm.base.Provider.aclose`."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _place(self, budget: Budget) -> AsyncIterator[None]:
        """One of the calls at a time that the backend allows."""
        if self._places.locked():
            try:
                async with asyncio.timeout(budget.remaining()):
                    await self._places.acquire()
            except TimeoutError:
                raise ProviderError(ErrorClass.TIMEOUT, "no connection became free in time") from None
        else:
            # Does not wait, so needs no timer.
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    @asynccontextmanager
    async def _answer(self, prompt: Prompt, first: Budget) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer's head, with a status that promises a reply. Leaving closes what was not read."""
        response = await self._post(prompt, first)
        try:
            if not 200 <= response.status < 300:
                raise await self._refusal(response, first)
            yield response
        finally:
            # Gives the connection back if the body was read to its end, and closes it otherwise.
            response.release()

    async def _post(self, prompt: Prompt, first: Budget) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(first.remaining()):
                return await self._open_session().post(
                    self._url, data=self._body(prompt), headers=_tracing(prompt), allow_redirects=False
                )
        except aiohttp.ConnectionTimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "connecting took too long") from None
        except TimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "the answer did not begin in time") from None
        except (aiohttp.ClientError, OSError) as error:
            kind = ErrorClass.BAD_REQUEST if isinstance(error, aiohttp.InvalidURL) else ErrorClass.TRANSIENT
            raise ProviderError(kind, _told(error)) from None

    def _open_session(self) -> aiohttp.ClientSession:
        """The one session. It is made at the first call, because it belongs to the running event loop."""
        if self._closed:
            raise ProviderError(ErrorClass.TRANSIENT, "the provider was closed")
        if self._session is None:
            headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._settings.max_connections),
                # Own deadlines take the place of all others; aiohttp would round this one up
                # to a whole second without the high threshold.
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._settings.connect_seconds, ceil_threshold=86400
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=headers,
                trust_env=False,
            )
        return self._session

    def _body(self, prompt: Prompt) -> bytes:
        settings = self._settings
        body: dict[str, object] = {
            "model": settings.model or self._name,
            "messages": [{"role": message.role.value, "content": message.text} for message in prompt.messages],
            "stream": True,
        }
        if settings.send_stream_options is not False:
            body["stream_options"] = {"include_usage": True}
        if prompt.temperature is not None:
            body["temperature"] = prompt.temperature
        if prompt.max_output_tokens is not None:
            body[settings.max_tokens_name or "max_tokens"] = prompt.max_output_tokens
        if prompt.user:
            body["user"] = prompt.user
        body.update(settings.extra_body)
        return msgspec.json.encode(body)

    async def _read(
        self, response: aiohttp.ClientResponse, first: Budget, whole: Budget
    ) -> AsyncGenerator[Chunk, None]:
        """One chunk for each read, with everything that had arrived; at last the chunk with the end."""
        reader = ReplyReader(self._name)
        watchdog = Watchdog(response.close)
        try:
            while not (reader.done and response.content.at_eof()):
                watchdog.expect(self._patience(reader, first, whole))
                data = await self._next(response, reader, watchdog)
                # Nobody is late while the caller has the chunk.
                watchdog.rest()
                chunk = reader.feed(data) if data else None
                if chunk is not None:
                    yield chunk
                if not data or reader.failure is not None:
                    break
        finally:
            watchdog.close()
        last = reader.close()
        if reader.unknown_finish:
            _log.warning("llm_finish_reason_unknown", model=self._name, finish_reason=reader.unknown_finish)
        yield last

    def _patience(self, reader: ReplyReader, first: Budget, whole: Budget) -> float:
        """Seconds that the next bytes may take."""
        if reader.done:
            return whole.within(DRAIN_SECONDS)
        if reader.finished:
            return whole.within(END_GRACE_SECONDS)
        if reader.arrived:
            return whole.within(self._settings.idle_seconds)
        return first.remaining()

    async def _next(self, response: aiohttp.ClientResponse, reader: ReplyReader, watchdog: Watchdog) -> bytes:
        """Everything that has arrived; empty at the end.

        A connection that fails behind the finish reason is an end like any other.
        """
        try:
            return await response.content.readany()
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            if reader.finished:
                return b""
            if not watchdog.barked:
                raise ProviderError(ErrorClass.INCOMPLETE, f"the reply was cut: {_told(error)}") from None
            late = "the reply paused for too long" if reader.arrived else "the first text took too long"
            raise ProviderError(ErrorClass.TIMEOUT, late) from None

    async def _refusal(self, response: aiohttp.ClientResponse, budget: Budget) -> ProviderError:
        """The error for a status that is not one of success."""
        if 300 <= response.status < 400:
            return ProviderError(
                ErrorClass.BAD_REQUEST,
                f"HTTP {response.status}: redirects are not followed, base_url should name the final address",
                status=response.status,
            )
        body = bytearray()
        try:
            async with asyncio.timeout(budget.within(self._settings.idle_seconds)):
                while len(body) < MAX_ERROR_BYTES and (part := await response.content.readany()):
                    body += part
        except (TimeoutError, aiohttp.ClientError, HttpProcessingError, OSError):
            # The status is enough to go by; the body only makes it clearer.
            pass
        return failure_of(response.status, response.headers, bytes(body[:MAX_ERROR_BYTES]), now=self._wall_clock())

    def _named(self, error: ProviderError) -> ProviderError:
        """The error with the route's name in it and the key out of it, should the backend have quoted that."""
        error.model = self._name
        if self._key and self._key in error.detail:
            error.detail = error.detail.replace(self._key, "********")
            error.args = (f"{error.kind.value}: {error.detail}",)
        return error


def _endpoint(base_url: str) -> str:
    """The address of the call; a query behind the base address is kept (Azure's ``api-version``)."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must begin with http:// or https:// and name a host")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/chat/completions", fragment=""))


def _tracing(prompt: Prompt) -> dict[str, str]:
    """Request ids are the callers' and may hold anything; headers hold printable ASCII."""
    return {"X-Client-Request-Id": quote(prompt.request_id, safe="!#$&'()*+,/:;=?@[]~")} if prompt.request_id else {}


def _told(error: Exception) -> str:
    # A response error prints the request's headers, and so the key.
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return f"{type(error).__name__}: {text}"[:MAX_DETAIL]
