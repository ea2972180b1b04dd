"""A large file on a slow line holds up the answers to pings, and must not end the connection of all other calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from tests.server.rpc.fakes import open_server
from weconverse import Media, Part
from weconverse._options import channel_options
from weconverse.v1 import conversation_pb2 as pb
from weconverse.v1.conversation_pb2_grpc import ConversationServiceStub

STALL_SECONDS = 8.0
"""How long the line is busy with what was handed to it before: 4 MB at 4 Mbit/s."""
FILE_BYTES = 8 << 20


class Line:
    """What stands between the two ends; it is quick until it stalls."""

    def __init__(self, port: int) -> None:
        self.address = ""
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Line"]:
        listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        for carrying in (self._carry(reader, forth, stalls=True), self._carry(back, writer)):
            self._tasks.add(asyncio.create_task(carrying))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, stalls: bool = False) -> None:
        carried = 0
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                before, carried = carried, carried + len(data)
                if stalls and before < FILE_BYTES // 4 <= carried:
                    await asyncio.sleep(STALL_SECONDS)
        except ConnectionError:
            pass
        finally:
            writer.close()


async def test_a_file_on_a_slow_line_ends_no_connection() -> None:
    file = Part(media=Media(mime_type="application/pdf", inline_data=bytes(FILE_BYTES)))
    async with (
        open_server() as server,
        Line(server.port.number).open() as line,
        grpc.aio.insecure_channel(line.address, options=channel_options("localhost:1")) as channel,
    ):
        request = pb.ConverseRequest(conversation="conversations/a", input=pb.Content(parts=[file]))
        began = asyncio.get_running_loop().time()
        await ConversationServiceStub(channel).Converse(request, timeout=60)
        assert asyncio.get_running_loop().time() - began > STALL_SECONDS, "the line was slow"
