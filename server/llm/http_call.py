"""Calls to model backends over HTTP: what is the same for all of them, whatever they speak.

A backend brings the address, the headers, the body and a reader for what comes back; an
:class:`HttpOrigin` brings the connections, the patience and the errors.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol
from urllib.parse import quote

import aiohttp
import msgspec
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from server.budget import Budget
from server.llm.base import Chunk, ErrorClass, Prompt, ProviderError
from server.llm.call_places import CallPlaces
from server.llm.failure_lines import plain_word
from server.llm.failures import MAX_SAID, failure_of, without_key
from server.llm.patience import Patience
from server.llm.watchdog import Watchdog
from server.settings import ModelSettings

_log = structlog.get_logger(__name__)

MAX_ERROR_BYTES: Final = 64 << 10
"""Bytes of an error body that are read."""


class Reader(Protocol):
    """Turns the bytes of one answer into chunks; one for each call."""

    arrived: bool
    """Whether text or a thought has come. Comments, roles and empty pieces do not count."""
    done: bool
    """Whether nothing more is to be expected."""
    failure: ProviderError | None
    """What broke the reply off. Nothing is fed any more; :meth:`close` raises it."""
    unknown_finish: str
    """A finish reason that nobody has heard of, for the log."""

    @property
    def finished(self) -> bool:
        """Whether a finish reason was seen: the reply is complete, but for the token counts."""
        ...

    def feed(self, data: bytes) -> Chunk | None:
        """The text and thoughts that came with these bytes, together; ``None`` if there were none."""
        ...

    def close(self) -> Chunk:
        """The last chunk: what text is left, the end, and the token counts if there were any.

        Raises:
            ProviderError: if the reply is not complete.
        """
        ...


class Outgoing(msgspec.Struct, frozen=True):
    """A request that is ready to be sent."""

    url: URL
    body: bytes
    """JSON."""
    headers: Mapping[str, str]
    """Beside the content type; with whatever authorises the call."""
    key: str = ""
    """What authorises it, bare: it is blanked wherever the backend quotes it. May be empty."""


class HttpOrigin:
    """The connections to one backend.

    Time-outs, each the smaller of its setting and what the budget has left: connecting;
    the first text or thought, counted from the request (keep-alive comments do not
    count); silence between two pieces after that (comments do count); the whole.
    Waiting for a free connection is bounded by the budget alone.

    Redirects are not followed: the client would take the key along.
    """

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        *,
        overrides: Mapping[str, ErrorClass] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: the name of the route; whose time-outs and connections count; codes that the backend
        uses in its own way (see :func:`server.llm.failures.failure_of`); POSIX time for the dates in
        ``Retry-After``.
        """
        self._name = name
        self._settings = settings
        self._overrides = overrides
        self._wall_clock = wall_clock
        self._places = CallPlaces(settings.max_connections)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def stream(self, request: Outgoing, reader: Reader, budget: Budget) -> AsyncGenerator[Chunk, None]:
        """One reply, as :meth:`server.llm.base.Provider.generate` promises it.

        One chunk for each read, with everything that had arrived; at last the chunk with the end.
        """
        try:
            async with self._places.taken(budget):
                patience = Patience(self._settings, budget)
                async with self._answer(request, patience.first) as response, _watched(response) as watchdog:
                    while not (reader.done and response.content.at_eof()):
                        watchdog.expect(patience.seconds(reader))
                        data = await self._next(response, reader, watchdog)
                        # Nobody is late while the caller has the chunk.
                        watchdog.rest()
                        chunk = reader.feed(data) if data else None
                        if chunk is not None:
                            yield chunk
                        if not data or reader.failure is not None:
                            break
                    watchdog.close()
                    last = reader.close()
                    if reader.unknown_finish:
                        word = plain_word(reader.unknown_finish)
                        _log.warning("llm_finish_reason_unknown", model=self._name, finish_reason=word)
                    yield last
        except ProviderError as error:
            raise without_key(error, request.key, self._name) from None

    async def fetch(self, request: Outgoing, budget: Budget, max_bytes: int) -> bytes:
        """The whole body of an answer that does not come in pieces, within ``total_seconds``.

        Raises:
            ProviderError: with the class of what went wrong; ``INCOMPLETE`` if it was cut or is longer.
        """
        try:
            async with self._places.taken(budget):
                whole = budget.part(self._settings.total_seconds)
                async with self._answer(request, whole) as response:
                    return await self._body(response, whole, max_bytes)
        except ProviderError as error:
            raise without_key(error, request.key, self._name) from None

    async def aclose(self) -> None:
        """Closes connections. Calls under way fail."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _answer(self, request: Outgoing, first: Budget) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer's head, with a status that promises a reply. Leaving closes what was not read."""
        response = await self._post(request, first)
        try:
            if not 200 <= response.status < 300:
                raise await self._refusal(response, first)
            yield response
        finally:
            # Gives the connection back if the body was read to its end, and closes it otherwise.
            response.release()

    async def _post(self, request: Outgoing, first: Budget) -> aiohttp.ClientResponse:
        _check_headers(request)
        try:
            async with asyncio.timeout(first.remaining()):
                return await self._open_session().post(
                    request.url, data=request.body, headers=request.headers, allow_redirects=False
                )
        except aiohttp.ConnectionTimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "connecting took too long") from None
        except TimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "the answer did not begin in time") from None
        except (aiohttp.ClientError, OSError) as error:
            kind = ErrorClass.BAD_REQUEST if isinstance(error, aiohttp.InvalidURL) else ErrorClass.TRANSIENT
            raise _fault(kind, "", error) from None

    def _open_session(self) -> aiohttp.ClientSession:
        """The one session. It is made at the first call, because it belongs to the running event loop."""
        if self._closed:
            raise ProviderError(ErrorClass.TRANSIENT, "the provider was closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._settings.max_connections),
                # Own deadlines take the place of all others; aiohttp would round this one up
                # to a whole second without the high threshold.
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._settings.connect_seconds, ceil_threshold=86400
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Content-Type": "application/json", "Accept": "text/event-stream, application/json"},
                trust_env=False,
            )
        return self._session

    async def _next(self, response: aiohttp.ClientResponse, reader: Reader, watchdog: Watchdog) -> bytes:
        """Everything that has arrived; empty at the end.

        A connection that fails behind the finish reason is an end like any other.
        """
        try:
            return await response.content.readany()
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            if reader.finished:
                return b""
            if not watchdog.barked:
                raise _fault(ErrorClass.INCOMPLETE, "the reply was cut: ", error) from None
            late = "the reply paused for too long" if reader.arrived else "the first text took too long"
            raise ProviderError(ErrorClass.TIMEOUT, late) from None

    async def _body(self, response: aiohttp.ClientResponse, whole: Budget, max_bytes: int) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(whole.remaining()):
                while part := await response.content.readany():
                    body += part
                    if len(body) > max_bytes:
                        raise ProviderError(ErrorClass.INCOMPLETE, f"the reply exceeds {max_bytes} bytes")
        except TimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "the reply took too long") from None
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise _fault(ErrorClass.INCOMPLETE, "the reply was cut: ", error) from None
        return bytes(body)

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
        return failure_of(
            response.status,
            response.headers,
            bytes(body[:MAX_ERROR_BYTES]),
            now=self._wall_clock(),
            overrides=self._overrides,
        )


