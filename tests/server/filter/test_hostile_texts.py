"""Whatever somebody writes, the work grows with the length of the text and no faster."""

import os
import time

import pytest

from server.filter.entries import Action, Direction, Pattern
from server.filter.matcher import Beginnings, Match
from server.filter.policy import Policy
from server.filter.rendering import Rendering
from server.filter.word_stream import WordStream
from server.settings import PolicySettings
from tests.server.filter.lists import SmallList, small_list

WORDS = small_list(
    [("代开发票", "any"), ("赌博", "word"), ("洗钱", "any"), ("bet", "any"), ("天" * 64, "any"), ("天天彩", "any")],
    ["反洗钱", "洗钱洗", "天" * 63],
)

CHARACTERS = int(os.environ.get("HOSTILE_CHARACTERS", str(1 << 16)))
"""Of the longer text; ``make fuzz`` takes a million."""

HOSTILE = {
    "one character": "天",
    "one that folds to many": "㎏",
    "gaps": "，",
    "symbols": "*",
    "nothing visible": "\u200b",
    "marks": "\u0336",
    "line breaks": "\n",
    "a beginning and nothing visible": "代\u200b\u200b\u200b\u200b",
    "a beginning and gaps": "代 , -",
    "near matches": "代开发",
    "words": "赌博",
    "allowed and not allowed": "反洗钱洗钱",
    "Latin that goes on": "bet",
    "torn apart": "代*\u200b开*\u0301发*",
    "a word with nothing visible inside": "天" + "\u200b" * 15,
}


class Counting:
    """Words that count how many characters are searched."""

    def __init__(self, words: SmallList) -> None:
        self._words = words
        self.searched = 0

    @property
    def matcher(self) -> "Counting":
        return self

    @property
    def prefixes(self) -> Beginnings:
        return self._words.prefixes

    @property
    def repeats(self) -> bool:
        return self._words.repeats

    def pattern(self, number: int) -> Pattern:
        return self._words.pattern(number)

    def matches(self, text: str) -> list[Match]:
        self.searched += len(text) + 1
        return self._words.matcher.matches(text)


def searched(unit: str, characters: int) -> int:
    words = Counting(WORDS)
    stream = WordStream(words, Direction.OUTPUT)
    for character in (unit * characters)[:characters]:
        stream.feed(character)
    stream.close()
    return words.searched


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_a_stream_searches_no_more_the_longer_it_is(unit: str) -> None:
    assert searched(unit, 8192) < 5 * searched(unit, 2048)


def seconds(unit: str, characters: int) -> float:
    """Of this thread alone, to find and to mask; the better of two."""
    text = (unit * characters)[:characters]
    policy = Policy(PolicySettings())
    best = float("inf")
    for _ in range(2):
        began = time.thread_time()
        decided = WordStream(WORDS, Direction.INPUT).close(text)
        Rendering(lambda _: Action.MASK, policy.replacement).apply(decided)
        best = min(best, time.thread_time() - began)
    return best


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_a_whole_text_takes_time_in_proportion(unit: str) -> None:
    """Four times as much text in less than twelve times the time; to look back at everything takes sixteen."""
    assert seconds(unit, CHARACTERS) < 12 * max(seconds(unit, CHARACTERS // 4), 0.002)


def test_what_is_held_is_bounded() -> None:
    stream = WordStream(WORDS, Direction.OUTPUT)
    most = 0
    came = shown = 0
    for character in ("天" + "*\u200b" * 4 + "\u200b" * 100) * 80:
        came += 1
        shown += len(stream.feed(character).text)
        most = max(most, came - shown)
    # What was taken out is not shown either, so the held text itself is looked at too.
    assert len(stream._held) < 64 * (1 + 16 * 5 + 4)
    assert most < came
