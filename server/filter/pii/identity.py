"""Identity numbers of mainland China: 18 places with a check digit, and 15 places of the first generation.

A number is never refused because a table of counties lacks it: numbers were handed out
before and after counties were founded and dissolved. The province, a real date and the
check digit are what tells it from other numbers.
"""

import datetime
import re
from typing import Final

from server.filter.pii.digits import BEHIND_TAIL, NUMBER_REACH, NUMBER_TAIL, digits_of, stands_alone
from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.rule import Cue, Rule

_PROVINCES: Final = frozenset(
    [
        "11",
        "12",
        "13",
        "14",
        "15",
        "21",
        "22",
        "23",
        "31",
        "32",
        "33",
        "34",
        "35",
        "36",
        "37",
        "41",
        "42",
        "43",
        "44",
        "45",
        "46",
        "50",
        "51",
        "52",
        "53",
        "54",
        "61",
        "62",
        "63",
        "64",
        "65",
        "71",
        "81",
        "82",
        "83",
    ]
)
_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS: Final = "10X98765432"
_FIRST_YEAR: Final = 1900
_LAST_YEAR: Final = 2050

_CUE: Final = Cue(
    "身份[证證]|身份号|身分[证證]|[证證]件|老证|旧证|[一二]代证|sfz"
    "|id ?(?:card|number|no)|identity ?(?:card|number|no)",
    r"(?:[^\d。!?;\n]{0,10}\(1[58]位\))?[^\d。!?;\n]{0,12}\n?[^\d。!?;\n]{0,4}",
    reach=48,
)
_WORDS: Final = frozenset({"id", "no", "sfz", "card", "number"})
_GROUPINGS: Final = frozenset(
    {(6, 8, 4), (6, 4, 4, 4), (3, 3, 4, 4, 4), (4, 4, 4, 4, 2), (6, 12), (14, 4), (6, 8, 3, 1)}
)
_GROUPS: Final = re.compile(r"[\dXx]+")


def check_digit(first: str) -> str:
    """The eighteenth place of an identity number, for its first seventeen digits."""
    return _CHECK_DIGITS[sum(int(digit) * weight for digit, weight in zip(first, _WEIGHTS, strict=True)) % 11]


def _is_date(digits: str) -> bool:
    year = int(digits[:4])
    try:
        datetime.date(year, int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return False
    return _FIRST_YEAR <= year <= _LAST_YEAR


def _identity(match: "re.Match[str]") -> Finding | None:
    text, (start, end) = match.string, match.span()
    if not stands_alone(text, start, end, _WORDS):
        return None
    number = digits_of(match.group())
    province, date = number[:2] in _PROVINCES, _is_date(number[6:14])
    if province and date and check_digit(number[:17]) == number[17]:
        return Finding(PiiKind.ID_CARD, start, end)
    # A mistyped one is somebody's all the same, but only where it is said to be one.
    if (province or date) and _is_usual(match.group()) and _CUE.before(text, start):
        return Finding(PiiKind.ID_CARD, start, end, 0.6)
    return None


def _is_usual(value: str) -> bool:
    groups = tuple(len(group) for group in _GROUPS.findall(value))
    return len(groups) == 1 or groups in _GROUPINGS


def _first_generation(match: "re.Match[str]") -> Finding | None:
    text, (start, end) = match.string, match.span()
    number = match.group()
    if number[:2] not in _PROVINCES or not _is_date("19" + number[6:12]):
        return None
    if not stands_alone(text, start, end, _WORDS) or not _CUE.before(text, start):
        return None
    return Finding(PiiKind.ID_CARD, start, end, 0.7)


IDENTITY: Final = Rule(
    PiiKind.ID_CARD,
    r"(?<!\d)\d(?:(?: - |[ .·-])?\d){16}(?: - |[ .·-])?[\dXx](?!\d)",
    _identity,
    tail=r"(?<!\d)\d[\d .·Xx-]*" + BEHIND_TAIL,
    reach=84,
)
FIRST_GENERATION: Final = Rule(
    PiiKind.ID_CARD, r"(?<!\d)\d{15}(?!\d)", _first_generation, tail=NUMBER_TAIL, reach=NUMBER_REACH
)
