"""What was acknowledged is in the file, however the process died; and one process a file."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from server.store.refusals import StoreLocked
from server.store.sqlite import SqliteTurnStore

PROGRAM = Path(__file__).with_name("accepting_program.py")
ROOT = Path(__file__).parents[3]
ROUNDS = 12


def start(path: Path, prefix: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path), prefix], stdout=subprocess.PIPE, env=environment, cwd=ROOT
    )


def read_until_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line == b"ready\n":
            return
    pytest.fail("the program ended before it was ready")


def acknowledged_before_kill(path: Path, prefix: str, lines: int) -> set[tuple[str, str]]:
    """Names that were acknowledged until the process was killed, after at least ``lines`` of them."""
    process = start(path, prefix)
    assert process.stdout is not None
    try:
        read_until_ready(process)
        printed = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        printed += process.stdout.readlines()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    # A line that the kill cut in two names no turn.
    whole = [line.decode().split() for line in printed if line.endswith(b"\n")]
    return {(conversation, request_id) for conversation, request_id in whole}


def test_no_acknowledged_turn_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    randomness = random.Random(20)
    acknowledged: set[tuple[str, str]] = set()
    for number in range(ROUNDS):
        acknowledged |= acknowledged_before_kill(path, f"r{number}", randomness.randrange(1, 800))
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            kept = set(connection.execute("SELECT conversation, request_id FROM turns"))
        connection.close()
        assert acknowledged <= kept
    assert len(acknowledged) > ROUNDS


async def test_a_second_process_on_the_same_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    process = start(path, "first")
    assert process.stdout is not None
    try:
        read_until_ready(process)
        with pytest.raises(StoreLocked) as caught:
            await SqliteTurnStore.open(path)
        message = str(caught.value)
        assert str(path) in message
        assert f"process {process.pid}" in message
        assert "stop that process" in message
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    # The lock died with its process.
    store = await SqliteTurnStore.open(path)
    await store.aclose()
