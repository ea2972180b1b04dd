"""Fetches what belongs to a message, so that the service gets it whole.

WeCom hands over a name for the bytes of a picture, a recording or a file, not the bytes.
They are fetched here within bounds of size, time and memory. What cannot be had becomes a
part without bytes that says why (``Media.missing``), so that the person is told in one
sentence.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final
from weakref import finalize

import msgspec
import structlog

from adapter.crypto import EnvelopeError, MediaCipher, media_key
from adapter.media.fetching import Fetch, Fetched, MediaMissing
from adapter.media.guarded_fetch import GuardedFetch
from adapter.media.kinds import media_type, safe_name
from adapter.media.room import Claim, Room
from adapter.media.upload import PutUp, Sources, Uploads
from adapter.metrics import Metrics
from adapter.rest.api import WeComApi
from adapter.text.capabilities import Files, Kind
from adapter.translate import Attachment, Incoming
from weconverse.v1.conversation_pb2 import Content, Media

log = structlog.get_logger()

_MOST_ATTACHMENTS: Final = 20
"""Of one message. A person can put nine pictures into one; more is somebody's program."""


class Attachments:
    """Fetches the attachments of one account's messages."""

    def __init__(self, room: Room, fetch: Fetch, metrics: Metrics, *, max_bytes: int) -> None:
        """Args: ``max_bytes`` of all attachments of one message."""
        self._room = room
        self._fetch = fetch
        self._counted = metrics.media_fetches
        self._max_bytes = max_bytes

    async def fill(self, incoming: Incoming, seconds: float) -> Incoming:
        """The message with its bytes, or with the reasons why some are missing, within that many seconds.

        Does not raise but when it is cancelled. The memory it takes is given back to the room when
        the message that is returned is let go of.
        """
        if not incoming.attachments:
            return incoming
        content = Content()
        content.CopyFrom(incoming.content)
        claim = Claim(self._room)
        try:
            await self._fill(content, incoming, claim, seconds)
        except BaseException:
            claim.release()
            raise
        whole = msgspec.structs.replace(incoming, content=content, attachments=())
        finalize(whole, claim.release).atexit = False
        return whole

    async def _fill(self, content: Content, incoming: Incoming, claim: Claim, seconds: float) -> None:
        # One after the other: which of several is too much must not depend on which came first.
        until = asyncio.get_running_loop().time() + seconds
        for number, attachment in enumerate(incoming.attachments):
            media = content.parts[attachment.part].media
            held = claim.held
            try:
                if number >= _MOST_ATTACHMENTS:
                    raise MediaMissing(Media.TOO_LARGE, f"more than {_MOST_ATTACHMENTS} attachments")
                async with asyncio.timeout_at(until), self._room.fetching():
                    fetched = await self._fetched(attachment, claim)
            except (MediaMissing, TimeoutError) as error:
                why = error.why if isinstance(error, MediaMissing) else Media.UNAVAILABLE
                claim.shrink(claim.held - held)
                media.missing = why
                log.info(
                    "media_missing",
                    request_id=incoming.request_id,
                    kind=attachment.kind,
                    missing=Media.Missing.Name(why),
                    why=str(error) or "late",
                )
                self._counted.labels(Media.Missing.Name(why).lower()).inc()
            else:
                _put(media, fetched)
                self._counted.labels("ok").inc()

    async def _fetched(self, attachment: Attachment, claim: Claim) -> Fetched:
        held = claim.held
        try:
            return await self._fetch(attachment, most=self._max_bytes - held, claim=claim)
        except MediaMissing as missing:
            if not missing.again:
                raise
        claim.shrink(claim.held - held)
        return await self._fetch(attachment, most=self._max_bytes - held, claim=claim)


def _put(media: Media, fetched: Fetched) -> None:
    name = fetched.name or media.display_name
    # What WeCom calls the kind of a message is the last word, where neither bytes nor name say more.
    media.mime_type = media_type(fetched.data[:16], name, fetched.mime_type or media.mime_type)
    media.display_name = safe_name(name, media.mime_type)
    media.inline_data = fetched.data


class Fetching:
    """What all accounts share to fetch with."""

    def __init__(
        self, room: Room, guarded: GuardedFetch, metrics: Metrics, *, max_bytes: int, fetch_seconds: float = 30.0
    ) -> None:
        """Args: ``max_bytes`` of all attachments of a message; ``fetch_seconds`` for a file that a reply names."""
        self._room = room
        self._guarded = guarded
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._sources = Sources(guarded, room, seconds=fetch_seconds)

    @property
    def sources(self) -> Sources:
        """Gets the bytes of the files of replies and pushes."""
        return self._sources

    def of_application(self, api: WeComApi) -> Attachments:
        """For what has a ``media_id``: applications and customer service."""
        return Attachments(self._room, ByMediaId(api), self._metrics, max_bytes=self._max_bytes)

    def of_bot(self) -> Attachments:
        """For what has a signed address, and a key."""
        return Attachments(self._room, BySignedAddress(self._guarded), self._metrics, max_bytes=self._max_bytes)

    def uploads(self, put_up: PutUp, files: Mapping[Kind, Files], refusal: Callable[[], Exception]) -> Uploads:
        """For the files of replies: what they become, and their ``media_id``.

        Args: ``put_up`` is ``WeComApi.upload`` or a ``BotUpload``; ``files`` of the door in ``capabilities.DOORS``;
            ``refusal`` as for :class:`Uploads`.
        """
        return Uploads(put_up, self._sources, files, refusal)


class ByMediaId:
    """Fetches by ``media/get`` (DOC 90254)."""

    def __init__(self, api: WeComApi) -> None:
        self._api = api

    async def __call__(self, attachment: Attachment, *, most: int, claim: Claim) -> Fetched:
        """See :class:`adapter.media.fetching.Fetch`."""
        if not attachment.media_id:
            raise MediaMissing(Media.UNAVAILABLE, "no media_id")
        return await self._api.download(attachment.media_id, most=most, claim=claim)


class BySignedAddress:
    """Fetches from the signed address beside a bot's message, and decrypts (DOC 100719, 101463)."""

    def __init__(self, guarded: GuardedFetch) -> None:
        self._guarded = guarded

    async def __call__(self, attachment: Attachment, *, most: int, claim: Claim) -> Fetched:
        """See :class:`adapter.media.fetching.Fetch`."""
        if not attachment.url:
            raise MediaMissing(Media.UNAVAILABLE, "no address")
        try:
            cipher = MediaCipher(media_key(attachment.aeskey))
            pieces, said = await self._guarded.get(
                attachment.url, most=most + MediaCipher.OVERHEAD, claim=claim, opened=cipher.feed, form_encoded=True
            )
            pieces.append(cipher.end())
        except EnvelopeError:
            raise MediaMissing(Media.DAMAGED, "does not decrypt") from None
        data = b"".join(pieces)
        if len(data) > most:
            raise MediaMissing(Media.TOO_LARGE, f"more than {most} bytes")
        return msgspec.structs.replace(said, data=data)
