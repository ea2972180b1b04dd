"""A model server made of a bare TCP socket: says exactly the bytes it is told to say."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def piece(text: str = "", finish: str | None = None, **more: object) -> bytes:
    """One event of a stream, as OpenAI sends it."""
    delta = {"content": text} if text else {}
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


DONE = b"data: [DONE]\n\n"
SERVED = HEAD + piece("你好") + piece(finish="stop") + DONE


@dataclass
class Request:
    head: str
    body: bytes
    writer: asyncio.StreamWriter
    closed_by_client: asyncio.Event

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None


Handler = Callable[[Request], Awaitable[None]]


@dataclass
class Upstream:
    url: str = ""
    connections: int = 0
    requests: list[Request] = field(default_factory=list)


@asynccontextmanager
async def serve(*handlers: Handler, keep_alive: bool = False) -> AsyncIterator[Upstream]:
    """Each request gets the next handler, and those behind the last get the last."""
    upstream = Upstream()
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.connections += 1
        try:
            while True:
                request = await _read_request(reader, writer)
                upstream.requests.append(request)
                handler = handlers[min(len(upstream.requests), len(handlers)) - 1]
                watch = None if keep_alive else asyncio.create_task(_watch(reader, request))
                try:
                    await handler(request)
                finally:
                    if watch is not None:
                        watch.cancel()
                        await asyncio.gather(watch, return_exceptions=True)
                if not keep_alive:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await one(reader, writer)
        except asyncio.CancelledError:
            pass  # the end of the test; asyncio's server would print it otherwise
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield upstream
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    request = Request(head, b"", writer, asyncio.Event())
    request.body = await reader.readexactly(int(request.header("content-length") or 0))
    return request


async def _watch(reader: asyncio.StreamReader, request: Request) -> None:
    with suppress(ConnectionError):
        await reader.read()
    request.closed_by_client.set()


def says(data: bytes) -> Handler:
    async def handler(request: Request) -> None:
        await request.say(data)

    return handler


async def hangs(request: Request) -> None:
    await request.closed_by_client.wait()
