"""A second opinion on a text, from a service of the operator's over HTTP.

One question is one POST. What a text is that got no answer is the operator's choice
(``when_unavailable``); errors are counted and logged, the text never is.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final, Literal, Protocol, Self

import aiohttp
import msgspec
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from program.binding import is_loopback
from server.budget import Budget
from server.filter.entries import Action, Direction
from server.settings import ModerationSettings

_log = structlog.get_logger(__name__)

MAX_ANSWER_BYTES: Final = 16 << 10
"""An answer is a handful of words."""

UNAVAILABLE_TAG: Final = "moderation_unavailable"
"""The tag of a text that is blocked because nobody answered."""


class Opinion(msgspec.Struct, frozen=True):
    """What was said of a text."""

    action: Action = Action.PASS
    """``PASS``, ``FLAG``, ``HAND_OVER`` or ``BLOCK``: of a text as a whole."""
    tag: str = ""


class ModerationObserver(Protocol):
    """Called on the event loop: must be quick and must not raise."""

    def moderated(self, direction: Direction, outcome: str, seconds: float) -> None:
        """A question ended: ``allowed``, ``refused``, or why there was no answer: ``busy`` (no free place in
        time), ``slow``, ``unreachable``, ``status``, ``garbage``. A question without an answer is logged too."""
        ...


class Unmoderated:
    """Counts nothing."""

    def moderated(self, direction: Direction, outcome: str, seconds: float) -> None: ...


class _Answer(msgspec.Struct, frozen=True):
    """Fields that are not known are ignored."""

    allow: bool
    tag: str | None = None
    action: Literal["flag", "hand_over", "block"] | None = None


class _NoAnswer(Exception):
    """Why there is none, in a word; see :meth:`ModerationObserver.moderated`."""


_decode: Final = msgspec.json.Decoder(_Answer).decode


class HttpModeration:
    """Asks the service. Belongs to one event loop; use it as a context manager."""

    def __init__(self, settings: ModerationSettings, observer: ModerationObserver | None = None) -> None:
        """Connects to nothing yet.

        Raises:
            ValueError: if ``url`` is not an address that may be used. The message begins with the field.
        """
        self._url = _checked_url(settings)
        _check_key(settings.api_key.reveal())
        self._settings = settings
        self._observer = observer or Unmoderated()
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

    async def opinion(self, text: str, direction: Direction, assistant: str, budget: Budget) -> Opinion:
        """What the service says of a text: always something, and within the budget.

        Args:
            text: at most ``text_characters`` and ``context_characters``; longer ones are the caller's to cut.
            direction: ``INPUT`` or ``OUTPUT``.
        """
        own = budget.part(self._settings.budget_seconds)
        whole = own.remaining()
        try:
            answer = await self._ask(text, direction, assistant, own)
        except _NoAnswer as reason:
            self._observer.moderated(direction, str(reason), whole - own.remaining())
            unavailable = self._settings.when_unavailable
            _log.warning(
                "moderation_failed",
                assistant=assistant,
                direction=_name(direction),
                reason=str(reason),
                text_is=f"{unavailable}ed",
            )
            return Opinion(Action.BLOCK, UNAVAILABLE_TAG) if unavailable == "block" else Opinion()
        opinion = Opinion() if answer.allow else _refusal(answer)
        self._observer.moderated(direction, "allowed" if answer.allow else "refused", whole - own.remaining())
        if not answer.allow:
            action = opinion.action.name.lower()
            _log.info("moderation_hit", assistant=assistant, direction=_name(direction), tag=opinion.tag, action=action)
        return opinion

    async def _ask(self, text: str, direction: Direction, assistant: str, budget: Budget) -> _Answer:
        question = {"direction": _name(direction), "assistant": assistant, "text": text}
        # Half a surrogate pair, which a piece of a text may have, is no Unicode and cannot be sent.
        body = msgspec.json.encode(question | {"text": text.encode("utf-8", "replace").decode()})
        async with self._place(budget):
            try:
                async with asyncio.timeout(budget.remaining()):
                    data = await self._post(body)
            except TimeoutError:
                raise _NoAnswer("slow") from None
        try:
            answer = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise _NoAnswer("garbage") from None
        return answer

    @asynccontextmanager
    async def _place(self, budget: Budget) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(budget.remaining()):
                await self._places.acquire()
        except TimeoutError:
            raise _NoAnswer("busy") from None
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
            raise _NoAnswer("garbage") from None
        except (aiohttp.ClientError, OSError):
            raise _NoAnswer("unreachable") from None

    async def _post_once(self, body: bytes) -> bytes:
        if self._session is None:
            raise RuntimeError("moderation is opened by 'async with'")
        async with self._session.post(self._url, data=body, allow_redirects=False) as response:
            if response.status != 200:
                raise _NoAnswer("status")
            # One byte more than it may have, to notice what is longer.
            data = bytearray()
            while len(data) <= MAX_ANSWER_BYTES:
                piece = await response.content.read(MAX_ANSWER_BYTES + 1 - len(data))
                if not piece:
                    return bytes(data)
                data += piece
            raise _NoAnswer("garbage")


def check_moderation(settings: ModerationSettings, assistants: Collection[str]) -> None:
    """Checks the settings without asking anybody.

    Args:
        assistants: the names of all there are.

    Raises:
        ValueError: for an address or a key that cannot be used, or an assistant that does not exist: its texts
            would silently not be asked about. The message begins with the field.
    """
    if not settings.url:
        return
    _checked_url(settings)
    _check_key(settings.api_key.reveal())
    unknown = sorted(set(settings.assistants) - set(assistants))
    if unknown:
        known = ", ".join(sorted(assistants))
        raise ValueError(f"moderation.assistants: there is no assistant {unknown[0]!r}; there are {known}; correct it")


def _refusal(answer: _Answer) -> Opinion:
    action = Action.BLOCK if answer.action is None else Action[answer.action.upper()]
    # The service is the operator's, and still only a service: what it says goes to the log cut and in plain characters.
    tag = "".join(each for each in (answer.tag or "")[:64] if each.isprintable())
    return Opinion(action, tag or "moderation")


def _name(direction: Direction) -> str:
    return str(direction.name).lower()


def _checked_url(settings: ModerationSettings) -> URL:
    field = "moderation.url"
    try:
        url = URL(settings.url)
        host = url.host or ""
        port = url.port or 0
    except ValueError as error:
        raise ValueError(f"{field}: is not an address ({error}); give one such as https://example.com/check") from None
    if url.scheme not in ("http", "https") or not host:
        raise ValueError(f"{field}: must be an http or https address such as https://example.com/check")
    if url.user is not None or url.password is not None:
        raise ValueError(f"{field}: holds a user or a password; put the secret into moderation.api_key")
    if url.scheme == "http" and not (settings.plain_http or is_loopback(f"{host}:{port}")):
        raise ValueError(
            f"{field}: what people write would travel in plain text; use https, or set moderation.plain_http = true "
            "if the network is closed"
        )
    return url.with_fragment(None)


def _check_key(key: str) -> None:
    if not all("!" <= character <= "~" for character in key):
        raise ValueError("moderation.api_key: only visible ASCII characters can be sent; check the file or variable")
