"""Customers write while everything goes wrong that can go wrong between WeCom and the adapter."""

import asyncio
import contextlib
import itertools
import random
import re
import time
from pathlib import Path

import pytest

from simulator.app import Simulator
from simulator.faults import Switch
from simulator.journal import Kind
from tests.journey.desk import Desk, running_desk

SETTLE_SECONDS = 300.0
MOST_OPEN = 3
"""Unanswered messages of one customer, so that some are answered beyond WeCom's five only by writing on."""
_TOKEN = re.compile(r"编号(\d+)-(\d+)号")

OFTEN = Switch(probability=0.1)
FAULTS = {
    "callback_lost": OFTEN,
    "callback_answer_lost": OFTEN,
    "callback_duplicated": OFTEN,
    "callback_reordered": OFTEN,
    "callback_slow": OFTEN,
    "rest_5xx": OFTEN,
    "rest_busy": OFTEN,
    "rest_cut_before": OFTEN,
    "rest_slow": Switch(probability=0.05, seconds=0.3),
    "send_cut_after": OFTEN,
    # A token that ends again at once is an operator's matter, and waited out for a minute.
    "token_expired": Switch(probability=0.1, count=1),
    "kf_callback_lost": OFTEN,
    "kf_empty_page": Switch(count=3),
    "kf_send_fail": OFTEN,
}

LONG = {"token_expired": Switch(probability=0.005, count=5), "rest_limited": Switch(probability=0.005, count=3)}
"""What costs everybody a minute, because a limit lasts as long."""


class Customer:
    """Writes on while not too much is unanswered, and counts what came back."""

    def __init__(self, simulator: Simulator, number: int) -> None:
        self.id = f"wm{number:04}"
        self.written = 0
        self._simulator = simulator
        self._number = number

    def write(self) -> None:
        self._simulator.customer_writes(self.id, f"请复述 编号{self._number}-{self.written}号")
        self.written += 1

    def seen(self) -> list[tuple[int, int]]:
        replies = self._simulator.replies(self.id, "kf")
        return [(int(found[1]), int(found[2])) for bubble in replies for found in _TOKEN.finditer(bubble.text)]

    def failed(self) -> int:
        """Answers that WeCom took and did not show, as its event says."""
        entries = self._simulator.journal.entries(Kind.FAULT)
        return sum(entry.detail == "kf_send_fail" and entry.person == self.id for entry in entries)

    def open(self) -> int:
        return self.written - len(self.seen()) - self.failed()

    async def write_all(self, count: int, dice: random.Random) -> None:
        while self.written < count:
            self.write()
            await self._simulator.wait_for(lambda: self.open() < MOST_OPEN, SETTLE_SECONDS)
            await asyncio.sleep(dice.uniform(0.0, 0.4))


async def _kill(desk: Desk, dice: random.Random, kills: int) -> None:
    while desk.kills < kills:
        await asyncio.sleep(dice.uniform(1.0, 3.0))
        dice.choice(desk.programs).kill()


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_accidents_lose_and_double_nothing_of_a_customer(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    long = request.config.getoption("--chaos-long", default=False)
    seed = int(time.time()) if long else 17
    people, each, kills = (60, 40, 10) if long else (30, 4, 0)
    dice = random.Random(seed)
    faults = FAULTS | (LONG if long else {})
    async with running_desk(tmp_path, customers=people, adapters=2 if long else 1, faults=faults, seed=seed) as desk:
        simulator = desk.simulator
        customers = [Customer(simulator, number) for number in range(people)]
        async with asyncio.TaskGroup() as tasks:
            for customer in customers:
                tasks.create_task(customer.write_all(each, dice))
            tasks.create_task(_kill(desk, dice, kills))
        struck = dict(simulator.faults.struck)
        simulator.faults.clear()
        for customer in customers:
            customer.write()  # its callback arrives, and ends the wait of an answer beyond the five
        with contextlib.suppress(TimeoutError):  # what is missing is said below
            await simulator.wait_for(lambda: not any(customer.open() for customer in customers), SETTLE_SECONDS)
        print(f"\nseed {seed}: {struck}; {simulator.counters}")
        assert struck.keys() == faults.keys(), "every accident happened"
        _judge(customers, seed)


def _judge(customers: list[Customer], seed: int) -> None:
    wrong = {}
    for customer in customers:
        seen, failed = customer.seen(), customer.failed()
        ordered = all(earlier < later for earlier, later in itertools.pairwise(seen))
        if not ordered or len(seen) + failed != customer.written:
            wrong[customer.id] = (seen, failed)
    assert not wrong, f"{len(wrong)} customers saw something else, for example {list(wrong.items())[:3]} (seed {seed})"
