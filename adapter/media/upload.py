"""Puts the files of replies up at WeCom: what kind of message each becomes, and its ``media_id``.

An uploaded file is good for three days, so equal files are put up once in that time.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
import structlog
from cachetools import TTLCache

from adapter.media.fetching import MediaMissing
from adapter.media.guarded_fetch import GuardedFetch
from adapter.media.kinds import UNKNOWN, amr_seconds, media_type, safe_name
from adapter.media.room import Claim, Room
from adapter.text.capabilities import VOICE_SECONDS, Files, Kind, kind_for
from weconverse.v1.conversation_pb2 import Media

log = structlog.get_logger()

_MOST_BYTES: Final = 20 * 1024 * 1024
_REMEMBERED_SECONDS: Final = 3 * 86400.0 - 3600.0
"""Of the three days that a ``media_id`` lives, without the hour in which it might end on its way."""
_MOST: Final = 10_000


class NotSendable(Exception):
    """The door takes no such file, or there is none. The text is for operators and holds no address."""


class PutUp(Protocol):
    """Gives WeCom bytes and returns their ``media_id``."""

    async def __call__(self, kind: str, name: str, data: bytes) -> str:
        """Raises what the door raises."""
        ...


class Bytes(msgspec.Struct, frozen=True):
    """A file of a reply, in memory."""

    data: bytes
    mime_type: str
    name: str


class Sources:
    """Gets the bytes of the files of replies, from wherever they are."""

    def __init__(self, guarded: GuardedFetch, room: Room, *, seconds: float) -> None:
        """Args: ``seconds`` for fetching one file."""
        self._guarded = guarded
        self._room = room
        self._seconds = seconds

    async def bytes_of(self, media: Media) -> Bytes:
        """The bytes of a part, at most 20 MiB.

        Raises:
            NotSendable: there are none, or too many.
        """
        if media.WhichOneof("source") == "inline_data":
            return _described(media, media.inline_data, "", "")
        if media.WhichOneof("source") != "uri":
            raise NotSendable("a file without bytes")
        claim = Claim(self._room)
        try:
            async with asyncio.timeout(self._seconds), self._room.fetching():
                pieces, said = await self._guarded.get(media.uri, most=_MOST_BYTES, claim=claim)
            return _described(media, b"".join(pieces), said.name, said.mime_type)
        except MediaMissing as missing:
            raise NotSendable(f"cannot be fetched: {missing}") from None
        except TimeoutError:
            raise NotSendable("cannot be fetched in time") from None
        finally:
            claim.release()


def _described(media: Media, data: bytes, name: str, mime_type: str) -> Bytes:
    name = media.display_name or name
    # The service knows what it made; only where it does not say, the bytes and the name do.
    said = media.mime_type if media.mime_type not in ("", UNKNOWN) else mime_type
    found = media_type(data[:16], name, said or UNKNOWN)
    return Bytes(data, found, safe_name(name, found) or safe_name("file", found))


class Uploads:
    """The files of one account that were put up, so that equal ones are not put up again."""

    def __init__(
        self, put_up: PutUp, sources: Sources, files: Mapping[Kind, Files], refusal: Callable[[], Exception]
    ) -> None:
        """Args:
        files: what the door takes (``capabilities.DOORS``).
        refusal: makes what the door raises for content that it can never send.
        """
        self._put_up = put_up
        self._refusal = refusal
        self._sources = sources
        self._files = files
        self._known: TTLCache[bytes, str] = TTLCache(_MOST, _REMEMBERED_SECONDS)

    async def __call__(self, media: Media) -> tuple[Kind, dict[str, Any]]:
        """The ``msgtype`` that shows a file, and what belongs to that.

        Raises:
            WeComError, BotError: whatever the door raises; what ``refusal`` made if no message can show the file.
        """
        try:
            return await self._shown(media)
        except NotSendable as error:
            log.info("file_not_sendable", why=str(error))
            raise self._refusal() from None

    async def _shown(self, media: Media) -> tuple[Kind, dict[str, Any]]:
        file = await self._sources.bytes_of(media)
        seconds = amr_seconds(file.data, VOICE_SECONDS) if file.mime_type == "audio/amr" else 0.0
        kind = kind_for(self._files, file.mime_type, len(file.data), voice_seconds=seconds)
        if kind is None:
            raise NotSendable(f"{len(file.data)} bytes of {file.mime_type} are not what this door takes")
        digest = hashlib.blake2b(f"{kind}/{file.name}/".encode(), digest_size=16)
        digest.update(file.data)
        key = digest.digest()
        media_id = self._known.get(key)
        if media_id is None:
            media_id = self._known[key] = await self._put_up(kind, file.name, file.data)
        if kind == "video":
            return kind, {"media_id": media_id, "title": file.name.encode()[:64].decode(errors="ignore")}
        return kind, {"media_id": media_id}

    def forget(self, media_id: str) -> None:
        """Tells that WeCom has let go of a file."""
        for key in [key for key, known in self._known.items() if known == media_id]:
            del self._known[key]
