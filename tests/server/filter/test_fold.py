"""Every character folds, to what a reader takes it for, and folds no further."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.filter.fold import (
    BARRIER,
    CLAUSE,
    MAX_GAP,
    NOTHING,
    SPACE,
    SYMBOL,
    Folded,
    fold_characters,
    fold_word,
    is_barrier,
)

MARKERS = {SYMBOL, CLAUSE, SPACE, BARRIER, NOTHING}


def test_every_code_point_folds_and_folds_no_further() -> None:
    for code in range(sys.maxunicode + 1):
        folded = fold_characters(chr(code))
        assert folded, f"U+{code:04X} would take its place in the text with it"
        if folded not in MARKERS:
            assert folded.isalnum(), f"U+{code:04X}"
            assert MARKERS.isdisjoint(folded), f"U+{code:04X}"
            assert fold_characters(folded) == folded, f"U+{code:04X} {chr(code)} {folded}"


@pytest.mark.parametrize(
    ("written", "content"),
    [
        ("ＡＢＣ１２３", "abc123"),
        ("𝓬𝓪𝓼𝓲𝓷𝓸", "casino"),
        ("🅒ⓐ🄲🅰", "caca"),
        ("⑴⒉⓷➍⓿❿", "1234010"),
        ("Саѕіnо", "casino"),
        ("ΤΕLΕ", "tele"),
        ("ᴠᴘɴ", "vpn"),
        ("é\u0301ü", "eu"),
        ("㎏ﬃ㈱", "kgffi株"),
        ("代開發票", "代开发票"),
        ("⽅⾦", "方金"),
        ("豈更", fold_word("岂更")),
        ("한국어", "한국어"),
        ("🇻🇽", "vx"),
        ("x\u200b\u200d\ufeff\u00ad\u2060\U000e0041y", "xy"),
        ("İstanbul", "istanbul"),
        ("straße", "strasse"),
    ],
)
def test_dress_goes(written: str, content: str) -> None:
    assert Folded(written).content == fold_word(written) == content


@pytest.mark.parametrize(
    ("between", "gap"),
    [
        ("-", SYMBOL),
        ("★", SYMBOL),
        ("😀", SYMBOL),
        ("\ue000", SYMBOL),
        ("\ue004", SYMBOL),
        ("，", CLAUSE),
        (":", CLAUSE),
        ("…", CLAUSE),
        ("︐", CLAUSE),
        (" ", SPACE),
        ("\u3000", SPACE),
        ("\t", SPACE),
        ("\u00a0", SPACE),
        ("\u200b", ""),
        ("\u0336", ""),
        ("\n", BARRIER),
        ("\u2028", BARRIER),
        ("\x85", BARRIER),
        (" ，-", SPACE + CLAUSE + SYMBOL),
        ("-\u200b-", SYMBOL * 2),
    ],
)
def test_what_stands_between(between: str, gap: str) -> None:
    folded = Folded(f"代{between}开")
    assert (folded.content, folded.gap(1), folded.gap(0), folded.gap(2)) == ("代开", gap, "", "")
    assert Folded(f"{between}代").gap(0) == Folded(f"代{between}").gap(1) == gap
    assert is_barrier(gap) is (gap == BARRIER)
    assert is_barrier(SYMBOL * (MAX_GAP + 1))


TEXT = st.text(st.one_of(st.sampled_from("ab代開-， \n\u200b\u0301㎏ﬃ🅰"), st.characters()), max_size=30)


@given(TEXT, TEXT)
def test_a_piece_folds_as_in_the_whole(first: str, second: str) -> None:
    assert fold_characters(first) + fold_characters(second) == fold_characters(first + second)
    whole, parts = Folded(first + second), (Folded(first), Folded(second))
    assert whole.content == parts[0].content + parts[1].content
    assert Folded(first, fold_characters(first)).content == parts[0].content


@given(TEXT)
def test_every_character_knows_where_it_stood(text: str) -> None:
    folded = Folded(text)
    assert folded.is_solid is (folded.gaps() == [])
    end = 0
    for position in range(len(folded.content)):
        start = folded.start(position)
        assert folded.content[position] in fold_characters(text[start])
        assert folded.end(position + 1) == start + 1
        assert folded.as_written(position, position + 1) == text[start]
        between = fold_characters(text[end:start]).replace(NOTHING, "") if start >= end else ""
        assert folded.gap(position) == between
        assert folded.is_whole(position, position + 1) == (len(fold_characters(text[start])) == 1)
        end = start + 1
    assert folded.start(len(folded.content)) == len(text)
    assert folded.end(0) == 0
    assert folded.gap(len(folded.content)) == fold_characters(text[end:]).replace(NOTHING, "")
    assert [gap for _, gap in folded.gaps()] == [
        gap for position in range(len(folded.content) + 1) if (gap := folded.gap(position))
    ]
