"""What the company pushes, and what people touch, arrives once and in order, whatever is killed."""

import asyncio
import json
import random
import tomllib
from pathlib import Path

import pytest

from adapter.translate import UNREACHABLE
from simulator.app import Simulator
from tests.journey.stack import Stack, running_stack
from weconverse import Content, ConversationClient, Part, WeConverseError
from weconverse.v1.conversation_pb2 import Media

ACCOUNT = "channels/wecom/accounts/assistant"
CARD_TYPE = "application/vnd.wecom.template-card+json"
SETTLE_SECONDS = 90.0


def message(number: int) -> Content:
    """A sentence and a card with a button, each unlike all others."""
    card = {
        "card_type": "button_interaction",
        "main_title": {"title": f"卡片{number}"},
        "button_list": [{"text": "知道了", "key": f"我知道了{number}"}],
        "task_id": f"task-{number}",
    }
    inline = json.dumps(card, ensure_ascii=False).encode()
    return Content(parts=[Part(text=f"通知{number}"), Part(media=Media(mime_type=CARD_TYPE, inline_data=inline))])


async def push(client: ConversationClient, number: int, person: str) -> None:
    """Pushes until the service has it: the same name each time."""
    while True:
        try:
            await client.push(
                ACCOUNT, message(number), recipient=f"user:{person}", request_id=f"push-{number}", timeout=5
            )
        except WeConverseError:
            await asyncio.sleep(0.2)
        else:
            return


def touch_new_cards(sim: Simulator, touched: set[int]) -> None:
    """Everybody touches every card as soon as it is there."""
    for person in sim.corp.people:
        for bubble in sim.replies(person, "app"):
            if bubble.look == "card" and bubble.number not in touched:
                touched.add(bubble.number)
                assert bubble.content is not None
                sim.touch_card(person, bubble, bubble.content["card"]["button_list"][0]["key"])


async def kill(stack: Stack, dice: random.Random, enough: asyncio.Event) -> None:
    while not enough.is_set():
        await asyncio.sleep(dice.uniform(1.0, 3.0))
        dice.choice([stack.server, stack.adapters[0]]).kill()


def owed(sim: Simulator, person: str) -> set[str]:
    """What the person said by touching cards that show it: the platform saw the callback answered."""
    cards = [bubble for bubble in sim.replies(person, "app") if bubble.look == "card"]
    shown = [str((bubble.content or {}).get("replaced", "")) for bubble in cards]
    return {words.removeprefix("已选择：") for words in shown if words}


def said(sim: Simulator, person: str) -> set[str]:
    """What the answers of a person quote."""
    texts = [bubble.text.partition("您的问题是:")[2] for bubble in sim.replies(person, "app")]
    return {text.partition(" ")[0] for text in texts if text}


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_pushes_and_touches_through_kills(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pushes = 80 if request.config.getoption("--chaos-long", default=False) else 8
    dice, persons = random.Random(7), 4
    async with running_stack(tmp_path, persons=persons) as stack:
        sim = stack.simulator
        people = list(sim.corp.people)
        target = tomllib.loads((tmp_path / "adapter.toml").read_text())["server"]["target"]
        touched: set[int] = set()
        stop_listening = sim.listen(lambda _: touch_new_cards(sim, touched))
        enough = asyncio.Event()

        def settled() -> bool:
            counted = sim.counters["acknowledged"] + sim.counters["given_up"]
            return counted == pushes == len(touched) and all(
                owed(sim, person) <= said(sim, person) for person in people
            )

        async with ConversationClient(target) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(kill(stack, dice, enough))
            for number in range(pushes):
                await push(client, number, people[number % persons])
                await asyncio.sleep(0.2)
            enough.set()
        await sim.wait_for(settled, SETTLE_SECONDS)
        stop_listening()
        for place, person in enumerate(people):
            mine = range(place, pushes, persons)
            bubbles = sim.replies(person, "app")
            told = [bubble.text for bubble in bubbles if bubble.text.startswith("通知")]
            assert told == [f"通知{number}" for number in mine]
            cards = [bubble.text for bubble in bubbles if bubble.look == "card"]
            assert cards == [f"卡片{number}" for number in mine]
            again = sum(bubble.text == UNREACHABLE for bubble in bubbles)
            assert len(said(sim, person)) == len(bubbles) - len(told) - len(cards) - again, "no touch is answered twice"
        # WeCom gives a touch up when nobody is there for as long as it repeats it.
        print(f"\n{pushes} pushes and touches, {sim.counters['given_up']} given up by WeCom, {stack.kills} kills")
