"""Every valid value is found exactly wherever it stands on its own, and nothing that only resembles one."""

import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.filter.pii.digits import digits_of
from server.filter.pii.find import find_all
from server.filter.pii.identity import check_digit
from server.filter.pii.kinds import PiiKind
from server.filter.pii.text import PlainText
from tests.server.filter.pii.samples import before, behind, cards, digits, emails, identities, mobile_numbers, mobiles


def found(text: str, kind: PiiKind) -> list[str]:
    return [text[each.start : each.end] for each in find_all(text).findings if each.kind is kind]


@given(before, mobiles(), behind)
def test_every_mobile_number_is_found(left: str, value: str, right: str) -> None:
    assert found(left + value + right, PiiKind.MOBILE) == [value]


@given(before, identities(), behind)
def test_every_identity_number_is_found(left: str, value: str, right: str) -> None:
    assert found(left + value + right, PiiKind.ID_CARD) == [value]


@given(before, cards(), behind)
def test_every_card_number_is_found(left: str, value: str, right: str) -> None:
    assert found(left + value + right, PiiKind.BANK_CARD) == [value]


@given(before, emails(), behind)
def test_every_mailbox_is_found(left: str, value: str, right: str) -> None:
    # A word in front of it with nothing between is part of it.
    assert found(left + value + right, PiiKind.EMAIL) == [value]


@given(
    st.lists(st.one_of(mobiles(), identities(), cards()), min_size=2, max_size=4),
    st.sampled_from(["，", "\n", "、", ";", "和"]),
)
def test_values_in_a_row_are_found_one_by_one(values: list[str], between: str) -> None:
    text = between.join(values)
    assert [text[each.start : each.end] for each in find_all(text).findings] == values


@given(before, identities(), behind, st.integers(1, 10))
def test_a_wrong_check_digit_is_no_identity_number(left: str, value: str, right: str, step: int) -> None:
    number = digits_of(PlainText(value).text)
    wrong = number[:17] + "0123456789X"[("0123456789X".index(number[17]) + step) % 11]
    assert found(left + wrong + right, PiiKind.ID_CARD) == []
    assert found(f"{left}身份证号：{wrong}{right}", PiiKind.ID_CARD) == [wrong]


@given(before, cards(), behind, st.integers(1, 9))
def test_a_wrong_check_digit_is_no_card(left: str, value: str, right: str, step: int) -> None:
    number = digits_of(PlainText(value).text)
    wrong = number[:-1] + str((int(number[-1]) + step) % 10)
    assert found(left + wrong + right, PiiKind.BANK_CARD) == []
    assert found(f"{left}，卡号{wrong}{right}", PiiKind.BANK_CARD) == [wrong]


@given(before, mobile_numbers, behind, st.text(string.digits, min_size=1, max_size=3), st.booleans())
def test_a_longer_number_is_no_mobile_number(left: str, number: str, right: str, more: str, front: bool) -> None:
    longer = more + number if front else number + more
    assume(not re.fullmatch(r"(?:00)?861[3-9]\d{9}", longer))
    assert PiiKind.MOBILE not in {each.kind for each in find_all(left + longer + right).findings}


@given(
    mobile_numbers,
    st.text(string.ascii_lowercase, min_size=5, max_size=8),
    st.sampled_from(["{1}{0}", "{0}{1}", "{1}_{0}", "{1}{0}{1}"]),
)
def test_a_number_in_an_identifier_is_none(number: str, word: str, form: str) -> None:
    assume(word not in ("phone", "mobile", "telephone", "weixin", "wechat", "whatsapp", "cellphone"))
    assume(not word.startswith("ext"))
    assert found(form.format(number, word), PiiKind.MOBILE) == []


@given(digits(18), st.sampled_from(["ab", "x-", "0x"]))
def test_an_identity_number_needs_everything(number: str, word: str) -> None:
    valid = check_digit(number[:17]) == number[17]
    for value in found(number, PiiKind.ID_CARD):
        assert valid
        assert value == number
    assert found(word + number + "ab", PiiKind.ID_CARD) == []


SPOKEN = str.maketrans("0123456789", "零一二三四五六七八九")


@given(before, mobile_numbers, behind, st.sampled_from(["", "-", " "]))
def test_a_spoken_number_is_found(left: str, number: str, right: str, separator: str) -> None:
    spoken = separator.join((number[:3], number[3:7], number[7:])).translate(SPOKEN)
    assert found(left + spoken + right, PiiKind.MOBILE) == [spoken]
    assert found(left + spoken + "五" + right, PiiKind.MOBILE) == []


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("（010）8345-6789", PiiKind.LANDLINE, "（010）8345-6789"),
        ("+86 755 8345 6789", PiiKind.LANDLINE, "+86 755 8345 6789"),
        ("0571-83456789转802", PiiKind.LANDLINE, "0571-83456789转802"),
        ("回乡证H1234567890", PiiKind.PERMIT, "H1234567890"),
        ("沪AD12345停在门口", PiiKind.PLATE, "沪AD12345"),
        ("粤Z·1234港", PiiKind.PLATE, "粤Z·1234港"),
        ("收件人：欧阳小明，电话", PiiKind.NAME, "欧阳小明"),
        ("我叫李雷想查工资", PiiKind.NAME, "李雷"),
        ("出生日期：1905-03-07", PiiKind.BIRTHDAY, "1905-03-07"),
        ("加我微信 abc_123", PiiKind.WECHAT_ID, "abc_123"),
        ('{"password": "Ab#12345", "user": "li"}', PiiKind.SECRET, "Ab#12345"),
        ("mysql://root:S3cr3t!@db.example.com/x", PiiKind.SECRET, "S3cr3t!"),
        ("Authorization: Bearer abcdefghijklmnopqrstuvwxyz.0123", PiiKind.SECRET, "abcdefghijklmnopqrstuvwxyz.0123"),
        ("内网 fe80:0:0:1::20", PiiKind.IP, "fe80:0:0:1::20"),
        ("01-23-45-67-89-ab", PiiKind.MAC, "01-23-45-67-89-ab"),
        ("代码 91350100M000100Y43", PiiKind.USCC, "91350100M000100Y43"),
    ],
)
def test_other_kinds(text: str, kind: PiiKind, value: str) -> None:
    assert found(text, kind) == [value]


@pytest.mark.parametrize(
    "text",
    [
        "password: ${DB_PASSWORD}",
        "密码是什么",
        "token = getToken()",
        "password is required",
        "版本 1.2.3.4",
        "第 3.2.1.4 节",
        "std::vector::size",
        "时间 12:30:45",
        "护照办理需要多久",
        "我叫他明天来",
        "微信android客户端",
        "QQ群里说",
        "中山路100号附近",
        "上海市市场监督管理局2024年第15号公告",
        "北京15号线换乘",
        "共 100 200 300 400 500 元",
    ],
)
def test_what_only_looks_like_it(text: str) -> None:
    assert find_all(text).findings == ()
