"""A deadline that costs nothing to move."""

import asyncio
import math
from collections.abc import Callable


class Watchdog:
    """Calls back once, when a deadline passes that was not moved in time.

    A stream moves its deadline at every piece. Arming a timer for each would cost more
    than reading the piece, so the timer stays where it is, and looks at the deadline
    when it fires: too early, it goes off again later.

    It calls instead of cancelling, because the one who waits is an async generator,
    whose caller may be another task by the time the deadline passes.
    """

    __slots__ = ("_bark", "_fires_at", "_handle", "_loop", "barked", "deadline")

    def __init__(self, bark: Callable[[], None]) -> None:
        """Args: what to do about it; called by the event loop, must not raise."""
        self._loop = asyncio.get_running_loop()
        self._bark = bark
        self._handle: asyncio.TimerHandle | None = None
        self._fires_at = math.inf
        self.deadline = math.inf
        """In the event loop's time. Infinite while nobody waits."""
        self.barked = False
        """Whether a deadline passed."""

    def expect(self, seconds: float) -> None:
        """Something must happen within ``seconds`` from now."""
        self.deadline = self._loop.time() + seconds
        if self.deadline < self._fires_at:
            self._arm()

    def rest(self) -> None:
        """Nobody waits for the moment."""
        self.deadline = math.inf

    def close(self) -> None:
        """Goes to sleep for good."""
        self.deadline = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._fires_at = self.deadline
        self._handle = self._loop.call_at(self._fires_at, self._look)

    def _look(self) -> None:
        self._handle = None
        self._fires_at = math.inf
        # The loop may fire a hair early: its clock is coarser than this comparison.
        if self.deadline <= self._loop.time() + 0.001:
            self.deadline = math.inf
            self.barked = True
            self._bark()
        elif self.deadline < math.inf:
            self._arm()
