"""Who waits for a place, in order of arrival."""

import asyncio
from bisect import insort
from operator import attrgetter
from typing import Final

from server.budget import Budget

MOST_WAITING: Final = 8192
"""Calls that may wait at a time. The turns of a server are fewer."""

_BY_ARRIVAL = attrgetter("arrival")


class LineFull(Exception):
    """Too many wait already."""


class Waiter:
    """A call that stands in the line of one key: the one that had no place left."""

    __slots__ = ("_line", "_turn", "arrival", "key")

    def __init__(self, line: "PlaceLine", key: str, arrival: int) -> None:
        self._line = line
        self._turn = _new_turn()
        self.key = key
        self.arrival = arrival

    @property
    def called(self) -> bool:
        """Whether it is its turn to try."""
        # Or was cancelled while it waited: whoever is called then is called for nothing, and says so by leaving.
        return self._turn.done()

    def call(self) -> None:
        """Says that it is its turn to try. Once until it stands in line again."""
        if not self._turn.done():
            self._turn.set_result(None)

    async def turn(self, budget: Budget) -> None:
        """Waits until a place may have become free.

        Raises:
            TimeoutError: when the budget ends first.
        """
        async with asyncio.timeout(budget.remaining()):
            await self._turn

    def stand_again(self, key: str) -> None:
        """Goes on waiting, for this key, where its time of arrival puts it."""
        before, called = self.key, self.called
        self._turn = _new_turn()
        if before != key:
            self._line.remove(self)
            self.key = key
            self._line.insert(self)
            if called:
                self._line.freed(before)

    def leave(self) -> None:
        """Stands in line no more; if it was called, the next one is."""
        self._line.remove(self)
        if self.called:
            self._line.freed(self.key)


def _new_turn() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


class PlaceLine:
    """Lines by key. A call stands in one of them: that of a key which had no place for it.

    A place that becomes free is not handed over: the first in line is called, and tries.
    It keeps its position until it has succeeded, and then the next is called. Whoever
    comes later than somebody who waits for the same key waits behind them.

    A call that needs two full things gets both at once or neither. Those who need only
    one of the two do not wait behind it.
    """

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        self._lines: dict[str, list[Waiter]] = {}
        self._arrivals = 0
        self.waiting = 0
        """Calls that wait, over all keys."""

    def waits_for(self, key: str) -> bool:
        """Whether anybody waits for this key."""
        return key in self._lines

    def join(self, key: str) -> Waiter:
        """Stands in line behind everybody else. Whoever joins leaves.

        Raises:
            LineFull: if too many wait.
        """
        if self.waiting >= self._most_waiting:
            raise LineFull
        self._arrivals += 1
        waiter = Waiter(self, key, self._arrivals)
        self.insert(waiter)
        return waiter

    def freed(self, key: str) -> None:
        """Calls the first who waits for this key."""
        line = self._lines.get(key)
        if line is not None:
            line[0].call()

    def insert(self, waiter: Waiter) -> None:
        insort(self._lines.setdefault(waiter.key, []), waiter, key=_BY_ARRIVAL)
        self.waiting += 1

    def remove(self, waiter: Waiter) -> None:
        line = self._lines[waiter.key]
        line.remove(waiter)
        self.waiting -= 1
        if not line:
            del self._lines[waiter.key]
