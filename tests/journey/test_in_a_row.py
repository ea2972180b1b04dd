"""What a person meets who sends several messages in a row, at both doors."""

from pathlib import Path

import pytest

from adapter.text.render import MERGED
from simulator.app import Simulator
from simulator.chats import Bubble
from tests.journey.stack import running_stack

PERSON = "person00"
WORDS = ("我想问", "公司的年假", "有几天")


async def _write(sim: Simulator, chat: str, text: str) -> str:
    return await (sim.write_to_app if chat == "app" else sim.write_to_bot)(PERSON, text)


async def _answered(sim: Simulator, chat: str, word: str) -> list[Bubble]:
    """What a person sees once a word has been answered and everything is finished."""

    def enough() -> list[Bubble]:
        replies = sim.replies(PERSON, chat)
        done = any(word in bubble.text for bubble in replies) and all(bubble.finished for bubble in replies)
        return replies if done else []

    return await sim.wait_for(enough, 40)


def _answers(bubbles: list[Bubble]) -> list[Bubble]:
    return [bubble for bubble in bubbles if bubble.text != MERGED]


@pytest.mark.parametrize("chat", ["app", "bot"])
async def test_messages_in_a_row_get_one_answer_in_one_bubble(tmp_path: Path, chat: str) -> None:
    async with running_stack(tmp_path, persons=2, merge_seconds=2.0) as stack:
        sim = stack.simulator
        for word in WORDS:
            await _write(sim, chat, word)
        (bubble,) = _answers(await _answered(sim, chat, WORDS[-1]))
        assert "您的问题是:" + "\n".join(WORDS) in bubble.text
        # Later, and one at a time, each gets its own.
        await _write(sim, chat, "下一个问题")
        assert len(_answers(await _answered(sim, chat, "下一个问题"))) == 2


async def test_a_bubble_that_was_open_points_to_the_next_answer(tmp_path: Path) -> None:
    async with running_stack(tmp_path, persons=2, merge_seconds=4.0) as stack:
        sim = stack.simulator
        await _write(sim, "bot", WORDS[0])
        (thinking,) = await sim.wait_for(lambda: sim.replies(PERSON, "bot"), 20)
        assert not thinking.finished
        await _write(sim, "bot", WORDS[1])
        first, last = await _answered(sim, "bot", WORDS[1])
        assert first.text == MERGED
        assert "您的问题是:" + "\n".join(WORDS[:2]) in last.text


@pytest.mark.parametrize("chat", ["app", "bot"])
async def test_a_row_of_messages_outlives_a_kill(tmp_path: Path, chat: str) -> None:
    async with running_stack(tmp_path, persons=2, merge_seconds=2.0) as stack:
        sim = stack.simulator
        written = {await _write(sim, chat, word) for word in WORDS}
        if chat == "app":  # what is not acknowledged is owed to nobody
            await sim.wait_for(lambda: written <= set(sim.acknowledged()), 20)
        stack.server.kill()
        shown = "".join(bubble.text for bubble in await _answered(sim, chat, WORDS[-1]))
        assert [shown.count(word) for word in WORDS] == [1, 1, 1]
        assert sorted(WORDS, key=shown.index) == list(WORDS)
