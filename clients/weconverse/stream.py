"""Streams of a turn's events and of a batch's results, which end their call in any case.

A call that is merely dropped is not cancelled: since grpcio 1.83 the server goes on
streaming to nobody (grpc/grpc#43462). So a call lives inside a context manager here,
and no other module of this package holds one.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar, cast

import grpc
import grpc.aio

from weconverse._reply import Reply
from weconverse._retry import backoff
from weconverse.errors import (
    ReplyReplaced,
    UnfinishedStream,
    WeConverseError,
    from_rpc_error,
    from_status,
)
from weconverse.v1.conversation_pb2 import BatchConverseResponse, StreamConverseResponse, Turn

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_REASONS_TO_RESUME = frozenset({"", "SHUTTING_DOWN", "STORE_UNAVAILABLE"})
"""After UNAVAILABLE with one of these the turn itself may go on: the way to it broke, not the turn."""


class ReadableCall(Protocol[T_co]):
    """The part of a gRPC call that reading needs."""

    async def read(self) -> object:
        """The next message, or ``grpc.aio.EOF``."""

    def cancel(self) -> bool:
        """Ends the call, and tells the server."""


class CallReader(Generic[T]):
    """Reads the messages of one call: typed errors, and no cancellation out of nowhere.

    Belongs to one task at a time, except for :meth:`cancel`.
    """

    def __init__(self, call: ReadableCall[T]) -> None:
        self._call = call
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether this side ended the call."""
        return self._cancelled

    async def next(self) -> T | None:
        """The next message; ``None`` at the end, and after :meth:`cancel`.

        Cancelling the task that waits here cancels the call.

        Raises:
            WeConverseError: if the call failed.
        """
        if self._cancelled:
            return None
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.cancelled and task is not None and not task.cancelling():
                # gRPC raises this in whoever reads when somebody else cancels the call. To a task
                # that nobody cancelled it would be a lie, and the task would seem to have ended.
                return None
            raise
        return None if message is grpc.aio.EOF else cast("T", message)

    def cancel(self) -> None:
        """Ends the call and tells the server. Idempotent; harmless after the end."""
        self._cancelled = True
        self._call.cancel()


