"""Keeps a group's robot below the messages that it may send in a minute, by letting further ones wait."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

_WINDOW: Final = 60.0
_MARGIN: Final = 0.5
"""Seconds for which WeCom's minute may begin later than ours."""


class RobotPace:
    """One line for everything that a robot says, in order of arrival. Nothing is dropped, whoever waits waits on.

    In memory: after a restart WeCom may refuse what comes too soon (45009), which sends nothing
    and is waited for as well.
    """

    def __init__(
        self,
        per_minute: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Args: ``per_minute`` is at least 1."""
        self._clock = clock
        self._sleep = sleep
        self._sent: deque[float] = deque(maxlen=per_minute)
        self._blocked_until = 0.0
        self._line = asyncio.Lock()  # wakes in the order in which it was asked for

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Entered when one message may be sent; leaving counts it, whatever became of it."""
        async with self._line:
            while (wait := self._wait()) > 0:
                await self._sleep(wait)
            try:
                yield
            finally:
                self._sent.append(self._clock())

    def blocked(self, seconds: float) -> None:
        """Tells that WeCom takes nothing for a while."""
        self._blocked_until = max(self._blocked_until, self._clock() + seconds)

    def _wait(self) -> float:
        full = len(self._sent) == self._sent.maxlen
        free_at = self._sent[0] + _WINDOW + _MARGIN if full else 0.0
        return max(free_at, self._blocked_until) - self._clock()
