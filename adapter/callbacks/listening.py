"""The port for WeCom's callbacks: bounded in what a connection and all of them together can cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from program.binding import split_address

_LINGER: Final = 1.0
"""Seconds for which the rest of a refused body is read away, so that its sender sees the answer."""


class _Closed(asyncio.Protocol):
    """A connection beyond the bound: closed before a byte of it is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Port:
    """An open port."""

    def __init__(self, runner: web.AppRunner, listener: asyncio.Server) -> None:
        self._runner = runner
        self._listener = listener
        self._closing: asyncio.Task[None] | None = None
        self.number: int = listener.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stops listening, then gives requests under way their time to finish. Idempotent."""
        if self._closing is None:
            self._listener.close()
            self._closing = asyncio.create_task(self._runner.cleanup(), name="close the callback port")
        await asyncio.shield(self._closing)


@asynccontextmanager
async def listening(
    application: web.Application,
    address: str,
    *,
    max_connections: int,
    keepalive_seconds: float,
    drain_seconds: float,
) -> AsyncIterator[Port]:
    """Serves the application at ``host:port``; port 0 takes a free one.

    On leaving it stops listening, then gives requests under way ``drain_seconds`` to finish.

    Raises:
        OSError: if the address is taken.
    """
    host, port = split_address(address)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        # Also closes connections that trickle their headers; see gate.py for the body.
        keepalive_timeout=keepalive_seconds,
        lingering_time=_LINGER,
        auto_decompress=False,
        shutdown_timeout=drain_seconds,
    )
    await runner.setup()
    server = runner.server
    assert server is not None

    def connected() -> asyncio.BaseProtocol:
        return server() if len(server.connections) < max_connections else _Closed()

    try:
        listener = await asyncio.get_running_loop().create_server(connected, host, port, backlog=1024)
    except OSError:
        await runner.cleanup()
        raise
    opened = Port(runner, listener)
    try:
        yield opened
    finally:
        await opened.aclose()
