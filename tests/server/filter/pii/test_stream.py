"""A text that comes in pieces gives what the whole gives, however it is cut, and gives nothing away before."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.filter.pii.find import EVERY_KIND, PiiStream, find_all
from server.filter.pii.kinds import PiiKind
from server.filter.pii.output import MaskingStream, masked
from server.filter.pii.text import MAX_INVISIBLE, PlainText
from tests.server.filter.pii.samples import before, cards, cases, emails, identities, mobiles

TEXTS = [case["text"] for name in ("pii", "pii_own") for case in cases(name)]
MOST_HELD = 256
"""Characters, for everything but long secrets."""

pieces_of_texts = st.builds(
    lambda text, a, b: text[min(a, b) : max(a, b)], st.sampled_from(TEXTS), st.integers(0, 60), st.integers(0, 60)
)
scraps = st.sampled_from(
    [
        *"0123456789 -.xX@_/+()（），。元万亿美块号路市区县省的a1三一幺\n\t\u200b\u20e3=:",
        *("139", "1234", "13912345678", "电话", "身份证号", "卡号", "密码是", "password=", "sk-", "eyJ", "+86", "0755"),
        *(
            "北京市",
            "朝阳区",
            "建国路88号",
            "3单元",
            "a@b.com",
            "我叫",
            "张三",
            "微信号",
            "护照",
            "转12",
            "ext 5",
            "2024年",
        ),
        *("-----BEGIN RSA PRIVATE KEY-----\n", "MIIEabc\n", "-----END RSA PRIVATE KEY-----", "://u:", "\u200b" * 6),
        *(
            "110105",
            "19010203",
            "001X",
            "6222",
            "0200",
            "00:1A:",
            "::1",
            "192.168.1.",
            "生日",
            "1990年",
            "QQ",
            "车牌京A",
        ),
    ]
)
texts = st.lists(
    st.one_of(st.sampled_from(TEXTS), pieces_of_texts, scraps, mobiles(), identities(), cards(), emails(), before),
    max_size=14,
).map("".join)


some_kinds = st.one_of(
    st.just(EVERY_KIND),
    st.frozensets(st.sampled_from(sorted(EVERY_KIND, key=lambda kind: kind.value)), min_size=1, max_size=3),
)
"""Few at a time, so that what one rule holds back is not held back by another anyway."""


def in_pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


@settings(max_examples=400, deadline=None)
@given(texts, st.lists(st.integers(1, 300), max_size=40), some_kinds)
def test_every_way_of_cutting_gives_the_same(text: str, cuts: list[int], kinds: frozenset[PiiKind]) -> None:
    whole = find_all(text, kinds)
    expected = masked(whole)
    stream, masking = PiiStream(kinds), MaskingStream(kinds)
    given_text, shown, found = "", "", []
    for piece in in_pieces(text, cuts):
        decided = stream.feed(piece)
        found += [(each.kind, each.start + len(given_text), each.end + len(given_text)) for each in decided.findings]
        given_text += decided.text
        shown += masking.feed(piece)
        assert expected.startswith(shown)
    decided = stream.close()
    found += [(each.kind, each.start + len(given_text), each.end + len(given_text)) for each in decided.findings]
    assert given_text + decided.text == text
    assert found == [(each.kind, each.start, each.end) for each in whole.findings]
    assert shown + masking.close() == expected


@pytest.mark.parametrize("kind", sorted(EVERY_KIND, key=lambda kind: kind.value))
def test_every_case_for_one_kind_alone(kind: PiiKind) -> None:
    for text in TEXTS:
        expected = masked(find_all(text, {kind}))
        masking = MaskingStream({kind})
        assert "".join(masking.feed(character) for character in text) + masking.close() == expected


@pytest.mark.parametrize("text", TEXTS)
def test_every_case_character_by_character(text: str) -> None:
    expected = masked(find_all(text))
    masking = MaskingStream(EVERY_KIND)
    shown = ""
    for position, character in enumerate(text):
        shown += masking.feed(character)
        assert expected.startswith(shown)
        assert position - len(shown) < MOST_HELD
    assert shown + masking.close() == expected


def test_chinese_prose_is_not_held_back() -> None:
    prose = "您好，请问本月报销流程怎么走？如果发票丢失了应该找谁处理，另外请确认一下网络是否正常。" * 5
    masking = MaskingStream(EVERY_KIND)
    held = []
    shown = 0
    for position, character in enumerate(prose, 1):
        shown += len(masking.feed(character))
        held.append(position - shown)
    assert sum(held) / len(held) < 0.05


def test_an_ordinary_line_with_a_city_is_held_only_till_it_is_no_address() -> None:
    masking = MaskingStream(EVERY_KIND)
    assert masking.feed("杭州市的天气") == "杭州市的天气"
    # Whether 区 ends the district is seen from what follows.
    assert masking.feed("，寄到上海市浦东新区") == "，寄到上海市"
    assert masking.feed("样例路88弄6号401室") == "浦东新区"
    assert masking.feed("。") == "＊＊＊＊。"


@given(st.text("a1\u200b\u0301\n您", max_size=40), st.integers(0, 40))
def test_the_fold_of_a_text_is_that_of_its_pieces(text: str, cut: int) -> None:
    whole = PlainText(text)
    first = PlainText(text[:cut])
    second = PlainText(text[cut:], first.trailing)
    assert first.text + second.text == whole.text
    assert second.trailing == whole.trailing


def test_a_long_row_of_what_cannot_be_seen_ends_a_number() -> None:
    assert find_all("139" + "\u200b" * MAX_INVISIBLE + "12345678").findings
    assert not find_all("139" + "\u200b" * (MAX_INVISIBLE + 1) + "12345678").findings


HOSTILE = [
    *(
        "1",
        "1 ",
        "139 1234 ",
        "@",
        "a@",
        "a.",
        "身份证号",
        "卡号",
        "密码是",
        "密码是aaaa",
        "区",
        "北京市路1号",
        "区号",
        "eyJ",
    ),
    *("-----BEGIN ", "-----BEGIN PRIVATE KEY-----A", "http://a:b", "我叫张", "\u200b", "=", " a", "a:", "1.1", "一三"),
    *("(", "+86", "token=", "微信号", "x", "[手机号", "上海市长安", "6222 "),
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_is_held_stays_bounded(hostile: str) -> None:
    """So the work for a piece does not grow with what came before, and that for a text grows with its length."""
    stream = PiiStream(EVERY_KIND - {PiiKind.SECRET})
    most = fed = given_text = 0
    for _ in range(400):
        fed += len(hostile) * 4
        given_text += len(stream.feed(hostile * 4).text)
        most = max(most, fed - given_text)
    assert most <= MOST_HELD * (MAX_INVISIBLE + 1)
