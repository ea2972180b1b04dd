"""A service of the operator's that is asked about texts over HTTP: one question is one POST of JSON."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from program.binding import is_loopback
from program.secret import Secret
from server.budget import Budget

Reason = Literal["busy", "slow", "unreachable", "status", "garbage"]
"""Why there is no answer: no free place in time, none in time, no connection, a status that is not 200, or one
that is too long or not of the agreed form."""


class NoAnswer(Exception):
    """There is no answer, or none that can be used."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Final[Reason] = reason


class OperatorService:
    """Asks. Belongs to one event loop; use it as a context manager.

    It must take the same question twice: it is asked again when a connection turns out to be closed.
    """

    def __init__(self, url: URL, api_key: Secret, *, max_calls: int, max_answer_bytes: int) -> None:
        """Connects to nothing yet. Address and key are checked ones."""
        self._url = url
        self._key = api_key
        self._max_calls = max_calls
        self._max_answer_bytes = max_answer_bytes
        self._places = asyncio.Semaphore(max_calls)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        key = self._key.reveal()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_calls),
            # The budget of each question takes the place of all time-outs.
            timeout=aiohttp.ClientTimeout(total=None, ceil_threshold=86400),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json",
                # A small answer may not grow when it is unpacked.
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(self, body: bytes, budget: Budget) -> bytes:
        """The answer to a question, which may be anything of at most ``max_answer_bytes``.

        Raises:
            NoAnswer: if there is none within the budget.
        """
        async with self._place(budget):
            try:
                async with asyncio.timeout(budget.remaining()):
                    return await self._post(body)
            except TimeoutError:
                raise NoAnswer("slow") from None

    @asynccontextmanager
    async def _place(self, budget: Budget) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(budget.remaining()):
                await self._places.acquire()
        except TimeoutError:
            raise NoAnswer("busy") from None
        try:
            yield
        finally:
            self._places.release()

    async def _post(self, body: bytes) -> bytes:
        try:
            try:
                return await self._post_once(body)
            except (aiohttp.ServerDisconnectedError, ConnectionError):
                # A connection that was kept open may have been closed meanwhile, which shows when it is used
                # again. Asking twice does no harm.
                return await self._post_once(body)
        except (HttpProcessingError, aiohttp.ClientPayloadError):
            raise NoAnswer("garbage") from None
        except (aiohttp.ClientError, OSError):
            raise NoAnswer("unreachable") from None

    async def _post_once(self, body: bytes) -> bytes:
        if self._session is None:
            raise RuntimeError("the service is opened by 'async with'")
        most = self._max_answer_bytes
        async with self._session.post(self._url, data=body, allow_redirects=False) as response:
            if response.status != 200:
                raise NoAnswer("status")
            # One byte more than it may have, to notice what is longer.
            data = bytearray()
            while len(data) <= most:
                piece = await response.content.read(most + 1 - len(data))
                if not piece:
                    return bytes(data)
                data += piece
            raise NoAnswer("garbage")


def checked_url(address: str, *, plain_http: bool, section: str, example: str) -> URL:
    """An address that texts may be sent to.

    Args:
        address: as it is set.
        plain_http: whether it may be http to another machine.
        section: of the settings, with its full stop; empty where the caller adds it.
        example: an address, for errors.

    Raises:
        ValueError: if it is none. The message begins with the field.
    """
    field = f"{section}url"
    try:
        url = URL(address)
        host, port = url.host or "", url.port or 0
    except ValueError as error:
        raise ValueError(f"{field}: is not an address ({error}); give one such as {example}") from None
    if url.scheme not in ("http", "https") or not host:
        raise ValueError(f"{field}: must be an http or https address such as {example}")
    if url.user is not None or url.password is not None:
        raise ValueError(f"{field}: holds a user or a password; put the secret into {section}api_key")
    if url.scheme == "http" and not (plain_http or is_loopback(f"{host}:{port}")):
        raise ValueError(
            f"{field}: what people write would travel in plain text; use https, or set {section}plain_http = true "
            "if the network is closed"
        )
    return url.with_fragment(None)


def check_key(api_key: Secret, *, section: str) -> None:
    """Checks that a key can stand in a header.

    Raises:
        ValueError: if it cannot. The message begins with the field.
    """
    if not all("!" <= character <= "~" for character in api_key.reveal()):
        raise ValueError(f"{section}api_key: only visible ASCII characters can be sent; check the file or variable")
