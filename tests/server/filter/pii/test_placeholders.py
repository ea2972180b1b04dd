"""Names in the place of values: one for each value, given back however the model writes and sends them."""

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.filter.pii.kinds import PiiKind
from server.filter.pii.placeholders import MAX_WRITTEN, Placeholders, Restorer, labels_of, typed_names

VALUE = "139 1234 5678"
OTHER_VALUE = "13812345678"
ADDRESS = "上海市浦东新区样例路88弄6号401室"


def _names() -> Mapping[str, str]:
    names = Placeholders([f"[手机号{number}]" for number in range(2, 12)])
    for kind, value in (
        (PiiKind.MOBILE, VALUE),
        (PiiKind.MOBILE, OTHER_VALUE),
        (PiiKind.QQ, "10001"),
        (PiiKind.ADDRESS, ADDRESS),
    ):
        names.name(kind, value, value)
    return names.names()


NAMES = _names()


def restored(text: str, *cuts: int) -> str:
    restorer = Restorer(NAMES)
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    return "".join(restorer.feed(text[a:b]) for a, b in itertools.pairwise(places)) + restorer.close()


def test_one_value_has_one_name_in_all_its_spellings() -> None:
    names = Placeholders([])
    assert names.name(PiiKind.MOBILE, "139 1234 5678", VALUE) == "[手机号1]"
    assert names.name(PiiKind.MOBILE, "+86-13912345678", "x") == "[手机号1]"
    assert names.name(PiiKind.MOBILE, "一三九一二三四五六七八", "x") == "[手机号1]"
    assert names.name(PiiKind.MOBILE, "13812345678", "13812345678") == "[手机号2]"
    assert names.name(PiiKind.EMAIL, "A@x.com", "A@x.com") == names.name(PiiKind.EMAIL, "a@X.com", "a@X.com")
    assert names.names()["手机号1"] == VALUE


def test_what_people_typed_is_given_to_no_value() -> None:
    names = Placeholders(["[手机号1]是什么意思", "［ 手机号码 ３ ］"])
    assert names.name(PiiKind.MOBILE, "13912345678", VALUE) == "[手机号2]"
    assert names.name(PiiKind.MOBILE, "13812345678", VALUE) == "[手机号4]"
    assert Restorer(names.names()).feed("[手机号1][手机号3][手机号2]") == f"[手机号1][手机号3]{VALUE}"


@pytest.mark.parametrize("kind", list(PiiKind))
def test_no_word_names_two_kinds(kind: PiiKind) -> None:
    for label in labels_of(kind):
        assert typed_names(f"[{label}7]") == {(kind, 7)}


@pytest.mark.parametrize(
    "written",
    [
        *("[手机号1]", "［手机号１］", "[ 手机号 1 ]", "【手机号1】", "\\[手机号1\\]"),
        *("[手机号_1]", "[手机1]", "[Mobile 1]", "[手机号\u200b1]", "〔手机号-1〕"),
    ],
)
def test_names_are_known_however_they_are_written(written: str) -> None:
    assert restored(f"请拨{written}。") == f"请拨{VALUE}。"
    for cut in range(len(written) + 3):
        assert restored(f"请拨{written}。", cut) == f"请拨{VALUE}。"


@pytest.mark.parametrize(
    "text",
    [
        *("[手机号2]", "[手机号]", "手机号1", "[手机号1", "手机号1]", "[见手机号1]", "[手机号1 2]"),
        *("[链接](https://x)", "\\", "[[[", "[QQ号11]", "\\[手机号2\\]"),
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    for cut in range(len(text) + 1):
        assert restored(text, cut) == text


def test_small_letters_and_markdown() -> None:
    assert restored("**[qq号1]** 和 [[地址1]]") == f"**10001** 和 [{ADDRESS}]"


def test_only_what_may_become_a_name_is_held() -> None:
    restorer = Restorer(NAMES)
    assert restorer.feed("看[这里](x) 和 [手机") == "看[这里](x) 和 "
    assert restorer.feed("壳]") == "[手机壳]"
    assert restorer.feed("[手机号1") == ""
    assert restorer.feed("2]") == OTHER_VALUE
    assert restorer.feed("[" + " " * MAX_WRITTEN) == "[" + " " * MAX_WRITTEN
    assert restorer.close() == ""


def test_without_names_nothing_is_held() -> None:
    assert Restorer({}).feed("[手机号1") == "[手机号1"


pieces = st.lists(
    st.sampled_from(
        [
            *"[]［］【】\\手机号码qQ地址12１ _\n好",
            "[手机号1]",
            "[手机号12]",
            "[QQ号1]",
            "[地址",
            "号1]",
            "\u200b",
            "手机号",
        ]
    ),
    max_size=20,
).map("".join)


@given(pieces, st.lists(st.integers(1, 60), max_size=20))
def test_every_way_of_cutting_gives_the_same(text: str, cuts: list[int]) -> None:
    whole = restored(text)
    assert restored(text, *cuts) == whole
    restorer = Restorer(NAMES)
    shown = ""
    for character in text:
        shown += restorer.feed(character)
        assert whole.startswith(shown)
    assert shown + restorer.close() == whole


@given(st.text("[手机号1 \\", max_size=200))
def test_what_is_held_is_bounded(text: str) -> None:
    restorer = Restorer({"手机号1": "1"})
    restorer.feed(text)
    assert len(restorer.close()) <= MAX_WRITTEN + 2
