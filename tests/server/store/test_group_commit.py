"""One transaction a batch, and each job answers for itself alone."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.errors import StoreUnavailable
from server.store.group_commit import GroupCommit, SharedSnapshot
from server.store.job_thread import Job, JobThread


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(tmp_path / "t.db", isolation_level=None, check_same_thread=False)
    opened.execute("PRAGMA journal_mode = WAL")
    opened.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, note BLOB)")
    yield opened
    opened.close()


def insert(connection: sqlite3.Connection, number: int, note: bytes = b"") -> int:
    connection.execute("INSERT INTO numbers VALUES (?, ?)", (number, note))
    return number


def refuse(connection: sqlite3.Connection) -> None:
    raise KeyError("refused before anything was written")


def break_halfway(connection: sqlite3.Connection, number: int) -> None:
    insert(connection, number)
    raise ZeroDivisionError("after a write")


def kept(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT n FROM numbers ORDER BY n")]


async def outcomes(
    run_batch: Callable[[Any], None], *calls: tuple[Callable[..., Any], tuple[Any, ...]]
) -> list[object]:
    """Runs the calls as one batch and returns what each future got."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in calls]
    batch = [Job(future, function, arguments) for future, (function, arguments) in zip(futures, calls, strict=True)]
    run_batch(batch)
    for job in batch:
        job.resolve()
    return await asyncio.gather(*futures, return_exceptions=True)


async def test_a_refused_job_leaves_its_neighbours_in_the_same_transaction(connection: sqlite3.Connection) -> None:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    results = await outcomes(
        GroupCommit(connection).run_batch, (insert, (1,)), (refuse, ()), (insert, (1,)), (insert, (2,))
    )
    assert [type(result) for result in results] == [int, KeyError, StoreUnavailable, int]
    assert statements.count("COMMIT") == 1
    assert kept(connection) == [1, 2]


async def test_a_job_that_broke_halfway_is_undone_alone(connection: sqlite3.Connection) -> None:
    results = await outcomes(
        GroupCommit(connection).run_batch, (insert, (1,)), (break_halfway, (2,)), (refuse, ()), (insert, (3,))
    )
    assert [type(result) for result in results] == [int, ZeroDivisionError, KeyError, int]
    assert kept(connection) == [1, 3]


async def test_a_job_that_fills_the_disk_fails_alone_and_the_writer_goes_on(connection: sqlite3.Connection) -> None:
    """SQLITE_FULL, from a real limit on the file's pages."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    writer = GroupCommit(connection)
    results = await outcomes(
        writer.run_batch, (insert, (1,)), (insert, (2, bytes(4_000_000))), (insert, (3,)), (refuse, ())
    )
    assert [type(result) for result in results] == [int, StoreUnavailable, int, KeyError]
    assert kept(connection) == [1, 3]
    connection.execute("PRAGMA max_page_count = 10000")
    assert await outcomes(writer.run_batch, (insert, (4, bytes(4_000_000)))) == [4]


async def test_a_transaction_that_cannot_begin_fails_all_and_the_writer_goes_on(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    connection.execute("PRAGMA busy_timeout = 0")
    intruder = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    writer = GroupCommit(connection)
    results = await outcomes(writer.run_batch, (insert, (1,)), (insert, (2,)))
    assert [type(result) for result in results] == [StoreUnavailable, StoreUnavailable]
    intruder.close()
    assert await outcomes(writer.run_batch, (insert, (1,))) == [1]


async def test_a_commit_that_fails_fails_all_that_were_in_it(connection: sqlite3.Connection) -> None:
    """A deferred constraint breaks at the commit, as a full disk does."""
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(
        "CREATE TABLE children (n INTEGER REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED)",
    )

    def orphan(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO children VALUES (99)")

    writer = GroupCommit(connection)
    results = await outcomes(writer.run_batch, (insert, (1,)), (refuse, ()), (orphan, ()))
    assert [type(result) for result in results] == [StoreUnavailable, KeyError, StoreUnavailable]
    assert kept(connection) == []
    assert await outcomes(writer.run_batch, (insert, (1,))) == [1]


async def test_a_failed_read_fails_alone(connection: sqlite3.Connection) -> None:
    insert(connection, 1)

    def misread(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT * FROM nothing")

    results = await outcomes(SharedSnapshot(connection).run_batch, (kept, ()), (misread, ()), (refuse, ()), (kept, ()))
    assert results[0] == results[3] == [1]
    assert [type(result) for result in results[1:3]] == [StoreUnavailable, KeyError]
    assert not connection.in_transaction


async def test_what_waits_is_run_together_and_what_is_too_much_is_refused(connection: sqlite3.Connection) -> None:
    batches: list[int] = []
    gate = threading.Event()
    writer = GroupCommit(connection)

    def run_batch(batch: Any) -> None:
        gate.wait(10)
        batches.append(len(batch))
        writer.run_batch(batch)

    thread = JobThread("test-writer", run_batch, lambda: None, capacity=10, largest_batch=4)
    try:
        jobs = [thread.submit(insert, number) for number in range(10)]
        with pytest.raises(StoreUnavailable) as caught:
            thread.submit(insert, 10)
        assert caught.value.retry_after is not None
        gate.set()
        assert await asyncio.gather(*jobs) == list(range(10))
        assert sum(batches) == 10
        assert len(batches) <= 4
        assert await thread.submit(insert, 10) == 10
    finally:
        gate.set()
        thread.stop()
        await thread.stopped()
    with pytest.raises(StoreUnavailable):
        thread.submit(insert, 11)


def test_a_thread_whose_loop_is_gone_ends_with_its_work_done(connection: sqlite3.Connection) -> None:
    started, gate, closed = threading.Event(), threading.Event(), threading.Event()
    writer = GroupCommit(connection)

    def run_batch(batch: Any) -> None:
        started.set()
        gate.wait(10)
        writer.run_batch(batch)

    async def leave() -> JobThread:
        thread = JobThread("test-writer", run_batch, closed.set, capacity=10, largest_batch=4)
        thread.submit(insert, 1)
        return thread

    thread = asyncio.run(leave())
    assert started.wait(10)
    gate.set()
    thread.join()
    assert closed.is_set()
    assert kept(connection) == [1]
