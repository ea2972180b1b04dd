"""Numbers, units and names, however they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cache.quantities import exact_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("年假三天", ("3天",)),
        ("年假3天", ("3天",)),
        ("十五天", ("15天",)),
        ("二十三号", ("23日",)),
        ("一百万", ("1000000",)),
        ("100万", ("1000000",)),
        ("两千五百元", ("2500元",)),
        ("1,000块钱", ("1000元",)),
        ("一百零五万", ("1050000",)),
        ("一亿零三百", ("100000300",)),
        ("二〇二四年", ("2024年",)),
        ("百分之五", ("5%",)),
        ("百分之5.5", ("5.5%",)),
        ("5%", ("5%",)),
        ("周六和星期日", ("周6", "周7")),
        ("3月5日9:30", ("3月", "5日", "9:30")),
        ("3点半", ("3点", "0.5")),
        ("半年", ("0.5年",)),
        ("一个月", ("1个月",)),
        ("一个问题,问一下,万一统一一起百度", ()),
        ("三楼和3层", ("3楼", "3楼")),
        ("五一放假", ("51",)),
        ("Python 3.11怎么装", ("python", "3.11")),
        ("Python3.11怎么装", ("python", "3.11")),
        ("报警代码E203", ("e", "203")),
        ("编号QC-2024-117", ("qc", "2024-117")),
        ("Wi-Fi", ("wifi",)),
        ("WiFi密码", ("wifi",)),
        ("Wi-Fi密码", ("wifi",)),
        ("附件5MB", ("5", "mb")),
        ("Can I import 5 contacts from Outlook into the CRM?", ("5", "contact", "outlook", "crm")),
        ("Two weeks or 2 weeks", ("2", "2", "week")),
        ("I work from home", ()),
    ],
)
def test_tokens(text: str, tokens: tuple[str, ...]) -> None:
    assert exact_tokens(text) == tokens


@given(st.text(alphabet="零〇一二两俩三四五六七八九十百千万亿半分之周星期天日0123456789.,-:/%年月A a", max_size=20))
def test_nothing_is_too_odd(text: str) -> None:
    assert isinstance(exact_tokens(text), tuple)


@given(st.integers(1, 9999))
def test_numerals_are_the_numbers_they_say(number: int) -> None:
    assert exact_tokens(f"共{_spelled(number)}天") == (f"{number}天",)


def _spelled(number: int) -> str:
    said, gap = "", False
    for size, sign in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // size % 10
        if digit:
            said += ("零" if gap and said else "") + "零一二三四五六七八九"[digit] + sign
            gap = False
        else:
            gap = True
    return said
