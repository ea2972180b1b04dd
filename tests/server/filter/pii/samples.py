"""Valid values of each kind as people write them, texts around them, and cases with labels. All made up."""

import datetime
import json
import string
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from server.filter.pii.digits import passes_luhn
from server.filter.pii.identity import check_digit

CASES = Path(__file__).parents[3] / "data" / "cases"


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a file; those that may be judged either way are left out."""
    loaded = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    return [case for case in loaded["cases"] if "either way" not in case["note"]]


HAN = "我的电话请联系客服同事明天上午办公室会议材料问题处理谢谢帮忙查询结果流程申请审批通知发送回复文件"
"""Ordinary characters: no digits, no cue words but for telephones, no amounts."""

words = st.text(HAN, min_size=1, max_size=8)
latin = st.text(string.ascii_lowercase, min_size=2, max_size=6).filter(lambda word: word not in ("id", "no"))
before = st.one_of(
    st.just(""),
    words,
    st.builds("{}{}".format, words, st.sampled_from("，：:;；。、!！(（「【 ")),
    st.builds("{} ".format, latin),
)
behind = st.one_of(
    st.just(""),
    words,
    st.builds("{}{}".format, st.sampled_from("，:;；。、!！)）」】 ,"), words),
    st.builds(" {}".format, latin),
)
"""What stands beside a value, such that it is one of its own."""


def digits(count: int) -> st.SearchStrategy[str]:
    return st.text(string.digits, min_size=count, max_size=count)


mobile_numbers = st.builds("1{}{}".format, st.sampled_from("3456789"), digits(9))
separators = st.sampled_from(["-", " ", ".", "·", " - ", "－", "‐", "　", "–"])


@st.composite
def mobiles(draw: st.DrawFn) -> str:
    number = draw(mobile_numbers)
    sizes = draw(st.sampled_from([(11,), (3, 4, 4), (3, 3, 5), (3, 8), (4, 4, 3), (7, 4)]))
    text = grouped(number, sizes, draw(separators))
    country = draw(st.sampled_from(["", "", "+86", "+86 ", "0086-", "(+86)", "+86-", "86-"]))
    return draw(dressed(country + text))


@st.composite
def identities(draw: st.DrawFn) -> str:
    province = draw(st.sampled_from(["11", "31", "44", "51", "65", "33", "42"]))
    date = draw(st.dates(min_value=datetime.date(1900, 1, 1), max_value=datetime.date(1912, 12, 31)))
    first = province + draw(digits(4)) + date.strftime("%Y%m%d") + draw(digits(3))
    number = first + check_digit(first)
    sizes = draw(st.sampled_from([(18,), (6, 8, 4), (6, 4, 4, 4), (3, 3, 4, 4, 4)]))
    text = grouped(number, sizes, draw(st.sampled_from(["-", " ", "－"])))
    return draw(dressed(draw(st.sampled_from([text, text.lower()]))))


@st.composite
def cards(draw: st.DrawFn) -> str:
    begin, length = draw(
        st.sampled_from(
            [("62", 16), ("62", 19), ("62", 17), ("4", 16), ("53", 16), ("37", 15), ("3530", 16), ("9558", 19)]
        )
    )
    first = begin + draw(digits(length - len(begin) - 1))
    number = next(first + last for last in string.digits if passes_luhn(first + last))
    if length in (16, 19) and draw(st.booleans()):
        return draw(
            dressed(grouped(number, (4, 4, 4, 4, 3)[: (length + 3) // 4], draw(st.sampled_from(["-", " ", "－"]))))
        )
    return draw(dressed(number))


@st.composite
def emails(draw: st.DrawFn) -> str:
    local = draw(st.from_regex(r"[a-z0-9][a-z0-9_+-]{0,10}(\.[a-z0-9]{1,8})?", fullmatch=True))
    domain = draw(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True))
    return f"{local}@{domain}.{draw(st.sampled_from(['com', 'cn', 'com.cn', 'org', 'example.net', 'io']))}"


def grouped(number: str, sizes: tuple[int, ...], separator: str) -> str:
    groups, position = [], 0
    for size in sizes:
        groups.append(number[position : position + size])
        position += size
    return separator.join(groups)


@st.composite
def dressed(draw: st.DrawFn, text: str) -> str:
    """Full width, or something invisible inside."""
    how = draw(st.sampled_from(["plain", "plain", "wide", "invisible"]))
    if how == "wide":
        return "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text)
    if how == "invisible":
        place = draw(st.integers(1, len(text) - 1))
        return text[:place] + draw(st.sampled_from(["\u200b", "\u2060", "\ufeff\u200d"])) + text[place:]
    return text
