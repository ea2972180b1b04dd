"""Customer service under a burst: thousands of items over several pages, callbacks that fail, programs that die."""

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from simulator.app import Simulator
from simulator.faults import Switch
from simulator.journal import Kind
from tests.journey.desk import running_desk
from tests.journey.stack import Program

CUSTOMERS, EACH = 500, 5
"""2,500 items over three pages; five are as many as each customer can be answered without writing again."""
SETTLE_SECONDS = 90.0
_TOKEN = re.compile(r"编号(\d+)-(\d)号")


async def _write(simulator: Simulator, dice: random.Random) -> None:
    """Every customer's messages in their order, all customers mixed."""
    order = [customer for customer in range(CUSTOMERS) for _ in range(EACH)]
    dice.shuffle(order)
    written: Counter[int] = Counter()
    for customer in order:
        simulator.customer_writes(f"wm{customer:04}", f"请复述 编号{customer}-{written[customer]}号")
        written[customer] += 1
        if written.total() % 50 == 0:
            await asyncio.sleep(0.01)


async def _shown(simulator: Simulator, count: int) -> None:
    await simulator.wait_for(lambda: simulator.journal.counts[Kind.SHOWN] >= count, SETTLE_SECONDS)


async def _kill(simulator: Simulator, programs: tuple[Program, ...], kills: int, dice: random.Random) -> None:
    """Kills one program after another while answers are on their way."""
    for number in range(kills):
        await _shown(simulator, (number + 1) * CUSTOMERS * EACH // (kills + 1))
        dice.choice(programs).kill()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_each_item_of_a_burst_is_answered_once_and_in_order(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    long = request.config.getoption("--chaos-long", default=False)
    seed = int(time.time()) if long else 5
    kills = 10 if long else 2
    dice = random.Random(seed)
    faults = {
        "kf_callback_lost": Switch(probability=0.3),
        "callback_duplicated": Switch(probability=0.3),
        "callback_reordered": Switch(probability=0.3),
        "kf_empty_page": Switch(probability=0.1),
        "send_cut_after": Switch(probability=0.01),
    }
    async with running_desk(tmp_path, customers=CUSTOMERS, adapters=2 if long else 1, faults=faults, seed=seed) as desk:
        simulator = desk.simulator
        victims = desk.programs if long else desk.adapters
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_write(simulator, dice))
            tasks.create_task(_kill(simulator, victims, kills, dice))
        with contextlib.suppress(TimeoutError):  # what is missing is said below
            await _shown(simulator, CUSTOMERS * EACH)
        assert desk.kills >= kills
        _judge(simulator, seed)


def _judge(simulator: Simulator, seed: int) -> None:
    wrong = {}
    for number in range(CUSTOMERS):
        seen = [
            (int(found[1]), int(found[2]))
            for bubble in simulator.replies(f"wm{number:04}", "kf")
            for found in _TOKEN.finditer(bubble.text)
        ]
        if seen != [(number, count) for count in range(EACH)]:
            wrong[number] = seen
    print(f"\nseed {seed}: {simulator.counters}")
    assert not wrong, f"{len(wrong)} customers saw something else, for example {list(wrong.items())[:5]} (seed {seed})"
