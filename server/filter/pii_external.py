"""The place for a recogniser of somebody else's, such as a model that finds names in running text.

It is asked about whole texts only: about what goes to a model, not about a reply on its way.
"""

import asyncio
from typing import Final, Literal, Protocol, Self

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from program.binding import is_loopback
from server.budget import Budget
from server.filter.pii_kinds import Finding, PiiKind
from server.settings import PiiRecogniserSettings

MAX_ANSWER_BYTES: Final = 1 << 20

Reason = Literal["busy", "slow", "unreachable", "status", "garbage"]


class RecogniserFailed(Exception):
    """There is no answer, or none that can be used."""

    def __init__(self, reason: Reason) -> None:
        """Args: ``busy`` (no free place in time), ``slow``, ``unreachable``, ``status`` (another than 200), or
        ``garbage`` (too long, no JSON of the agreed form, or places that the text does not have).
        """
        super().__init__(reason)
        self.reason: Final[Reason] = reason


class ExternalRecogniser(Protocol):
    """Finds personal data in whole texts."""

    async def find(self, text: str, budget: Budget) -> tuple[Finding, ...]:
        """What is in a text, within the budget, in any order; findings may overlap.

        Raises:
            RecogniserFailed: if that is not known.
        """
        ...


class _Span(msgspec.Struct, frozen=True):
    """Fields that are not known are ignored."""

    kind: str
    start: int
    end: int
    confidence: float = 1.0


class _Answer(msgspec.Struct, frozen=True):
    spans: list[_Span]


_decode: Final = msgspec.json.Decoder(_Answer).decode


class HttpRecogniser:
    """Asks a service: one POST of ``{"text"}`` is answered by ``{"spans": [{"kind", "start", "end", "confidence"}]}``.

    Places count Unicode characters of the text. A kind that is none of :class:`PiiKind` is :attr:`PiiKind.OTHER`.
    Belongs to one event loop; use it as a context manager.
    """

    def __init__(self, settings: PiiRecogniserSettings) -> None:
        """Connects to nothing yet.

        Raises:
            ValueError: if a setting cannot be used. The message begins with its name.
        """
        self._url = _checked_url(settings)
        if not all("!" <= character <= "~" for character in settings.api_key.reveal()):
            raise ValueError("api_key: only visible ASCII characters can be sent; check the file or variable")
        self._settings = settings
        self._places = asyncio.Semaphore(settings.max_calls)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        key = self._settings.api_key.reveal()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._settings.max_calls),
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

    async def find(self, text: str, budget: Budget) -> tuple[Finding, ...]:
        """See :meth:`ExternalRecogniser.find`."""
        own = budget.part(self._settings.budget_seconds)
        # Half a surrogate pair is no Unicode and cannot be sent; what stands for it is one character too.
        body = msgspec.json.encode({"text": text.encode("utf-8", "replace").decode()})
        reason: Reason = "busy"
        try:
            async with asyncio.timeout(own.remaining()), self._places:
                reason = "slow"
                data = await self._post(body)
        except TimeoutError:
            raise RecogniserFailed(reason) from None
        return _findings(data, len(text), self._settings.min_confidence)

    async def _post(self, body: bytes) -> bytes:
        try:
            try:
                return await self._post_once(body)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                # A connection that was kept open may have been closed meanwhile, which shows when it is used
                # again. Asking twice does no harm.
                return await self._post_once(body)
        except (HttpProcessingError, aiohttp.ClientPayloadError):
            raise RecogniserFailed("garbage") from None
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError):
            raise RecogniserFailed("unreachable") from None

    async def _post_once(self, body: bytes) -> bytes:
        if self._session is None:
            raise RuntimeError("a recogniser is opened by 'async with'")
        async with self._session.post(self._url, data=body, allow_redirects=False) as response:
            if response.status != 200:
                raise RecogniserFailed("status")
            data = bytearray()
            while piece := await response.content.read(MAX_ANSWER_BYTES + 1 - len(data)):
                data += piece
                if len(data) > MAX_ANSWER_BYTES:
                    raise RecogniserFailed("garbage")
            return bytes(data)


_KINDS: Final = {kind.value: kind for kind in PiiKind}


def _findings(data: bytes, length: int, min_confidence: float) -> tuple[Finding, ...]:
    try:
        spans = _decode(data).spans
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise RecogniserFailed("garbage") from None
    if not all(0 <= span.start < span.end <= length for span in spans):
        raise RecogniserFailed("garbage")
    return tuple(
        Finding(_KINDS.get(span.kind.lower(), PiiKind.OTHER), span.start, span.end, span.confidence)
        for span in spans
        if span.confidence >= min_confidence
    )


def _checked_url(settings: PiiRecogniserSettings) -> URL:
    try:
        url = URL(settings.url)
        host, port = url.host or "", url.port or 0
    except ValueError as error:
        raise ValueError(f"url: is not an address ({error}); give one such as https://example.com/find") from None
    if url.scheme not in ("http", "https") or not host:
        raise ValueError("url: must be an http or https address such as https://example.com/find")
    if url.user is not None or url.password is not None:
        raise ValueError("url: holds a user or a password; put the secret into api_key")
    if url.scheme == "http" and not (settings.plain_http or is_loopback(f"{host}:{port}")):
        raise ValueError(
            "url: what people write would travel in plain text; use https, or set plain_http = true "
            "if the network is closed"
        )
    return url.with_fragment(None)
