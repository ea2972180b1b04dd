"""Characters said again and again, for the entries that ask for it, in whole texts and in pieces."""

import random
from collections.abc import Sequence
from itertools import groupby

import pytest

from server.filter.entries import Direction, Entry, Pattern
from server.filter.fold import MAX_REPEATS, Folded
from server.filter.passes import Passes, stream_of
from server.filter.word_stream import WordStream
from tests.server.filter.lists import SmallList, found, small_list
from tests.server.filter.test_word_stream import CUTS, cut, random_list

ALPHABET = "代代开开發发單b-， \n\u200b㎏"


def repeating(words: SmallList) -> SmallList:
    """The same words, found repeated too."""
    patterns = [
        Pattern(
            each.word, tuple(Entry(e.id, e.word, boundary=e.boundary, repeats=True) for e in each.entries), each.allows
        )
        for each in words.patterns
    ]
    return SmallList(patterns, words.matcher, words.prefixes, repeats=True)


def streamed(words: SmallList, pieces: Sequence[str]) -> tuple[str, list[tuple[str, int, int]]]:
    stream, sent, hits = stream_of(words, Direction.INPUT), "", []
    for decided in [*map(stream.feed, pieces), stream.close()]:
        for hit in decided.hits:
            assert len(sent) <= hit.start < len(sent) + len(decided.text)
            hits.append((hit.entry.id, hit.start, hit.end))
        sent += decided.text
    return sent, sorted(hits)


def test_random_cuts_find_the_same() -> None:
    source = random.Random(20261129)
    tried = 0
    while tried < CUTS // 2:
        words = repeating(random_list(source))
        for _ in range(10):
            text = "".join(source.choices(ALPHABET, k=source.randrange(1, 24)))
            if source.random() < 0.1:
                text = text.replace("代", "代" * source.randrange(1, 40), 1)
            expected = streamed(words, [text])
            assert expected[0] == text
            for _ in range(5):
                pieces = cut(source, text)
                assert streamed(words, pieces) == expected, (words.patterns, pieces)
                tried += 1


def test_a_collapsed_text_is_searched_like_any_other() -> None:
    """The oracle of the plain rules, run over the text with each character said once."""
    source = random.Random(20261130)
    for _ in range(2000):
        denied = [("".join(source.choices("代开发单a", k=source.randrange(2, 4))), "any") for _ in range(4)]
        words = small_list([(word, "any") for word, _ in denied], ["代开发"])
        text = "".join(source.choices("代代开开发單a", k=12))
        runs = [(letter, len(list(run))) for letter, run in groupby(text)]
        starts = [sum(length for _, length in runs[:number]) for number in range(len(runs) + 1)]
        once = found(words, "".join(letter for letter, _ in runs))
        plain = found(words, text)
        again = {
            (name, starts[start], starts[end]) for name, start, end in once if starts[end] - starts[start] > end - start
        }
        expected = again | set(plain)
        assert streamed(repeating(words), [text])[1] == sorted(expected), (words.patterns, text)


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("赌赌赌博博", [("赌博", 0, 5), ("赌博", 2, 4)]),
        ("赌赌-博", [("赌博", 0, 4), ("赌博", 1, 4)]),
        ("赌博", [("赌博", 0, 2)]),
        ("天天彩", [("天天彩", 0, 3)]),
        ("天彩", []),
        ("天天天彩", [("天天彩", 1, 4)]),
        ("代代开", [("代开", 1, 3)]),  # does not ask for it
        ("赌" * (MAX_REPEATS + 1) + "博", [("赌博", MAX_REPEATS, MAX_REPEATS + 2)]),
        ("禁禁止赌博博", []),
    ],
)
def test_what_counts_as_said_again(text: str, hits: list[tuple[str, int, int]]) -> None:
    entries = [Entry("赌博", "赌博", repeats=True), Entry("天天彩", "天天彩", repeats=True), Entry("代开", "代开")]
    base = small_list([(entry.word, "any") for entry in entries], ["禁止赌博"])
    patterns = [*(Pattern(entry.word, (entry,)) for entry in entries), base.patterns[-1]]
    words = SmallList(patterns, base.matcher, base.prefixes, repeats=True)
    assert streamed(words, [text])[1] == streamed(words, list(text))[1] == hits


def test_what_is_said_once_must_still_be_a_word_of_its_own() -> None:
    words = repeating(small_list([("刷单", "word")]))
    for pieces in (["印刷单位，刷单，印刷刷单位"], list("印刷单位，刷单，印刷刷单位")):
        assert streamed(words, pieces)[1] == [("刷单", 5, 7), ("刷单", 9, 12)]


def test_one_pass_is_enough_where_nobody_asks() -> None:
    words = small_list([("代开", "any")])
    assert isinstance(stream_of(words, Direction.INPUT), WordStream)
    assert isinstance(stream_of(repeating(words), Direction.INPUT), Passes)


def test_what_is_held_of_repetitions_is_bounded() -> None:
    words = repeating(small_list([("代开", "any")]))
    stream = stream_of(words, Direction.OUTPUT)
    shown = sum(len(stream.feed("代").text) for _ in range(500))
    assert 500 - shown <= MAX_REPEATS


def test_gaps_stay_where_they_were() -> None:
    folded = Folded("代代-开 开，，发发").collapsed()
    assert folded.content == "代开开发"
    assert [folded.gap(position) for position in range(5)] == ["", "\ue000", "\ue002", "\ue001\ue001", ""]
    assert [(folded.start(position), folded.end(position + 1)) for position in range(4)] == [
        (0, 2),
        (3, 4),
        (5, 6),
        (8, 10),
    ]
