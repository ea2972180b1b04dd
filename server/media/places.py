"""So many at a time, shared out so that nobody who has much to do keeps the others waiting."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """Places to work in. Whoever has the fewest gets the next one, and among equals who came first.

    Somebody may have all of them while nobody else waits. Belongs to one event loop.
    """

    def __init__(self, count: int) -> None:
        """Args: how many may work at a time."""
        self._free = count
        self._held: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def one(self, whose: str) -> AsyncIterator[None]:
        """A place, as long as the block runs; waits until there is one.

        Args: ``whose`` it is; the same for everything that shall share.
        """
        await self._take(whose)
        try:
            yield
        finally:
            self._give_back(whose)

    async def _take(self, whose: str) -> None:
        if self._free:  # then nobody waits
            self._free -= 1
            self._held[whose] += 1
            return
        entry = (whose, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:  # it was given in the same moment
                self._give_back(whose)
            raise

    def _give_back(self, whose: str) -> None:
        self._held -= Counter([whose])
        if not self._waiting:
            self._free += 1
            return
        entry = min(self._waiting, key=lambda waiting: self._held[waiting[0]])
        self._waiting.remove(entry)
        self._held[entry[0]] += 1
        entry[1].set_result(None)
