"""Postal addresses: a division of the country, and behind it a house or a room by its number.

Without both, a place is not a person's: ``杭州市的天气``, ``人民路店``. What comes after the
division is the part that counts. A mask leaves the divisions as they are, so on a stream
they need not wait for what follows.
"""

import re
from collections.abc import Iterator
from typing import Final

from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.places import CITIES, PROVINCES
from server.filter.rendering import MASK

MAX_DETAIL: Final = 60
"""Characters from the division to the end that are looked at."""
MAX_DIVISIONS: Final = 28
"""Characters before that."""

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff"
_NAMES: Final = tuple(sorted({*PROVINCES, *CITIES}, key=lambda name: (-len(name), name)))
_LEVELS: Final = "省市区县旗州盟镇乡"
_NO_DISTRICT: Final = "[小社园校院厂景库战地选灾片辖街]区"
_NO_CITY: Final = "[超城门股上夜菜都]市"
_NO_CITY_BEFORE: Final = "[场民值面价长集容政]"

_ANY_NAME: Final = "|".join(
    f"(?<={'|'.join(name for name in _NAMES if len(name) == length)})"
    for length in sorted({len(each) for each in _NAMES})
)
_BEHIND_DIVISION: Final = re.compile(
    f"(?<=[{_LEVELS}])(?<!{_NO_DISTRICT})(?<!{_NO_CITY})(?!(?<=市){_NO_CITY_BEFORE})"
    # ``中山路`` is a street everywhere, not a street of 中山.
    f"|(?:{_ANY_NAME})(?![东南西北中一二三四五六]{{0,2}}[路街道巷大])",
    re.ASCII,
)
"""Every place where the detail of an address may begin."""

_NEVER: Final = "的了是吗呢吧啊么怎我你他她它您这那就很也请问在给没不把被说哪"
"""Characters that stand in no name of a street or building, and end what may be an address."""
_DETAIL: Final = re.compile(f"(?:(?: (?=[{_HAN}0-9]))?(?![{_NEVER}])[{_HAN}A-Za-z0-9#()/~-])*(?: \\Z)?", re.ASCII)
_NEXT_DIVISION: Final = re.compile(
    f" ?(?:(?![{_NEVER}])[{_HAN}]){{0,9}}?"
    f"(?:区(?<!{_NO_DISTRICT})|市(?<!{_NO_CITY})(?!{_NO_CITY_BEFORE})|[省县旗州盟])",
    re.ASCII,
)

_NUMBER: Final = (
    r"(?:\d{1,5}(?:[-~/]\d{1,5}){0,3}[A-Za-z]?|[A-Za-z](?:-?\d{1,4})?|[一二三四五六七八九十百零〇两]{1,5}|[甲乙丙丁])"
)
_UNITS: Final = (
    "号院|号楼|号宅|号(?![线码机文称令召台公口店门角选馆子球位名章])|弄|栋|幢|座(?![谈位机])|单元|室(?![内外])|房(?![间屋价租])"
    "|户(?![口籍型外人])|组(?![织成长员])|层|楼|排|门|铺"
)
_ROOM: Final = (
    rf"[ -]?(?:[A-Za-z]-?)?\d{{1,5}}(?:-\d{{1,5}}){{0,2}}[A-Za-z]?(?![\d年月日个人次米万元块天点%])(?! ?(?:{_UNITS}))"
)
_HOUSE: Final = re.compile(
    rf"(?<![\d第年月共有住约等])(?:{_NUMBER}) ?(?P<unit>{_UNITS})(?P<room>(?:{_ROOM})?)", re.ASCII
)
_HOUSE_BEGIN: Final = re.compile(
    r"[0-9A-Za-z一二三四五六七八九十百零〇两甲乙丙丁] ?[号弄栋幢座单室房户组层楼排门铺]|[路街道巷同东南西北中段] ?\d",
    re.ASCII,
)

_STRONG: Final = frozenset({"弄", "栋", "幢", "单元", "室", "房", "号楼", "号院", "号宅"})
"""Units that number nothing but houses and rooms."""
_HOUSES: Final = _STRONG | {"号", "座", "组", "户", "排", "门", "铺"}
_PLACE: Final = re.compile(
    "[路街道巷弄村里屯庄院苑园坊湾桥寨营镇乡段环线厦场心城庭寓居邸府厂校区港同]"
    "[东南西北中内外上下一二三四五六七八九十]?段?[甲乙丙丁附]? ?$"
)
_DATE: Final = re.compile(r"\d{1,4} ?[年月]", re.ASCII)
_BARE_HOUSE: Final = re.compile(r"(?:[路街道巷](?:[东南西北中]段?)?|胡同) ?\d{1,5}(?:-\d{1,4}){0,2} ?$", re.ASCII)
_BETWEEN_HOUSES: Final = 14
"""Characters that may stand between two numbers of one address, such as the name of a building."""


