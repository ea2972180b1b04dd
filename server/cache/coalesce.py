"""Identical asks in flight share one call.

The call belongs to nobody who asked: it runs in a task of its own, everybody reads it
from its beginning, and it ends when it is done or when the last reader has left. So the
one who happened to come first may leave without taking the others' answer along.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

from server.broadcast import Broadcast
from server.errors import ShuttingDown

T = TypeVar("T")


class _Call(Generic[T]):
    """A call under way, and how many read it."""

    __slots__ = ("error", "followers", "items", "task", "traceback")

    def __init__(self) -> None:
        self.items: Broadcast[T] = Broadcast()
        self.followers = 0
        self.task: asyncio.Task[None] | None = None
        self.error: Exception | None = None
        self.traceback: TracebackType | None = None

    def fail(self, error: Exception) -> None:
        if not self.items.closed:
            self.error, self.traceback = error, error.__traceback__
        self.items.close()


class SharedCall(Generic[T]):
    """A call, as one of those sees it who share it."""

    __slots__ = ("_call", "leads")

    def __init__(self, call: _Call[T], leads: bool) -> None:
        self._call = call
        self.leads = leads
        """Whether this ask began the call; the others found it under way."""

    async def chunks(self) -> AsyncGenerator[T, None]:
        """Everything from the first item, however late one joined.

        Raises:
            Exception: what ended the call, behind the last item, the same for all.
            ShuttingDown: if the calls were closed.
        """
        call = self._call
        async with aclosing(call.items.batches()) as batches:  # type: ignore[type-var]  # it is an async generator
            async for batch in batches:
                for item in batch:
                    yield item
        if call.error is not None:
            # Raised anew by each reader; without this its traceback would grow with each of them.
            raise call.error.with_traceback(call.traceback)


class SharedCalls:
    """The calls under way, by key."""

    def __init__(self) -> None:
        self._calls: dict[bytes, _Call[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def join(self, key: bytes, start: Callable[[], AsyncIterator[T]]) -> AsyncIterator[SharedCall[T]]:
        """Joins the call under ``key``, or begins it.

        A call that has succeeded can be joined as long as somebody still reads it; one
        that has failed cannot. When the last reader leaves, the call is cancelled.

        Args:
            start: gives the items, as an async generator. Called in the call's own task,
                at most once; it must bring its own budget, because it may outlive the
                one who passed it.

        Raises:
            ShuttingDown: after :meth:`aclose`.
        """
        if self._closed:
            raise ShuttingDown
        call = self._calls.get(key)
        leads = call is None
        if call is None:
            call = self._begin(key, start)
        call.followers += 1
        try:
            yield SharedCall(call, leads)
        finally:
            call.followers -= 1
            if call.followers == 0:
                self._drop(key, call)

    async def aclose(self) -> None:
        """Cancels all calls and waits for their ends. Their readers get ``ShuttingDown``."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, key: bytes, start: Callable[[], AsyncIterator[T]]) -> _Call[T]:
        call: _Call[T] = _Call()
        self._calls[key] = call
        call.task = asyncio.create_task(self._run(key, call, start))
        self._tasks.add(call.task)
        call.task.add_done_callback(lambda task: self._ended(task, key, call))
        return call

    def _ended(self, task: asyncio.Task[None], key: bytes, call: _Call[Any]) -> None:
        # Here and not in the task: one that is cancelled before its first step never runs a handler of its own.
        self._tasks.discard(task)
        if task.cancelled():
            self._forget(key, call)
            call.fail(ShuttingDown())

    async def _run(self, key: bytes, call: _Call[T], start: Callable[[], AsyncIterator[T]]) -> None:
        try:
            async with aclosing(start()) as items:  # type: ignore[type-var]  # see `start`
                async for item in items:
                    call.items.append(item)
        except Exception as error:  # noqa: BLE001 - nothing is swallowed: every reader gets it
            self._forget(key, call)
            call.fail(error)
        else:
            call.items.close()

    def _drop(self, key: bytes, call: _Call[Any]) -> None:
        self._forget(key, call)
        # Cancelled, not awaited: whoever leaves may be in a hurry. `aclose` awaits it, if it is still there.
        if call.task is not None and not call.task.done():
            call.task.cancel()

    def _forget(self, key: bytes, call: _Call[Any]) -> None:
        # Under the key there may be a later call by now.
        if self._calls.get(key) is call:
            del self._calls[key]
