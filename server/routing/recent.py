"""Two counts over the last seconds, in a fixed amount of memory."""

from typing import Final

_STEPS: Final = 10


class RecentCounts:
    """How many calls there were within a window that slides in tenths, and how many of them were marked."""

    __slots__ = ("_calls", "_marked", "_numbers", "_width")

    def __init__(self, seconds: float) -> None:
        """Args: the length of the window."""
        self._width = seconds / _STEPS
        self._calls = [0] * _STEPS
        self._marked = [0] * _STEPS
        self._numbers = [-1] * _STEPS
        """The number of the step that each place holds: older ones are void."""

    def add(self, now: float, *, marked: bool) -> None:
        """Counts a call."""
        number = int(now / self._width)
        place = number % _STEPS
        if self._numbers[place] != number:
            self._numbers[place] = number
            self._calls[place] = self._marked[place] = 0
        self._calls[place] += 1
        if marked:
            self._marked[place] += 1

    def totals(self, now: float) -> tuple[int, int]:
        """Calls within the window, and how many of them were marked."""
        oldest = int(now / self._width) - _STEPS
        calls = marked = 0
        for place, number in enumerate(self._numbers):
            if number > oldest:
                calls += self._calls[place]
                marked += self._marked[place]
        return calls, marked

    def clear(self) -> None:
        """Forgets all of it."""
        self._numbers = [-1] * _STEPS
