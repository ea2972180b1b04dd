"""The SQL of retention and of the probe. Each function is a job, and touches a bounded number of rows."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from server.store.rows import EMPTY_INPUT, without_history

SLICE: Final = 250
"""Rows a job touches at most, so that a waiting write is not held up for longer than some milliseconds."""

_AGED: Final = "coalesce(end_time, settle_time) < ?"

_PAYLOADS_DUE: Final = (
    f"SELECT sequence, ask FROM turns WHERE has_payload = 1 AND delivery_state <> 1 AND delivery_state IN (0, 2) "  # noqa: S608 - constants
    f"AND {_AGED} LIMIT {SLICE}"
)
_EMPTY_PAYLOAD: Final = (
    "UPDATE turns SET has_payload = 0, remembered = 0, input = ?, ask = ?, reply = '', events = NULL, "
    "address = CASE WHEN account IS NULL THEN NULL ELSE x'' END, recipient = '', progress = x'', "
    "pushed = CASE WHEN pushed IS NULL THEN NULL ELSE ? END WHERE sequence = ?"
)
_EMPTY_COMMENT: Final = "UPDATE ratings SET comment = '' WHERE sequence = ?"

_KEYS_DUE: Final = (
    f"SELECT sequence FROM turns WHERE has_payload IN (0, 1) AND delivery_state <> 1 AND delivery_state IN (0, 2, 3) "  # noqa: S608 - constants
    f"AND {_AGED} LIMIT {SLICE}"
)

# One that a person has is not the assistant's again by being forgotten: only its being given back is that.
_UNUSED: Final = (
    "FROM conversations WHERE update_time < ? AND handed_off_time IS NULL "
    "AND NOT EXISTS (SELECT 1 FROM turns WHERE conversation = name)"
)
_UNUSED_NAMES: Final = f"SELECT name {_UNUSED} LIMIT {SLICE}"
_DROP_UNUSED: Final = f"DELETE {_UNUSED} AND name = ?"


def drop_payloads(connection: sqlite3.Connection, before: float) -> int:
    """Empties what is due, a slice of it; returns how many rows.

    What an undeliverable turn holds stays, as it may be delivered again.
    """
    due = connection.execute(_PAYLOADS_DUE, (before,)).fetchall()
    connection.executemany(
        _EMPTY_PAYLOAD, [(EMPTY_INPUT, without_history(ask), EMPTY_INPUT, sequence) for sequence, ask in due]
    )
    connection.executemany(_EMPTY_COMMENT, [(sequence,) for sequence, _ in due])
    return len(due)


def drop_keys(connection: sqlite3.Connection, before: float) -> int:
    """Deletes rows that are due, a slice of them; returns how many."""
    due = connection.execute(_KEYS_DUE, (before,)).fetchall()
    connection.executemany("DELETE FROM turns WHERE sequence = ?", due)
    return len(due)


def unused_conversations(connection: sqlite3.Connection, before: float) -> Sequence[str]:
    """Conversations without turns that were last used before ``before``, a slice of them.

    Walks over all conversations, so it is a job for the reader.
    """
    return [name for (name,) in connection.execute(_UNUSED_NAMES, (before,))]


def drop_unused_conversations(connection: sqlite3.Connection, names: Sequence[str], before: float) -> int:
    """Deletes those of ``names`` that are still unused; returns how many."""
    return connection.executemany(_DROP_UNUSED, [(before, name) for name in names]).rowcount


def probe_write(connection: sqlite3.Connection, time: float) -> None:
    """Writes a row, so that the commit has something to flush."""
    connection.execute("INSERT INTO probe VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET time = ?1", (time,))


def probe_read(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT time FROM probe").fetchone()
