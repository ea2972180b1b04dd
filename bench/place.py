"""How a program of the bench runs: announces its ports, and stops when its parent goes away."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Mapping
from typing import Any

import uvloop


def run(main: Coroutine[Any, Any, None], *, fast_loop: bool = True) -> None:
    """Runs a program to its end. What is measured runs on asyncio's own loop: not ``fast_loop``."""
    factory = uvloop.new_event_loop if fast_loop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


async def announce_and_wait(ports: Mapping[str, int]) -> None:
    """Prints the ports as one line of JSON, then waits for SIGTERM or for the parent to close stdin."""
    print(json.dumps(dict(ports)), flush=True)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    transport, _ = await loop.connect_read_pipe(lambda: _UntilEnd(stop), sys.stdin.buffer)
    try:
        await stop.wait()
    finally:
        transport.close()


class _UntilEnd(asyncio.Protocol):
    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def eof_received(self) -> None:
        self._stop.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()
