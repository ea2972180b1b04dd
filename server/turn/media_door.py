"""Where the media of a message become what models read, before anything else is done with it.

A turn that is owed passes here before it is accepted: what is on disk is small then, and
what is acknowledged can be answered. Any other passes here when it begins to run.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Final

import msgspec

from server.budget import Budget
from server.domain import Ask, Content, MediaPart, TurnName, digest
from server.media.base import MediaReader

LARGE_BYTES: Final = 256 << 10
"""From so many on, a digest is worked out in a thread: 20 MiB take some 30 ms."""

_END_SECONDS: Final = 0.5
"""Of what the caller waits, for all that comes behind the reading until the turn is on disk."""


class MediaDoor:
    """Reads what can be read. Without a reader everything passes as it is, and so do messages without bytes."""

    def __init__(self, reader: MediaReader | None, max_characters: int) -> None:
        """Args: of a message, with all that was read."""
        self._reader = reader
        self._max_characters = max_characters
        self._inside: dict[TurnName, tuple[asyncio.Lock, list[None]]] = {}

    def wanted(self, ask: Ask) -> bool:
        """Whether there is anything to read, be it an empty file."""
        return self._reader is not None and any(part.inline_data is not None for part in ask.input.media)

    def alone(self, ask: Ask) -> AbstractAsyncContextManager[None]:
        """Lets one call of a turn's name in at a time, if there is anything to read: a message that is delivered
        again while it is read waits, and then finds the turn, also if its bytes could not be had a second time."""
        return self._one_at_a_time(ask.name) if self.wanted(ask) or ask.name in self._inside else nullcontext()

    @asynccontextmanager
    async def _one_at_a_time(self, name: TurnName) -> AsyncIterator[None]:
        lock, holders = self._inside.setdefault(name, (asyncio.Lock(), []))
        holders.append(None)
        try:
            async with lock:
                yield
        finally:
            holders.pop()
            if not holders:
                del self._inside[name]

    async def sealed(self, ask: Ask) -> Ask:
        """The ask with the digest of what was said, which holds when something else stands in its place."""
        if ask.input_digest or not self.wanted(ask):
            return ask
        return msgspec.structs.replace(ask, input_digest=await digest_of(ask.input))

    async def read(self, ask: Ask, budget: Budget | None) -> Ask:
        """The ask as it is answered and kept, sealed.

        Args:
            budget: the caller's; ``None`` where nobody waits.
        """
        if self._reader is None or not self.wanted(ask):
            return ask
        ask = await self.sealed(ask)
        own = Budget(_LONGEST_SECONDS) if budget is None else budget.part(_LONGEST_SECONDS, keep=_END_SECONDS)
        read = await self._reader.read(ask.input, own, self._max_characters, ask.name.conversation)
        return msgspec.structs.replace(ask, input=read)

    async def bare(self, ask: Ask) -> Ask:
        """The ask without bytes, sealed: of a message that is not read, because it is answered without."""
        if not self.wanted(ask):
            return ask
        ask = await self.sealed(ask)
        return msgspec.structs.replace(ask, input=ask.input.without_bytes())


_LONGEST_SECONDS: Final = 300.0
"""The reader has settings of its own, which are shorter."""


async def digest_of(content: Content) -> bytes:
    """:func:`server.domain.digest`; of a large message it holds up nobody."""
    large = inline_bytes(content) >= LARGE_BYTES
    return await asyncio.to_thread(digest, content) if large else digest(content)


def inline_bytes(content: Content) -> int:
    """How many bytes of pictures, recordings and files are in a message."""
    return sum(len(part.inline_data) for part in content.parts if isinstance(part, MediaPart) and part.inline_data)