@asynccontextmanager
async def _watched(response: aiohttp.ClientResponse) -> AsyncIterator[Watchdog]:
    """A watchdog that closes the connection when the answer is late."""
    watchdog = Watchdog(response.close)
    try:
        yield watchdog
    finally:
        watchdog.close()


def tracing(prompt: Prompt) -> dict[str, str]:
    """The header by which a call can be found in a backend's log.

    Request ids are the callers' and may hold anything; headers hold printable ASCII.
    """
    return {"X-Client-Request-Id": quote(prompt.request_id, safe="!#$&'()*+,/:;=?@[]~")} if prompt.request_id else {}


def _check_headers(request: Outgoing) -> None:
    """Keys come from files and people; one with a line break in it must fail as what it is: a wrong key."""
    for name, value in request.headers.items():
        if not (value.isascii() and value.isprintable()):
            kind = ErrorClass.AUTH if request.key and request.key in value else ErrorClass.BAD_REQUEST
            raise ProviderError(kind, f"the header {name} would hold more than printable ASCII")


def _fault(kind: ErrorClass, before: str, error: Exception) -> ProviderError:
    """The error for one of a connection. What its library says of an answer quotes that."""
    if isinstance(error, OSError):
        # The system's own words: that nobody listens there, or what is wrong with a name or a certificate.
        return ProviderError(kind, f"{before}{type(error).__name__}: {error}"[:MAX_SAID])
    # A response error prints the request's headers, and so the key.
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return ProviderError(kind, f"{before}{type(error).__name__}", said=said[:MAX_SAID])
