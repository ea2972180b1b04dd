"""Numbers of telephones of mainland China."""

import re
from typing import Final

from server.filter.pii.digits import BEHIND_TAIL, NUMBER_REACH, NUMBER_TAIL, SEPARATOR, SPOKEN, digits_of, stands_alone
from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.rule import Rule

_CUES: Final = frozenset(
    [
        "tel",
        "telephone",
        "phone",
        "mobile",
        "mob",
        "cell",
        "cellphone",
        "call",
        "sms",
        "wx",
        "vx",
        "wechat",
        "weixin",
        "qq",
        "mp",
        "ph",
        "no",
        "dial",
        "fax",
        "whatsapp",
    ]
)

_COUNTRY: Final = rf"(?:(?:\((?:\+ ?|00)?86\)|(?:\+ ?|00)?86){SEPARATOR}?)?"
_MOBILE: Final = (
    rf"(?<!\d){_COUNTRY}(?P<number>1[3-9]\d{{9}}"
    rf"|1[3-9]\d(?P<a>{SEPARATOR})(?:\d{{8}}|\d{{4}}(?P=a)\d{{4}}|\d{{3}}(?P=a)\d{{5}}|\d{{5}}(?P=a)\d{{3}})"
    rf"|1[3-9]\d\d(?P<b>{SEPARATOR})(?:\d{{4}}(?P=b)\d{{3}}|\d{{3}}(?P=b)\d{{4}})"
    rf"|1[3-9]\d{{5}}{SEPARATOR}\d{{4}}"
    rf"|\(1[3-9]\d\) ?\d{{4}}{SEPARATOR}?\d{{4}}"
    r"|1(?P<c>[ .·-])[3-9](?:(?P=c)\d){9})(?!\d)"
)

_GROUPED: Final = rf"1[3-9](?:\d{SEPARATOR}\d{{4}}|\d\d{SEPARATOR}\d{{4}}|\d{SEPARATOR}\d{{3}}){SEPARATOR}\d{{3,5}}"
_GROUP_BEFORE: Final = re.compile(rf"\d{{3}}{SEPARATOR}\Z", re.ASCII)
_NUMBER_BEFORE: Final = re.compile(rf"(?:{_GROUPED}|1[3-9]\d{{9}}|(?<!\d)(?:\+|00)?86){SEPARATOR}\Z", re.ASCII)
_GROUP_BEHIND: Final = re.compile(rf"{SEPARATOR}(?!\(?(?:\+|00)?86|1[3-9]\d)\d{{3}}", re.ASCII)


def _mobile(match: "re.Match[str]") -> Finding | None:
    text, (start, end) = match.string, match.span()
    number = match.group("number")
    if not stands_alone(text, start, end, _CUES):
        return None
    grouped = not number.isdecimal()
    if grouped and _is_part_of_more_groups(text, start, end):
        return None
    bare_country = text.startswith("86", start) and start + 2 <= match.start("number")
    return Finding(PiiKind.MOBILE, start, end, 0.8 if grouped or bare_country else 0.95)


def _is_part_of_more_groups(text: str, start: int, end: int) -> bool:
    """``1391-2345-6789-0123``: groups of something else, but for a second number in a row."""
    if _GROUP_BEHIND.match(text, end):
        return True
    before = max(0, start - 24)
    return bool(_GROUP_BEFORE.search(text, before, start)) and not _NUMBER_BEFORE.search(text, before, start)


_SPOKEN_DIGIT: Final = rf"[{SPOKEN}0-9]"
_SPOKEN_PATTERN: Final = (
    rf"(?<!{_SPOKEN_DIGIT})(?<!{_SPOKEN_DIGIT}[ .·-])[1一幺壹][ .·-]?[3-9三叁四肆五伍六陆七柒拐八捌九玖勾]"
    rf"(?:[ .·-]?{_SPOKEN_DIGIT}){{9}}(?![ .·-]?{_SPOKEN_DIGIT})"
)


def _spoken_mobile(match: "re.Match[str]") -> Finding | None:
    # All in ASCII digits it is the other rule's, which looks more closely.
    if not any(character in SPOKEN for character in match.group()):
        return None
    if not stands_alone(match.string, match.start(), match.end(), _CUES):
        return None
    return Finding(PiiKind.MOBILE, match.start(), match.end(), 0.9)


_AREA: Final = r"(?:10|2\d|[3-9]\d\d)"
_LANDLINE: Final = (
    rf"(?<!\d)(?<!\d[-.])(?:0{_AREA}|\(0{_AREA}\)|(?:\+|00)86[ -]?(?:\(0\)|0)?{_AREA})[ -]{{0,3}}"
    r"[2-8](?:\d{6,7}|\d\d\d?[ -]\d{4})(?:(?:-| ?转 ?| ?(?i:ext)\.? ?)\d{1,6})?(?!\d)"
)


def _landline(match: "re.Match[str]") -> Finding | None:
    if not stands_alone(match.string, match.start(), match.end(), _CUES):
        return None
    return Finding(PiiKind.LANDLINE, match.start(), match.end(), 0.7)


MOBILE: Final = Rule(PiiKind.MOBILE, _MOBILE, _mobile, tail=NUMBER_TAIL, reach=NUMBER_REACH)
SPOKEN_MOBILE: Final = Rule(
    PiiKind.MOBILE,
    _SPOKEN_PATTERN,
    _spoken_mobile,
    tail=rf"(?<!{_SPOKEN_DIGIT})[1一幺壹](?:[ .·-]?"
    rf"(?:[3-9三叁四肆五伍六陆七柒拐八捌九玖勾](?:[ .·-]?{_SPOKEN_DIGIT}){{0,9}}[ .·-]?{BEHIND_TAIL})?)?",
    reach=28,
)
LANDLINE: Final = Rule(
    PiiKind.LANDLINE,
    _LANDLINE,
    _landline,
    tail=NUMBER_TAIL + r"(?: ?转 ?\d{0,6}| ?[A-Za-z]{1,3}\.? ?\d{0,6})?",
    reach=72,
)


def canonical_phone(value: str) -> str:
    """The digits of a number without the country's, so that its spellings are equal."""
    digits = digits_of(value)
    for country in ("0086", "86"):
        if digits.startswith(country) and len(digits) > len(country) + 8:
            return digits.removeprefix(country)
    return digits
