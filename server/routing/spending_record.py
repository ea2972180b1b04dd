"""What was spent today, on disk, so that a restart does not reopen a cap.

The record runs ahead of the spending: before calls may spend beyond a mark, a higher
mark is on disk. A process that dies is believed to have spent up to its marks, so a
crash can cost a part of the day's allowance (a fiftieth of the cap, or one call if that
is more) but never lets more through. A clean stop writes the exact sums and costs nothing.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

LINES_BEYOND_THE_LIVE: Final = 4096
"""Lines that no longer count, before the file is written anew."""


class SpendingRecord(Protocol):
    """Keeps sums of money of one UTC day, by key."""

    async def load(self, day: int) -> dict[str, int]:
        """The sums of that day, in billionths; those of other days are forgotten.

        Raises:
            OSError: if they cannot be read.
        """
        ...

    async def put(self, day: int, sums: Mapping[str, int]) -> None:
        """Returns when the sums are safe. Called by one task at a time; days never go back.

        Raises:
            OSError: if they are not, or may not be.
        """
        ...


class SpendingForgotten:
    """A :class:`SpendingRecord` for tests and demonstrations: a restart begins with nothing spent."""

    async def load(self, day: int) -> dict[str, int]:
        return {}

    async def put(self, day: int, sums: Mapping[str, int]) -> None: ...


class _Line(msgspec.Struct, frozen=True, array_like=True):
    """A line of the file: at ``key``, so much may have been spent on ``day``."""

    day: int
    key: str
    sum: int


class SpendingFile:
    """A :class:`SpendingRecord` in a file of lines that is only appended to, and made short now and then.

    The last line of a key counts. What a crash leaves of a last line was never promised to anybody.
    """

    def __init__(self, path: Path) -> None:
        """Args: the file. Its folder must exist; the file is made when there is something to keep."""
        self._path = path
        self._day = -1
        self._sums: dict[str, int] = {}
        self._lines = 0
        self._may_append = False
        """Whether the file is known to hold this day's sums in whole lines."""

    async def load(self, day: int) -> dict[str, int]:
        """See :meth:`SpendingRecord.load`."""
        return await asyncio.to_thread(self._load, day)

    async def put(self, day: int, sums: Mapping[str, int]) -> None:
        """See :meth:`SpendingRecord.put`."""
        await asyncio.to_thread(self._put, day, dict(sums))

    def _load(self, day: int) -> dict[str, int]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return {}
        self._day, self._sums = day, {}
        for data in lines:
            try:
                line = msgspec.json.decode(data, type=_Line)
            except msgspec.DecodeError:
                continue
            if line.day == day:
                self._sums[line.key] = line.sum
        return dict(self._sums)

    def _put(self, day: int, sums: Mapping[str, int]) -> None:
        if day != self._day:
            self._day, self._sums, self._may_append = day, {}, False
        self._sums.update(sums)
        if not self._may_append or self._lines + len(sums) > 2 * len(self._sums) + LINES_BEYOND_THE_LIVE:
            self._rewrite()
            return
        # Until this has gone well, there may be half a line at the end.
        self._may_append = False
        with self._path.open("ab") as file:
            file.write(_text(day, sums))
            file.flush()
            os.fsync(file.fileno())
        self._lines += len(sums)
        self._may_append = True

    def _rewrite(self) -> None:
        """The whole file, under another name first: whoever dies here leaves the old one."""
        beside = self._path.with_name(self._path.name + ".new")
        with beside.open("wb") as file:
            file.write(_text(self._day, self._sums))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._lines, self._may_append = len(self._sums), True


def _text(day: int, sums: Mapping[str, int]) -> bytes:
    return msgspec.json.Encoder().encode_lines([_Line(day, key, value) for key, value in sums.items()])
