"""What people meet in WeCom, from the first word to the answer: every program real, the model scripted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.settings import TextSettings
from simulator.app import Simulator
from simulator.chats import Bubble
from tests.journey.stack import Stack, running_stack

TEXTS = TextSettings()
PERSON = "person00"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path, persons=3, demonstration=True) as running:
        yield running


async def _answered(sim: Simulator, chat: str, count: int, person: str = PERSON) -> list[Bubble]:
    """The replies in a chat, once there are so many and all are finished."""

    def enough() -> list[Bubble]:
        replies = sim.replies(person, chat)
        done = len(replies) >= count and all(bubble.finished for bubble in replies)
        return replies if done else []

    return await sim.wait_for(enough, 40)


async def _say(sim: Simulator, chat: str, text: str, before: int) -> Bubble:
    """Says something and gives the one reply to it."""
    await (sim.write_to_app if chat == "app" else sim.write_to_bot)(PERSON, text)
    replies = await _answered(sim, chat, before + 1)
    assert len(replies) == before + 1
    return replies[-1]


@pytest.mark.parametrize("chat", ["app", "bot"])
async def test_a_conversation_is_remembered_over_a_kill_and_forgotten_on_request(stack: Stack, chat: str) -> None:
    sim = stack.simulator
    await _say(sim, chat, "你好，我叫小明", 0)
    assert "小明" in (await _say(sim, chat, "我叫什么？", 1)).text
    stack.server.kill()
    assert "小明" in (await _say(sim, chat, "我叫什么？", 2)).text
    assert (await _say(sim, chat, "重新开始", 3)).text == TEXTS.reset_done
    assert "小明" not in (await _say(sim, chat, "我叫什么？", 4)).text


async def test_an_answer_grows_in_the_bubble_of_a_bot(stack: Stack) -> None:
    sim = stack.simulator
    sim.enter(PERSON, "bot")
    assert (await _answered(sim, "bot", 1))[0].text == TEXTS.greeting
    bubble = await _say(sim, "bot", "公司年假有几天？", 1)
    assert bubble.sent >= 3, "the first words, a refresh and the end at the least"
    assert bubble.text.count("|") > 10
    assert "工作台" in bubble.text


async def test_a_long_answer_comes_to_an_application_in_numbered_parts(stack: Stack) -> None:
    sim = stack.simulator
    await sim.write_to_app(PERSON, "给我一份入职指南")
    parts = await sim.wait_for(
        lambda: (
            [b for b in sim.replies(PERSON, "app") if f"/{len(sim.replies(PERSON, 'app'))}" in b.text][-1:]
            and sim.replies(PERSON, "app")
        ),
        60,
    )
    assert len(parts) >= 3
    assert all(len(part.text.encode()) <= 2048 and not part.lost_bytes for part in parts)
    for number, part in enumerate(parts, 1):
        assert f"{number}/{len(parts)}" in part.text


@pytest.mark.parametrize("chat", ["app", "bot"])
async def test_what_cannot_be_answered_gets_one_clear_sentence(stack: Stack, chat: str) -> None:
    sim = stack.simulator
    if chat == "app":
        sim.send_to_app(PERSON, "image", {"PicUrl": "https://example.com/a.png", "MediaId": "m"})
        missing = TEXTS.media_unavailable
    else:
        sim.send_to_bot(PERSON, {"msgtype": "image", "image": {"url": "https://example.com/a", "aeskey": "a"}})
        missing = TEXTS.media_damaged
    assert (await _answered(sim, chat, 1))[0].text == missing
    assert (await _say(sim, chat, "演示故障：拒答", 1)).text == TEXTS.provider_blocked
    assert (await _say(sim, chat, "演示故障：中断", 2)).text == TEXTS.apology


async def test_a_group_shares_one_conversation_and_only_mentions_are_answered(stack: Stack) -> None:
    sim = stack.simulator
    sim.write_in_group(PERSON, "大家中午吃什么？")
    await sim.write_to_bot(PERSON, "公司年假有几天？", "group")
    (bubble,) = await _answered(sim, "group", 1)
    assert "工作台" in bubble.text
