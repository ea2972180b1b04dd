"""Lets genuine callbacks in: what every door that WeCom calls has in common.

Everything is internet-facing. The checks go from cheap to dear: source, size, time to arrive,
age, form, signature, cipher. All failures of the envelope look the same from outside.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, NamedTuple, Protocol

import structlog
from aiohttp import web

from adapter.crypto import EnvelopeError, Sealed
from adapter.metrics import Metrics
from adapter.wire import WireError, parse_envelope

log = structlog.get_logger()

_QUIET: Final = 5.0
"""Seconds between two log lines about rejected callbacks."""


class Seal(Protocol):
    """Opens and seals the envelopes of one callback address; see :class:`adapter.crypto.Envelope`."""

    def open(self, msg_signature: str, timestamp: str, nonce: str, encrypted: str) -> bytes:
        """The message inside. Raises :class:`EnvelopeError`."""
        ...

    def verify_url(self, msg_signature: str, timestamp: str, nonce: str, echostr: str) -> bytes:
        """What the URL check is to be answered with. Raises :class:`EnvelopeError`."""
        ...

    def seal(self, message: bytes, timestamp: str, nonce: str) -> Sealed:
        """Encrypts and signs."""
        ...


class Origins(Protocol):
    """Knows from where callbacks may come; see :class:`adapter.callbacks.sources.Sources`."""

    @property
    def enforced(self) -> bool:
        """Whether the others are refused."""
        ...

    def verdict(self, request: web.BaseRequest) -> Literal["allowed", "elsewhere", "before_list"]:
        """Where a request comes from; ``before_list``: nobody can say yet."""
        ...


class Opened(NamedTuple):
    """A genuine callback: what was inside, and what a reply to it must repeat."""

    plain: bytes
    timestamp: str
    nonce: str


class Rejected(Exception):
    """A callback that is not acknowledged: the status for WeCom and the reason for the metric."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Gate:
    """Checks and opens callbacks, within bounds of size and time."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        max_body_bytes: int = 64 * 1024,
        body_seconds: float = 2.0,
        window_seconds: float = 600.0,
        origins: Origins | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: ``window_seconds`` by which a callback's time may differ from ``clock`` (POSIX seconds);
        without ``origins`` callbacks may come from everywhere.
        """
        self._origins = origins
        self._rejects = metrics.callback_rejects
        self._observe = metrics.callback_ack_seconds.observe
        self._max_body_bytes = max_body_bytes
        self._body_seconds = body_seconds
        self._window_seconds = window_seconds
        self._clock = clock
        self._quiet_until = 0.0

    async def answered(self, handler: Callable[[], Awaitable[web.Response]]) -> web.Response:
        """What ``handler`` answers, or a refusal that tells a stranger nothing."""
        began = time.perf_counter()
        try:
            response = await handler()
        except EnvelopeError as refused:
            return self._reject(Rejected(403, "envelope"), code=refused.code)
        except WireError as malformed:
            return self._reject(Rejected(403, "malformed"), why=str(malformed))
        except Rejected as rejected:
            return self._reject(rejected)
        self._observe(time.perf_counter() - began)
        return response

    def verified(self, request: web.Request, seal: Seal) -> web.Response:
        """Answers the address check with the bare plaintext; WeCom waits for one second (DOC 90238).

        Raises:
            EnvelopeError, Rejected: it is not WeCom that asks.
        """
        self._check_origin(request)
        signature, timestamp, nonce = self._signed(request.query)
        plain = seal.verify_url(signature, timestamp, nonce, request.query.get("echostr", ""))
        return web.Response(body=plain, content_type="text/plain")

    async def opened(self, request: web.Request, seal: Seal) -> Opened:
        """The message of a callback.

        Raises:
            EnvelopeError, WireError, Rejected: it is not one of WeCom's.
        """
        body = await self._body(request)
        signature, timestamp, nonce = self._signed(request.query)
        return Opened(seal.open(signature, timestamp, nonce, parse_envelope(body).encrypted), timestamp, nonce)

    def _check_origin(self, request: web.Request) -> None:
        """Refuses who comes from elsewhere, before anything of the body is read."""
        if self._origins is None:
            return
        verdict = self._origins.verdict(request)
        if self._origins.enforced and verdict != "allowed":
            # While there is no list yet, WeCom is asked to come again rather than turned away.
            raise Rejected(503 if verdict == "before_list" else 403, "source")

    async def _body(self, request: web.Request) -> bytes:
        self._check_origin(request)
        # A packed body has no size that could be checked before unpacking it, and WeCom sends none.
        packed = request.headers.get("Content-Encoding", "identity").lower() != "identity"
        if packed or (request.content_length or 0) > self._max_body_bytes:
            raise Rejected(413, "size")
        try:
            if request.content.is_eof():  # it came with the headers, as nearly all do
                return await request.read()
            # aiohttp closes connections that trickle their headers, but never one that trickles its body.
            async with asyncio.timeout(self._body_seconds):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise Rejected(413, "size") from None
        except TimeoutError:
            raise Rejected(408, "slow") from None

    def _signed(self, query: Mapping[str, str]) -> tuple[str, str, str]:
        """Signature, timestamp and nonce, where the timestamp is near enough to now.

        Before the signature is checked, so that an old recording costs nothing.
        """
        signature, timestamp, nonce = query.get("msg_signature"), query.get("timestamp"), query.get("nonce")
        if not signature or not timestamp or not nonce or len(nonce) > 128:
            raise Rejected(403, "query")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise Rejected(403, "query")
        if abs(self._clock() - int(timestamp)) > self._window_seconds:
            raise Rejected(403, "timestamp")
        return signature, timestamp, nonce

    def _reject(self, rejected: Rejected, **facts: object) -> web.Response:
        self._rejects.labels(rejected.reason).inc()
        # Anybody may knock here: the metric counts them all, the log shows one in a while.
        if rejected.reason != "service" and self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + _QUIET
            log.info("callback_rejected", reason=rejected.reason, **facts)
        response = web.Response(status=rejected.status)
        if rejected.status in (408, 413) or rejected.reason == "source":
            response.force_close()  # the rest of the body is not worth reading
        return response
