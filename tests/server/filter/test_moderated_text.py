"""Whole texts in parts and replies in windows: nothing unapproved is shown, and cuts change nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.budget import Budget
from server.filter.base import Screened
from server.filter.entries import Action, Direction
from server.filter.moderated_text import Moderation
from server.filter.moderation import Opinion
from server.settings import ModerationSettings

SMALL: dict[str, Any] = {"window_characters": 10, "least_characters": 4, "context_characters": 3}


class Judge:
    """Remembers what it was asked, and lets a function decide."""

    def __init__(self, decide: Callable[[str], Action] = lambda text: Action.PASS) -> None:
        self.asked: list[str] = []
        self.about: set[tuple[Direction, str]] = set()
        self._decide = decide

    async def opinion(self, text: str, direction: Direction, assistant: str, budget: Budget) -> Opinion:
        assert budget.remaining() > 0
        self.asked.append(text)
        self.about.add((direction, assistant))
        return Opinion(self._decide(text))


def forbids(word: str, action: Action = Action.BLOCK) -> Callable[[str], Action]:
    return lambda text: action if word in text else Action.PASS


def moderation(judge: Judge, **more: Any) -> Moderation:
    return Moderation(judge, ModerationSettings(**{**SMALL, "url": "https://example.com/", **more}))


async def shown(pieces: Sequence[str], judge: Judge, **more: Any) -> tuple[list[str], Action]:
    """What each piece brought, and the strictest action; nothing is fed behind one that stops."""
    stream = moderation(judge, **more).stream("sales")
    assert stream is not None
    told: list[Screened] = []
    for piece in pieces:
        told.append(await stream.feed(piece, Budget(60)))
        if told[-1].action.stops:
            break
    else:
        told.append(await stream.close(Budget(60)))
    return [each.text for each in told], max(each.action for each in told)


# --- whole texts --------------------------------------------------------------------------


async def test_a_whole_text_is_asked_about_once() -> None:
    judge = Judge(forbids("坏", Action.HAND_OVER))
    assert await moderation(judge).check("好的", Direction.INPUT, "sales", Budget(60)) is Action.PASS
    assert await moderation(judge).check("坏的", Direction.INPUT, "sales", Budget(60)) is Action.HAND_OVER
    assert judge.asked == ["好的", "坏的"]
    assert judge.about == {(Direction.INPUT, "sales")}


async def test_a_long_text_is_asked_about_in_parts_that_overlap() -> None:
    text = "一" * 99 + "坏话" + "二" * 250
    judge = Judge(forbids("坏话", Action.FLAG))
    assert await moderation(judge, text_characters=100).check(text, Direction.INPUT, "a", Budget(60)) is Action.FLAG
    assert judge.asked == [text[0:100], text[97:200], text[197:300], text[297:]]
    judge = Judge(forbids("坏话"))
    assert await moderation(judge, text_characters=100).check(text, Direction.INPUT, "a", Budget(60)) is Action.BLOCK
    assert len(judge.asked) == 2  # the rest does not matter any more


@pytest.mark.parametrize(
    ("more", "direction", "text"),
    [
        ({"input": False}, Direction.INPUT, "话"),
        ({"output": False}, Direction.OUTPUT, "话"),
        ({"assistants": ("other",)}, Direction.INPUT, "话"),
        ({}, Direction.INPUT, ""),
        ({}, Direction.INPUT, " \n "),
    ],
)
async def test_nobody_is_asked_about_what_is_left_out(more: dict[str, Any], direction: Direction, text: str) -> None:
    judge = Judge(lambda text: Action.BLOCK)
    assert await moderation(judge, **more).check(text, direction, "sales", Budget(60)) is Action.PASS
    assert judge.asked == []


def test_a_reply_nobody_is_asked_about_is_shown_as_it_comes() -> None:
    assert moderation(Judge(), output=False).stream("sales") is None
    assert moderation(Judge(), assistants=("other",)).stream("sales") is None
    assert moderation(Judge(), assistants=("sales",)).stream("sales") is not None


# --- replies ------------------------------------------------------------------------------


async def test_a_sentence_is_shown_when_it_is_approved() -> None:
    judge = Judge()
    pieces = ["您好,", "我是小", "助手。有", "什么", "可以帮您?", "请讲"]
    assert await shown(pieces, judge) == (["", "", "您好,我是小助手。", "", "有什么可以帮您?", "", "请讲"], Action.PASS)
    assert judge.asked == ["您好,我是小助手。", "助手。有什么可以帮您?", "帮您?请讲"]


async def test_a_long_sentence_is_asked_about_before_it_ends() -> None:
    judge = Judge()
    told, _ = await shown(["一二三四五六七", "八九", "十甲", "乙"], judge)
    assert told == ["", "", "一二三四五六七八九十甲", "", "乙"]


async def test_short_sentences_are_asked_about_together() -> None:
    judge = Judge()
    told, _ = await shown(["好。", "行。", "可", "以。", "嗯"], judge)
    assert told == ["", "好。行。", "", "", "", "可以。嗯"]
    assert judge.asked == ["好。行。", "。行。可以。嗯"]


async def test_what_is_there_already_is_asked_about_at_once() -> None:
    judge = Judge()
    text = "这是第一句。这是第二句。" * 30 + "这是最后"
    told, _ = await shown([text], judge, text_characters=200, window_characters=50, least_characters=4)
    assert "".join(told) == text
    assert len(judge.asked) == 3
    assert [len(question) for question in judge.asked] == [200, 3 + 160, 3 + 4]


async def test_nothing_is_asked_about_that_is_longer_than_a_question() -> None:
    judge = Judge()
    text = "字" * 1030
    told, _ = await shown([text], judge, text_characters=100, window_characters=2000)
    assert "".join(told) == text
    assert max(len(question) for question in judge.asked) == 103


async def test_a_full_stop_ends_a_sentence_only_before_white_space() -> None:
    judge = Judge()
    told, _ = await shown(["v1.2 is", " out. Go"], judge, window_characters=40)
    assert told == ["", "v1.2 is out. ", "Go"]


async def test_what_is_stopped_is_not_shown_and_nobody_is_asked_again() -> None:
    judge = Judge(forbids("坏话"))
    told, action = await shown(["第一句话。这是坏", "话。", "第三句话。"], judge)
    assert (told, action) == (["第一句话。", ""], Action.BLOCK)
    assert len(judge.asked) == 2


async def test_a_flag_does_not_stop() -> None:
    told, action = await shown(["这是坏话。第二句话。"], Judge(forbids("坏话", Action.FLAG)))
    assert ("".join(told), action) == ("这是坏话。第二句话。", Action.FLAG)


async def test_the_rest_is_asked_about_at_the_end() -> None:
    told, action = await shown(["坏话"], Judge(forbids("坏话")))
    assert (told, action) == (["", ""], Action.BLOCK)


async def test_white_space_alone_is_no_question() -> None:
    judge = Judge(lambda text: Action.BLOCK)
    told, action = await shown(["\n\n\n\n\n", " "], judge)
    assert ("".join(told), action, judge.asked) == ("\n\n\n\n\n ", Action.PASS, [])


TEXTS = st.text(alphabet="坏话一.。 \n!a", max_size=60)


@given(TEXTS, st.data())
async def test_nothing_forbidden_is_shown_however_the_reply_is_cut(text: str, data: st.DataObject) -> None:
    pieces, rest = [], text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:size])
        rest = rest[size:]
    judge = Judge(forbids("坏话"))
    told, action = await shown(pieces, judge)
    so_far = "".join(told)
    assert text.startswith(so_far)
    assert action.stops == ("坏话" in text)  # what lies across two windows is seen with the next one
    assert action.stops or so_far == text
    assert "坏话" not in so_far
    # What is held between two pieces is less than a window.
    for count, _ in enumerate(pieces[: len(told) - 1], 1):
        assert len("".join(pieces[:count])) - len("".join(told[:count])) < SMALL["window_characters"] or action.stops
    # Without a yes nothing is shown, but for white space that nobody is asked about.
    told, _ = await shown(pieces, Judge(lambda text: Action.BLOCK))
    assert "".join(told).strip() == ""
