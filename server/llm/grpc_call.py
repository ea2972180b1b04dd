"""Calls to backends that are reached over gRPC: time-outs, cancelling, errors. Every such backend uses it.

A backend says what to call (:class:`Method`, a request, metadata) and how the messages
of the answer become chunks (:class:`MessageReader`); what can go wrong on the way is
dealt with here.
"""

import asyncio
import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError, Message

from server.budget import Budget
from server.llm.base import Chunk, ErrorClass, ProviderError
from server.llm.call_places import CallPlaces
from server.llm.failure_lines import plain_word
from server.llm.failures import without_key
from server.llm.grpc_channel import Channels, Endpoint
from server.llm.grpc_failures import RpcStatus, failure_of, status_of
from server.llm.patience import Patience
from server.llm.reply import Reply
from server.llm.watchdog import Watchdog
from server.settings import ModelSettings

_log = structlog.get_logger(__name__)

M = TypeVar("M", bound=Message)

Metadata = Sequence[tuple[str, str]]
"""What accompanies one call; names in lower case."""

Explain = Callable[[RpcStatus, bool], ProviderError]
"""The error for a status, and whether a message had come before it."""


class Shape(enum.Enum):
    """How often each side speaks in a call."""

    UNARY = "one request, one response"
    STREAM = "one request, many responses"
    BOTH_STREAM = "many requests, many responses; one request is sent here"


class Method(Generic[M]):
    """An RPC: its path on the wire and the message that it answers with."""

    def __init__(self, path: str, response: type[M], shape: Shape = Shape.STREAM) -> None:
        """Args: the path as ``/package.Service/Method``, in the names of whoever serves it."""
        self.path: Final = path
        self.response: Final = response
        self.shape: Final = shape


class MessageReader(Reply, ABC, Generic[M]):
    """Turns the messages of one answer into a reply. Pure; made anew for each call."""

    def __init__(self, model: str) -> None:
        """Args: the name of the route, which goes into the first and the last chunk."""
        super().__init__(model)
        self.done = False
        """Whether nothing more is to be expected, token counts included."""
        self.enough = False
        """Whether the rest is not wanted, though the backend would go on: the call is left."""

    @abstractmethod
    def feed(self, message: M) -> None:
        """Takes the next message: puts in what it says, ends the reply, or breaks it off."""


class _Call(Protocol):
    """The part of a call that reading needs."""

    async def read(self) -> object:
        """The next message, serialised, or ``grpc.aio.EOF``."""
        ...

    def cancel(self) -> object:
        """Ends the call."""
        ...


