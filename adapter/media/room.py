"""The memory that attachments of all accounts may take up, shared out in order of asking.

A hundred people who send 20 MB each must not end the process: who finds no room waits,
within a time budget of their own.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """So many fetches at a time, and so many bytes in memory. Belongs to one event loop."""

    def __init__(self, *, fetches: int, total_bytes: int) -> None:
        self._fetches = asyncio.Semaphore(fetches)
        self._total = total_bytes
        self._free = total_bytes
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """Bytes that are claimed now."""
        return self._total - self._free

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator[None]:
        """One fetch; waits while too many are under way."""
        async with self._fetches:
            yield

    async def take(self, count: int) -> None:
        """Takes bytes, first come first served, and at most all there are. A caller that gives up took nothing."""
        count = min(count, self._total)
        if not self._queue and count <= self._free:
            self._free -= count
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += count
            self._serve()
            raise

    def give_back(self, count: int) -> None:
        """The counterpart of :meth:`take`, with the count that was taken."""
        self._free += min(count, self._total)
        self._serve()

    def _serve(self) -> None:
        while self._queue:
            count, turn = self._queue[0]
            if not turn.done():
                if count > self._free:
                    return
                self._free -= count
                turn.set_result(None)
            self._queue.popleft()


class Claim:
    """The bytes that one message takes up. Release it once, from whatever thread."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes of the room that are this message's."""
        return self._held

    async def grow(self, count: int) -> None:
        """Takes so many more bytes; waits until they are there."""
        await self._room.take(count)
        self._held += count

    def shrink(self, count: int) -> None:
        """Gives bytes back that are not needed after all."""
        count = min(count, self._held)
        self._held -= count
        self._room.give_back(count)

    def release(self) -> None:
        """Gives everything back. Also called when a message is let go of, wherever the collector runs."""
        held, self._held = self._held, 0
        if held and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._room.give_back, held)
