"""The SQL of the log and of conversations. Each function is a job of the writer or of the reader."""

import sqlite3
from typing import Final

from server.domain import Conversation, ConversationState, Rating, Round, Turn, TurnName
from server.errors import ResourceNotFound
from server.store.handed_off import MOST_NAMES
from server.store.rows import INSERT, TURN_COLUMNS, Row, read_round, read_turn

# A turn that is owed, and one that may be owed again, is nobody's to replace.
_GIVE_WAY: Final = (
    "DELETE FROM turns WHERE conversation = ? AND request_id = ? AND state IN (4, 5) AND delivery_state IN (0, 2)"
)

_LIST: Final = (
    f"SELECT {TURN_COLUMNS} FROM turns WHERE conversation = ? AND sequence < ? ORDER BY sequence DESC LIMIT ?"  # noqa: S608 - constants
)

_CUT_OF: Final = "coalesce((SELECT cut_sequence FROM conversations WHERE name = ?1), 0)"
_ROUNDS: Final = (
    "SELECT input, ask, reply, end_time FROM turns "  # noqa: S608 - constants
    f"WHERE conversation = ?1 AND remembered = 1 AND sequence > {_CUT_OF} ORDER BY sequence DESC LIMIT ?2"
)

_CONVERSATION: Final = (
    "SELECT create_time, update_time, (SELECT count(*) FROM turns "
    "WHERE conversation = name AND remembered = 1 AND sequence > cut_sequence), handed_off_time "
    "FROM conversations WHERE name = ?"
)

_HAND_OFF: Final = (
    "INSERT INTO conversations (name, create_time, update_time, handed_off_time) VALUES (?1, ?2, ?2, ?2) "
    "ON CONFLICT (name) DO UPDATE SET handed_off_time = coalesce(handed_off_time, excluded.handed_off_time)"
)
_IS_HANDED_OFF: Final = "SELECT 1 FROM conversations WHERE name = ? AND handed_off_time IS NOT NULL"
_ALL_HANDED_OFF: Final = "SELECT name FROM conversations WHERE handed_off_time IS NOT NULL LIMIT ?"

_CUT: Final = (
    "INSERT INTO conversations (name, create_time, update_time, cut_sequence) "
    "VALUES (?1, ?2, ?2, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'turns'), 0)) "
    "ON CONFLICT (name) DO UPDATE SET "
    "update_time = max(update_time, excluded.update_time), cut_sequence = excluded.cut_sequence"
)

_RATE: Final = (
    "INSERT INTO ratings (sequence, rater, rating, comment, time) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (sequence, rater) DO UPDATE SET "
    "rating = excluded.rating, comment = excluded.comment, time = excluded.time"
)


def finish(connection: sqlite3.Connection, name: TurnName, row: Row, hand_off_time: float | None) -> None:
    inserted = connection.execute(INSERT, row).rowcount == 1
    if not inserted and connection.execute(_GIVE_WAY, (name.conversation, name.request_id)).rowcount == 1:
        inserted = connection.execute(INSERT, row).rowcount == 1
    if inserted and hand_off_time is not None:
        hand_off(connection, name.conversation, hand_off_time)


def list_turns(
    connection: sqlite3.Connection, conversation: str, before: int, limit: int
) -> tuple[tuple[Turn, ...], int | None]:
    """Up to ``limit`` turns that arrived before ``before``, newest first, and the sequence of
    the last of them, or ``None`` if nothing follows."""
    turns: list[Turn] = []
    last = None
    # Row by row: each may hold many megabytes, which are not kept.
    for row in connection.execute(_LIST, (conversation, before, limit + 1)):
        if len(turns) == limit:
            return tuple(turns), last
        turns.append(read_turn(row).without_bytes())
        last = row[0]
    return tuple(turns), None


def recent_rounds(connection: sqlite3.Connection, conversation: str, limit: int) -> tuple[Round, ...]:
    rows = connection.execute(_ROUNDS, (conversation, limit)).fetchall()
    return tuple(map(read_round, reversed(rows)))


def conversation(connection: sqlite3.Connection, name: str) -> Conversation | None:
    row = connection.execute(_CONVERSATION, (name,)).fetchone()
    if row is None:
        return None
    create_time, update_time, rounds, handed_off_time = row
    state = ConversationState.ACTIVE if handed_off_time is None else ConversationState.HANDED_OFF
    return Conversation(name, create_time, update_time, None, rounds * 2, state)


def cut_memory(connection: sqlite3.Connection, name: str, time: float) -> None:
    connection.execute(_CUT, (name, time))


def hand_off(connection: sqlite3.Connection, name: str, time: float) -> None:
    connection.execute(_HAND_OFF, (name, time))


def resume(connection: sqlite3.Connection, name: str) -> bool:
    return connection.execute("UPDATE conversations SET handed_off_time = NULL WHERE name = ?", (name,)).rowcount == 1


def is_handed_off(connection: sqlite3.Connection, name: str) -> bool:
    return connection.execute(_IS_HANDED_OFF, (name,)).fetchone() is not None


def all_handed_off(connection: sqlite3.Connection) -> list[str]:
    """Their names; one more than are kept ready says that there are too many (``handed_off.py``)."""
    return [name for (name,) in connection.execute(_ALL_HANDED_OFF, (MOST_NAMES + 1,))]


def delete_conversation(connection: sqlite3.Connection, name: str) -> bool:
    connection.execute("DELETE FROM turns WHERE conversation = ?", (name,))
    return connection.execute("DELETE FROM conversations WHERE name = ?", (name,)).rowcount == 1


def rate(connection: sqlite3.Connection, name: TurnName, rater: str, rating: Rating, comment: str, time: float) -> None:
    row = connection.execute(
        "SELECT sequence FROM turns WHERE conversation = ? AND request_id = ?", (name.conversation, name.request_id)
    ).fetchone()
    if row is None:
        raise ResourceNotFound(str(name))
    connection.execute(_RATE, (row[0], rater, int(rating), comment, time))
