"""How many calls a backend takes at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError


class CallPlaces:
    """A place for each of the calls that may be under way; who finds none waits for one in turn."""

    def __init__(self, count: int) -> None:
        """Args: how many there are, above 0."""
        self._free = asyncio.Semaphore(count)

    @asynccontextmanager
    async def taken(self, budget: Budget) -> AsyncIterator[None]:
        """Holds one place.

        Raises:
            ProviderError: TIMEOUT, if none becomes free within the budget.
        """
        if self._free.locked():
            try:
                async with asyncio.timeout(budget.remaining()):
                    await self._free.acquire()
            except TimeoutError:
                raise ProviderError(ErrorClass.TIMEOUT, "no place for a call became free in time") from None
        else:
            # Does not wait, so needs no timer.
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()
