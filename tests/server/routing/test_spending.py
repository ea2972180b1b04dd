"""A cap holds over restarts: what is spent was written down before."""

import asyncio
import random
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from server.routing.counting import MARKS_A_CAP, UNRECORDED_RETRY_SECONDS, CountedHere
from server.routing.limit_state import Claim, LimitKind, Refusal, Taken
from server.routing.spending_record import LINES_BEYOND_THE_LIVE, SpendingFile, SpendingForgotten

DAY = 86400.0
CAP = 10_000
TOTAL = Claim("total", "total:", money=CAP)
PROGRAM = Path(__file__).with_name("spending_program.py")


class Clock:
    def __init__(self) -> None:
        self.wall = 10 * DAY


async def opened(record: Any, clock: Clock) -> CountedHere:
    state = CountedHere(record, wall_clock=lambda: clock.wall)
    await state.open()
    return state


async def spend(state: CountedHere, money: int, claim: Claim = TOTAL) -> bool:
    taken = await state.take([claim], 0, money)
    if isinstance(taken, Refusal):
        return False
    await state.give_back(taken, (0, money))
    return True


class Slow(SpendingForgotten):
    """A record whose writes end when the test says so, or fail."""

    def __init__(self) -> None:
        self.puts: list[tuple[int, dict[str, int]]] = []
        self.gate: asyncio.Future[None] | None = None
        self.broken = False

    async def put(self, day: int, sums: Mapping[str, int]) -> None:
        if self.broken:
            raise OSError("no space left on device")
        self.puts.append((day, dict(sums)))
        if self.gate is not None:
            await self.gate

    async def asked(self) -> None:
        while not self.puts:
            await asyncio.sleep(0)


