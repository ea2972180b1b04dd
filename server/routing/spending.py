"""The day's marks: how far spending may go before the next one has to be on disk."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from server.routing.spending_record import SpendingRecord

DAY_SECONDS: Final = 86400

_log = structlog.get_logger(__name__)


class SpendingMarks:
    """What is on disk of today's spending, by key, and the one task that writes it.

    Days are those of UTC. A clock that is set back does not bring yesterday back.
    """

    def __init__(self, record: SpendingRecord, wall_clock: Callable[[], float]) -> None:
        """Args: where it is kept, and POSIX seconds."""
        self._record = record
        self._wall_clock = wall_clock
        self._day = -1
        self._marks: dict[str, int] = {}
        self._wanted: dict[str, int] = {}
        self._writing: asyncio.Task[None] | None = None

    def today(self) -> int:
        """The UTC day, counted from 1970. A new one begins without marks."""
        day = int(self._wall_clock() // DAY_SECONDS)
        if day > self._day:
            self._day = day
            self._marks = {}
            self._wanted = {}
        return self._day

    def until_tomorrow(self) -> float:
        """Seconds until the caps are whole again."""
        return (self._day + 1) * DAY_SECONDS - self._wall_clock()

    def mark(self, key: str) -> int:
        """How much may be spent today without another write, in billionths."""
        return self._marks.get(key, 0)

    async def open(self) -> dict[str, int]:
        """Today's marks, as they are on disk. Raises ``OSError``."""
        self._marks = await self._record.load(self.today())
        return dict(self._marks)

    async def raise_to(self, day: int, marks: Mapping[str, int]) -> None:
        """Returns when marks of that day are on disk, or the day is over. Those who come together share a write.

        Raises:
            OSError: if the disk does not take them.
        """
        for key, mark in marks.items():
            self._wanted[key] = max(mark, self._wanted.get(key, 0))
        while self.today() == day and any(self.mark(key) < mark for key, mark in marks.items()):
            if self._writing is None:
                self._writing = asyncio.create_task(self._write(day))
            writing = self._writing
            # Unlike awaiting it, this does not cancel the write along with one of those who wait.
            await asyncio.wait((writing,))
            if self._writing is writing:
                self._writing = None
            error = writing.exception()
            if error is not None:
                raise error

    async def aclose(self, sums: Mapping[str, int]) -> None:
        """Writes what was really spent today in the place of the marks."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        try:
            if sums:
                await self._record.put(self.today(), sums)
        except OSError as error:
            # The marks stand, and are higher: the next start believes that more was spent.
            _log.warning("spending_not_written", error=repr(error))

    async def _write(self, day: int) -> None:
        # Marks only rise: a lower one may have been asked for before a higher one was written.
        wanted = {key: mark for key, mark in self._wanted.items() if mark > self.mark(key)}
        self._wanted = {}
        if wanted:
            await self._record.put(day, wanted)
        if day == self._day:
            self._marks.update(wanted)