class AddressRecognition:
    """See :class:`server.filter.pii.rule.Recognition`."""

    kind = PiiKind.ADDRESS

    def find(self, text: str, start: int) -> Iterator[Finding]:
        """See :meth:`server.filter.pii.rule.Recognition.find`. A finding begins where the detail does: the
        divisions before it are those of :func:`divisions_before`."""
        # Most texts have no number of a house in them, which is quickly seen.
        while (house := _HOUSE_BEGIN.search(text, start)) is not None:
            start = max(start, house.start() - MAX_DETAIL)
            while start <= house.start() and (anchor := _BEHIND_DIVISION.search(text, start, house.end())) is not None:
                begin = anchor.end()
                window = _window(text, begin)
                length = _detail_length(window, masked=text.startswith(MASK, begin + len(window)))
                if length:
                    yield Finding(PiiKind.ADDRESS, begin, begin + length, 0.8)
                start = begin + (length or 1)
            start = max(start, house.start() + 1)

    def live(self, text: str, start: int) -> int:
        """See :meth:`server.filter.pii.rule.Recognition.live`."""
        start = max(start, len(text) - MAX_DETAIL)
        while start < len(text) and (anchor := _BEHIND_DIVISION.search(text, start)) is not None:
            begin = anchor.end()
            window = _window(text, begin)
            if window and begin + len(window) == len(text) and not _goes_on_with_division(window):
                return begin
            start = begin + 1
        return len(text)


def divisions_before(text: str, position: int) -> int:
    """Where the provinces, cities and districts begin that stand directly before a place."""
    floor = max(0, position - MAX_DIVISIONS)
    while (start := _division_start(text, floor, position)) < position:
        position = start
    return position


_NAMED: Final = re.compile(
    f"(?:{'|'.join(_NAMES)})"
    "(?:省|市|新区|区|县|旗|地区|盟|州|特别行政区|[壮回]族自治区|维吾尔自治区|自治区"
    f"|[{_HAN}]{{0,6}}自治[州县旗])? ?\\Z",
    re.ASCII,
)
_BEFORE_NAMES: Final = frozenset(_NEVER + "住寄送到往址于从去来至发收给位家司货")
_IS_HAN: Final = re.compile(f"[{_HAN}]")
_BEHIND_NAME: Final = re.compile(_ANY_NAME)
_LONGEST_NAME: Final = 7
_USUAL_NAME: Final = 2


def _division_start(text: str, floor: int, position: int) -> int:
    """Where the one division begins that ends at ``position``; the same if none does."""
    named = _NAMED.search(text, max(floor, position - 14), position)
    if named is not None:
        return named.start()
    last = position - 1 if position > floor and text[position - 1] == " " else position
    if last <= floor or text[last - 1] not in _LEVELS:
        return position
    start = last - 1
    while start > floor and last - 1 - start < _LONGEST_NAME:
        before = text[start - 1]
        if not _IS_HAN.match(before) or before in _BEFORE_NAMES or before in _LEVELS or _BEHIND_NAME.match(text, start):
            return start if start < last - 1 else position
        start -= 1
    return start if start == floor else last - 1 - _USUAL_NAME


def _window(text: str, begin: int) -> str:
    match = _DETAIL.match(text, begin, min(len(text), begin + MAX_DETAIL))
    return match.group() if match is not None else ""


def _goes_on_with_division(window: str) -> bool:
    """Whether the detail begins further on, whatever follows."""
    division = _NEXT_DIVISION.match(window)
    return division is not None and division.end() < len(window)


def _detail_length(window: str, *, masked: bool) -> int:
    """Where the last house or room number of an address ends; 0 if this is none.

    Args:
        masked: whether an asterisk follows: what ends there is a number that was masked.
    """
    if _NEXT_DIVISION.match(window):
        return 0
    date = _DATE.search(window)
    if date is not None:
        window = window[: date.start()]
    end, certain = 0, False
    for house in _HOUSE.finditer(window):
        before = window[end : house.start()]
        if len(before) > _BETWEEN_HOUSES + (0 if end else _BETWEEN_HOUSES):
            break
        unit = house.group("unit")
        if not end and unit not in _STRONG and not _PLACE.search(before):
            return 0
        end = house.end()
        certain = certain or unit in _HOUSES or bool(house.group("room"))
    if certain:
        return end
    bare = _BARE_HOUSE.search(window) if not (end or masked) and len(window) < MAX_DETAIL else None
    return len(window.rstrip()) if bare is not None else 0
