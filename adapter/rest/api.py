"""The HTTP interface of WeCom for one self-built application (DOC 90236, 91039).

Three layers of trying again, each with one owner: here a few quick ones for what passes in
a second; a fresh token once; everything slower is the delivery's.
"""

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial
from typing import Final, NamedTuple, TypeVar

import aiohttp
import msgspec
from yarl import URL

from adapter.backoff import Backoff
from adapter.media.fetching import Fetched, MediaMissing, read_within
from adapter.media.named import name_of
from adapter.media.room import Claim
from adapter.metrics import Metrics
from adapter.rest.access_token import RETRY_SECONDS, AccessToken, FreshToken
from adapter.rest.answer import body_of
from adapter.rest.errors import (
    BUSY_CODES,
    TOKEN_CODES,
    CredentialRefused,
    RequestRefused,
    SlowDown,
    WeComError,
    WeComUnreachable,
    refusal,
)
from adapter.rest.multipart import one_file
from adapter.wire import WireError, lenient_json
from program.secret import Secret
from weconverse.v1.conversation_pb2 import Media

_TRIES: Final = 4
"""One try and three repetitions, the most that DOC 90313 asks for."""
_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Room for the longest there is: a thousand messages of customers."""
_JSON: Final = "application/json; charset=utf-8"
_MEDIA_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=3.0, sock_read=4.0)
"""Of a download, whose total is the caller's; an answer that goes silent has no more to say."""
_UPLOAD_SECONDS: Final = 60.0
_LONG_BODY: Final = 256 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024
_TOO_LARGE_CODES: Final = frozenset({830002, 45001})
_SENDS: Final = frozenset({"message/send", "appchat/send"})


class Answer(msgspec.Struct):
    """What every answer of the interface has. Answers with more extend it."""

    errcode: int = 0


class _SendAnswer(Answer):
    msgid: str = ""
    invaliduser: str | None = ""
    invalidparty: str | None = ""
    invalidtag: str | None = ""
    unlicenseduser: str | None = ""


class Sent(NamedTuple):
    """What WeCom says of a message that it took."""

    msgid: str
    """For taking it back; empty where WeCom gives none, as it may for groups."""
    missed: bool
    """Whether some of the receivers do not get it: gone, out of the application's sight, or without a licence."""


class _TokenAnswer(Answer):
    access_token: str = ""
    expires_in: float = 0.0


class _Uploaded(Answer):
    media_id: str = ""


class _Downloaded(Answer):
    file: Fetched = Fetched(b"")


_T = TypeVar("_T", bound=Answer)


