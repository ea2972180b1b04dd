"""Customers go to a person and come back, while programs die: what was asked of the assistant is answered, once."""

import asyncio
import random
import re
import time
from pathlib import Path

import pytest

from simulator.app import Simulator
from simulator.faults import Switch
from tests.journey.desk import Desk, running_desk

PERSON = "zhangwei"
SETTLE_SECONDS = 90.0
FAULTS = {
    "send_cut_after": Switch(probability=0.1),
    "rest_5xx": Switch(probability=0.1),
    "kf_callback_lost": Switch(probability=0.2),
    "callback_duplicated": Switch(probability=0.2),
    "callback_reordered": Switch(probability=0.2),
}


def _texts(simulator: Simulator, customer: str) -> list[str]:
    return [bubble.text for bubble in simulator.replies(customer, "kf")]


async def _rounds(simulator: Simulator, customer: str, rounds: int, dice: random.Random) -> None:
    """Asks, is given to a person, and asks again when that person is done."""

    async def asked(question: str) -> None:
        simulator.customer_writes(customer, question)
        await simulator.wait_for(lambda: any(question in text for text in _texts(simulator, customer)), SETTLE_SECONDS)

    session = simulator.kf.session("wkDesk", customer)
    for number in range(rounds):
        await asked(f"编号{number}前号")
        simulator.customer_writes(customer, "转人工")
        await simulator.wait_for(lambda: session.state == 2, SETTLE_SECONDS)
        simulator.servicer_takes(PERSON, customer)
        simulator.servicer_writes(PERSON, customer, "我在")
        simulator.customer_writes(customer, "给张伟的话")
        await asyncio.sleep(dice.uniform(0, 1))
        silent = len(_texts(simulator, customer))
        await asyncio.sleep(dice.uniform(0, 1))
        assert len(_texts(simulator, customer)) == silent
        simulator.servicer_ends(PERSON, customer)
        await asked(f"编号{number}后号")


async def _kill(desk: Desk, dice: random.Random) -> None:
    while True:
        await asyncio.sleep(dice.uniform(1.5, 4))
        dice.choice(desk.programs).kill()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_questions_around_a_person_are_answered_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    long = request.config.getoption("--chaos-long", default=False)
    seed = int(time.time()) if long else 3
    people, rounds = (16, 12) if long else (5, 1)
    dice = random.Random(seed)
    # Callbacks reach the first adapter; the other one reads everything too, at times of its own.
    async with running_desk(tmp_path, customers=people, adapters=2, faults=FAULTS, seed=seed) as desk:
        simulator = desk.simulator
        customers = [f"wm{number:04}" for number in range(people)]
        killing = asyncio.create_task(_kill(desk, dice))
        try:
            await asyncio.gather(*(_rounds(simulator, customer, rounds, dice) for customer in customers))
        finally:
            killing.cancel()
        print(f"\nseed {seed}: {desk.kills} kills; {simulator.counters}")
        expected = [f"{number}{when}" for number in range(rounds) for when in "前后"]
        for customer in customers:
            seen = re.findall(r"编号(\d+[前后])号", "".join(_texts(simulator, customer)))
            assert seen == expected, f"{customer} (seed {seed})"
