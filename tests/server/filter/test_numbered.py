"""A sequence that makes its items is asked like a list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.filter.word_table import WordTable

words = st.lists(st.text(max_size=3), max_size=6)


@given(words, st.integers(-8, 8))
def test_numbers_count_from_both_ends(items: list[str], number: int) -> None:
    table = WordTable(items)
    if -len(items) <= number < len(items):
        assert table[number] == items[number]
    else:
        with pytest.raises(IndexError):
            table[number]


@given(words, st.data())
def test_slices_are_lists(items: list[str], data: st.DataObject) -> None:
    part = data.draw(st.slices(len(items)))
    assert WordTable(items)[part] == items[part]


@given(words)
def test_it_is_a_sequence(items: list[str]) -> None:
    table = WordTable(items)
    assert (list(table), list(reversed(table)), len(table)) == (items, items[::-1], len(items))
    assert all(item in table and table.index(item) == items.index(item) for item in items)
