"""What is pushed through a bot comes once and in order, however often the service dies beside its adapter."""

import asyncio
import random
import tomllib
from pathlib import Path

import pytest

from simulator.faults import Switch
from tests.journey.stack import Stack, running_stack
from weconverse import ConversationClient, WeConverseError

ACCOUNT = "channels/wecom/accounts/helper"
ACK_SECONDS = 0.1
"""What WeCom takes for an acknowledgement: most kills come while something is on its way."""
SETTLE_SECONDS = 90.0


async def push(client: ConversationClient, number: int, person: str) -> None:
    """Pushes until the service has it: the same name each time."""
    while True:
        try:
            await client.push(
                ACCOUNT, f"通知{number}", recipient=f"user:{person}", request_id=f"push-{number}", timeout=5
            )
        except WeConverseError:
            await asyncio.sleep(0.2)
        else:
            return


async def kill_the_service(stack: Stack, dice: random.Random, enough: asyncio.Event) -> None:
    while not enough.is_set():
        await asyncio.sleep(dice.uniform(1.5, 3.5))
        stack.server.kill()


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_pushes_through_a_bot_while_the_service_dies(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    each = 60 if request.config.getoption("--chaos-long", default=False) else 8
    dice, late = random.Random(11), {"ack_late": Switch(probability=1.0, seconds=ACK_SECONDS)}
    async with running_stack(tmp_path, persons=6, faults=late) as stack:
        sim = stack.simulator
        people = list(sim.corp.people)
        for person in people:
            await sim.write_to_bot(person, "在吗")  # a bot may write to who wrote to it
        await sim.wait_for(lambda: all(sim.replies(person, "bot") for person in people), 30)
        target = tomllib.loads((tmp_path / "adapter.toml").read_text())["server"]["target"]
        enough = asyncio.Event()

        def told(person: str) -> list[str]:
            return [bubble.text for bubble in sim.replies(person, "bot") if bubble.text.startswith("通知")]

        async def push_to(client: ConversationClient, place: int, person: str) -> None:
            for number in range(each):
                await push(client, 1000 * place + number, person)
                await asyncio.sleep(0.1)

        async with ConversationClient(target) as client, asyncio.TaskGroup() as tasks:
            killing = tasks.create_task(kill_the_service(stack, dice, enough))
            pushing = [asyncio.create_task(push_to(client, place, person)) for place, person in enumerate(people)]
            await asyncio.gather(*pushing)
            enough.set()
            await killing
        wanted = {
            person: [f"通知{1000 * place + number}" for number in range(each)] for place, person in enumerate(people)
        }
        await sim.wait_for(lambda: all(told(person)[-1:] == wanted[person][-1:] for person in people), SETTLE_SECONDS)
        assert {person: told(person) for person in people} == wanted
        print(f"\n{each * len(people)} pushes through a bot, {stack.kills} kills of the service")
