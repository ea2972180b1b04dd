"""What was let through in the last 60 seconds. Exact for every window, wherever it begins."""

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 60.0

ROUNDING_SECONDS: Final = 1e-6
"""Added to a wait, so that whoever waits exactly that long is not early by the last digit of a clock."""

_ALLOWED_EMPTY: Final = 64
"""Entries of nothing that may stand in the log beyond half of it, before it is written anew."""


class Entry:
    """A call in the log of a window: when it was let through, and how much it counts."""

    __slots__ = ("amount", "at", "gone")

    def __init__(self, at: float, amount: int) -> None:
        self.at = at
        self.amount = amount
        self.gone = False


class SlidingWindow:
    """A log of amounts with their times, and their sum.

    Each call counts from the moment it was let through until 60 seconds later, with the
    amount it turned out to have. So no 60 seconds hold more than the limit, which a token
    bucket or a fixed minute does not give: either lets through twice the limit around its
    edge. The price is one entry a call for a minute; the limit itself bounds their number.
    """

    __slots__ = ("_empty", "_entries", "total")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._empty = 0
        self.total = 0
        """The sum of the amounts in the window, as of the last look."""

    def wait(self, now: float, limit: int, amount: int) -> float:
        """Seconds until ``amount`` fits under ``limit``, if nothing else comes; 0 if it fits now.

        An amount above the limit fits into an empty window: it could never be let through otherwise.
        """
        entries = self._entries
        if entries and now - entries[0].at >= WINDOW_SECONDS:
            self._forget_old(now)
        over = self.total + min(amount, limit) - limit
        if over <= 0:
            return 0.0
        for entry in entries:
            over -= entry.amount
            if over <= 0:
                return max(0.0, entry.at + WINDOW_SECONDS - now) + ROUNDING_SECONDS
        raise AssertionError("the entries make up the total")

    def add(self, now: float, amount: int) -> Entry:
        """Counts a call that was let through; ``now`` is never before that of an earlier one."""
        entry = Entry(now, amount)
        self._entries.append(entry)
        self.total += amount
        if not amount:
            self._empty += 1
        return entry

    def change(self, entry: Entry, amount: int) -> None:
        """Says what an entry really was. One that is older than the window no longer counts."""
        if entry.gone:
            return
        self.total += amount - entry.amount
        self._empty += (amount == 0) - (entry.amount == 0)
        entry.amount = amount
        if self._empty > _ALLOWED_EMPTY + len(self._entries) // 2:
            # Calls that are given back at once would make the log long, and every look slow.
            self._close_up()

    def empty(self, now: float) -> bool:
        """Whether nothing counts any more."""
        self._forget_old(now)
        return not self._entries

    def _forget_old(self, now: float) -> None:
        entries = self._entries
        while entries and now - entries[0].at >= WINDOW_SECONDS:
            self._drop(entries.popleft())

    def _drop(self, entry: Entry) -> None:
        entry.gone = True
        self.total -= entry.amount
        if not entry.amount:
            self._empty -= 1

    def _close_up(self) -> None:
        """Leaves out the entries of nothing."""
        entries, self._entries = self._entries, deque()
        for entry in entries:
            if entry.amount:
                self._entries.append(entry)
            else:
                self._drop(entry)
