"""What every asyncio client is made of: one connection in one event loop, deadlines, metadata, tries."""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from weconverse._options import (
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT,
    Headers,
    call_metadata,
    channel_options,
    check_token,
    checked_timeout,
)
from weconverse._retry import pause_before_retry
from weconverse.errors import from_rpc_error

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
Stubs = TypeVar("Stubs")


class Connecting(ABC, Generic[Stubs]):
    """A client without its calls. Connects with the first of them, and belongs to that event loop from then on."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        honour_retry_info: bool = True,
        headers: Headers | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            target: a gRPC target, for example ``host:port`` or ``dns:///host:port``.
            token: the bearer token of the calling service. Without ``credentials`` it is
                refused unless the target is on this machine.
            credentials: ``grpc.ssl_channel_credentials(...)`` for TLS; ``None`` for plain text.
            timeout: seconds that a call may take unless it is given its own.
            honour_retry_info: whether unary calls wait and ask again where the service says so.
            headers: returns further metadata for each call, such as ``traceparent``.

        Raises:
            ValueError: for a time-out that is none, or a token that must not be sent.
        """
        check_token(token, target, encrypted=credentials is not None)
        self._target = target
        self._token = token
        self._credentials = credentials
        self._timeout = checked_timeout(timeout)
        self._honour_retry_info = honour_retry_info
        self._headers = headers
        self._open: tuple[grpc.aio.Channel, Stubs, asyncio.AbstractEventLoop] | None = None
        self._closed = False

    @abstractmethod
    def _stubs(self, channel: grpc.aio.Channel) -> Stubs:
        """What makes the calls."""

    async def __aenter__(self) -> Self:
        self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connection; calls that are under way end. Idempotent."""
        self._closed = True
        opened, self._open = self._open, None
        if opened is not None:
            await opened[0].close()

    def _connected(self) -> Stubs:
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._open is None:
            channel = self._channel()
            self._open = (channel, self._stubs(channel), asyncio.get_running_loop())
        elif self._open[2] is not asyncio.get_running_loop():
            raise RuntimeError("a client belongs to the event loop of its first call; make one in each loop")
        return self._open[1]

    def _channel(self) -> grpc.aio.Channel:
        options = channel_options(self._target)
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=options)
        return grpc.aio.secure_channel(self._target, self._credentials, options=options)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else checked_timeout(timeout)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return call_metadata(self._token, self._headers)

    async def _unary(self, method: "grpc.aio.UnaryUnaryMultiCallable[Q, R]", request: Q, timeout: float | None) -> R:
        deadline = time.monotonic() + self._seconds(timeout)
        calls = 0
        while True:
            calls += 1
            try:
                return await method(request, timeout=deadline - time.monotonic(), metadata=self._metadata())
            except grpc.aio.AioRpcError as error:
                typed = from_rpc_error(error)
                remaining = deadline - time.monotonic()
                pause = pause_before_retry(typed, calls=calls, remaining=remaining, chance=random.random())
                if pause is None or not self._honour_retry_info:
                    raise typed from error
            await asyncio.sleep(pause)
