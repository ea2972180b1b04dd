"""Numbers of bank cards: the issuer's range, its length and the check digit together, or a cue word."""

import re
from typing import Final

from server.filter.pii.digits import NUMBER_REACH, NUMBER_TAIL, SEPARATOR, digits_of, passes_luhn, stands_alone
from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.rule import Cue, Rule

_ISSUERS: Final = (
    (62, 62, range(16, 20)),  # UnionPay
    (4, 4, (13, 16, 19)),  # Visa, and older cards of the Construction Bank
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (3528, 3589, (16,)),  # JCB
    (60, 60, range(16, 20)),  # Discover, and older cards of Chinese banks
    (65, 65, (16,)),
    (9558, 9558, range(16, 20)),  # the Industrial and Commercial Bank
)
"""First and last number of a range, and the lengths in digits that it has."""

_CUED_LENGTHS: Final = range(15, 20)
_CUE: Final = Cue(
    r"(?<![员禁饭工园交诊保物品礼话门水电油IM车借])卡号|银[行联][卡账帳]|[行联储蓄用记资]卡|[收付打汇]款账号|[行资]账号"
    r"|(?:bank|credit|debit) ?card|card ?(?:number|no)",
    r"[^\d。!?;\n]{0,12}\n?[^\d。!?;\n]{0,4}",
    reach=40,
)
_WEAK_CUE: Final = Cue(
    "[账帐賬][号户戶]|[转收付打汇]款|转账|开户行?|[工农中建交招]行", r"[^\d。!?;\n]{0,12}\n?[^\d。!?;\n]{0,4}", reach=24
)
"""Says that it is about money, and not more: the issuer's range and its length must speak for a card too."""

_WORDS: Final = frozenset(["card", "no", "number", "visa", "mastercard", "amex", "jcb", "unionpay"])


def _is_issued(number: str) -> bool:
    return any(
        first <= int(number[: len(str(first))]) <= last and len(number) in lengths for first, last, lengths in _ISSUERS
    )


def _card(match: "re.Match[str]") -> Finding | None:
    text, (start, end) = match.string, match.span()
    cued, hinted = _CUE.before(text, start), _WEAK_CUE.before(text, start)
    ends = [end]
    if match.group("separator"):
        # The last group may be the next number on the line, such as the three digits of the back.
        ends.append(text.rindex(match.group("separator"), start, end))
    for end in ends:
        number = digits_of(text[start:end])
        if not stands_alone(text, start, end, _WORDS):
            continue
        if _is_issued(number) and passes_luhn(number) and number.strip("0"):
            return Finding(PiiKind.BANK_CARD, start, end)
        if (cued and len(number) in _CUED_LENGTHS) or (hinted and _is_issued(number)):
            return Finding(PiiKind.BANK_CARD, start, end, 0.6)
    return None


BANK_CARD: Final = Rule(
    PiiKind.BANK_CARD,
    rf"(?<!\d)(?:\d{{4}}(?P<separator>{SEPARATOR})(?:\d{{4}}(?P=separator)\d{{4}}(?:(?P=separator)\d{{1,4}}){{0,2}}"
    rf"|\d{{6}}(?P=separator)\d{{4,5}})(?!\d)|\d{{6}}{SEPARATOR}\d{{7,13}}(?!\d)|\d{{13,19}}(?!\d))",
    _card,
    tail=NUMBER_TAIL,
    reach=NUMBER_REACH,
)
