"""What was acknowledged to an administrator is in force after the process was killed, and the log says how it came."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from server.administration import LexiconAdministration
from server.filter.base import Change, ChangeKind, EntryQuery, Origin
from server.filter.lexicons import Lexicons
from server.settings import FilterSettings
from server.store.sqlite import open_sqlite

PROGRAM = Path(__file__).with_name("changing_program.py")
ROOT = Path(__file__).parents[2]
ROUNDS = 6


def killed_after(folder: Path, prefix: str, lines: int) -> list[tuple[str, str]]:
    """What was acknowledged until the process was killed, after at least ``lines`` of it."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), prefix],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        printed: list[bytes] = []
        for line in process.stdout:  # the log of the program comes on the same pipe
            printed.append(line)
            if sum(each.startswith((b"added ", b"removed ")) for each in printed) >= lines:
                break
        process.send_signal(signal.SIGKILL)
        printed += process.stdout.readlines()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    whole = [line.decode().split() for line in printed if line.endswith(b"\n")]  # a cut line names nothing
    return [(line[0], line[1]) for line in whole if line[0] in ("added", "removed")]


async def state(folder: Path) -> tuple[set[str], list[Change]]:
    """The ids in force after a restart, and all changes, oldest first."""
    async with (
        open_sqlite(folder / "turns.db") as store,
        Lexicons(FilterSettings(lists=(str(folder / "lists"),), reload_seconds=3600.0)) as lists,
    ):
        admin = LexiconAdministration(lists, store.audit, {}, ("default",), lambda: 1.0)
        await admin.open()
        page = await admin.list_entries(EntryQuery(origin=Origin.ADDED), 100_000, "")
        changes = await admin.changes(100_000, "")
        return {each.entry.id for each in page.entries}, list(reversed(changes.changes))


async def test_no_acknowledged_change_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "ads.txt").write_text("加微信\n", encoding="utf-8")
    randomness = random.Random(4)
    acknowledged: list[tuple[str, str]] = []
    for number in range(ROUNDS):
        acknowledged += killed_after(tmp_path, f"r{number}", randomness.randrange(1, 120))
        in_force, changes = await state(tmp_path)
        assert not {entry for kind, entry in acknowledged if kind == "removed"} & in_force
        kept = {entry for kind, entry in acknowledged if kind == "added"}
        kept -= {change.before.entry.id for change in changes if change.kind is ChangeKind.REMOVED and change.before}
        assert kept <= in_force
        # The log and what is in force were written together.
        replayed: set[str] = set()
        for change in changes:
            if change.before is not None:
                replayed.discard(change.before.entry.id)
            if change.after is not None:
                replayed.add(change.after.entry.id)
        assert replayed == in_force
    assert len(acknowledged) > ROUNDS
