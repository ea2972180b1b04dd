"""A person has one name towards vendors, in a form that all of them take."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.llm.person import vendor_name


@pytest.mark.parametrize("user", ["p-0001", "Zhang_San-7", "a" * 64])
def test_a_name_that_all_take_stays(user: str) -> None:
    assert vendor_name(user) == user


@pytest.mark.parametrize("user", ["p-1", "a" * 65, "张三@example.com", "a.b.c.d", "line\nbreak", "person-1\n"])
def test_another_is_replaced(user: str) -> None:
    assert user not in vendor_name(user)
    assert vendor_name(user) == vendor_name(user)


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_have_the_form_and_stay_apart(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{6,64}", vendor_name(one))
    assert (vendor_name(one) == vendor_name(other)) is (one == other)