class TurnStream:
    """The events of one turn, as they happen.

    Use it as a context manager, which opens the call and ends it in any case::

        async with client.stream("c", "hello") as stream:
            async for event in stream:
                show(stream.text)
        print(stream.turn.finish_reason)

    Leaving early leaves the turn: one without ``request_id`` stops then, one with it
    half a minute later, unless somebody asks for it again.

    A turn that was accepted by ``submit`` always ends in ``completed``, also when it
    failed: look at ``turn.state``; ``from_status(turn.error)`` says why.
    """

    def __init__(
        self,
        open_call: Callable[[float], ReadableCall[StreamConverseResponse]],
        follow_call: Callable[[str, int, float], ReadableCall[StreamConverseResponse]],
        *,
        timeout: float,
        resume: bool,
        name: str = "",
        after_sequence: int = 0,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Made by the client. The calls take the seconds left as their last argument."""
        self._open_call = open_call
        self._follow_call = follow_call
        self._timeout = timeout
        self._resume = resume
        self._clock = clock
        self._chance = chance
        self._reply = Reply(name, after_sequence)
        self._reader: CallReader[StreamConverseResponse] | None = None
        self._deadline = 0.0
        self._tries = 0
        self._handed_out = ""

    @property
    def name(self) -> str:
        """The name of the turn; empty before ``started`` told it."""
        return self._reply.name

    @property
    def attached(self) -> bool:
        """Whether the turn existed already when this stream asked for it."""
        return self._reply.attached

    @property
    def sequence(self) -> int:
        """The number of the last event that came."""
        return self._reply.sequence

    @property
    def text(self) -> str:
        """The reply so far, replacements applied. Behind ``follow(after_sequence=n)`` only what came after it."""
        return self._reply.text

    @property
    def turn(self) -> Turn | None:
        """The whole turn, once ``completed`` came."""
        return self._reply.turn

    async def __aenter__(self) -> Self:
        if self._reader is not None:
            raise RuntimeError("a stream can be entered once")
        self._deadline = self._clock() + self._timeout
        self._reader = CallReader(self._open_call(self._timeout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the call. Idempotent. A task that iterates meanwhile comes to an end."""
        if self._reader is not None:
            self._reader.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamConverseResponse:
        """The next event.

        Raises:
            WeConverseError: if the turn or the call failed, or the order was broken.
        """
        while self.turn is None:
            if self._reader is None:
                raise RuntimeError("a stream is opened by 'async with'")
            reader = self._reader
            try:
                event = await reader.next()
            except WeConverseError as error:
                await self._take_up_again(error)
                continue
            if event is None:
                if not reader.cancelled:
                    self._reply.finished()
                break
            if self._reply.add(event):
                self._tries = 0
                return event
        raise StopAsyncIteration

    async def result(self) -> Turn:
        """Reads to the end and returns the completed turn.

        Raises:
            WeConverseError: as iterating does.
        """
        async for _ in self:
            pass
        return self._reply.finished()

    async def text_deltas(self) -> AsyncIterator[str]:
        """The reply as pieces to append to each other.

        Raises:
            ReplyReplaced: when what was handed out is void. Clear it, show the error's
                ``text``, and call this again: the stream goes on.
            WeConverseError: as iterating does.
        """
        async for event in self:
            if not event.HasField("delta") and not event.HasField("replacement"):
                continue
            shown, self._handed_out = self._handed_out, self.text
            if not self.text.startswith(shown):
                raise ReplyReplaced(self.text)
            if piece := self.text[len(shown) :]:
                yield piece

    async def _take_up_again(self, error: WeConverseError) -> None:
        """Follows the turn behind the last event, or raises ``error`` where that cannot help."""
        pause = backoff(self._tries, self._chance())
        remaining = self._deadline - self._clock() - pause
        lost_the_way = error.code is grpc.StatusCode.UNAVAILABLE and error.reason in _REASONS_TO_RESUME
        if not (self._resume and self.name and lost_the_way and remaining > 0):
            raise error
        self._tries += 1
        await asyncio.sleep(pause)
        assert self._reader is not None
        if self._reader.cancelled:  # Closed by another task while this one waited.
            return
        self._reader = CallReader(self._follow_call(self.name, self.sequence, remaining))


class BatchResults:
    """The results of a batch, each with the index of its request, in the order in which they are ready.

    Use it as a context manager, which opens the call and ends it in any case::

        async with client.batch(requests) as results:
            async for index, result in results:
                if isinstance(result, WeConverseError):
                    ...
    """

    def __init__(self, open_call: Callable[[], ReadableCall[BatchConverseResponse]], *, count: int) -> None:
        """Made by the client. ``count`` is how many results there must be."""
        self._open_call = open_call
        self._missing = set(range(count))
        self._reader: CallReader[BatchConverseResponse] | None = None

    async def __aenter__(self) -> Self:
        if self._reader is not None:
            raise RuntimeError("a batch can be entered once")
        self._reader = CallReader(self._open_call())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, Turn | WeConverseError]:
        """The next result.

        Raises:
            WeConverseError: if the call as a whole failed.
            UnfinishedStream: if it ended and results are missing.
        """
        if self._reader is None:
            raise RuntimeError("a batch is opened by 'async with'")
        message = await self._reader.next()
        if message is None:
            if self._missing and not self._reader.cancelled:
                raise UnfinishedStream(f"the batch ended without the results of {sorted(self._missing)}")
            raise StopAsyncIteration
        self._missing.discard(message.index)
        result = from_status(message.error) if message.HasField("error") else message.turn
        return message.index, result
