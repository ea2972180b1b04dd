"""How much time is left: the one way in which this service waits.

Whoever waits takes a :class:`Budget` and asks it; nobody invents seconds.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds that only grow, from any origin. ``time.monotonic`` outside of tests."""


class Budget:
    """A point in time at which the work must be done.

    Cheap to make and to ask; values never change.
    """

    __slots__ = ("_clock", "deadline")

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        """Args: how long the budget lasts from now, in seconds; below 0 counts as spent."""
        self._clock = clock
        self.deadline = clock() + seconds

    def remaining(self) -> float:
        """Seconds that are left, never below 0."""
        return max(0.0, self.deadline - self._clock())

    def within(self, seconds: float) -> float:
        """The smaller of ``seconds`` and what is left: the right argument of a time-out."""
        return min(seconds, self.remaining())

    def spent(self) -> bool:
        """Whether nothing is left."""
        return self._clock() >= self.deadline

    def part(self, seconds: float, *, keep: float = 0.0) -> "Budget":
        """A budget of at most ``seconds`` that ends ``keep`` seconds before this one."""
        return Budget(min(seconds, self.remaining() - keep), self._clock)
