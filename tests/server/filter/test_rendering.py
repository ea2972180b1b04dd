"""What is shown is the same for every cut, and what a careful reader would make of the whole text."""

import random
from collections.abc import Sequence

import pytest

from server.filter.entries import Action, Direction, Entry, Hit, Pattern
from server.filter.rendering import Rendered, Rendering
from server.filter.word_stream import Decided, WordStream
from tests.server.filter.lists import ALPHABET, SmallList, small_list
from tests.server.filter.test_word_stream import CUTS, cut, random_list, random_text


def by_entry(entry: Entry) -> Action:
    return Action.FLAG if entry.action is None else entry.action


def replacement(entry: Entry) -> str:
    return entry.replacement


def rendered(words: SmallList, pieces: Sequence[str]) -> tuple[str, list[str], str | None]:
    """What is shown of a stream, which hits are told, and which one stopped it."""
    stream, rendering = WordStream(words, Direction.OUTPUT), Rendering(by_entry, replacement)
    shown, told = "", []
    for piece in [*pieces, None]:
        part = rendering.apply(stream.close() if piece is None else stream.feed(piece))
        shown += part.text
        told += [hit.entry.id for hit in part.hits]
        if part.stopped is not None:
            return shown, told, part.stopped.entry.id
    return shown, told, None


def read_aloud(text: str, hits: Sequence[Hit]) -> tuple[str, list[str], str | None]:
    """The same for a whole text with all of its hits, character by character."""
    meant = [hit for hit in hits if by_entry(hit.entry) is not Action.PASS]
    stopping = sorted((hit for hit in meant if by_entry(hit.entry).stops), key=lambda hit: hit.start)
    stop = stopping[0] if stopping else None
    if stop is not None:
        stop = max((hit for hit in stopping if hit.start == stop.start), key=lambda hit: by_entry(hit.entry))
        text = text[: stop.start]
        meant = [hit for hit in meant if hit.start < stop.start]
    shown, replacing = "", False
    for place, character in enumerate(text):
        over = [hit for hit in meant if hit.start <= place < hit.end]
        strictest = max((by_entry(hit.entry) for hit in over), default=Action.PASS)
        if strictest is Action.MASK:
            shown += "＊"
        elif strictest is not Action.REPLACE:
            shown += character
        elif not replacing:
            shown += next(hit.entry.replacement for hit in over if by_entry(hit.entry) is Action.REPLACE)
        replacing = strictest is Action.REPLACE
    told = [hit.entry.id for hit in meant]
    return shown, told if stop is None else [*told, stop.entry.id], None if stop is None else stop.entry.id


def with_actions(source: random.Random, words: SmallList) -> SmallList:
    mild = [Action.PASS, Action.FLAG, Action.MASK, Action.REPLACE, Action.REPLACE, Action.MASK]

    def drawn(entry: Entry, number: int) -> Entry:
        action = source.choice([*mild, *mild, *Action])
        return Entry(entry.id, entry.word, boundary=entry.boundary, action=action, replacement=f"<{number}>")

    patterns = [
        Pattern(each.word, tuple(drawn(entry, number) for entry in each.entries), each.allows)
        for number, each in enumerate(words.patterns)
    ]
    return SmallList(patterns, words.matcher, words.prefixes)


def test_random_cuts_show_the_same() -> None:
    source = random.Random(20261127)
    tried = 0
    while tried < CUTS // 2:
        words = with_actions(source, random_list(source))
        for _ in range(10):
            text = random_text(source)
            expected = read_aloud(text, WordStream(words, Direction.OUTPUT).close(text).hits)
            for pieces in ([text], *(cut(source, text) for _ in range(5))):
                assert rendered(words, pieces) == expected, (words.patterns, pieces)
                tried += 1


def test_nothing_that_is_kept_back_is_ever_shown() -> None:
    """At no moment does what has been shown hold a listed word that the whole text does not excuse.

    A masked character counts as a letter here: what is left around one may look like another word.
    """
    source = random.Random(20261128)
    words = small_list([("代开", "any"), ("开发单", "any"), ("b", "any")])
    for _ in range(500):
        stream, rendering = WordStream(words, Direction.OUTPUT), Rendering(lambda _: Action.MASK, replacement)
        text = "".join(source.choices(ALPHABET, k=30))
        shown = ""
        for piece in [*text, None]:
            shown += rendering.apply(stream.close() if piece is None else stream.feed(piece)).text
            read = "".join("中" if now != was else was for now, was in zip(shown, text, strict=False))
            assert not WordStream(words, Direction.OUTPUT).close(read).hits, (text, read)
        assert len(shown) == len(text)


def one(action: Action, words: str, start: int, end: int) -> Decided:
    return Decided(words, (Hit(Entry("e", "", action=action, replacement="某事"), start, end),))


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        (Action.PASS, "我要代-开了"),
        (Action.FLAG, "我要代-开了"),
        (Action.MASK, "我要＊＊＊了"),
        (Action.REPLACE, "我要某事了"),
        (Action.HAND_OVER, "我要"),
        (Action.BLOCK, "我要"),
    ],
)
def test_each_action(action: Action, shown: str) -> None:
    part = Rendering(by_entry, replacement).apply(one(action, "我要代-开了", 2, 5))
    assert part.text == shown
    assert len(part.hits) == (action is not Action.PASS)
    assert (part.stopped is not None) == action.stops


def test_a_hit_goes_on_into_the_next_part() -> None:
    rendering = Rendering(by_entry, replacement)
    assert rendering.apply(one(Action.REPLACE, "我要代", 2, 5)).text == "我要某事"
    assert rendering.apply(Decided("")) == Rendered("")
    assert rendering.apply(Decided("-")).text == ""
    assert rendering.apply(Decided("开了")).text == "了"
    assert rendering.apply(Decided("代开")).text == "代开"


def test_a_replacement_is_given_again_behind_other_text() -> None:
    rendering = Rendering(by_entry, replacement)
    assert rendering.apply(one(Action.REPLACE, "代开", 0, 2)).text == "某事"
    assert rendering.apply(Decided("了，")).text == "了，"
    assert rendering.apply(one(Action.REPLACE, "代开", 4, 6)).text == "某事"
