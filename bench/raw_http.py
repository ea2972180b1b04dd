"""HTTP/1.1 with as little work as possible, for both ends of the bench's own traffic.

What the bench sends and answers must cost less than what it measures; a framework would
not. Only what the bench itself needs is here: ``Content-Length`` bodies, no pipelining.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from typing import cast

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def response(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A whole response."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def request(method: str, target: str, host: str, body: bytes = b"", kind: str = "text/xml") -> bytes:
    """A whole request."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Reader(asyncio.Protocol, ABC):
    """Cuts what arrives into messages: a head and a body."""

    def __init__(self) -> None:
        self._buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while True:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            found = _LENGTH.search(head)
            length = int(found[1]) if found else 0
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self.received(head, rest[:length])

    @abstractmethod
    def received(self, head: bytes, body: bytes) -> None:
        """Takes one message."""

    def write(self, data: bytes) -> None:
        """Sends, unless the other side has left."""
        if self.transport is not None:
            self.transport.write(data)


class _Answers(Reader):
    def __init__(self) -> None:
        super().__init__()
        self.waiting: asyncio.Future[tuple[int, bytes]] | None = None

    def received(self, head: bytes, body: bytes) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(ConnectionError("the other side closed the connection"))


class Connection:
    """A client's connection: one request at a time."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._answers: _Answers | None = None

    async def exchange(self, raw_request: bytes, limit: float = 30.0) -> tuple[int, bytes]:
        """Sends a request and returns status and body; connects, and connects again, as needed.

        Raises:
            ConnectionError: if the other side closed the connection instead of answering.
            TimeoutError: if there was no answer within ``limit`` seconds.
        """
        loop = asyncio.get_running_loop()
        if self._answers is None or self._answers.transport is None:
            _, self._answers = await loop.create_connection(_Answers, self._host, self._port)
        self._answers.waiting = loop.create_future()
        self._answers.write(raw_request)
        async with asyncio.timeout(limit):
            return await self._answers.waiting

    def close(self) -> None:
        if self._answers is not None and self._answers.transport is not None:
            self._answers.transport.close()
