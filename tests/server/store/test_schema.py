"""Migrations go forward, whole or not at all, and never below a newer program."""

import sqlite3
from pathlib import Path

import pytest

from server.store.refusals import StoreTooNew
from server.store.schema import migrate, read_migrations
from server.store.sqlite import SqliteTurnStore


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return folder


def test_steps_run_once_and_in_order(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", **{"0001_a": "CREATE TABLE a (x);\n-- done\n"})
    connection = connect(tmp_path / "t.db")
    assert migrate(connection, tmp_path / "t.db", read_migrations(folder), time=1.0) == 1
    write(folder, **{"0002_b": "INSERT INTO a VALUES (1);\nINSERT INTO a\nVALUES (2);\n"})
    for _ in range(2):
        assert migrate(connection, tmp_path / "t.db", read_migrations(folder), time=2.0) == 2
    assert connection.execute("SELECT count(*) FROM a").fetchone() == (2,)
    assert connection.execute("SELECT * FROM schema_versions").fetchall() == [(1, "0001_a", 1.0), (2, "0002_b", 2.0)]
    connection.close()


def test_a_step_that_breaks_leaves_nothing_of_itself(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "m", **{"0001_a": "CREATE TABLE a (x);", "0002_b": "CREATE TABLE b (x);\nINSERT INTO c VALUES (1);"}
    )
    connection = connect(tmp_path / "t.db")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, tmp_path / "t.db", read_migrations(folder), time=1.0)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables == {"schema_versions", "a"}
        assert connection.execute("SELECT max(version) FROM schema_versions").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize("names", [("0002_b",), ("0001_a", "0003_c"), ("0001_a", "0001_b"), ("1_a",), ("0001-a",)])
def test_misnumbered_steps_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = write(tmp_path / "m", **dict.fromkeys(names, "SELECT 1;"))
    with pytest.raises(ValueError, match=r"named like|numbered"):
        read_migrations(folder)


async def test_a_file_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    await (await SqliteTurnStore.open(path)).aclose()
    connection = connect(path)
    connection.execute("INSERT INTO schema_versions VALUES (999, '0999_future', 1.0)")
    connection.close()
    before = path.read_bytes()
    for _ in range(2):  # the lock is given back
        with pytest.raises(StoreTooNew) as caught:
            await SqliteTurnStore.open(path)
    assert str(path) in str(caught.value)
    assert "999" in str(caught.value)
    assert path.read_bytes() == before
