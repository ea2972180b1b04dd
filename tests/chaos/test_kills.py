"""Nothing is lost, doubled or reordered, whatever is killed."""

import asyncio
import contextlib
import random
import time
from pathlib import Path

import pytest

from simulator.faults import Switch
from tests.chaos.people import DOORS, Tally, Writer, listen
from tests.journey.stack import Stack, running_stack

KILL_EVERY_SECONDS = 1.5
SETTLE_SECONDS = 90.0


async def _kill_at_random(stack: Stack, dice: random.Random, enough: asyncio.Event) -> None:
    while not enough.is_set():
        await asyncio.sleep(dice.uniform(0.5, 1.5) * KILL_EVERY_SECONDS)
        for program in dice.choice([[stack.server], stack.adapters, [stack.server, *stack.adapters]]):
            program.kill()


async def _run(
    folder: Path,
    *,
    kills: int,
    messages: int,
    seed: int,
    faults: dict[str, Switch] | None = None,
    pause: float = 0.5,
    merge_seconds: float = 0.0,
) -> tuple[Tally, int, float]:
    dice = random.Random(seed)
    began = time.monotonic()
    async with running_stack(folder, faults=faults, seed=seed, merge_seconds=merge_seconds) as stack:
        sim = stack.simulator
        listen(sim)
        writers = [Writer(sim, person.id, door, pause, dice) for person in sim.settings.people for door in DOORS]
        stop, calm = asyncio.Event(), asyncio.Event()

        def enough() -> bool:
            return stack.kills >= kills and sum(len(writer.owed) for writer in writers) >= messages

        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(writer.write_until(stop))
            if kills:
                tasks.create_task(_kill_at_random(stack, dice, calm))
            while not enough():
                await asyncio.sleep(0.1)
            calm.set()
            stop.set()
        sim.faults.clear()
        with contextlib.suppress(TimeoutError):  # the tally says what is missing
            await sim.wait_for(lambda: all(writer.settled() for writer in writers), SETTLE_SECONDS)
        tally = Tally()
        for writer in writers:
            writer.count(tally)
        return tally, stack.kills, time.monotonic() - began


def _judge(tally: Tally, kills: int, seconds: float, seed: int, *, merging: bool = False) -> None:
    print(f"\nseed {seed}: {kills} kills in {seconds:.0f} s: {tally}")
    assert merging or not tally.shared, "only messages in a row share an answer"
    for kind in ("lost", "doubled", "reordered", "unfinished", "strange"):
        found = getattr(tally, kind)
        assert not found, f"{len(found)} {kind}, for example {found[:5]} (seed {seed}; {tally})"


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_kill_9_of_server_adapter_or_both(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    long = request.config.getoption("--chaos-long", default=False)
    seed = int(time.time()) if long else 7
    kills, messages = (30, 1500) if long else (8, 150)
    _judge(*await _run(tmp_path, kills=kills, messages=messages, seed=seed), seed)


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_kill_9_while_messages_in_a_row_become_one_question(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    long = request.config.getoption("--chaos-long", default=False)
    seed = int(time.time()) if long else 13
    kills, messages = (30, 1500) if long else (6, 120)
    tally, killed, seconds = await _run(
        tmp_path, kills=kills, messages=messages, seed=seed, pause=0.4, merge_seconds=1.0
    )
    _judge(tally, killed, seconds, seed, merging=True)
    assert tally.shared, "some were written in a row"


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_accidents_of_the_platform(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    long = request.config.getoption("--chaos-long", default=False)
    seed = int(time.time()) if long else 11
    messages = 800 if long else 150
    often, seldom = Switch(probability=0.1), Switch(probability=0.02)
    faults = {
        "callback_answer_lost": often,
        "callback_duplicated": often,
        "callback_slow": seldom,
        "rest_5xx": often,
        "rest_busy": often,
        "rest_cut_before": seldom,
        "send_cut_after": often,
        "token_expired": seldom,
        "ack_late": Switch(probability=0.02, seconds=1.0),
        "ack_lost": seldom,
        "push_duplicated": often,
        "control_characters": often,
        "server_ping": often,
        "conflict": often,
        "subscription_lost": Switch(probability=0.01),
        "socket_cut": Switch(probability=0.01),
        "socket_cut_after": Switch(probability=0.01),
        "kick": Switch(count=2, probability=0.01),
    }
    if long:  # a limit is waited out for the minute that it lasts
        faults["rest_limited"] = seldom
    _judge(*await _run(tmp_path, kills=0, messages=messages, seed=seed, faults=faults, pause=0.3), seed)
