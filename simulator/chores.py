"""An owner for tasks that outlive the call that began them."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Chores:
    """Keeps tasks, and at its end cancels and awaits them.

    A chore that fails is a defect of the simulator: the first such error is raised by
    :meth:`aclose`, so that no test passes over it.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begins a chore."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()

    async def aclose(self) -> None:
        """Ends what still runs. Raises the first error of any chore."""
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
