"""Regular expressions on texts in pieces: what a patient reader finds in the whole, and nothing is sent before."""

import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.filter.entries import Direction, Entry
from server.filter.invisible import MAX_IN_A_ROW
from server.filter.passes import stream_of
from server.filter.pattern_stream import PatternStream
from server.filter.text_pattern import Beginning, TextPattern, patterns_of
from server.settings import FilterSettings, PatternSettings
from tests.server.filter.lists import small_list
from tests.server.filter.test_word_stream import CUTS, cut

re2 = pytest.importorskip("re2", reason="google-re2 is an extra")

Found = tuple[str, int, int]
ALPHABET = "aaabbB11代代发- .\n"
ATOMS = ("a", "b", "1", "代", "发", "-", ".", r"\.", r"\d", r"\w", "[ab]", "[^a]", "[a代]", r"[\d-]", r"\b", r"\B")
QUANTIFIERS = ("", "", "", "?", "*", "+", "{1,3}", "{2}", "??", "*?", "+?")


def patterns(*expressions: str, longest: int = 40) -> tuple[TextPattern, ...]:
    named = {
        str(number): PatternSettings(pattern=expression, max_characters=longest)
        for number, expression in enumerate(expressions)
    }
    return patterns_of(FilterSettings(patterns=named))


def random_expression(source: random.Random, depth: int = 2) -> str:
    """One that Python's ``re`` and RE2 read alike: nothing is repeated that may be empty."""
    pieces = []
    for _ in range(source.randrange(1, 4)):
        atom = source.choice(ATOMS)
        if depth and source.random() < 0.3:
            options = (random_expression(source, depth - 1) for _ in range(source.randrange(1, 3)))
            # The letter in front keeps each of them from being empty.
            atom = "(?:" + "|".join(source.choice("ab1代") + each for each in options) + ")"
        pieces.append(atom if atom in (r"\b", r"\B") else atom + source.choice(QUANTIFIERS))
    return "".join(pieces)


def found(expression: str, longest: int, text: str) -> list[tuple[int, int]]:
    """The matches in a whole text as they are defined, place by place, by another engine."""
    spans, start = [], 0
    flags = re.ASCII | (re.IGNORECASE if expression.startswith("(?i)") else 0)
    expression = expression.removeprefix("(?i)")
    while start < len(text):
        last = start + longest
        # One character more is looked at, and must not be taken.
        limited = expression if last >= len(text) else rf"(?:{expression})(?!\Z)"
        match = re.compile(limited, flags).match(text[: last + 1], start)
        if match is None:
            start += 1
        else:
            spans.append(match.span())
            start = match.end()
    return spans


def streamed(looked_for: Sequence[TextPattern], pieces: Sequence[str]) -> tuple[str, list[Found]]:
    stream, sent, hits = PatternStream(looked_for), "", []
    for decided in [*map(stream.feed, pieces), stream.close()]:
        for hit in decided.hits:
            assert len(sent) <= hit.start, "a part of the match was sent before it was known"
            assert hit.start < len(sent) + len(decided.text), "a hit is told with its first character"
            hits.append((hit.entry.id, hit.start, hit.end))
        sent += decided.text
    return sent, sorted(hits)


def test_random_cuts_of_random_texts_with_random_expressions() -> None:
    source = random.Random(20270117)
    tried = 0
    while tried < CUTS:
        longest = source.choice((1, 2, 3, 5, 8, 40))
        expressions = [random_expression(source) for _ in range(source.randrange(1, 4))]
        if source.random() < 0.3:
            expressions[0] = "(?i)" + expressions[0]
        try:
            looked_for = patterns(*expressions, longest=longest)
        except ValueError:
            continue  # some match the empty text
        for _ in range(10):
            text = "".join(source.choices(ALPHABET, k=source.randrange(1, 40)))
            expected = sorted(
                (f"patterns.{number}", *span)
                for number, expression in enumerate(expressions)
                for span in found(expression, longest, text)
            )
            for pieces in ([text], list(text), cut(source, text), cut(source, text)):
                assert streamed(looked_for, pieces) == (text, expected), (expressions, longest, pieces)
                tried += 1


@settings(max_examples=200)
@given(st.text(max_size=80), st.data())
def test_any_text_comes_out_as_it_went_in(text: str, data: st.DataObject) -> None:
    looked_for = patterns(r"(?i)\bk+\b", r"\pL{2,5}\d", "[^ -~]x?", longest=7)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    expected = streamed(looked_for, [text])
    assert streamed(looked_for, pieces) == expected
    if not any("\ud800" <= each <= "\udfff" for each in text) and len(expected[0]) == len(text):
        assert expected[0] == text


def test_a_long_text_is_searched_in_steps_and_nothing_is_lost_between_them() -> None:
    source = random.Random(20270118)
    for longest in (3, 40):
        looked_for = patterns(r"b\d*?1|代+发", longest=longest)
        text = "".join(source.choices("aaaaaaaaaaaab1代发", k=3000))
        text = text[:1500] + "a" * 20_000 + text[1500:]
        expected = [("patterns.0", *span) for span in found(r"b\d*?1|代+发", longest, text)]
        assert streamed(looked_for, [text]) == (text, expected)
        assert streamed(looked_for, cut(source, text)) == (text, expected)


