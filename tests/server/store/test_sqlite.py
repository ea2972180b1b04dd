"""What is particular to the SQLite backend: its file, its threads, its settings."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.domain import Ask, Content, FinishReason, Owed, Rating, Sender, Turn, TurnName, TurnState
from server.errors import StoreUnavailable
from server.store import aging, owed_turns, turn_log
from server.store.base import Retention
from server.store.refusals import StoreLocked, StoreRefused
from server.store.sqlite import SqliteTurnStore, open_sqlite

OWED = Owed("acc", b"to")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turns.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteTurnStore]:
    async with open_sqlite(path, clock=lambda: 5000.0) as opened:
        yield opened


def ask_of(request_id: str, text: str = "在吗") -> Ask:
    return Ask(TurnName("c", request_id), Content.of_text(text), True, "default")


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def test_the_writer_flushes_every_commit(store: SqliteTurnStore) -> None:
    assert await store._writer.submit(pragma, "synchronous") == 2
    assert await store._writer.submit(pragma, "journal_mode") == "wal"
    assert await store._writer.submit(pragma, "foreign_keys") == 1


async def test_the_reader_can_neither_write_nor_checkpoint(store: SqliteTurnStore) -> None:
    assert await store._reader.submit(pragma, "query_only") == 1
    assert await store._reader.submit(pragma, "wal_autocheckpoint") == 0

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM turns")

    with pytest.raises(StoreUnavailable):
        await store._reader.submit(write)


async def test_the_hot_queries_use_their_indexes(store: SqliteTurnStore) -> None:
    def plan(connection: sqlite3.Connection, sql: str) -> str:
        return " | ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))

    explain = store._reader.submit
    assert "turns_owed" in await explain(plan, owed_turns._UNSETTLED)
    assert "turns_by_conversation" in await explain(plan, turn_log._LIST.replace("?", "1"))
    assert "turns_by_conversation" in await explain(plan, turn_log._ROUNDS.replace("?1", "'c'").replace("?2", "5"))
    assert "COVERING INDEX turns_by_conversation" in await explain(plan, turn_log._CONVERSATION.replace("?", "'c'"))
    assert "turns_undeliverable" in await explain(plan, owed_turns._REPLAY_ACCOUNT.replace("?", "'a'"))
    for due in (aging._PAYLOADS_DUE, aging._KEYS_DUE):
        assert "turns_aging" in await explain(plan, due.replace("?", "1"))


async def test_a_store_cannot_be_opened_twice(store: SqliteTurnStore, path: Path) -> None:
    with pytest.raises(StoreLocked):
        await SqliteTurnStore.open(path)


async def test_a_lock_file_that_was_left_behind_means_nothing(path: Path) -> None:
    path.with_name("turns.db.lock").write_text("999999\n")
    async with open_sqlite(path) as store:
        await store.probe()


@pytest.mark.parametrize("damage", ["no database", "no folder", "a folder"])
async def test_a_file_that_cannot_be_used_is_refused_by_name(path: Path, damage: str) -> None:
    if damage == "no database":
        path.write_bytes(b"this is a letter, not a database\n" * 100)
    elif damage == "no folder":
        path = path.parent / "missing" / "turns.db"
    else:
        path.mkdir()
    for _ in range(2):  # whatever was opened is closed again
        with pytest.raises(StoreRefused) as caught:
            await SqliteTurnStore.open(path)
        assert str(path) in str(caught.value)


async def test_a_full_queue_says_so(path: Path) -> None:
    store = await SqliteTurnStore.open(path, capacity=4)
    try:
        calls = [store.accept(ask_of(f"m{i}"), OWED, time=1.0, claim=True) for i in range(8)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["Accepted"] * 4 + ["StoreUnavailable"] * 4
        assert len(await store.unsettled()) == 4
    finally:
        await store.aclose()


async def test_closing_ends_both_threads_even_if_nobody_waits_for_it(path: Path) -> None:
    store = await SqliteTurnStore.open(path)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("turn-store")]
    assert len(threads) == 2
    assert not any(thread.daemon for thread in threads)
    closing = asyncio.ensure_future(store.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await store.aclose()
    assert not any(thread.is_alive() for thread in threads)
    assert not path.with_name("turns.db-wal").exists()  # the last to close wrote everything back
    await (await SqliteTurnStore.open(path)).aclose()


async def test_a_disk_without_room_makes_the_store_unavailable_until_there_is(store: SqliteTurnStore) -> None:
    def limit(connection: sqlite3.Connection, pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    (pages,) = await store._reader.submit(lambda connection: connection.execute("PRAGMA page_count").fetchone())
    await store._writer.submit(limit, pages + 8)
    small = [store.accept(ask_of(f"m{i}"), OWED, time=1.0, claim=True) for i in range(3)]
    big = store.accept(ask_of("big", "长" * 400_000), OWED, time=1.0, claim=True)
    results = await asyncio.gather(*small, big, return_exceptions=True)
    assert isinstance(results[3], StoreUnavailable)
    assert [one.turn.name.request_id for one in await store.unsettled()] == ["m0", "m1", "m2"]
    await store._writer.submit(limit, 100_000)
    assert (await store.accept(ask_of("big", "长" * 400_000), OWED, time=1.0, claim=True)).created


async def test_a_turn_without_an_end_time_gets_the_time_of_its_writing(store: SqliteTurnStore) -> None:
    ask = ask_of("m1")
    await store.finish(Turn(ask.name, TurnState.SUCCEEDED, ask.input, 1.0, reply="答"), ask, ())
    stored = await store.find(ask.name)
    assert stored is not None
    assert stored.turn.end_time == 5000.0


async def test_the_last_rating_of_a_rater_wins_and_ratings_go_with_their_turn(
    store: SqliteTurnStore, path: Path
) -> None:
    ask = ask_of("m1")
    turn = Turn(
        ask.name, TurnState.SUCCEEDED, ask.input, 1.0, reply="答", finish_reason=FinishReason.STOP, end_time=2.0
    )
    await store.finish(turn, ask, ())
    await store.rate(ask.name, Sender("u1"), Rating.HELPFUL, "好", time=3.0)
    await store.rate(ask.name, Sender("u1"), Rating.UNHELPFUL, "不好", time=4.0)
    await store.rate(ask.name, None, Rating.HELPFUL, "", time=5.0)
    every = "SELECT rater, rating, comment, time FROM ratings ORDER BY rater"
    assert rows(path, every) == [("", 1, "", 5.0), ("u1", 2, "不好", 4.0)]
    await store.apply_retention(Retention(payloads_before=10.0, keys_before=0.0))
    assert rows(path, every) == [("", 1, "", 5.0), ("u1", 2, "", 4.0)]
    await store.apply_retention(Retention(payloads_before=10.0, keys_before=10.0))
    assert rows(path, every) == []


async def test_nothing_of_an_emptied_payload_can_be_read_in_the_row(store: SqliteTurnStore, path: Path) -> None:
    ask = ask_of("m1", "身份证号")
    await store.finish(Turn(ask.name, TurnState.SUCCEEDED, ask.input, 1.0, reply="保密的", end_time=2.0), ask, ())
    await store.apply_retention(Retention(payloads_before=10.0, keys_before=0.0))
    (row,) = rows(path, "SELECT * FROM turns")
    content = b"".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
    assert "身份证号".encode() not in content
    assert "保密的".encode() not in content
