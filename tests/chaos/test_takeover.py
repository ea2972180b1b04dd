"""A bot has one connection. When the adapter that holds it dies, a standby has it at once, and nobody notices."""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from simulator.app import Simulator
from simulator.chats import Bubble
from simulator.journal import Entry, Kind
from tests.chaos.people import Tally, Writer
from tests.journey.stack import Program, Stack, running_stack

SETTLE_SECONDS = 60.0
MOST_SECONDS = 3.0
"""What a take-over may last, from the kill to the new subscription."""
FROZEN_SECONDS = 25.0
"""The same for one that is still there and does nothing: the service pings it after 5 s and waits for 15."""

_SUBSCRIBED = re.compile(r'^weconverse_adapter_socket_state\{account="helper"\} 2\.0$', re.MULTILINE)


class TakeOver:
    """When the bot was there again after a kill, and when a person saw something of it."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.killed_at = 0.0
        self.connected_after: list[float] = []
        self.shown_after: list[float] = []
        self._stop = simulator.listen(self._hear)

    def begin(self) -> None:
        """To be called with the kill."""
        self.killed_at = self._simulator.clock.time()

    def close(self) -> None:
        self._stop()

    @property
    def complete(self) -> bool:
        """Whether both are known of the last kill."""
        return not self.killed_at

    def _hear(self, change: Bubble | Entry) -> None:
        if not self.killed_at:
            return
        waited = self._simulator.clock.time() - self.killed_at
        taken_over = len(self.connected_after) > len(self.shown_after)
        if isinstance(change, Entry):
            if change.kind is Kind.CONNECTED and not taken_over:
                self.connected_after.append(waited)
        elif taken_over and change.speaker.startswith("bot:"):
            self.shown_after.append(waited)
            self.killed_at = 0.0


async def _text(session: aiohttp.ClientSession, program: Program, path: str) -> str:
    """What an operations port says; nothing while the program is down or not ready."""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with session.get(f"http://127.0.0.1:{program.operations_port}{path}") as answer:
            if answer.status == 200:
                return await answer.text()
    return ""


async def _holder(session: aiohttp.ClientSession, adapters: list[Program]) -> Program:
    """The adapter that has the bot's connection, once another one stands by."""
    while True:
        metrics = [await _text(session, program, "/metrics") for program in adapters]
        holders = [
            program for program, text in zip(adapters, metrics, strict=True) if _SUBSCRIBED.search(text) is not None
        ]
        others = [program for program in adapters if program not in holders]
        ready = [program for program in others if await _text(session, program, "/readyz")]
        if len(holders) == 1 and ready:
            return holders[0]
        await asyncio.sleep(0.05)


async def _freeze_the_holder(stack: Stack, seen: TakeOver) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        holder = await _holder(session, stack.adapters)
        seen.begin()
        holder.freeze()
        try:
            await stack.simulator.wait_for(lambda: seen.complete, 60)
        finally:
            holder.thaw()
        await asyncio.sleep(3.0)  # what it had under way when it froze, it would send now


async def _kill_the_holder(stack: Stack, kills: int, dice: random.Random, seen: TakeOver) -> None:
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for _ in range(kills):
            holder = await _holder(session, stack.adapters)
            await asyncio.sleep(dice.uniform(0.0, 0.4))
            seen.begin()
            holder.kill()
            await stack.simulator.wait_for(lambda: seen.complete, 30)


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms"


async def _through(
    folder: Path, seed: int, accident: Callable[[Stack, TakeOver, random.Random], Awaitable[None]]
) -> tuple[TakeOver, int]:
    """People write while an accident happens to the one of three adapters that has the bot. Nobody must notice."""
    dice = random.Random(seed)
    async with running_stack(folder, persons=8, seed=seed, adapters=3) as stack:
        sim = stack.simulator
        seen = TakeOver(sim)
        writers = [Writer(sim, person.id, "bot", 0.4, dice) for person in sim.settings.people]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(writer.write_until(stop))
            await accident(stack, seen, dice)
            stop.set()
        seen.close()
        with contextlib.suppress(TimeoutError):  # the tally says what is missing
            await sim.wait_for(lambda: all(writer.settled() for writer in writers), SETTLE_SECONDS)
        tally = Tally()
        for writer in writers:
            writer.count(tally)
        connected = len(sim.journal.entries(Kind.CONNECTED))
    print(f"\nseed {seed}: {len(seen.connected_after)} take-overs among three: {tally}")
    print(f"to the new subscription: {_spread(seen.connected_after)}")
    print(f"to the first frame of a reply: {_spread(seen.shown_after)}")
    assert tally.clean, str(tally)
    return seen, connected


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_a_standby_takes_the_bot_over(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    long = request.config.getoption("--chaos-long", default=False)
    kills = 100 if long else 6
    seen, connected = await _through(
        tmp_path,
        int(time.time()) if long else 5,
        lambda stack, seen, dice: _kill_the_holder(stack, kills, dice, seen),
    )
    assert sorted(seen.connected_after)[int(kills * 0.99)] < MOST_SECONDS
    assert connected == kills + 1, "nobody took the bot from anybody who lived"


@pytest.mark.chaos
@pytest.mark.timeout(120)
async def test_a_frozen_adapter_loses_the_bot_and_wakes_as_a_standby(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--chaos-long", default=False):
        pytest.skip("waits out a keepalive of twenty seconds; make chaos does")
    seen, connected = await _through(tmp_path, 3, lambda stack, seen, _: _freeze_the_holder(stack, seen))
    assert seen.connected_after[0] < FROZEN_SECONDS
    assert connected == 2, "who woke up did not take it back"
