"""Numbers of passports, permits and cars, and of companies. All but the last two need a cue word."""

import re
from typing import Final

from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.rule import Check, Cue, Rule

_BETWEEN: Final = r"(?:号码?|证号|no\.?|number)?(?:是|为)? ?[:=]? ?"
_PASSPORT: Final = Cue("护照|護照|passport", _BETWEEN)
_PERMIT: Final = Cue("通行[证證]|回乡[证證]|台胞[证證]|居住[证證]", _BETWEEN)


def _found(kind: PiiKind, confidence: float) -> Check:
    return lambda match: Finding(kind, match.start(), match.end(), confidence)


def _cued(kind: PiiKind, pattern: str, cue: Cue, reach: int) -> Rule:
    return Rule(
        kind,
        rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])",
        _found(kind, 0.9),
        tail=rf"(?<![A-Za-z0-9])[A-Za-z0-9]{{1,{reach}}}",
        reach=reach,
        may_begin=cue.before,
    )


PASSPORT: Final = _cued(PiiKind.PASSPORT, r"[A-Za-z]{1,2}\d{7,8}", _PASSPORT, 11)
PERMIT: Final = _cued(PiiKind.PERMIT, r"(?:[CHMWchmw][A-Za-z]?\d{8,10}|\d{8})", _PERMIT, 13)

_PLATE_PROVINCES: Final = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"


def _plate(match: "re.Match[str]") -> Finding | None:
    # Letters alone are a model or an abbreviation.
    if not any(character.isdecimal() for character in match.group()):
        return None
    return Finding(PiiKind.PLATE, match.start(), match.end(), 0.9)


PLATE: Final = Rule(
    PiiKind.PLATE,
    rf"[{_PLATE_PROVINCES}][A-HJ-NP-Z][ ·.-]?"
    r"(?:[A-HJ-NP-Z0-9]{5,6}|[A-HJ-NP-Z0-9]{4}[学警港澳挂领])(?![A-Za-z0-9])",
    _plate,
    tail=rf"[{_PLATE_PROVINCES}](?:[A-HJ-NP-Z](?:[ ·.-]?[A-HJ-NP-Z0-9]{{0,6}}[学警港澳挂领]?)?)?",
    reach=11,
)

_USCC_PLACES: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC: Final = Cue("信用代码|信用代碼|税号|稅號|纳税人识别号", _BETWEEN)


def _company(match: "re.Match[str]") -> Finding | None:
    code = match.group().upper()
    if any(place not in _USCC_PLACES for place in code):
        return None
    if not _USCC.before(match.string, match.start()):
        total = sum(_USCC_PLACES.index(place) * pow(3, position, 31) for position, place in enumerate(code[:17]))
        # Digits alone pass the check once in 31 times, and most numbers of 18 places are no codes.
        if code.isdecimal() or -total % 31 != _USCC_PLACES.index(code[17]):
            return None
    return Finding(PiiKind.USCC, match.start(), match.end(), 0.9)


USCC: Final = Rule(
    PiiKind.USCC,
    r"(?<![A-Za-z0-9])[0-9A-HJ-NP-Ya-y]{2}\d{6}[0-9A-Za-z]{10}(?![A-Za-z0-9])",
    _company,
    tail=r"(?<![A-Za-z0-9])[A-Za-z0-9]{1,19}",
    reach=19,
)
