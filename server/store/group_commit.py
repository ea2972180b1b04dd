"""Many writes, one flush: how a batch becomes a transaction."""

import sqlite3
import time
from collections.abc import Callable

import structlog

from server.store.job_thread import Batch, Job

_log = structlog.get_logger(__name__)

Committed = Callable[[int, float], None]
"""Hears of a commit: how many writes shared it, and how many seconds they took together."""


class GroupCommit:
    """Runs each batch of jobs in one transaction.

    A flush to the disk costs the same for one row and for a hundred; while one batch
    is flushed, the next one gathers.

    A job that fails, fails alone. If it has not changed anything (the usual refusal),
    the transaction just goes on. If it has, everything is rolled back and the batch is
    run again, each job in a transaction of its own: slow, but it needs a defect or a
    broken disk to come to that.
    """

    def __init__(self, connection: sqlite3.Connection, committed: Committed = lambda size, seconds: None) -> None:
        """Args: a connection in autocommit mode that only this thread uses from now on; who hears of each commit."""
        self._connection = connection
        self._committed = committed

    def run_batch(self, batch: Batch) -> None:
        """Runs and commits; leaves a result or an error in every job. Never raises."""
        connection, began = self._connection, time.perf_counter()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                if not self._run(job):
                    self._roll_back()
                    break
            else:
                connection.execute("COMMIT")
                self._committed(len(batch), time.perf_counter() - began)
                return
        except sqlite3.Error as error:
            # Neither began nor ended. It is not tried again: after a flush that failed,
            # the system may report the next one as good although pages were lost.
            self._give_up(batch, error)
            return
        for job in batch:
            self._run_alone(job)

    def _run(self, job: Job[object]) -> bool:
        """Whether the transaction is as if only jobs that succeeded had run."""
        connection = self._connection
        changes = connection.total_changes
        try:
            job.run(connection)
        except Exception as error:  # noqa: BLE001 - the boundary of the writer: whatever it is, it belongs to the job
            job.fail(error)
            if isinstance(error, sqlite3.Error):
                _log.error("store_write_failed", error=repr(error), code=error_code(error))
            # A full disk or a failed read ends the transaction by itself, with all that was in it.
            return connection.in_transaction and connection.total_changes == changes
        return True

    def _run_alone(self, job: Job[object]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._run(job)
            if job.error is None:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up([job], error)
            return
        if job.error is not None:
            self._roll_back()

    def _give_up(self, batch: Batch, error: sqlite3.Error) -> None:
        _log.error("store_commit_failed", jobs=len(batch), error=repr(error), code=error_code(error))
        self._roll_back()
        for job in batch:
            if job.error is None:
                job.fail(error)

    def _roll_back(self) -> None:
        if not self._connection.in_transaction:
            return
        try:
            self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            # The next BEGIN fails too, then, and says so to those who wait.
            _log.error("store_rollback_failed", error=repr(error), code=error_code(error))


class SharedSnapshot:
    """Runs each batch of reading jobs on one snapshot.

    The snapshot is taken after the last job was asked for, so each sees every write that
    was acknowledged before.
    """

    def __init__(self, connection: sqlite3.Connection, committed: Committed = lambda size, seconds: None) -> None:
        """Args: a connection in autocommit mode that only this thread uses from now on; who hears of each commit."""
        self._connection = connection
        self._committed = committed

    def run_batch(self, batch: Batch) -> None:
        """Leaves a result or an error in every job. Never raises."""
        connection = self._connection
        try:
            connection.execute("BEGIN")
            for job in batch:
                self._run(job)
            if connection.in_transaction:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            _log.error("store_read_failed", jobs=len(batch), error=repr(error), code=error_code(error))
            for job in batch:
                job.fail(error)

    def _run(self, job: Job[object]) -> None:
        try:
            job.run(self._connection)
        except Exception as error:  # noqa: BLE001 - the boundary of the reader: whatever it is, it belongs to the job
            if isinstance(error, sqlite3.Error):
                _log.error("store_read_failed", jobs=1, error=repr(error), code=error_code(error))
            job.fail(error)


def error_code(error: sqlite3.Error) -> str:
    """SQLite's own name of the error, such as ``SQLITE_FULL``; empty if it came from the binding."""
    return str(getattr(error, "sqlite_errorname", ""))
