"""Door 1: the callbacks of self-built applications (DOC 90238), at ``/wecom/app/{account}``.

A callback is acknowledged when the service has the message on disk, and not before: WeCom
forgets what was acknowledged, and repeats what was not, about three times in five seconds
each. So a service that is away is waited for within those five. A repetition is the same
turn at the service, so a replay has no second effect.

Everything is internet-facing. The checks go from cheap to dear: size, time to arrive,
age, form, signature, cipher. All failures of the envelope look the same from outside.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import structlog
from aiohttp import web

from adapter.backoff import Backoff
from adapter.crypto import Envelope, EnvelopeError
from adapter.metrics import Metrics
from adapter.translate import Incoming, from_app_message
from adapter.wire import WireError, parse_envelope, parse_message
from weconverse import RequestIdReused, Unavailable, WeConverseError

log = structlog.get_logger()

PATH: Final = "/wecom/app/{account}"
_QUIET: Final = 5.0
"""Seconds between two log lines about rejected callbacks."""

Submit = Callable[[Incoming, float], Awaitable[None]]
"""Hands a message to the service within that many seconds; raises :class:`WeConverseError`."""


class AppAccount(NamedTuple):
    """What the door needs of one application."""

    envelope: Envelope
    submit: Submit


class _Rejected(Exception):
    """A callback that is not acknowledged: the status for WeCom and the reason for the metric."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class AppDoor:
    """Answers the callbacks of all applications. Add :meth:`routes` to a web application."""

    def __init__(
        self,
        accounts: Mapping[str, AppAccount],
        metrics: Metrics,
        *,
        max_body_bytes: int = 64 * 1024,
        body_seconds: float = 2.0,
        window_seconds: float = 600.0,
        submit_seconds: float = 3.5,
        pseudonym_key: bytes = b"",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: ``clock`` gives POSIX seconds; ``pseudonym_key`` as for ``translate.from_app_message``."""
        self._accounts = dict(accounts)
        self._metrics = metrics
        self._observe = metrics.callback_ack_seconds.observe
        self._outcome = {
            name: metrics.messages.labels("app", name) for name in ("taken", "not_taken", "id_reused", "silence")
        }
        self._max_body_bytes = max_body_bytes
        self._body_seconds = body_seconds
        self._window_seconds = window_seconds
        self._submit_seconds = submit_seconds
        self._pseudonym_key = pseudonym_key
        self._clock = clock
        self._quiet_until = 0.0

    def routes(self) -> list[web.RouteDef]:
        """The two routes of the door."""
        return [web.get(PATH, self.check, allow_head=False), web.post(PATH, self.receive)]

    async def check(self, request: web.Request) -> web.Response:
        """Answers the address check with the bare plaintext; WeCom waits for one second (DOC 90238)."""
        try:
            account = self._account(request)
            query = request.query
            signature, timestamp, nonce = self._signed(query)
            return web.Response(
                body=account.envelope.verify_url(signature, timestamp, nonce, query.get("echostr", "")),
                content_type="text/plain",
            )
        except EnvelopeError as refused:
            return self._reject(_Rejected(403, "envelope"), code=refused.code)
        except _Rejected as rejected:
            return self._reject(rejected)

    async def receive(self, request: web.Request) -> web.Response:
        """Takes one message or event."""
        began = time.perf_counter()
        try:
            account = self._account(request)
            body = await self._body(request)
            signature, timestamp, nonce = self._signed(request.query)
            plain = account.envelope.open(signature, timestamp, nonce, parse_envelope(body).encrypted)
            meaning = from_app_message(request.match_info["account"], parse_message(plain), key=self._pseudonym_key)
            if isinstance(meaning, Incoming):
                await self._submit(account, meaning)
            else:
                self._outcome["silence"].inc()
        except EnvelopeError as refused:
            return self._reject(_Rejected(403, "envelope"), code=refused.code)
        except WireError as malformed:
            return self._reject(_Rejected(403, "malformed"), why=str(malformed))
        except _Rejected as rejected:
            return self._reject(rejected)
        self._observe(time.perf_counter() - began)
        return web.Response()

    def _account(self, request: web.Request) -> AppAccount:
        account = self._accounts.get(request.match_info["account"])
        if account is None:
            raise _Rejected(404, "account")
        return account

    async def _body(self, request: web.Request) -> bytes:
        # A packed body has no size that could be checked before unpacking it, and WeCom sends none.
        packed = request.headers.get("Content-Encoding", "identity").lower() != "identity"
        if packed or (request.content_length or 0) > self._max_body_bytes:
            raise _Rejected(413, "size")
        try:
            if request.content.is_eof():  # it came with the headers, as nearly all do
                return await request.read()
            # aiohttp closes connections that trickle their headers, but never one that trickles its body.
            async with asyncio.timeout(self._body_seconds):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _Rejected(413, "size") from None
        except TimeoutError:
            raise _Rejected(408, "slow") from None

    def _signed(self, query: Mapping[str, str]) -> tuple[str, str, str]:
        """Signature, timestamp and nonce, where the timestamp is near enough to now.

        Before the signature is checked, so that an old recording costs nothing.
        """
        signature, timestamp, nonce = query.get("msg_signature"), query.get("timestamp"), query.get("nonce")
        if not signature or not timestamp or not nonce or len(nonce) > 128:
            raise _Rejected(403, "query")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise _Rejected(403, "query")
        if abs(self._clock() - int(timestamp)) > self._window_seconds:
            raise _Rejected(403, "timestamp")
        return signature, timestamp, nonce

    async def _submit(self, account: AppAccount, incoming: Incoming) -> None:
        try:
            async with asyncio.timeout(self._submit_seconds):
                await self._offer(account, incoming)
        except RequestIdReused as reused:
            # The id is taken by another message, and will be next time: repeating cannot help.
            log.warning("message_id_reused", conversation=incoming.conversation, turn=reused.metadata.get("turn", ""))
            self._outcome["id_reused"].inc()
        except WeConverseError as error:
            self._outcome["not_taken"].inc()
            log.warning("message_not_taken", request_id=incoming.request_id, why=error.reason or error.code.name)
            raise _Rejected(503, "service") from None
        except TimeoutError:
            self._outcome["not_taken"].inc()
            log.warning("message_not_taken", request_id=incoming.request_id, why="late")
            raise _Rejected(503, "service") from None
        else:
            self._outcome["taken"].inc()

    async def _offer(self, account: AppAccount, incoming: Incoming) -> None:
        """Offers a message until the service is there. Without end: the caller bounds it.

        Saying no at once would use up WeCom's repetitions while a service that was
        restarted comes back.
        """
        backoff = Backoff(0.1, 0.5)
        while True:
            try:
                return await account.submit(incoming, self._submit_seconds)
            except Unavailable as error:
                log.debug("service_away", request_id=incoming.request_id, why=error.reason or error.code.name)
            await asyncio.sleep(backoff.pause())

    def _reject(self, rejected: _Rejected, **facts: object) -> web.Response:
        self._metrics.callback_rejects.labels(rejected.reason).inc()
        # Anybody may knock here: the metric counts them all, the log shows one in a while.
        if rejected.reason != "service" and self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + _QUIET
            log.info("callback_rejected", reason=rejected.reason, **facts)
        response = web.Response(status=rejected.status)
        if rejected.status in (408, 413):
            response.force_close()  # the rest of the body is not worth reading
        return response
