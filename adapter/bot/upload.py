"""Uploads over the long connection of a bot (DOC 101463): begun, sent in pieces, finished.

An upload belongs to the bot, not to the connection: it goes on over the next one.
"""

import asyncio
import hashlib
from binascii import b2a_base64
from collections.abc import Mapping
from typing import Any, Final

import structlog

from adapter.bot.connection import new_req_id
from adapter.bot.errors import SLOW_DOWN, AckMissing, BotError, ConnectionLost, FrameRefused, OverBudget
from adapter.bot.line import BotLine
from adapter.recently_sent import MemberPace
from adapter.wire import command_frame

log = structlog.get_logger()

UPLOADS_PER_MINUTE: Final = 30
UPLOADS_PER_HOUR: Final = 1000

_INIT: Final = "aibot_upload_media_init"
_CHUNK: Final = "aibot_upload_media_chunk"
_FINISH: Final = "aibot_upload_media_finish"
_LEAST_CHUNK: Final = 128 * 1024
"""A quarter of what WeCom takes: refreshes of bubbles, and our patience for one frame, must fit in between."""
_MOST_CHUNKS: Final = 100
_WAIT: Final = 60.0
_CHUNK_TRIES: Final = 3
_PAUSE: Final = 0.5


class BotUpload:
    """Puts files up for one bot."""

    def __init__(self, line: BotLine, pace: MemberPace | None = None) -> None:
        """Args: ``pace`` keeps below the number of uploads that WeCom takes."""
        self._line = line
        self._pace = pace or MemberPace(UPLOADS_PER_MINUTE, UPLOADS_PER_HOUR)

    async def __call__(self, kind: str, name: str, data: bytes) -> str:
        """The ``media_id`` of a file, good for three days.

        Raises:
            FrameRefused: WeCom does not take it, or not now.
            BotError: it is not known whether it does.
        """
        while (wait := self._pace.wait("")) > 0:
            if wait > _WAIT:
                raise OverBudget(wait)
            await asyncio.sleep(wait)
        try:
            return await self._once(kind, name, data)
        except (AckMissing, _Broken) as error:
            log.info("upload_begun_anew", why=str(error))
        try:
            return await self._once(kind, name, data)
        except _Broken as broken:
            raise broken.refused from None

    async def _once(self, kind: str, name: str, data: bytes) -> str:
        size = max(_LEAST_CHUNK, -(-len(data) // _MOST_CHUNKS))
        count = -(-len(data) // size)
        self._pace.sent("")
        digest = await asyncio.to_thread(_md5, data)
        begin = {"type": kind, "filename": name, "total_size": len(data), "total_chunks": count, "md5": digest}
        upload_id = _text(await self._ask(_INIT, begin), "upload_id")
        try:
            await self._send_all(upload_id, data, size, count)
            return _text(await self._ask(_FINISH, {"upload_id": upload_id}), "media_id")
        except FrameRefused as refused:
            if refused.code in SLOW_DOWN:
                raise
            # The platform may have let go of what was begun.
            raise _Broken(refused) from None

    async def _send_all(self, upload_id: str, data: bytes, size: int, count: int) -> None:
        numbers = iter(range(count))

        async def send_some() -> None:
            for number in numbers:
                await self._send_chunk(upload_id, number, data[number * size : (number + 1) * size])

        # More at a time are answered with a system error.
        lanes = count if count <= 4 else 3 if count <= 10 else 2
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(lanes):
                    group.create_task(send_some())
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _send_chunk(self, upload_id: str, number: int, piece: bytes) -> None:
        text = b2a_base64(piece, newline=False).decode()
        body = {"upload_id": upload_id, "chunk_index": number, "base64_data": text}
        for tried in range(1, _CHUNK_TRIES + 1):
            try:
                await self._ask(_CHUNK, body)
            except FrameRefused as refused:
                if tried == _CHUNK_TRIES or refused.code in SLOW_DOWN:
                    raise
            except (AckMissing, ConnectionLost):
                if tried == _CHUNK_TRIES:
                    raise
            else:
                return
            # The same piece again changes nothing.
            await asyncio.sleep(_PAUSE * tried)

    async def _ask(self, cmd: str, body: Mapping[str, Any]) -> dict[str, Any]:
        req_id = new_req_id(cmd)
        return await self._line.request(req_id, command_frame(cmd, req_id, body), cmd, wait_seconds=_WAIT)


class _Broken(BotError):
    """An upload that was begun cannot be finished."""

    def __init__(self, refused: FrameRefused) -> None:
        super().__init__(str(refused))
        self.refused = refused


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise AckMissing(f"an acknowledgement without {field}")
    return value


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
