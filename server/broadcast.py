"""A sequence that one writes and many read, each at its own pace, from the beginning."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Broadcast(Generic[T]):
    """An append-only sequence with any number of readers.

    A reader that joins late sees everything from the first item. What is bounded is
    the sequence itself, by whoever writes it (a reply has a bounded length), so a slow
    reader costs nothing but its own position.

    Belongs to one event loop; not thread-safe.
    """

    __slots__ = ("_closed", "_error", "_items", "_waiters")

    def __init__(self) -> None:
        self._items: list[T] = []
        self._closed = False
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def items(self) -> Sequence[T]:
        """Everything that was appended so far. Not to be changed."""
        return self._items

    @property
    def closed(self) -> bool:
        return self._closed

    def append(self, item: T) -> None:
        """Adds an item and wakes the readers.

        Raises:
            RuntimeError: after :meth:`close`.
        """
        if self._closed:
            raise RuntimeError("the sequence has ended")
        self._items.append(item)
        self._wake()

    def close(self, error: BaseException | None = None) -> None:
        """Ends the sequence; readers get ``error``, if given, behind the last item. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def batches(self, start: int = 0) -> AsyncIterator[Sequence[T]]:
        """Yields what is new since the last look, as non-empty runs in order.

        Args:
            start: how many items the reader has already.

        Raises:
            BaseException: the error given to :meth:`close`, after the last item.
        """
        position = start
        while True:
            if position < len(self._items):
                batch = self._items[position:]
                position += len(batch)
                yield batch
            elif self._closed:
                if self._error is not None:
                    raise self._error
                return
            else:
                await self._news()

    async def finished(self) -> None:
        """Waits for the end.

        Raises:
            BaseException: the error given to :meth:`close`.
        """
        while not self._closed:
            await self._news()
        if self._error is not None:
            raise self._error

    async def _news(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            # A reader that is cancelled must not leave its waiter behind: a quiet
            # sequence would collect one for every reader that ever gave up.
            if waiter in self._waiters:
                self._waiters.remove(waiter)