class Incoming(Generic[M]):
    """The messages of one call, each within the time that its reader allows. Belongs to one task at a time."""

    def __init__(self, call: _Call, response: type[M], explain: Explain) -> None:
        self._call = call
        self._response = response
        self._explain = explain
        self._watchdog = Watchdog(self._end)
        self.begun = False
        """Whether a message has come."""

    async def next(self, seconds: float) -> M | None:
        """The next message; ``None`` at the end.

        Raises:
            ProviderError: if the call failed, or nothing came within ``seconds``, which ends the call.
        """
        self._watchdog.expect(seconds)
        try:
            data = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._explain(status_of(error), self.begun) from None
        except (grpc.aio.UsageError, grpc.aio.InternalError) as error:
            raise self._cut(str(error)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # gRPC raises this in whoever reads when the call was cancelled by anybody: here by the
            # watchdog, or with the channel, or by the backend. To a task that nobody cancelled it
            # would be a lie.
            raise self._left() from None
        finally:
            # Nobody is late while the caller has the message.
            self._watchdog.rest()
        if not isinstance(data, bytes):
            return None
        self.begun = True
        try:
            return self._response.FromString(data)
        except DecodeError:
            raise ProviderError(ErrorClass.INCOMPLETE, "a message of the reply is malformed") from None

    def close(self) -> None:
        """Ends the call, and tells the backend. Harmless after the end."""
        self._watchdog.close()
        self._end()

    def _end(self) -> None:
        self._call.cancel()

    def _left(self) -> ProviderError:
        if self._watchdog.barked:
            late = "the reply paused for too long" if self.begun else "the answer did not begin in time"
            return ProviderError(ErrorClass.TIMEOUT, late)
        return self._cut("the call was cancelled by the backend, or with the channel")

    def _cut(self, detail: str) -> ProviderError:
        return self._explain(RpcStatus("CANCELLED", grpc.StatusCode.CANCELLED.value[0], detail), self.begun)


class GrpcLine:
    """The way to a backend, and the calls over it.

    Time-outs, each the smaller of its setting and what the budget has left: connecting;
    the first text or thought, connecting included; silence between two messages after
    that; the whole, which the backend is told as the call's deadline. Waiting for a free
    place among ``max_connections`` calls is bounded by the budget alone.

    Nothing is repeated here but what gRPC knows that no server has seen.
    """

    def __init__(
        self,
        name: str,
        target: str,
        settings: ModelSettings,
        *,
        overrides: Mapping[str, ErrorClass] | None = None,
        explain: Explain | None = None,
    ) -> None:
        """Makes no connection yet.

        Args:
            name: of the route, which stands in errors.
            target: the address.
            settings: for time-outs, TLS, headers and the number of calls at a time.
            overrides: reasons and statuses in lower case that this backend uses in its own way.
            explain: takes the place of :func:`~server.llm.grpc_failures.failure_of`, and of ``overrides``.

        Raises:
            ValueError: as :class:`~server.llm.grpc_channel.Endpoint`.
        """
        self._name = name
        self._settings = settings
        self._explain = explain or partial(failure_of, overrides=overrides or {})
        self._endpoint = Endpoint(target, settings)
        self._places = CallPlaces(settings.max_connections)
        self._channels = Channels(self._endpoint, settings.connect_seconds)

    async def generate(
        self,
        method: Method[M],
        request: Message,
        reader: MessageReader[M],
        budget: Budget,
        *,
        key: str = "",
        metadata: Metadata = (),
    ) -> AsyncGenerator[Chunk, None]:
        """One reply. Closing the generator cancels the call.

        Args:
            key: stands somewhere in ``metadata``; here, to keep it out of errors and off plain text.
            metadata: besides ``extra_headers`` of the settings.

        Raises:
            ProviderError: with the class of what went wrong, and nothing else.
        """
        try:
            async with self._places.taken(budget):
                patience = Patience(self._settings, budget)
                async with (
                    self._opened(method, request, patience.whole, key, metadata) as incoming,
                    aclosing(self._read(incoming, reader, patience)) as chunks,
                ):
                    async for chunk in chunks:
                        yield chunk
        except ProviderError as error:
            raise without_key(error, key, self._name) from None

    @asynccontextmanager
    async def open(
        self, method: Method[M], request: Message, budget: Budget, *, key: str = "", metadata: Metadata = ()
    ) -> AsyncIterator[Incoming[M]]:
        """A call whose messages the caller reads itself; leaving cancels it. For what is not a reply.

        Takes no place among ``max_connections``: that is for replies.

        Raises:
            ProviderError: if it cannot be opened. Errors raised inside pass with the key blanked.
        """
        try:
            async with self._opened(method, request, budget, key, metadata) as incoming:
                yield incoming
        except ProviderError as error:
            raise without_key(error, key, self._name) from None

    async def ask(
        self, method: Method[M], request: Message, budget: Budget, *, key: str = "", metadata: Metadata = ()
    ) -> M:
        """The one message that a call answers with.

        Raises:
            ProviderError: if the call failed, gave nothing, or took longer than the budget.
        """
        async with self.open(method, request, budget, key=key, metadata=metadata) as incoming:
            message = await incoming.next(budget.remaining())
            if message is None:
                raise ProviderError(ErrorClass.INCOMPLETE, "the call ended without an answer")
            return message

    async def lost(self) -> None:
        """Returns when the connection that there is now has ended; at once where there is none.

        For those who remember something of the program at the other end: it may be another
        one afterwards. Behind an address that stands for several, only the end of the last
        connection is seen.
        """
        await self._channels.lost()

    async def aclose(self) -> None:
        """Closes the connections. Calls under way fail."""
        await self._channels.aclose()

    @asynccontextmanager
    async def _opened(
        self, method: Method[M], request: Message, budget: Budget, key: str, metadata: Metadata
    ) -> AsyncIterator[Incoming[M]]:
        self._check_key(key)
        async with self._channels.connected(budget) as channel:
            call = _start(channel, method, request, [*metadata, *self._endpoint.headers], budget.remaining())
            incoming = Incoming(call, method.response, self._explain)
            try:
                yield incoming
            finally:
                incoming.close()

    def _check_key(self, key: str) -> None:
        if key and not (self._endpoint.encrypted or self._endpoint.local):
            raise ProviderError(ErrorClass.BAD_REQUEST, "the key is not sent in plain text to another machine")
        if not all("!" <= character <= "~" for character in key):
            raise ProviderError(ErrorClass.AUTH, "the key holds characters that cannot be sent")

    async def _read(
        self, incoming: Incoming[M], reader: MessageReader[M], patience: Patience
    ) -> AsyncGenerator[Chunk, None]:
        while True:
            try:
                message = await incoming.next(patience.seconds(reader))
            except ProviderError:
                if reader.finished:
                    break
                raise
            if message is None:
                break
            reader.feed(message)
            # What comes with the end is left for the last chunk, so that a short reply is one chunk.
            chunk = None if reader.finished else reader.take()
            if chunk is not None:
                yield chunk
            if reader.failure is not None or reader.enough:
                break
        last = reader.close()
        if reader.unknown_finish:
            _log.warning("llm_finish_reason_unknown", model=self._name, finish_reason=plain_word(reader.unknown_finish))
        yield last


class _OneAnswer:
    """A call with one response, read like a stream of one message."""

    def __init__(self, call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> None:
        self._call = call
        self._read = False

    async def read(self) -> object:
        if self._read:
            return grpc.aio.EOF
        self._read = True
        return await self._call

    def cancel(self) -> object:
        return self._call.cancel()


def _start(channel: grpc.aio.Channel, method: Method[M], request: Message, metadata: Metadata, seconds: float) -> _Call:
    """Begins a call. Messages are read as bytes: gRPC would print one that it cannot decode, contents and all."""
    if seconds <= 0:
        raise ProviderError(ErrorClass.TIMEOUT, "no time was left for the call")
    data, path, headers = request.SerializeToString(), method.path, tuple(metadata)
    if method.shape is Shape.UNARY:
        return _OneAnswer(channel.unary_unary(path, _as_it_is, _as_it_is)(data, timeout=seconds, metadata=headers))
    if method.shape is Shape.STREAM:
        return channel.unary_stream(path, _as_it_is, _as_it_is)(data, timeout=seconds, metadata=headers)
    return channel.stream_stream(path, _as_it_is, _as_it_is)(iter((data,)), timeout=seconds, metadata=headers)


def _as_it_is(data: bytes) -> bytes:
    return data