class WeComApi:
    """Sends messages of one application. Shares its HTTP session with others, and does not close it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base: str,
        corp_id: str,
        secret: Secret,
        metrics: Metrics,
        request_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[], Backoff] = lambda: Backoff(0.2, 1.6),
        wrong_secret_pause: Backoff | None = None,
    ) -> None:
        """Args: ``pause`` makes the pauses between the quick tries of one request."""
        self._session = session
        self._base = URL(base.rstrip("/") + "/cgi-bin/")
        # An address with its token is the same for thousands of messages; building one costs a fifth of a request.
        self._address = lru_cache(maxsize=8)(self._build_address)
        self._corp_id = corp_id
        self._secret = secret
        self._metrics = metrics
        self._timeout = aiohttp.ClientTimeout(total=request_seconds)
        self._clock = clock
        self._pause = pause
        self._token = AccessToken(
            self._fetch_token,
            clock=clock,
            wrong_secret_pause=wrong_secret_pause,
            changes=lambda: secret.changes,
        )
        self._slow_until: dict[str, float] = {}
        self._slow_code = 0

    async def aclose(self) -> None:
        """Ends a renewal of the token under way."""
        await self._token.aclose()

    async def send(self, call: str, body: bytes, *, repeatable: bool) -> Sent:
        """Sends a message.

        Args:
            call: ``message/send``, ``appchat/send`` or ``kf/send_msg``.
            body: the request; see :mod:`adapter.application.messages` and :mod:`adapter.kf.wire`.
            repeatable: whether WeCom suppresses an equal request, so that a repetition is harmless;
                without, a request whose fate is unknown is not repeated.

        Raises:
            WeComError: the message was not sent, or (``WeComUnreachable.maybe_done``) nobody knows.
        """
        slow = self._slow_until.get(call, 0.0) - self._clock()
        if slow > 0:
            raise SlowDown(self._slow_code, call, slow)
        with self._metrics.send_seconds.time():
            try:
                answer = await self.call(call, body, _SendAnswer, repeatable=repeatable)
            except SlowDown as slow_down:
                self._slow_until[call] = self._clock() + (slow_down.retry_after or 0.0)
                self._slow_code = slow_down.code
                raise
        missed = (answer.invaliduser, answer.invalidparty, answer.invalidtag, answer.unlicenseduser)
        return Sent(answer.msgid, any(missed))

    async def recall(self, msgid: str) -> None:
        """Takes a message of the last 24 hours back, from everybody who got it (DOC 94867).

        Raises:
            WeComError: it was not taken back.
        """
        await self.call("message/recall", msgspec.json.encode({"msgid": msgid}), Answer, repeatable=True)

    async def get(self, call: str, query: Mapping[str, str], answer: type[_T], *, most: int = _MAX_ANSWER_BYTES) -> _T:
        """Reads something: a GET of ``call``, the path below ``cgi-bin/``, with the token care of every request.

        Args: ``answer`` is what comes back with errcode 0, in at most ``most`` bytes.

        Raises:
            WeComError: nothing was read.
        """
        return await self._with_token(
            call,
            lambda token: self._request("GET", call, {"access_token": token, **query}, None, answer, most=most),
            repeatable=True,
        )

    async def call(self, call: str, body: bytes, answer: type[_T], *, repeatable: bool) -> _T:
        """Posts any other request of this application, with the same care for token and passing failures.

        Args:
            call: its path, such as ``kf/sync_msg``.
            body: JSON.
            answer: what to read of the answer.
            repeatable: whether doing it twice is harmless; else a request whose fate is unknown is not repeated.

        Raises:
            WeComError: it was not done, or (``WeComUnreachable.maybe_done``) nobody knows.
        """
        return await self._with_token(
            call,
            lambda token: self._request("POST", call, {"access_token": token}, body, answer),
            repeatable=repeatable,
        )

    async def upload(self, kind: str, name: str, data: bytes) -> str:
        """Puts a file up for sending and returns its ``media_id``, good for three days (DOC 90253).

        Args: ``kind`` image, voice, video or file; ``name`` is what people see. The caller knows the
            limits of the kind (``adapter.text.capabilities``).

        Raises:
            WeComError: there is none.
        """
        content_type, body = one_file("media", name, data)
        answer = await self._with_token(
            "media/upload",
            lambda token: self._request(
                "POST",
                "media/upload",
                {"access_token": token, "type": kind},
                body,
                _Uploaded,
                content_type=content_type,
                seconds=_UPLOAD_SECONDS,
            ),
            repeatable=True,
        )
        if not answer.media_id:
            raise WeComUnreachable("media/upload gave no media_id", maybe_done=False)
        return answer.media_id

    async def download(self, media_id: str, *, most: int, claim: Claim) -> Fetched:
        """Fetches a file of at most ``most`` bytes (DOC 90254). The caller bounds the time.

        Raises:
            MediaMissing: there is none, or it is larger.
        """
        held = claim.held

        async def request(token: str) -> _Downloaded:
            claim.shrink(claim.held - held)
            return await self._download({"access_token": token, "media_id": media_id}, most, claim)

        try:
            try:
                answer = await self._with_token("media/get", request, repeatable=True)
            except SlowDown as slow:
                # Also what asking for one file again and again is answered with.
                await asyncio.sleep(slow.retry_after or 0.0)
                answer = await self._with_token("media/get", request, repeatable=True)
        except RequestRefused as refused:
            why = Media.TOO_LARGE if refused.code in _TOO_LARGE_CODES else Media.UNAVAILABLE
            raise MediaMissing(why, str(refused)) from None
        except WeComError as error:
            raise MediaMissing(Media.UNAVAILABLE, str(error)) from None
        return answer.file

    async def _download(self, query: dict[str, str], most: int, claim: Claim) -> _Downloaded:
        # As in _request: what aiohttp says may quote the address, and with it the token.
        try:
            async with self._session.get(
                self._build_address("media/get", tuple(query.items())),
                headers={"Accept-Encoding": "identity"},
                timeout=_MEDIA_TIMEOUT,
                allow_redirects=False,
                auto_decompress=False,
            ) as response:
                if response.status != 200:
                    raise WeComUnreachable(f"media/get: HTTP {response.status}", maybe_done=True)
                disposition = response.headers.get("Content-Disposition", "")
                if not disposition and response.content_type in ("application/json", "text/plain"):
                    # Errors come where the file would be. A file that happens to be JSON has a name.
                    return _decoded(await response.content.read(_MAX_ERROR_BYTES), _Downloaded)
                pieces = await read_within(response, most=most, claim=claim)
                return _Downloaded(file=Fetched(b"".join(pieces), name_of(disposition), response.content_type))
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, WireError, RecursionError) as error:
            raise WeComUnreachable(f"media/get: {type(error).__name__}", maybe_done=True) from None

    async def _with_token(self, call: str, request: Callable[[str], Awaitable[_T]], *, repeatable: bool) -> _T:
        token = await self._token.current()
        try:
            answer = await self._quickly_again(partial(request, token), call, repeatable=repeatable)
        except RequestRefused as refused:
            if refused.code not in TOKEN_CODES:
                raise
            token = await self._token.after_refusal(token, call)
            answer = await self._quickly_again(partial(request, token), call, repeatable=repeatable)
        self._token.worked()
        return answer

    async def _fetch_token(self) -> FreshToken:
        query = {"corpid": self._corp_id, "corpsecret": self._secret.reveal()}
        try:
            answer = await self._quickly_again(
                lambda: self._request("GET", "gettoken", query, None, _TokenAnswer), "gettoken", repeatable=True
            )
        except RequestRefused as refused:
            self._metrics.token_refreshes.labels("refused").inc()
            if isinstance(refused, SlowDown) or refused.code in BUSY_CODES:
                raise
            # Whatever else gettoken says no with is a matter of settings: never try again soon.
            raise CredentialRefused(refused.code, "gettoken", RETRY_SECONDS) from None
        except WeComUnreachable:
            self._metrics.token_refreshes.labels("unreachable").inc()
            raise
        if not answer.access_token or answer.expires_in <= 0:
            self._metrics.token_refreshes.labels("unreachable").inc()
            raise WeComUnreachable("gettoken gave no token", maybe_done=False)
        self._metrics.token_refreshes.labels("ok").inc()
        return FreshToken(answer.access_token, answer.expires_in)

    async def _quickly_again(self, request: Callable[[], Awaitable[_T]], call: str, *, repeatable: bool) -> _T:
        """Tries again what passes by itself. What came back with a code was not done; a lost answer may have been."""
        pause = self._pause()
        suspect = False
        for left in reversed(range(_TRIES)):
            try:
                answer = await request()
            except WeComUnreachable as unreachable:
                if left == 0 or (unreachable.maybe_done and not repeatable):
                    raise WeComUnreachable(str(unreachable), maybe_done=suspect or unreachable.maybe_done) from None
                suspect = suspect or unreachable.maybe_done
                if suspect and call in _SENDS:
                    self._metrics.resend_suspect.labels("app").inc()
            else:
                if answer.errcode == 0:
                    return answer
                if left == 0 or answer.errcode not in BUSY_CODES:
                    raise refusal(answer.errcode, call)
            await asyncio.sleep(pause.pause())
        raise AssertionError("unreachable: the last try returns or raises")

    def _build_address(self, call: str, query: tuple[tuple[str, str], ...]) -> URL:
        return self._base.joinpath(*call.split("/")).with_query(query)

    async def _request(
        self,
        method: str,
        call: str,
        query: dict[str, str],
        body: bytes | None,
        answer: type[_T],
        *,
        content_type: str = _JSON,
        seconds: float | None = None,
        most: int = _MAX_ANSWER_BYTES,
    ) -> _T:
        # What is asked about one person is asked once: it would only push the addresses that are used again out.
        address = self._address if len(query) == 1 else self._build_address
        answering = self._session.request(
            method,
            address(call, tuple(query.items())),
            # As a stream where it is long: what is written piece by piece lets others have their turn.
            data=io.BytesIO(body) if body is not None and len(body) > _LONG_BODY else body,
            headers={"Content-Type": content_type} if body is not None else None,
            timeout=self._timeout if seconds is None else aiohttp.ClientTimeout(total=seconds),
            allow_redirects=False,
        )
        raw = await body_of(answering, call, most)
        try:
            return _decoded(raw, answer)
        except (msgspec.DecodeError, WireError, RecursionError):
            raise WeComUnreachable(f"{call}: an answer that is not the documented JSON", maybe_done=True) from None


def _decoded(raw: bytes, answer: type[_T]) -> _T:
    """Reads an answer. Texts of people stand in some: none of theirs may keep those of others from being read."""
    try:
        return msgspec.json.decode(raw, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.convert(lenient_json(raw), type=answer)
