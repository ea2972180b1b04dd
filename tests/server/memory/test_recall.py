"""The window on the turn rows: never more than they say, never less, whatever happens in between."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server.domain import Round
from server.errors import StoreUnavailable
from server.memory.recall import RecentRounds

C = "c"


class Rows:
    """The turn rows: what memory reads back. Reading can be held up in the middle."""

    def __init__(self) -> None:
        self.rounds: dict[str, list[Round]] = {}
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    def add(self, conversation: str, round_: Round) -> None:
        self.rounds.setdefault(conversation, []).append(round_)

    def cut(self, conversation: str) -> None:
        self.rounds[conversation] = []

    async def recent_rounds(self, conversation: str, limit: int) -> tuple[Round, ...]:
        self.reads += 1
        if self.broken:
            raise StoreUnavailable("turn")
        found = tuple(self.rounds.get(conversation, []))[-limit:]
        # What was found is held up on its way, as in a store with a queue.
        await self.gate.wait()
        return found


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def round_at(time: float, text: str = "") -> Round:
    return Round(f"问{text or time}", f"答{text or time}", time)


async def reading(rows: Rows, reads: int) -> None:
    while rows.reads < reads:
        await asyncio.sleep(0)


async def test_reads_back_once_and_keeps() -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, 10, clock)
    rows.add(C, round_at(990))
    assert await memory.recall(C, 5, 60) == (round_at(990),)
    rows.add(C, round_at(995))
    memory.remember(C, round_at(995))
    assert await memory.recall(C, 5, 60) == (round_at(990), round_at(995))
    assert rows.reads == 1


async def test_a_round_is_remembered_once() -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, 10, clock)
    rows.add(C, round_at(990))
    await memory.recall(C, 5, 60)
    memory.remember(C, round_at(990))
    assert await memory.recall(C, 5, 60) == (round_at(990),)


async def test_no_more_than_asked_for() -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, 10, clock)
    for time in range(990, 1000):
        rows.add(C, round_at(time))
    assert [past.time for past in await memory.recall(C, 3, 0)] == [997, 998, 999]
    rows.add(C, round_at(1000))
    memory.remember(C, round_at(1000))
    assert [past.time for past in await memory.recall(C, 3, 0)] == [998, 999, 1000]
    # Another assistant may want more of the same conversation.
    assert len(await memory.recall(C, 8, 0)) == 8
    assert len(await memory.recall(C, 2, 0)) == 2
    assert rows.reads == 2
    assert await memory.recall(C, 0, 0) == ()


async def test_many_ask_and_one_reads() -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, 10, clock)
    rows.add(C, round_at(990))
    rows.gate.clear()
    tasks = [asyncio.create_task(memory.recall(C, 5, 0)) for _ in range(20)]
    await reading(rows, 1)
    # The one who reads gives up; the others must not be left without.
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    rows.gate.set()
    assert await asyncio.gather(*tasks[1:]) == [(round_at(990),)] * 19
    assert rows.reads == 2
    assert not memory._readings


async def test_a_store_that_cannot_read() -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, 10, clock)
    rows.broken = True
    with pytest.raises(StoreUnavailable):
        await memory.recall(C, 5, 0)
    rows.broken = False
    rows.add(C, round_at(990))
    assert await memory.recall(C, 5, 0) == (round_at(990),)
    assert not memory._readings


async def test_what_is_remembered_while_reading_is_not_lost() -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, 10, clock)
    rows.add(C, round_at(990))
    rows.gate.clear()
    task = asyncio.create_task(memory.recall(C, 5, 0))
    await reading(rows, 1)
    rows.add(C, round_at(995))
    memory.remember(C, round_at(995))
    rows.gate.set()
    assert await task == (round_at(990), round_at(995))
    assert await memory.recall(C, 5, 0) == (round_at(990), round_at(995))


async def test_what_is_forgotten_while_reading_does_not_come_back() -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, 10, clock)
    rows.add(C, round_at(990))
    rows.gate.clear()
    task = asyncio.create_task(memory.recall(C, 5, 0))
    await reading(rows, 1)
    rows.cut(C)
    memory.forget(C)
    rows.gate.set()
    assert await task == ()
    assert await memory.recall(C, 5, 0) == ()


async def test_a_round_of_an_unknown_conversation_does_not_pass_for_all() -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, 10, clock)
    rows.add(C, round_at(990))
    rows.add(C, round_at(995))
    memory.remember(C, round_at(995))
    assert await memory.recall(C, 5, 0) == (round_at(990), round_at(995))


async def test_silence_lapses_and_what_lapsed_stays_away() -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, 10, clock)
    rows.add(C, round_at(900))
    rows.add(C, round_at(940))
    assert len(await memory.recall(C, 5, 60)) == 2
    clock.now = 1001
    assert await memory.recall(C, 5, 60) == ()
    assert len(await memory.recall(C, 5, 0)) == 2
    rows.add(C, round_at(1002))
    memory.remember(C, round_at(1002))
    clock.now = 1003
    assert await memory.recall(C, 5, 60) == (round_at(1002),)
    # The same for somebody who reads the rows.
    assert await RecentRounds(rows.recent_rounds, 10, clock).recall(C, 5, 60) == (round_at(1002),)


@pytest.mark.parametrize("kept", [0, 1, 2])
async def test_the_number_of_conversations_is_bounded(kept: int) -> None:
    rows, clock = Rows(), Clock()
    memory = RecentRounds(rows.recent_rounds, kept, clock)
    for name in "abcabc":
        rows.add(name, round_at(990))
        memory.remember(name, round_at(990))
        assert set(await memory.recall(name, 5, 0)) == {round_at(990)}
    assert len(memory._windows or ()) <= kept


class MemoryAndRows(RuleBasedStateMachine):
    """Any order of writing, cutting, asking and being held up: who asks sees what the rows say."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.rows, self.clock = Rows(), Clock()
        self.memory = RecentRounds(self.rows.recent_rounds, 2, self.clock)
        self.tasks: list[asyncio.Task[tuple[Round, ...]]] = []
        self.count = 0

    def step(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))

    @rule(name=st.sampled_from("abc"))
    def write(self, name: str) -> None:
        self.count += 1
        written = round_at(1000 + self.count)
        self.rows.add(name, written)
        self.memory.remember(name, written)

    @rule(name=st.sampled_from("abc"))
    def cut(self, name: str) -> None:
        self.rows.cut(name)
        self.memory.forget(name)

    @rule(name=st.sampled_from("abc"), rounds=st.integers(1, 4))
    def ask_and_wait(self, name: str, rounds: int) -> None:
        self.rows.gate.set()
        found = self.loop.run_until_complete(self.memory.recall(name, rounds, 0))
        assert found == tuple(self.rows.rounds.get(name, []))[-rounds:]

    @rule(name=st.sampled_from("abc"), rounds=st.integers(1, 4))
    def ask_and_be_held_up(self, name: str, rounds: int) -> None:
        self.rows.gate.clear()
        self.tasks.append(self.loop.create_task(self.memory.recall(name, rounds, 0)))
        self.step()

    @rule()
    def somebody_gives_up(self) -> None:
        if self.tasks:
            self.tasks.pop(0).cancel()
            self.step()

    @rule()
    def go_on(self) -> None:
        self.rows.gate.set()
        for _ in range(5):
            self.step()

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "memory"):
            assert len(self.memory._windows or ()) <= 2

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            try:
                self.loop.run_until_complete(self._all_done())
                assert not self.memory._readings
            finally:
                self.loop.close()

    async def _all_done(self) -> None:
        self.rows.gate.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0)


TestMemoryAndRows = MemoryAndRows.TestCase
TestMemoryAndRows.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
