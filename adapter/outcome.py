"""How the delivery of one turn went: what a courier says and the service is told."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from weconverse import Delivery


class Delivered(msgspec.Struct, frozen=True):
    """WeCom took it."""

    expire_time: float | None = None
    """Until when that is true, in POSIX seconds, where WeCom fetches for a while; ``None``: always."""


class Retry(msgspec.Struct, frozen=True):
    """It may work in ``after`` seconds."""

    after: float
    detail: str
    progress: bytes = b""
    """What the next attempt must know; empty keeps what was recorded."""


class Waiting(msgspec.Struct, frozen=True):
    """It waits for something else, and nothing of it was sent: for the person to write again, for WeCom to be
    there again. Tried again in ``after`` seconds, or when the person writes. It is not counted as a failure."""

    after: float
    detail: str
    progress: bytes = b""
    """As in :class:`Retry`."""


class Undeliverable(msgspec.Struct, frozen=True):
    """It can never work."""

    detail: str


def put_off(after: float, detail: str, progress: bytes, *, waits: bool) -> Retry | Waiting:
    """Later. Args: ``waits`` where it is known that nothing was sent, and that it is not its own fault."""
    return Waiting(after, detail, progress) if waits else Retry(after, detail, progress)


Outcome = Delivered | Retry | Waiting | Undeliverable

Record = Callable[[bytes], Awaitable[None]]
"""Stores durably what the next attempt must know (at most 4096 bytes). Returns when it is on its way."""


class Courier(Protocol):
    """Brings the reply of one turn to the person."""

    async def deliver(self, delivery: Delivery, record: Record) -> Outcome:
        """Delivers, or says why not.

        May be cancelled at any moment, when the lease on the delivery is lost; another
        instance, or this one, is then given the same turn with a higher ``attempt`` and what
        was recorded.

        Raises:
            WeConverseError: the service broke off. The turn stays owed.
        """
        ...
