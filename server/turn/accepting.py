"""What is being taken on: it goes on when its caller leaves, and ends before the process does."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from server.domain import Turn
from server.errors import ShuttingDown


class Accepting:
    """Owns the tasks that write turns down for callers who may give up halfway."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Turn]] = set()

    async def run(self, taking_on: Coroutine[Any, Any, Turn]) -> Turn:
        """Runs it to its end, also if the caller is cancelled meanwhile.

        Raises:
            ShuttingDown: if :meth:`aclose` did not wait for it.
        """
        task = asyncio.create_task(taking_on)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and not (caller and caller.cancelling()):
                raise ShuttingDown from None
            raise

    async def aclose(self, seconds: float) -> None:
        """Waits so long until all is on disk or refused, then stops what is left.

        What is stopped was never acknowledged. If it is on disk all the same, the next start finds it.
        """
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