@pytest.mark.parametrize(
    ("expression", "text", "spans"),
    [
        (r"\bcat\b", "cat concat cats cat", [(0, 3), (16, 19)]),
        (r"a{3}", "aaaaaaa", [(0, 3), (3, 6)]),
        (r"<.*?>", "<a><" + "b" * 40 + "><c>", [(0, 3), (45, 48)]),  # too long, and the next is found again
        (r"a|ab", "ab", [(0, 1)]),
        (r"[\x{10000}-\x{10FFFF}]", "😀a𠮷", [(0, 1), (2, 3)]),
        ("(?i)vx", "Vx ＶＸ", [(0, 2)]),
        ("\ufffd", "a\ud83d", [(1, 2)]),  # what is no character stands for itself
        (r"\Q^$\E\^[$^]", "^$^$", [(0, 4)]),
    ],
)
def test_what_a_match_is(expression: str, text: str, spans: list[tuple[int, int]]) -> None:
    expected = (text, [("patterns.0", *span) for span in spans])
    assert streamed(patterns(expression), [text]) == streamed(patterns(expression), list(text)) == expected


@pytest.mark.parametrize(
    ("expression", "text", "sent"),
    [
        (r"1[3-9]\d{9}", "请打电话", "请打电话"),  # no match begins like this
        (r"1[3-9]\d{9}", "今年1月", "今年1月"),
        (r"1[3-9]\d{9}", "请打138", "请打"),
        (r"\b1[3-9]\d{9}\b", "请打1", "请打"),
        ("(?i)order-", "请看 OR", "请看 "),
        ("(?i)order-", "请看 a", "请看 "),  # between ORDER- and order-, so it waits
        ("(?i)k.", "请看 \u212a", "请看 "),  # the sign of the kelvin is a k in another dress
        (r"\B,a", "x", "x"),
        (r"\B,a", "x,", "x"),
        ("[一-龥]{2}公司", "我在", ""),
    ],
)
def test_what_can_begin_no_match_is_sent_at_once(expression: str, text: str, sent: str) -> None:
    stream = PatternStream(patterns(expression))
    assert "".join(stream.feed(character).text for character in text) == sent


@pytest.mark.parametrize("expression", ["a+", "[^b]*b", "(?s).*b"])
def test_what_is_held_is_bounded(expression: str) -> None:
    stream, shown = PatternStream(patterns(expression, longest=20)), 0
    for came in range(1, 400):
        shown += len(stream.feed("a").text)
        assert came - shown <= 20
        assert len(stream._held) <= 21


def test_rows_of_nothing_visible_count_as_in_the_other_passes() -> None:
    words = small_list([("代开", "any")])
    row = "\u200b" * (MAX_IN_A_ROW + 9)
    for pieces in ([f"a{row}代开b1"], list(f"a{row}代开b1")):
        stream = stream_of(words, Direction.INPUT, patterns(r"b\d"))
        decided = [*map(stream.feed, pieces), stream.close()]
        assert "".join(each.text for each in decided) == f"a{row[:MAX_IN_A_ROW]}代开b1"
        hits = [(hit.entry.id, hit.start, hit.end) for each in decided for hit in each.hits]
        assert hits == [("代开", 17, 19), ("patterns.0", 19, 21)]


def test_a_beginning_is_judged_by_every_match_it_may_become() -> None:
    between = Beginning(b"13", b"19")
    assert [between.may_begin(text, 0) for text in ("1", "13", "138", "1月", "12", "2", "0", "199")] == [
        True, True, True, False, False, False, False, True,
    ]  # fmt: skip
    assert Beginning(b"ab", b"ab").may_begin("xabz", 1)


class Counting:
    """An expression that counts how many characters are searched."""

    def __init__(self, expression: str) -> None:
        self._expression: Any = re2.compile(expression)
        self.searched = 0

    def search(self, text: str, start: int, end: int) -> Any:
        self.searched += len(text)
        return self._expression.search(text, start, end)

    def match(self, text: str, start: int, end: int) -> Any:
        self.searched += len(text)
        return self._expression.match(text, start, end)


@pytest.mark.parametrize(
    ("expression", "unit"),
    [
        ("(?s)a.*b", "a"),
        ("(?s)a.*b", "a" * 60 + "b"),  # always a match, always too long
        ("(a+)+b", "a"),
        ("a", "a"),
        ("a.{30}b", "ab"),
        ("x", "a"),
    ],
)
def test_the_work_grows_with_the_text_and_no_faster(expression: str, unit: str) -> None:
    def searched(characters: int, piece: int) -> int:
        counting = Counting(expression)
        stream = PatternStream([TextPattern(Entry("p", "p"), counting, Beginning(b"", b""), 40)])
        text = (unit * characters)[:characters]
        for start in range(0, characters, piece):
            stream.feed(text[start : start + piece])
        stream.close()
        return counting.searched

    for piece in (1, 1 << 20):
        assert searched(32_768, piece) < 5 * searched(8192, piece)
