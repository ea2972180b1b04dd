"""Brings a database file to the version that this program speaks: forward only."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from server.store.refusals import StoreTooNew

MIGRATIONS = Path(__file__).with_name("migrations")

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class Migration(msgspec.Struct, frozen=True):
    """One step: a numbered file of SQL."""

    version: int
    path: Path

    def statements(self) -> Iterator[str]:
        """The statements of the file, one by one.

        ``executescript`` would commit by itself and so break the promise that a step
        happens whole or not at all.
        """
        statement = ""
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""


def read_migrations(folder: Path = MIGRATIONS) -> tuple[Migration, ...]:
    """The steps in ``folder``, in order.

    Raises:
        ValueError: if a file is misnamed, or the numbers are not 1, 2, 3 …
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path} is not named like 0001_name.sql")
        found.append(Migration(int(match[1]), path))
    if [step.version for step in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations in {folder} are not numbered 1, 2, 3 …")
    return tuple(found)


def migrate(connection: sqlite3.Connection, path: Path, steps: tuple[Migration, ...], *, time: float) -> int:
    """Runs the steps that the file has not seen, each in its own transaction; returns its version.

    Args:
        connection: in autocommit mode (``isolation_level=None``).

    Raises:
        StoreTooNew: if the file has seen steps that are not among ``steps``. It is left as it was.
    """
    version = _version(connection)
    if version > len(steps):
        raise StoreTooNew(path, version, len(steps))
    for step in steps[version:]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER PRIMARY KEY, name TEXT, time REAL)"
            )
            for statement in step.statements():
                connection.execute(statement)
            connection.execute("INSERT INTO schema_versions VALUES (?, ?, ?)", (step.version, step.path.stem, time))
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return len(steps)


def _version(connection: sqlite3.Connection) -> int:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_versions'").fetchone()
    if known is None:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_versions").fetchone()
    return int(row[0])
