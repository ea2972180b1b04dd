"""Where word lists and whoever approves meet: nothing that has no approval is given, whoever stops the reply."""

from collections.abc import Sequence

import pytest

from server.budget import Budget
from server.filter.base import Screened
from server.filter.entries import Action, Direction
from server.filter.moderated_text import Moderation
from server.filter.moderation import Opinion
from server.settings import ModerationSettings
from server.turn.passage import PassingText

SETTINGS = ModerationSettings(url="https://example.com/", window_characters=10, least_characters=4)


class Words:
    """Stops before a full-width exclamation mark, as a word list would before a word; ``held`` comes at the end."""

    def __init__(self, held: Screened = Screened("")) -> None:  # noqa: B008 - a value
        self._held = held

    def feed(self, text: str) -> Screened:
        before, mark, _ = text.partition("！")
        return Screened(before, Action.BLOCK if mark else Action.PASS)

    def close(self) -> Screened:
        return self._held


class Approval:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def opinion(self, text: str, direction: Direction, assistant: str, budget: Budget) -> Opinion:
        self.asked.append(text)
        return Opinion()


async def given(pieces: Sequence[str], words: Words, approval: Approval) -> tuple[list[str], Action]:
    text = PassingText(None, words, Moderation(approval, SETTINGS).stream("default"))
    told: list[Screened] = []
    for piece in pieces:
        told.append(await text.feed(piece, Budget(60)))
        if told[-1].action.stops:
            break
    else:
        told.append(await text.close(Budget(60)))
    return [each.text for each in told], max(each.action for each in told)


@pytest.mark.parametrize("pieces", [["没有问", "题的！坏话"], ["没有问题的！坏话"], ["没有问题。好的！"]])
async def test_what_stands_before_words_that_stop_is_not_given_without_approval(pieces: list[str]) -> None:
    approval = Approval()
    told, action = await given(pieces, Words(), approval)
    assert (set(told), action, approval.asked) == ({""}, Action.BLOCK, [])


async def test_nor_is_what_the_word_lists_held_back() -> None:
    approval = Approval()
    told, action = await given(["没有问"], Words(Screened("题的", Action.BLOCK)), approval)
    assert (told, action, approval.asked) == (["", ""], Action.BLOCK, [])


async def test_what_is_approved_is_given_whole() -> None:
    approval = Approval()
    told, action = await given(["没有问题。还", "有"], Words(Screened("一点")), approval)
    assert (told, action) == (["没有问题。", "", "还有一点"], Action.PASS)
    assert "".join(told) == "没有问题。还有一点"
    assert approval.asked == ["没有问题。", "没有问题。还有一点"]
