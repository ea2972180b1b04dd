"""Good callbacks are answered in time while others hold connections open and say little."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from simulator.app import Simulator
from simulator.journal import Kind
from tests.journey.stack import running_stack

HEAD = b"POST /wecom/app/assistant?msg_signature=a&timestamp=1&nonce=b HTTP/1.1\r\nHost: x\r\n"
SLOW = 200
GOOD_PER_SECOND = 50


async def _trickle(port: int, first: bytes, stop: asyncio.Event) -> None:
    """Opens a connection, says a little, then a byte a second, and comes again when it is closed."""
    while not stop.is_set():
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(first)
                for _ in range(100):
                    writer.write(b"x")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            if not await reader.read(1024):
                                break
                    if stop.is_set():
                        break
            finally:
                writer.close()
        await asyncio.sleep(0.1)


def _waits(simulator: Simulator) -> list[float]:
    """Seconds from the first delivery of each callback to its acknowledgement."""
    posted: dict[str, float] = {}
    for entry in simulator.journal.entries(Kind.POSTED):
        posted.setdefault(entry.msg_id, entry.time)
    return sorted(entry.time - posted[entry.msg_id] for entry in simulator.journal.entries(Kind.ACKNOWLEDGED))


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_slow_clients_do_not_hold_up_the_others(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seconds = 60 if request.config.getoption("--chaos-long", default=False) else 8
    async with running_stack(tmp_path) as stack:
        sim, stop = stack.simulator, asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for first in (HEAD + b"X-Slow: ", HEAD + b"Content-Length: 60000\r\n\r\n"):
                for _ in range(SLOW):
                    tasks.create_task(_trickle(stack.callback_port, first, stop))
            written = 0
            for _ in range(seconds * GOOD_PER_SECOND):
                await sim.write_to_app(f"person{written % 20:02}", f"第{written}个问题")
                written += 1
                await asyncio.sleep(1 / GOOD_PER_SECOND)
            await sim.wait_for(lambda: len(sim.acknowledged()) == written, 20)
            stop.set()
        waits = _waits(sim)
        p99 = waits[int(len(waits) * 0.99)]
        print(f"\n{written} callbacks beside {2 * SLOW} slow clients: p99 {p99 * 1000:.0f} ms, 0 lost")
        assert not sim.journal.entries(Kind.GIVEN_UP)
        assert p99 < 1.0
