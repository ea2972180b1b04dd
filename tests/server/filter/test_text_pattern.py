"""Regular expressions in the settings: what is refused, with a remedy, and what those that are not lead to."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.filter.base import Why
from server.filter.entries import Action, Direction
from server.filter.lexicons import Lexicons
from server.filter.pattern_syntax import without_borders
from server.filter.policy import Policy
from server.filter.screening import ListScreener
from server.filter.text_pattern import patterns_of
from server.settings import FilterSettings, PatternSettings, PolicySettings

ROOT = Path(__file__).parents[3]
IN, OUT = Direction.INPUT, Direction.OUTPUT

PATTERNS = {
    "order": PatternSettings(pattern=r"\bPO-\d{4,6}\b", tag="internal"),
    "card": PatternSettings(pattern=r"工号\d+", action="block", direction="output"),
    "price": PatternSettings(pattern=r"\d+元", action="replace", replacement="若干"),
    "word": PatternSettings(pattern=r"内部.{0,3}价"),
}
POLICY = Policy(PolicySettings(input={"internal": "hand_over"}, output={"internal": "mask"}, other_output="flag"))


@pytest.mark.parametrize(
    ("pattern", "relaxed"),
    [
        (r"\bab\B+", "(?:)ab(?:)+"),
        (r"[$^]\^\$", r"[$^]\^\$"),
        (r"[]^]", r"[]^]"),
        (r"[^]$]", r"[^]$]"),
        (r"[[:^alpha:]$]", r"[[:^alpha:]$]"),
        (r"[\]^]", r"[\]^]"),
        (r"\p{^Greek}", r"\p{^Greek}"),
        (r"\Q^a$\b\Eb", r"\Q^a$\b\Eb"),
        (r"\\bx", r"\\bx"),
    ],
)
def test_anchors_are_told_from_what_looks_like_them(pattern: str, relaxed: str) -> None:
    assert without_borders(pattern) == relaxed


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("^a", r"has ^, but .* leave it out, or write \^ for the character"),
        ("a|b$", r"has $, but .* write \$ for the character, or \b where"),
        (r"\Aa", r"has \A, but .* leave it out"),
        (r"a\z", r"has \z, but .* leave it out"),
        (r"[a]^", r"has ^, but"),
        (r"\\^a", r"has ^, but"),
        (r"\Qa\E^", r"has ^, but"),
        (r"a\C", r"has \C, which .* write (?s:.)"),
    ],
)
def test_what_a_stream_has_no_place_for_is_refused(pattern: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^has ") as caught:
        without_borders(pattern)
    for part in told.split(" .* "):
        assert part in str(caught.value)


def test_without_the_package_a_pattern_is_refused_and_nothing_else() -> None:
    """In a program of its own, in which the package cannot be imported."""
    code = (
        "import sys; sys.modules['re2'] = None\n"
        "from server.filter.text_pattern import patterns_of\n"
        "from server.settings import FilterSettings, PatternSettings\n"
        "assert patterns_of(FilterSettings()) == ()\n"
        "patterns_of(FilterSettings(patterns={'a': PatternSettings(pattern='b')}))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.stderr.splitlines()[-1] == (
        "ValueError: filter.patterns.a.pattern: needs the package google-re2; "
        "install requirements-extras.lock, or leave the pattern out"
    )


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("a(", "is not a regular expression of RE2: missing ): a("),
        (r"(a)\1", r"is not a regular expression of RE2: invalid escape sequence: \1"),
        ("(?=a)b", "is not a regular expression of RE2: invalid perl operator: (?="),
        ("a*", "matches the empty text, so it is found everywhere; write + for *"),
        (r"\b", "matches the empty text"),
        (r"a|\Bb?", "matches the empty text"),
        ("a^", "has ^, but"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_field(pattern: str, told: str) -> None:
    pytest.importorskip("re2", reason="google-re2 is an extra")
    with pytest.raises(ValueError, match=r"^filter\.patterns\.") as caught:
        patterns_of(FilterSettings(patterns={"fine": PATTERNS["order"], "n": PatternSettings(pattern=pattern)}))
    assert str(caught.value).startswith(f"filter.patterns.n.pattern: {told}")


@pytest.mark.parametrize(
    ("text", "direction", "shown", "action", "entries"),
    [
        ("查PO-1234，谢谢", OUT, "查＊＊＊＊＊＊＊，谢谢", Action.MASK, ["patterns.order"]),
        ("查PO-1234", IN, "查", Action.HAND_OVER, ["patterns.order"]),
        ("PO-1234567", OUT, "PO-1234567", Action.PASS, []),
        ("po-1234", OUT, "po-1234", Action.PASS, []),
        ("他的工号77", IN, "他的工号77", Action.PASS, []),
        ("他的工号77", OUT, "他的", Action.BLOCK, ["patterns.card"]),
        ("共30元整", OUT, "共若干整", Action.REPLACE, ["patterns.price"]),
        ("内部特价30元", OUT, "内部特价若干", Action.REPLACE, ["patterns.word", "patterns.price"]),
    ],
)
async def test_a_policy_decides_what_they_lead_to(
    text: str, direction: Direction, shown: str, action: Action, entries: list[str]
) -> None:
    """For a whole text and for each of its characters alone, over lists that are empty; and for one that is tried."""
    pytest.importorskip("re2", reason="google-re2 is an extra")
    settings = FilterSettings(patterns=PATTERNS, reload_seconds=3600.0)
    patterns = patterns_of(settings)
    async with Lexicons(settings, patterns=patterns) as lists:
        screening = ListScreener(lists.words, {"default": POLICY}, patterns=patterns).screening("default")
        whole = screening.check(text, direction)
        assert (whole.text, whole.action, [hit.entry.id for hit in whole.hits]) == (shown, action, entries)
        stream, sent, strictest = screening.stream(direction), "", Action.PASS
        for character in [*text, ""]:
            part = stream.feed(character) if character else stream.close()
            sent += part.text
            strictest = max(strictest, part.action)
            if part.action.stops:
                break
        assert (sent, strictest) == (shown, action)
        tried = lists.occurrences(text, direction)
        assert [each.entry.id for each in tried if each.why is Why.MEANT] == entries


async def test_what_is_for_the_other_direction_is_told_when_a_text_is_tried() -> None:
    pytest.importorskip("re2", reason="google-re2 is an extra")
    settings = FilterSettings(patterns=PATTERNS, reload_seconds=3600.0)
    async with Lexicons(settings, patterns=patterns_of(settings)) as lists:
        (one,) = lists.occurrences("工号7", IN)
        assert (one.entry.word, one.entry.tag, one.start, one.end) == (r"工号\d+", "card", 0, 3)
        assert one.why is Why.OTHER_DIRECTION
