"""What a channel adapter holds: its lease on the deliveries of one account.

One session is one ``Attach`` call. While it lives, turns that are owed to people of
the account are offered on it; when it ends, for whatever reason, what was offered on
it is offered elsewhere. Taking up again after an error is the adapter's loop, because
only the adapter knows what it must stop meanwhile.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import grpc
import grpc.aio

from weconverse._names import checked_turn_name
from weconverse._requests import duration, timestamp
from weconverse.errors import Internal, Unavailable, WeConverseError, from_rpc_error
from weconverse.stream import CallReader, ReadableCall
from weconverse.v1.channel_pb2 import (
    AttachRequest,
    AttachResponse,
    Delivery,
    DeliveryResult,
    Granted,
    Hello,
    Revoked,
)

MAX_PROGRESS_BYTES = 4096
"""How much ``progress`` the service keeps for a delivery."""

MAX_DETAIL_CHARACTERS = 500
"""How much ``detail`` the service takes; longer text is cut here."""

CLOSE_SECONDS = 1.0
"""How long closing waits for the service to read the last reports."""


class AttachCall(ReadableCall[AttachResponse], Protocol):
    """The part of the gRPC call that a session needs."""

    async def write(self, request: AttachRequest) -> None:
        """Sends one message; the calls may not overlap."""

    async def done_writing(self) -> None:
        """Says that no more messages come."""

    async def code(self) -> grpc.StatusCode:
        """Waits for the end, and how it went."""


class ChannelSession:
    """The lease of one adapter instance on one account.

    Use it as a context manager, which opens the call and ends it in any case::

        async with client.attach("channels/web/accounts/main", "web-1") as session:
            async for message in session:
                if isinstance(message, Delivery):
                    await send(message)
                    await session.delivered(message)

    One task iterates; any number may report. Do not put a time-out around the
    iteration: cancelling a read ends the lease.
    """

    def __init__(self, open_call: Callable[[], AttachCall], hello: Hello) -> None:
        """Made by the client."""
        self._open_call = open_call
        self._hello = hello
        self._call: AttachCall | None = None
        self._reader: CallReader[AttachResponse] | None = None
        self._reading = False
        self._write_lock = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if self._call is not None:
            raise RuntimeError("a session can be entered once")
        self._call = self._open_call()
        self._reader = CallReader(self._call)
        try:
            await self._write(AttachRequest(hello=self._hello))
        except BaseException:
            self._reader.cancel()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the lease. Idempotent.

        Waits at most ``CLOSE_SECONDS`` for the service to read the reports that were
        already made: a cancelled call takes them with it, and the turns they speak of
        would be delivered twice.
        """
        if self._call is None or self._reader is None:
            return
        try:
            if not self._reader.cancelled:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._finish(self._call, self._reader)
        except (TimeoutError, WeConverseError):
            pass  # The call has ended, or ends now; what the service did not read it offers again.
        finally:
            self._reader.cancel()
            for write in self._writes:
                write.cancel()
            await asyncio.gather(*self._writes, return_exceptions=True)

    async def _finish(self, call: AttachCall, reader: CallReader[AttachResponse]) -> None:
        await asyncio.gather(*self._writes, return_exceptions=True)
        await call.done_writing()
        if self._reading:
            await call.code()
        else:
            # The end of a call is told behind its last message, so these must be read. They are
            # offers that come too late: the service offers them to somebody else.
            while await reader.next() is not None:
                pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Granted | Revoked | Delivery:
        """The next message of the service. Kinds that this version does not know are passed over.

        Raises:
            WeConverseError: when the lease is lost.
        """
        if self._reader is None:
            raise RuntimeError("a session is opened by 'async with'")
        while True:
            self._reading = True
            try:
                message = await self._reader.next()
            except Internal as error:
                raise _as_lost_lease(error) from error
            finally:
                self._reading = False
            if message is None:
                raise StopAsyncIteration
            match message.WhichOneof("message"):
                case "granted":
                    return message.granted
                case "revoked":
                    return message.revoked
                case "delivery":
                    return message.delivery

    async def report(
        self,
        turn: str | Delivery,
        outcome: DeliveryResult.Outcome.ValueType,
        retry_delay: float | None = None,
        progress: bytes = b"",
        detail: str = "",
        expire_time: float | None = None,
    ) -> None:
        """Says how a delivery went. Returns when it is on its way; the order of calls is kept.

        A task that is cancelled while it reports takes nothing with it: the report is
        sent all the same, and the lease goes on.

        Args:
            turn: the delivery, or the name of its turn.
            outcome: how it went.
            retry_delay: after ``RETRY`` or ``WAITING``, in how many seconds to offer it again.
            progress: what the next attempt must know, at most 4096 bytes.
            detail: why, for operators; longer than 500 characters is cut. No message text.
            expire_time: until when this is true, in POSIX seconds; heard later, it is ignored. ``None``: always.

        Raises:
            ValueError: if ``progress`` is too long, or for a name that is not a turn's.
            WeConverseError: if the lease is lost. The turn will be offered again.
        """
        name = turn.turn if isinstance(turn, Delivery) else turn
        if len(progress) > MAX_PROGRESS_BYTES:
            raise ValueError(f"progress: {len(progress)} bytes are too many, {MAX_PROGRESS_BYTES} are kept")
        result = DeliveryResult(
            turn=checked_turn_name(name),
            outcome=outcome,
            retry_delay=None if retry_delay is None else duration(retry_delay),
            progress=progress,
            detail=detail[:MAX_DETAIL_CHARACTERS],
            expire_time=None if expire_time is None else timestamp(expire_time),
        )
        await self._write(AttachRequest(result=result))

    async def delivered(
        self, turn: str | Delivery, *, progress: bytes = b"", detail: str = "", expire_time: float | None = None
    ) -> None:
        """Reports that the platform took it: the person has the reply."""
        await self.report(turn, DeliveryResult.DELIVERED, progress=progress, detail=detail, expire_time=expire_time)

    async def retry(self, turn: str | Delivery, delay: float, *, progress: bytes = b"", detail: str = "") -> None:
        """Reports that it may work in ``delay`` seconds."""
        await self.report(turn, DeliveryResult.RETRY, delay, progress, detail)

    async def waiting(self, turn: str | Delivery, delay: float, *, progress: bytes = b"", detail: str = "") -> None:
        """Reports that it waits for the person to write again; it is offered then, or in ``delay`` seconds."""
        await self.report(turn, DeliveryResult.WAITING, delay, progress, detail)

    async def undeliverable(self, turn: str | Delivery, detail: str = "") -> None:
        """Reports that it can never work."""
        await self.report(turn, DeliveryResult.UNDELIVERABLE, detail=detail)

    async def progress(self, turn: str | Delivery, progress: bytes) -> None:
        """Records what the next attempt must know; the delivery stays open."""
        await self.report(turn, DeliveryResult.OUTCOME_UNSPECIFIED, progress=progress)

    async def _write(self, message: AttachRequest) -> None:
        # In a task of its own, because gRPC cancels the whole call when a write is cancelled, and
        # one report must not cost all deliveries of the account their lease.
        write = asyncio.create_task(self._write_in_turn(message))
        self._writes.add(write)
        write.add_done_callback(self._written)
        await asyncio.shield(write)

    def _written(self, write: asyncio.Task[None]) -> None:
        self._writes.discard(write)
        if not write.cancelled():
            write.exception()  # Looked at here, because a cancelled reporter no longer does.

    async def _write_in_turn(self, message: AttachRequest) -> None:
        if self._call is None or self._reader is None:
            raise RuntimeError("a session is opened by 'async with'")
        async with self._write_lock:
            if self._reader.cancelled:
                raise Unavailable("the session is closed")
            try:
                await self._call.write(message)
            except grpc.aio.AioRpcError as error:
                raise _as_lost_lease(from_rpc_error(error)) from error
            except asyncio.InvalidStateError as error:
                raise Unavailable("the lease is lost; iterating says why") from error


def _as_lost_lease(error: WeConverseError) -> WeConverseError:
    """The error itself, or what it means where it is gRPC's own and not the service's.

    A write that meets the end of the call ends it as INTERNAL, for the reader too, and the
    service's status is lost. Holds as long as gRPC tells such a write nothing better.
    """
    if isinstance(error, Internal) and not error.reason:
        return Unavailable("the lease is lost; attach again")
    return error