async def test_a_clean_stop_costs_nothing(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "spending"
    for _ in range(10):
        state = await opened(SpendingFile(path), clock)
        assert await spend(state, CAP // 10)
        await state.aclose()
    state = await opened(SpendingFile(path), clock)
    assert not await spend(state, 1)


async def test_crashes_never_let_more_through_and_cost_a_fiftieth_each(tmp_path: Path) -> None:
    clock, path, rng = Clock(), tmp_path / "spending", random.Random(7)
    spent = crashes = 0
    while crashes < 20:
        state = await opened(SpendingFile(path), clock)
        for _ in range(rng.randrange(1, 12)):
            money = rng.randrange(1, 40)
            spent += money * await spend(state, money)
        crashes += 1  # nothing is closed
    state = await opened(SpendingFile(path), clock)
    while await spend(state, 1):
        spent += 1
    assert spent <= CAP
    assert spent >= CAP - crashes * CAP // MARKS_A_CAP


async def test_killed_programs_together_spend_no_more_than_the_cap(tmp_path: Path) -> None:
    path, cap, spent = tmp_path / "spending", 3000, b""
    for stop_at in (1, 60, 61, 500, 700, None):
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            str(path),
            str(cap),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(Path.cwd())},
        )
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"." * (cap + 1 if stop_at is None else stop_at + 20))
        if stop_at is not None:
            spent += await program.stdout.readexactly(stop_at)
            program.kill()
        spent += await program.stdout.read()
        await program.wait()
        program.stdin.close()
    assert spent.endswith(b"x")
    # What was said may be less by one than what was spent, for each that was killed.
    assert cap - 5 * (cap // MARKS_A_CAP + 2) <= spent.count(b"1") <= cap


async def test_midnight_opens_the_cap_and_forgets_yesterday(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "spending"
    state = await opened(SpendingFile(path), clock)
    assert await spend(state, CAP)
    assert not await spend(state, 1)
    clock.wall += DAY
    assert await spend(state, CAP // 2)
    assert b"[10," not in path.read_bytes()
    # A start on the next day finds lines of a day that is over.
    clock.wall += DAY
    state = await opened(SpendingFile(path), clock)
    assert await spend(state, CAP)


async def test_half_a_line_at_the_end_is_nothing(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "spending"
    state = await opened(SpendingFile(path), clock)
    assert await spend(state, CAP // 2)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole + whole[:length])
        again = await opened(SpendingFile(path), clock)
        assert not await spend(again, CAP // 2 + 1)
        assert await spend(again, 1, Claim("total", "other:", money=CAP))
        assert await SpendingFile(path).load(10) == {
            "total:": CAP // 2 + CAP // MARKS_A_CAP,
            "other:": 1 + CAP // MARKS_A_CAP,
        }


async def test_the_file_stays_short(tmp_path: Path) -> None:
    record = SpendingFile(tmp_path / "spending")
    for number in range(2 * LINES_BEYOND_THE_LIVE // 16):
        await record.put(10, {f"person:{key}": number for key in range(16)})
    lines = (tmp_path / "spending").read_bytes().splitlines()
    assert len(lines) <= LINES_BEYOND_THE_LIVE + 32
    assert await SpendingFile(tmp_path / "spending").load(10) == {f"person:{key}": 511 for key in range(16)}


async def test_a_failed_append_is_not_built_upon(tmp_path: Path) -> None:
    path = tmp_path / "spending"
    record = SpendingFile(path)
    await record.put(10, {"a": 1})
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        await record.put(10, {"b": 2})
    path.rmdir()
    await record.put(10, {"c": 3})
    assert await SpendingFile(path).load(10) == {"a": 1, "b": 2, "c": 3}


async def test_what_cannot_be_written_down_is_not_spent() -> None:
    clock, record = Clock(), Slow()
    state = await opened(record, clock)
    record.broken = True
    with capture_logs() as lines:
        refusal = await state.take([TOTAL], 0, 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.retry_after) == (LimitKind.MONEY, UNRECORDED_RETRY_SECONDS)
    assert [line["event"] for line in lines] == ["spending_not_recorded"]
    record.broken = False
    assert await spend(state, CAP)


async def test_an_unreadable_record_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        await opened(SpendingFile(tmp_path), Clock())


async def test_a_stop_without_a_disk_leaves_the_marks() -> None:
    record = Slow()
    state = await opened(record, Clock())
    assert await spend(state, 1)
    record.broken = True
    with capture_logs() as lines:
        await state.aclose()
    assert [line["event"] for line in lines] == ["spending_not_written"]


async def test_those_who_wait_for_a_mark_share_few_writes() -> None:
    record = Slow()
    state = await opened(record, Clock())
    results = await asyncio.gather(*(spend(state, CAP // 1000) for _ in range(1200)))
    assert sum(results) == 1000
    assert len(record.puts) <= MARKS_A_CAP + 2


async def test_a_later_mark_is_never_overwritten_by_a_lower_one() -> None:
    record = Slow()
    state = await opened(record, Clock())
    await asyncio.gather(*(spend(state, money) for money in (5, 4000, 7, 3000, 1, 2)))
    marks = [sums["total:"] for _, sums in record.puts]
    assert marks == sorted(marks)


async def test_what_was_asked_for_before_a_higher_mark_is_not_written_after_it() -> None:
    record = Slow()
    state = await opened(record, Clock())
    record.gate = asyncio.get_running_loop().create_future()
    much = asyncio.create_task(spend(state, CAP // 2))
    await record.asked()
    little = asyncio.create_task(spend(state, 1))
    await asyncio.sleep(0)
    record.gate.set_result(None)
    assert await much
    assert await little
    assert await spend(state, 1, Claim("total", "other:", money=CAP))
    last = {key: mark for _, sums in record.puts for key, mark in sums.items()}
    assert last["total:"] > CAP // 2


async def test_whoever_is_cancelled_while_a_mark_is_written_has_taken_nothing() -> None:
    record = Slow()
    state = await opened(record, Clock())
    record.gate = asyncio.get_running_loop().create_future()
    leaving = asyncio.create_task(spend(state, CAP))
    staying = asyncio.create_task(spend(state, CAP))
    await record.asked()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    record.gate.set_result(None)
    assert await staying
    assert not await spend(state, 1)


async def test_midnight_while_a_mark_is_written() -> None:
    clock, record = Clock(), Slow()
    state = await opened(record, clock)
    record.gate = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(state.take([TOTAL], 0, CAP))
    await record.asked()
    clock.wall += DAY
    record.gate.set_result(None)
    taken: Taken | Refusal = await waiting
    assert not isinstance(taken, Refusal)
    assert [day for day, _ in record.puts] == [10, 11]
    assert not await spend(state, 1)


async def test_writing_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    threads: set[int] = set()

    class Watched(SpendingFile):
        def _put(self, day: int, sums: Mapping[str, int]) -> None:
            threads.add(threading.get_ident())
            super()._put(day, sums)

    state = await opened(Watched(tmp_path / "spending"), Clock())
    assert await spend(state, 1)
    assert threads
    assert threading.get_ident() not in threads
