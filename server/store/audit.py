"""What the store promises to whoever changes word lists while they are in use.

A change is two things: a row of the log, which says who did what and is never changed, and
what of it is in force from now on. Both are written together or not at all.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """A change that was made. The store reads nothing of it but the sequence."""

    sequence: int = 0
    """The store's to give: grows with every row, from 1."""
    time: float
    """POSIX seconds."""
    admin: str
    kind: str
    entry: str = ""
    """The id of the entry."""
    tag: str = ""
    word: str = ""
    action: str = ""
    before: str | None = None
    """The entry as it was, as JSON."""
    after: str | None = None
    """The entry as it is, as JSON."""


class Kept(msgspec.Struct, frozen=True):
    """An entry that stays in force over restarts."""

    id: str
    entry: str
    """JSON."""


class AuditLog(Protocol):
    """The log of changes to word lists, and the entries that stay in force.

    Every method raises :class:`server.errors.StoreUnavailable` when the store cannot be read
    or written; a write that raised it may or may not have happened. When a write returns, it
    survives the death of the process and of the machine.
    """

    async def append(self, row: AuditRow, *, keep: Kept | None = None, drop: Sequence[str] = ()) -> int:
        """Writes a row, and with it what is in force from now on; returns the row's sequence.

        Args:
            keep: is in force from now on, in the place of what had its id.
            drop: ids of what is in force no more. Unknown ones do nothing.
        """
        ...

    async def kept(self) -> tuple[Kept, ...]:
        """What is in force, by id."""
        ...

    async def page(self, page_size: int, page_token: str) -> "AuditPage":
        """Rows, newest first.

        Raises:
            InvalidField: for a ``page_token`` that this log did not make.
        """
        ...


class AuditPage(msgspec.Struct, frozen=True):
    """A page of rows, newest first."""

    rows: tuple[AuditRow, ...]
    next_page_token: str
    """Empty on the last page."""
