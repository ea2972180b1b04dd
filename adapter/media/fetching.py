"""What a fetch yields or why it does not, and the one way in which foreign bytes are read."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import aiohttp
import msgspec

from adapter.media.room import Claim
from adapter.translate import Attachment
from weconverse.v1.conversation_pb2 import Media

_PIECE: Final = 256 * 1024
_SILENCE_SECONDS: Final = 4.0
"""Between two pieces of a file. What comes meanwhile and is none, such as remarks beside chunks, does not count."""
_GRACE_SECONDS: Final = 3.0
_LEAST_RATE: Final = 64 * 1024
"""Bytes a second after the grace: whoever drips slower would hold a place for as long as our patience lasts."""


class MediaMissing(Exception):
    """There are no bytes. ``why`` is for the person, the text for operators; it never holds an address or a key."""

    def __init__(self, why: Media.Missing.ValueType, detail: str, *, again: bool = False) -> None:
        """Args: ``again`` says that another try may well yield them."""
        super().__init__(detail)
        self.why = why
        self.again = again


class Fetched(msgspec.Struct, frozen=True):
    """The bytes of an attachment."""

    data: bytes
    name: str = ""
    """As the platform gives it: foreign text."""
    mime_type: str = ""
    """As the platform says; empty if it does not."""


class Fetch(Protocol):
    """Fetches one attachment of one kind of account."""

    async def __call__(self, attachment: Attachment, *, most: int, claim: Claim) -> Fetched:
        """Returns at most ``most`` bytes, for which it has grown ``claim``.

        Raises:
            MediaMissing: there are none.
        """
        ...


def _as_it_is(piece: bytes) -> bytes:
    return piece


async def read_within(
    response: aiohttp.ClientResponse, *, most: int, claim: Claim, opened: Callable[[bytes], bytes] = _as_it_is
) -> list[bytes]:
    """The body of an answer in pieces, each through ``opened``; the claim is grown by their length.

    What says that it is longer than ``most`` is not read at all, and what turns out to be is
    not read on.

    Raises:
        MediaMissing: too large, compressed, too slow, or cut short.
    """
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        # Never asked for; a few kilobytes could unfold into gigabytes.
        raise MediaMissing(Media.DAMAGED, "compressed")
    length = response.content_length
    if length is not None and length > most:
        raise MediaMissing(Media.TOO_LARGE, f"says that it has {length} bytes")
    claimed = most if length is None else length
    await claim.grow(claimed)
    loop = asyncio.get_running_loop()
    began, count, pieces = loop.time(), 0, list[bytes]()
    try:
        # A drip is found out at its next drop.
        while piece := await _next(response):
            count += len(piece)
            if count > most:
                raise MediaMissing(Media.TOO_LARGE, f"more than {most} bytes")
            if count < (loop.time() - began - _GRACE_SECONDS) * _LEAST_RATE:
                raise MediaMissing(Media.UNAVAILABLE, "too slow")
            pieces.append(opened(piece))
    except aiohttp.ClientPayloadError:
        raise MediaMissing(Media.DAMAGED, "cut short", again=True) from None
    claim.shrink(claimed - count)
    return pieces


async def _next(response: aiohttp.ClientResponse) -> bytes:
    try:
        async with asyncio.timeout(_SILENCE_SECONDS):
            return await response.content.read(_PIECE)
    except TimeoutError:
        raise MediaMissing(Media.UNAVAILABLE, "silent") from None
