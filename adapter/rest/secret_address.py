"""Posts to addresses of WeCom that are credentials themselves: whoever knows one can send.

These are the ``response_url`` of a bot's message (DOC 101138) and the webhook of a group's
robot (DOC 91770). No error of this module quotes an address, and no redirect is followed.
"""

import asyncio
import io
from collections.abc import Callable
from typing import Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from adapter.backoff import Backoff
from adapter.rest.answer import body_of
from adapter.rest.errors import BUSY_CODES, WeComUnreachable, refusal

JSON: Final = "application/json; charset=utf-8"

_TRIES: Final = 4
"""One try and three repetitions, the most that DOC 90313 asks for."""
_MAX_ANSWER_BYTES: Final = 64 * 1024
_IN_PIECES: Final = 64 * 1024
"""Bytes above which a body is written piece by piece, so that it does not hold up everything else."""


class Answer(msgspec.Struct):
    """What every answer has. Answers with more extend it."""

    errcode: int = 0


T = TypeVar("T", bound=Answer)


class SecretAddress:
    """Posts bodies. Shares its HTTP session with others, and does not close it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        request_seconds: float = 10.0,
        pause: Callable[[], Backoff] = lambda: Backoff(0.2, 1.6),
    ) -> None:
        """Args: ``pause`` makes the pauses between the quick tries of one request."""
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=request_seconds)
        self._pause = pause

    async def post(self, url: URL, body: bytes, call: str, answer: type[T], *, content_type: str = JSON) -> T:
        """Posts once, and again only where nothing was done: WeCom was busy, or no byte had left.

        Args: ``call`` names the request in errors and logs, where the address must not be.

        Raises:
            RequestRefused: WeCom said no with a code; nothing was done.
            WeComUnreachable: no answer; ``maybe_done`` says whether it may have been done.
        """
        pause = self._pause()
        for left in reversed(range(_TRIES)):
            try:
                said = await self._request(url, body, call, answer, content_type)
            except WeComUnreachable as unreachable:
                if left == 0 or unreachable.maybe_done:
                    raise
            else:
                if said.errcode == 0:
                    return said
                if left == 0 or said.errcode not in BUSY_CODES:
                    raise refusal(said.errcode, call)
            await asyncio.sleep(pause.pause())
        raise AssertionError("unreachable: the last try returns or raises")

    async def _request(self, url: URL, body: bytes, call: str, answer: type[T], content_type: str) -> T:
        answering = self._session.post(
            url,
            data=io.BytesIO(body) if len(body) > _IN_PIECES else body,
            headers={"Content-Type": content_type},
            timeout=self._timeout,
            allow_redirects=False,
        )
        raw = await body_of(answering, call, _MAX_ANSWER_BYTES)
        try:
            return msgspec.json.decode(raw, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise WeComUnreachable(f"{call}: an answer that is not the documented JSON", maybe_done=True) from None
