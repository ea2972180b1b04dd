"""The log of changes to word lists, on the threads of the store of turns."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from server.store.audit import AuditLog, AuditPage, AuditRow, Kept
from server.store.job_thread import JobThread
from server.store.page_token import make_token, read_token

_LOG: Final = "lexicon audit"
"""What page tokens are for. No conversation can have that name: it has a space."""

_COLUMNS: Final = "time, admin, kind, entry, tag, word, action, before, after"
_APPEND: Final = f"INSERT INTO lexicon_audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
_PAGE: Final = f"SELECT sequence, {_COLUMNS} FROM lexicon_audit WHERE sequence < ? ORDER BY sequence DESC LIMIT ?"  # noqa: S608 - constants


class SqliteAuditLog(AuditLog):
    """:class:`server.store.audit.AuditLog` in the file of the turns.

    Rows go through the writer of the turns, in the order in which they were asked for, and
    share its commits. They are not touched by retention.
    """

    def __init__(self, writer: JobThread, reader: JobThread) -> None:
        """Made by :class:`server.store.sqlite.SqliteTurnStore`, which closes both threads."""
        self._writer = writer
        self._reader = reader

    async def append(self, row: AuditRow, *, keep: Kept | None = None, drop: Sequence[str] = ()) -> int:
        """See :meth:`server.store.audit.AuditLog.append`."""
        return await self._writer.submit(_append, row, keep, tuple(drop))

    async def kept(self) -> tuple[Kept, ...]:
        """See :meth:`server.store.audit.AuditLog.kept`."""
        return await self._reader.submit(_kept)

    async def page(self, page_size: int, page_token: str) -> AuditPage:
        """See :meth:`server.store.audit.AuditLog.page`."""
        rows = await self._reader.submit(_page, read_token(_LOG, page_token), page_size + 1)
        if len(rows) <= page_size:
            return AuditPage(rows, "")
        return AuditPage(rows[:page_size], make_token(_LOG, rows[page_size - 1].sequence))


def _append(connection: sqlite3.Connection, row: AuditRow, keep: Kept | None, drop: tuple[str, ...]) -> int:
    cursor = connection.execute(
        _APPEND,
        (row.time, row.admin, row.kind, row.entry, row.tag, row.word, row.action, row.before, row.after),
    )
    for gone in drop:
        connection.execute("DELETE FROM lexicon_overlay WHERE id = ?", (gone,))
    if keep is not None:
        connection.execute("INSERT OR REPLACE INTO lexicon_overlay VALUES (?, ?)", (keep.id, keep.entry))
    assert cursor.lastrowid is not None  # or the insert would have raised
    return cursor.lastrowid


def _kept(connection: sqlite3.Connection) -> tuple[Kept, ...]:
    return tuple(Kept(*row) for row in connection.execute("SELECT id, entry FROM lexicon_overlay ORDER BY id"))


def _page(connection: sqlite3.Connection, before: int, limit: int) -> tuple[AuditRow, ...]:
    return tuple(
        AuditRow(
            sequence=sequence,
            time=time,
            admin=admin,
            kind=kind,
            entry=entry,
            tag=tag,
            word=word,
            action=action,
            before=old,
            after=new,
        )
        for sequence, time, admin, kind, entry, tag, word, action, old, new in connection.execute(
            _PAGE, (before, limit)
        )
    )
