"""What a store of replies promises."""

from array import array
from typing import Protocol

import msgspec

from server.budget import Budget
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


class QuestionVectors(Protocol):
    """What turns questions into vectors for the semantic cache."""

    async def vector(self, text: str, budget: Budget) -> "array[float] | None":
        """A vector of length 1, or ``None`` if there is none within the budget. Never raises."""
        ...


class SemanticCache(Protocol):
    """Replies to questions that mean the same. Losing one costs a model call, nothing else."""

    async def get(self, question: str, partition: bytes, budget: Budget) -> CachedReply | None:
        """A reply to a question of the same meaning, kept under the same partition.

        Never raises: a broken embedder is a miss, within the budget.

        Args:
            partition: see :func:`server.cache.key.partition_key`; nothing is ever shared between two of them.
        """
        ...

    async def put(self, question: str, partition: bytes, reply: CachedReply) -> None:
        """Keeps ``reply`` to a question that was asked for with :meth:`get` shortly before. Never raises.

        Only complete replies (``STOP``) are kept; others are let go.
        """
        ...
