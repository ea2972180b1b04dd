"""Both matchers find the same, and what they find is what there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.filter.automaton import Automaton, build_matcher, is_installed
from server.filter.matcher import MAX_WORD_CHARACTERS, Match, Prefixes
from server.filter.plain_matcher import PlainMatcher

LETTERS = "ab代开🅰"
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=6), unique=True, max_size=12)


def every(words: list[str], text: str) -> list[Match]:
    """What a reader with a finger would find."""
    found = [
        (start, start + len(word), number)
        for number, word in enumerate(words)
        for start in range(len(text))
        if text[start : start + len(word)] == word
    ]
    return sorted(found, key=lambda match: (match[1], match[0]))


@given(WORDS, st.text(LETTERS, max_size=40))
def test_the_plain_one_finds_everything(words: list[str], text: str) -> None:
    assert PlainMatcher(words).matches(text) == every(words, text)


@pytest.mark.skipif(not is_installed(), reason="needs the package daachorse")
@given(WORDS, st.text(LETTERS, max_size=40))
def test_the_fast_one_finds_the_same(words: list[str], text: str) -> None:
    assert build_matcher(words).matches(text) == every(words, text)


@pytest.mark.skipif(not is_installed(), reason="needs the package daachorse")
def test_a_saved_automaton_finds_the_same() -> None:
    words = ["代开", "开发票", "代开发票"]
    built = Automaton.build(words)
    assert Automaton.load(built.save()).matches("代开发票") == built.matches("代开发票") == every(words, "代开发票")


@given(WORDS.filter(bool), st.text(LETTERS, max_size=20), st.integers(0, 20))
def test_what_could_still_become_a_word(words: list[str], text: str, start: int) -> None:
    start = min(start, len(text))
    live = [
        position
        for position in range(start, len(text))
        if any(word.startswith(text[position:]) and word != text[position:] for word in words)
    ]
    assert Prefixes(words).first_live(text, start) == (live[0] if live else len(text))


def test_no_words_match_nothing() -> None:
    assert build_matcher([]).matches("代开发票") == []
    assert MAX_WORD_CHARACTERS == 64
