"""Replies kept in this process."""

import time
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

from server.cache.base import CachedReply

MAX_REPLY_BYTES: Final = 64 << 10
"""UTF-8 bytes of the largest reply that is kept; so memory is bounded by this times the entries."""


class InProcessReplyCache:
    """A :class:`~server.cache.base.ReplyCache` that drops the old, and the least recently used."""

    def __init__(self, entries: int, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: replies at most (0 keeps none), seconds that one may be given again, and what counts them."""
        self._replies: TTLCache[bytes, CachedReply] | None = (
            TTLCache(entries, ttl_seconds, timer=clock) if entries > 0 else None
        )

    async def get(self, key: bytes) -> CachedReply | None:
        """See :meth:`server.cache.base.ReplyCache.get`."""
        return None if self._replies is None else self._replies.get(key)

    async def put(self, key: bytes, reply: CachedReply) -> None:
        """See :meth:`server.cache.base.ReplyCache.put`. A reply that is too large is not kept."""
        if self._replies is not None and len(reply.text.encode("utf-8", "replace")) <= MAX_REPLY_BYTES:
            self._replies[key] = reply
