"""The numbers and names of a question: what must be equal to the letter. Pure."""

import re
from typing import Final

_DIGITS: Final = dict(zip("零〇一二两俩三四五六七八九", (0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_TENS: Final = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
_ENGLISH: Final = {
    word: str(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
} | {"fifteen": "15", "twenty": "20", "thirty": "30", "fifty": "50", "hundred": "100", "half": "0.5"}

_UNITS: Final = {
    "个小时": "小时", "小时": "小时", "钟头": "小时", "分钟": "分", "分": "分", "秒": "秒",
    "个月": "个月", "月": "月", "天": "天", "日": "日", "号": "日", "年": "年", "岁": "岁", "季度": "季",
    "个星期": "周", "星期": "周", "个礼拜": "周", "周": "周",
    "元": "元", "块钱": "元", "块": "元", "折": "折", "倍": "倍", "成": "成",
    "楼": "楼", "层": "楼", "级": "级", "等": "级", "期": "期", "点": "点", "版": "版", "代": "代",
    "次": "次", "人": "人", "名": "人", "位": "人", "公里": "公里", "米": "米", "公斤": "公斤", "斤": "斤",
    "%": "%", "％": "%", "℃": "度", "度": "度",
}  # fmt: skip
_UNIT: Final = "|".join(sorted(_UNITS, key=len, reverse=True))

# Words with a numeral in them that count nothing. A single 一 counts only where a unit follows.
_NO_NUMBERS: Final = (
    "万一|统一|唯一|一般|一直|一定|一样|一起|一共|一些|一下|一旦|一律|一切|一体|一线|一致|一并|一同|一边|一点儿|十分|百度|"
    "第三方|三方|四川|千万别|五险一金|三包|两者|一个(?!月|小时|星期|礼拜)|半导体|半成品"
)
_TOKEN: Final = (
    r"(?P<percent>百分之(?:[零〇一二两三四五六七八九十百]+|\d+(?:\.\d+)?))"
    r"|(?:周|星期|礼拜)(?P<weekday>[一二三四五六日天])"
    rf"|(?P<number>\d+(?:[.:/-]\d+)*)(?P<scale>[百千万亿]*)(?P<unit>{_UNIT})?"
    rf"|(?P<numeral>[零〇一二两俩三四五六七八九十百千万亿]+)(?P<counted>{_UNIT})?"
    rf"|(?P<half>半)(?P<halved>{_UNIT})?"
    r"|(?P<name>[A-Za-z]+)"
)
_IS_NONE: Final = re.compile(_NO_NUMBERS)
_IS_TOKEN: Final = re.compile(_TOKEN)
_NUMBERS_OR_NOT: Final = re.compile(f"(?P<not>{_NO_NUMBERS})|{_TOKEN}")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_HYPHENS: Final = re.compile(r"(?<=[A-Za-z])-(?=[A-Za-z])")
_CHINESE: Final = re.compile("[\u3400-\u9fff\uf900-\ufaff]")


def exact_tokens(text: str) -> tuple[str, ...]:
    """Numbers with their units, and names in Latin letters, in the order of the text.

    Chinese numerals are written as digits (``三天`` and ``3天``), units by one name
    (``3层``, ``3楼``), names in small letters. In a purely Latin text only words with a
    capital that the place does not explain count as names.
    """
    flat = _HYPHENS.sub("", _THOUSANDS.sub("", _IS_NONE.sub(" ", text)))
    chinese = bool(_CHINESE.search(flat))
    tokens: list[str] = []
    for found in _IS_TOKEN.finditer(flat):
        token = _latin(found, flat, chinese) if found["name"] else _quantity(found)
        if token:
            tokens.append(token)
    return tuple(tokens)


def mask_quantities(text: str) -> str:
    """The text with ``#`` in the place of each number and its unit, however it was written."""
    return _NUMBERS_OR_NOT.sub(lambda found: "#" if _counts(found) else found[0], text)


def _counts(found: re.Match[str]) -> bool:
    return not (found["not"] or found["name"] or (found["numeral"] == "一" and not found["counted"]))


def _quantity(found: re.Match[str]) -> str:
    if found["percent"]:
        return _value(found["percent"].removeprefix("百分之")) + "%"
    if found["weekday"]:
        return "周" + {"日": "7", "天": "7"}.get(found["weekday"], _value(found["weekday"]))
    if found["number"]:
        return _scaled(found["number"], found["scale"]) + _UNITS.get(found["unit"] or "", "")
    if found["half"]:
        return "0.5" + _UNITS.get(found["halved"] or "", "")
    if found["numeral"] == "一" and not found["counted"]:
        return ""
    return _value(found["numeral"]) + _UNITS.get(found["counted"] or "", "")


def _latin(found: re.Match[str], text: str, chinese: bool) -> str:
    word = found["name"]
    if chinese:
        return word.lower()
    if word.lower() in _ENGLISH:
        return _ENGLISH[word.lower()]
    before = text[: found.start()].rstrip(" \"'“‘(")
    if before[-1:].isdigit() or text[found.end() : found.end() + 1].isdigit():
        return word.lower().removesuffix("s")  # a unit, or half of a name such as `E203`
    named = word[1:] != word[1:].lower() or (word[0].isupper() and word != "I" and before)
    return word.lower() if named else ""


def _scaled(digits: str, scale: str) -> str:
    if not scale or not digits.isdigit():
        return digits + scale
    value = int(digits)
    for sign in scale:
        value *= _TENS[sign]
    return str(value)


def _value(numeral: str) -> str:
    """A Chinese numeral in digits: by places (二〇二四) or by words (二十四)."""
    if not any(sign in _TENS for sign in numeral):
        return "".join(str(_DIGITS.get(sign, sign)) for sign in numeral)
    total = section = digit = 0
    for sign in numeral:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
            continue
        size = _TENS[sign]
        if size >= _TENS["万"]:
            total += max(section + digit, 0 if total else 1) * size
            section = 0
        else:
            section += (digit or 1) * size
        digit = 0
    return str(total + section + digit)
