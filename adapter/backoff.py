"""How long to wait before trying again."""

import random
from collections.abc import Callable

Randomness = Callable[[], float]
"""Returns a number in [0, 1). ``random.random`` outside of tests."""


class Backoff:
    """Pauses that double from ``first`` to ``most`` seconds, each shortened at random by up to half.

    The randomness keeps a fleet that lost the same peer from coming back in step.
    """

    def __init__(self, first: float, most: float, randomness: Randomness = random.random) -> None:
        self._first = first
        self._most = most
        self._randomness = randomness
        self.failures = 0
        """How many pauses were taken since the last success."""

    def pause(self) -> float:
        """The next pause in seconds, never above ``most``."""
        # The exponent is bounded because 2.0 ** 1024 raises.
        whole = min(self._most, self._first * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return whole * (1.0 - 0.5 * self._randomness())

    def reset(self) -> None:
        """Begins again with the shortest pause."""
        self.failures = 0
