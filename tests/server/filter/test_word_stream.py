"""A stream finds what the whole text holds, however it is cut, and shows nothing of it before."""

import os
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.filter.automaton import build_matcher
from server.filter.entries import Direction, Entry, Pattern
from server.filter.fold import Folded
from server.filter.invisible import MAX_IN_A_ROW
from server.filter.matcher import Prefixes
from server.filter.word_stream import Decided, WordStream
from tests.server.filter.lists import ALPHABET, LETTERS, Boundary, SmallList, found, small_list

CUTS = int(os.environ.get("FILTER_CUTS", "20000"))
"""Random cuts that are tried; ``make fuzz`` tries 500,000."""

FOLDED = "代开发单刷abkg"


def whole(words: SmallList, text: str) -> tuple[str, list[tuple[str, int, int]]]:
    return streamed(words, [text])


def streamed(words: SmallList, pieces: Sequence[str]) -> tuple[str, list[tuple[str, int, int]]]:
    stream = WordStream(words, Direction.INPUT)
    sent, hits = "", []
    decisions: list[Decided] = [*map(stream.feed, pieces), stream.close()]
    for decided in decisions:
        for hit in decided.hits:
            assert len(sent) <= hit.start, "a part of the word was sent before it was known"
            assert hit.start < len(sent) + len(decided.text), "a hit is told with its first character"
            hits.append((hit.entry.id, hit.start, hit.end))
        sent += decided.text
    return sent, sorted(hits, key=lambda hit: (hit[1], -hit[2], hit[0]))


def random_text(source: random.Random) -> str:
    return "".join(source.choices(ALPHABET, k=source.randrange(1, 24)))


def random_list(source: random.Random) -> SmallList:
    def word(most: int) -> str:
        return "".join(source.choices(FOLDED, k=source.randrange(1, most)))

    boundaries: list[Boundary] = ["any", "word"]
    denied = [(word(5), source.choice(boundaries)) for _ in range(source.randrange(1, 6))]
    return small_list(denied, [word(6) for _ in range(source.randrange(0, 4))])


def cut(source: random.Random, text: str) -> list[str]:
    places = sorted(source.choices(range(len(text) + 1), k=source.randrange(0, len(text) + 1)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def test_random_cuts_of_random_texts_with_random_lists() -> None:
    source = random.Random(20261126)
    tried = 0
    while tried < CUTS:
        words = random_list(source)
        for _ in range(10):
            text = random_text(source)
            expected = found(words, text)
            assert whole(words, text) == (text, expected), (words.patterns, text)
            for _ in range(5):
                pieces = cut(source, text)
                assert streamed(words, pieces) == (text, expected), (words.patterns, pieces)
                tried += 1


@settings(max_examples=200)
@given(st.text(max_size=60), st.data())
def test_any_text_comes_out_as_it_went_in(text: str, data: st.DataObject) -> None:
    words = small_list([("代开", "any"), ("bet", "any"), ("kg", "word")], ["现代开发"])
    expected = whole(words, text)
    assert expected[0] == text
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    assert streamed(words, pieces) == expected


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("今天天气很好", "今天天气很好"),
        ("我要代", "我要"),
        ("我要代开", "我要"),  # 代开发票 may follow
        ("我要代开发", "我要"),
        ("我要代-", "我要"),
        ("我要代-----", "我要代-----"),
        ("我要代\n", "我要代\n"),
        ("say b", "say "),
        ("say bet", "say "),  # may be better
        ("say bet ", "say bet "),
        ("反洗", "反洗"),
        ("反洗钱", "反洗钱"),
    ],
)
def test_no_more_is_held_than_could_matter(text: str, sent: str) -> None:
    words = small_list([("代开发票", "any"), ("代开", "any"), ("bet", "any")])
    assert WordStream(words, Direction.INPUT).feed(text).text == sent


def test_an_allowed_phrase_covers_only_what_lies_inside() -> None:
    words = small_list([("洗钱", "any"), ("洗钱团伙", "any")], ["反洗钱"])
    assert whole(words, "反洗钱培训")[1] == []
    assert whole(words, "反洗钱团伙")[1] == [("洗钱团伙", 1, 5)]
    assert streamed(words, list("反洗钱团伙"))[1] == [("洗钱团伙", 1, 5)]


def test_nothing_is_cut_inside_of_a_character() -> None:
    words = small_list([("kg", "any"), ("ga", "any"), ("代kg", "any")])
    for text in ("㎏ ", "㎏ x", "代㎏ a", "㎏ a"):
        assert streamed(words, list(text)) == (text, found(words, text)), text


def test_words_of_the_other_direction_do_not_count() -> None:
    said = Entry("said", "代开", direction=Direction.INPUT)
    shown = Entry("shown", "代开", direction=Direction.OUTPUT)
    words = SmallList([Pattern("代开", (said, shown))], build_matcher(["代开"]), Prefixes(["代开"]))
    for direction, expected in ((Direction.INPUT, "said"), (Direction.OUTPUT, "shown")):
        assert [hit.entry.id for hit in WordStream(words, direction).close("代开了").hits] == [expected]


def test_invisible_characters_are_thinned_but_hide_nothing() -> None:
    words = small_list([("代开", "any")])
    for pieces in (["代" + "\u200b" * 500 + "开"], ["代", *["\u200b"] * 500, "开"]):
        sent, hits = streamed(words, pieces)
        assert sent == "代" + "\u200b" * MAX_IN_A_ROW + "开"
        assert hits == [("代开", 0, MAX_IN_A_ROW + 2)]


def test_only_rows_of_invisible_characters_are_thinned() -> None:
    text = ("\u200b" * MAX_IN_A_ROW + "字") * 3
    for pieces in ([text], list(text), text.partition("字")):
        assert streamed(small_list([("代开", "any")]), pieces) == (text, [])


def test_the_alphabet_of_these_tests_folds_as_they_say() -> None:
    for written, folded in LETTERS.items():
        assert Folded(written).content == folded
