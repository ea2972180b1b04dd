"""The SQL of owed turns: inbox and outbox. Each function is a job of the writer or of the reader."""

import sqlite3
from typing import Final

from server.domain import DeliveryState, TurnName, TurnState
from server.errors import ResourceNotFound
from server.store.base import DeliveryReport, Merged, StaleEpoch, StoredTurn
from server.store.rows import FINISH, INSERT, STORED_COLUMNS, STORED_WITHOUT_PUSHED, Row, joined_input, read_stored
from server.store.turn_log import hand_off

_FIND: Final = f"SELECT {STORED_COLUMNS} FROM turns WHERE conversation = ? AND request_id = ?"  # noqa: S608 - constants

_CLAIM: Final = (
    f"UPDATE turns SET state = {TurnState.RUNNING:d}, epoch = epoch + 1, attempts = attempts + 1 "  # noqa: S608 - constants
    f"WHERE conversation = ? AND request_id = ? AND state < {TurnState.SUCCEEDED:d}"
)

_WAITING: Final = (
    f"SELECT input, account FROM turns WHERE conversation = ? AND request_id = ? AND state = {TurnState.QUEUED:d} "  # noqa: S608 - constants
    "AND attempts = 0 AND delivery_state = 1"
)
_ASK_MORE: Final = "UPDATE turns SET input = ? WHERE conversation = ? AND request_id = ?"
_SETTLE_UNSEEN: Final = (
    f"UPDATE turns SET delivery_state = {DeliveryState.DELIVERED:d}, settle_time = max(create_time, ?) "  # noqa: S608 - constants
    "WHERE conversation = ? AND request_id = ? AND offers = 0"
)

# `delivery_state = 1` stands as a literal in these, or the planner would not see that the
# partial index `turns_owed` fits.
_UNSETTLED: Final = f"SELECT {STORED_WITHOUT_PUSHED} FROM turns WHERE delivery_state = 1 ORDER BY sequence"  # noqa: S608 - constants

_REPORT_HEAD: Final = "UPDATE turns SET progress = coalesce(?, progress), detail = ?, "
_REPORT_TAIL: Final = " WHERE conversation = ? AND request_id = ? AND delivery_state = 1"
_REPORTS: Final = {
    # Each takes one value of its own, the last before the name.
    "progress": f"{_REPORT_HEAD} deliver_after = max(deliver_after, ?) {_REPORT_TAIL}",
    "retry": f"{_REPORT_HEAD} retries = retries + 1, deliver_after = ? {_REPORT_TAIL}",
    "waiting": f"{_REPORT_HEAD} deliver_after = ? {_REPORT_TAIL}",
    "delivered": (
        f"{_REPORT_HEAD} delivery_state = {DeliveryState.DELIVERED:d}, settle_time = max(create_time, ?) {_REPORT_TAIL}"
    ),
    "undeliverable": (
        f"{_REPORT_HEAD} delivery_state = {DeliveryState.UNDELIVERABLE:d}, "
        f"settle_time = max(create_time, ?) {_REPORT_TAIL}"
    ),
}
OUTCOMES: Final = frozenset(_REPORTS)

_REPLAY: Final = "UPDATE turns SET delivery_state = 1, settle_time = NULL, retries = 0, deliver_after = ?"
_REPLAY_ALL: Final = f"{_REPLAY} WHERE delivery_state = 3"
_REPLAY_ACCOUNT: Final = f"{_REPLAY} WHERE delivery_state = 3 AND account = ?"


def find(connection: sqlite3.Connection, name: TurnName) -> StoredTurn | None:
    """The turn of that name."""
    row = connection.execute(_FIND, (name.conversation, name.request_id)).fetchone()
    return None if row is None else read_stored(row)


def accept(connection: sqlite3.Connection, name: TurnName, row: Row) -> int | StoredTurn:
    """Inserts the row and returns its sequence, or returns the turn that had the name before."""
    cursor = connection.execute(INSERT, row)
    if cursor.rowcount == 1 and cursor.lastrowid is not None:
        return cursor.lastrowid
    existing = find(connection, name)
    assert existing is not None  # or the insert would have happened
    return existing


def claim(connection: sqlite3.Connection, name: TurnName) -> StoredTurn:
    connection.execute(_CLAIM, (name.conversation, name.request_id))
    stored = find(connection, name)
    if stored is None:
        raise ResourceNotFound(str(name))
    return stored


def finish_owed(connection: sqlite3.Connection, name: TurnName, row: Row, hand_off_time: float | None) -> None:
    if connection.execute(FINISH, row).rowcount == 0:
        raise StaleEpoch(f"a later claim of {name} exists, or the turn is gone")
    if hand_off_time is not None:
        hand_off(connection, name.conversation, hand_off_time)


def merge(connection: sqlite3.Connection, earlier: TurnName, row: Row, into: TurnName, now: float) -> Merged | None:
    first = connection.execute(_WAITING, (earlier.conversation, earlier.request_id)).fetchone()
    second = connection.execute(_WAITING, (into.conversation, into.request_id)).fetchone()
    if first is None or second is None or first[1] != second[1]:
        return None
    stored, joined = joined_input(first[0], second[0])
    connection.execute(FINISH, row)
    connection.execute(_ASK_MORE, (stored, into.conversation, into.request_id))
    settled = connection.execute(_SETTLE_UNSEEN, (now, earlier.conversation, earlier.request_id)).rowcount == 1
    return Merged(joined, settled)


def record_offer(connection: sqlite3.Connection, name: TurnName) -> int:
    key = (name.conversation, name.request_id)
    connection.execute("UPDATE turns SET offers = offers + 1 WHERE conversation = ? AND request_id = ?", key)
    row = connection.execute("SELECT offers FROM turns WHERE conversation = ? AND request_id = ?", key).fetchone()
    if row is None:
        raise ResourceNotFound(str(name))
    return int(row[0])


def record_report(connection: sqlite3.Connection, report: DeliveryReport) -> None:
    own = report.time if report.outcome in ("delivered", "undeliverable") else report.deliver_after
    connection.execute(
        _REPORTS[report.outcome],
        (report.progress, report.detail, own, report.name.conversation, report.name.request_id),
    )


def unsettled(connection: sqlite3.Connection) -> tuple[StoredTurn, ...]:
    return tuple(map(read_stored, connection.execute(_UNSETTLED)))


def replay_undeliverable(connection: sqlite3.Connection, account: str | None, now: float) -> int:
    if account is None:
        return connection.execute(_REPLAY_ALL, (now,)).rowcount
    return connection.execute(_REPLAY_ACCOUNT, (now, account)).rowcount
