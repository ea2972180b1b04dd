"""What a store of replies promises."""

from typing import Protocol

import msgspec

from server.domain import FinishReason, Usage


class CachedReply(msgspec.Struct, frozen=True):
    """A complete reply that may be given again."""

    text: str
    finish_reason: FinishReason
    model: str
    usage: Usage | None = None


class ReplyCache(Protocol):
    """Replies by key, bounded in number and in age. Losing one costs a model call, nothing else."""

    async def get(self, key: bytes) -> CachedReply | None:
        """The reply under ``key``, or ``None``. Never raises: a broken cache is an empty one."""
        ...

    async def put(self, key: bytes, reply: CachedReply) -> None:
        """Keeps ``reply``. Only complete replies (``STOP``) are given here. Never raises."""
        ...
