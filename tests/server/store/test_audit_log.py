"""What is particular to the log of changes in SQLite: it comes to a file of an earlier version, and stays as it is."""

import sqlite3
from pathlib import Path

import pytest

from server.store.audit import AuditRow, Kept
from server.store.base import Retention
from server.store.schema import MIGRATIONS, migrate, read_migrations
from server.store.sqlite import open_sqlite

ROW = AuditRow(time=1.0, admin="王", kind="added", entry="added:1")


async def test_a_file_of_the_first_version_gets_a_log(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    connection = sqlite3.connect(path, isolation_level=None)
    assert migrate(connection, path, read_migrations(MIGRATIONS)[:1], time=1.0) == 1
    connection.close()
    async with open_sqlite(path) as store:
        assert await store.audit.append(ROW, keep=Kept("added:1", "{}")) == 1
        assert await store.audit.kept() == (Kept("added:1", "{}"),)


async def test_rows_are_neither_changed_nor_dropped(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    async with open_sqlite(path) as store:
        await store.audit.append(ROW)
        await store.apply_retention(Retention(payloads_before=1e12, keys_before=1e12))
        assert len((await store.audit.page(10, "")).rows) == 1
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError, match="audit log"):
        connection.execute("UPDATE lexicon_audit SET admin = '李'")
    connection.close()


async def test_a_change_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A row without what it says of, or the other way round, would be a log that lies."""
    path = tmp_path / "turns.db"
    async with open_sqlite(path) as store:
        await store.audit._writer.submit(
            lambda connection: (
                connection.execute(
                    "CREATE TRIGGER full BEFORE INSERT ON lexicon_overlay BEGIN SELECT raise(ABORT, 'full'); END"
                ).rowcount
            )
        )
        with pytest.raises(Exception, match="unavailable"):
            await store.audit.append(ROW, keep=Kept("added:1", "{}"))
        assert (await store.audit.page(10, "")).rows == ()
