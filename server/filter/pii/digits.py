"""Numbers as people type them: what may stand between their digits, and what beside them. Pure."""

import re
from typing import Final

SEPARATOR: Final = r"(?: ?[-.·/] ?|  ?)"
"""Between two groups of digits: a sign with or without spaces, or one or two spaces."""

_SPEECH: Final = dict(
    zip("零〇○洞一幺壹二贰两三叁四肆五伍六陆七柒拐八捌九玖勾", "00001112223344556677788999", strict=True)
)
SPOKEN: Final = "".join(_SPEECH)
"""Digits written as Chinese characters, financial and spoken ones too."""

_TO_DIGITS: Final = str.maketrans(_SPEECH)
_NOT_DIGITS: Final = re.compile("[^0-9Xx]")

BEHIND_TAIL: Final = r"(?: ?[万亿美@_A-Za-z][A-Za-z]?)?"
"""What :func:`stands_alone` may have to see behind a number, beside digits and separators."""

NUMBER_TAIL: Final = rf"(?<!\d)(?:[+(][+( ]{{0,2}}|(?=\d))(?:\d[\d +().·/-]*{BEHIND_TAIL})?"
"""An end of text that may become a number, or may show that it is none."""
NUMBER_REACH: Final = 56

_AMOUNT_SIGN: Final = re.compile(r"[$¥€£] ?\Z", re.ASCII)
_WORD_BEFORE: Final = re.compile(r"[A-Za-z]{1,12}\Z", re.ASCII)
_IDENTIFIER_BEFORE: Final = re.compile(r"[A-Za-z0-9]_\Z|\d\.\Z", re.ASCII)
_HYPHENED_BEFORE: Final = re.compile(r"[A-Za-z]-\Z", re.ASCII)
_NOT_BEHIND: Final = re.compile(
    r"\d|_[A-Za-z0-9]|\.\d{1,4}(?![.)])|@[A-Za-z0-9]| ?(?:元|块|[万亿]元|美元)|(?!(?i:ext|x\d))[A-Za-z]", re.ASCII
)
_HYPHENED_BEHIND: Final = re.compile(r"-[A-Za-z]", re.ASCII)


def digits_of(text: str) -> str:
    """The digits of a number without what stands between them; ``X`` is one of an identity number."""
    return _NOT_DIGITS.sub("", text.translate(_TO_DIGITS)).upper()


def stands_alone(text: str, start: int, end: int, words: frozenset[str]) -> bool:
    """Whether the number ``text[start:end]`` is one of its own, not part of an identifier, an amount or
    a longer number.

    Args:
        words: Latin words in small letters that may touch it from the left.
    """
    before = max(0, start - 16)
    word = _WORD_BEFORE.search(text, before, start)
    if word is not None and word.group().lower() not in words:
        return False
    if _AMOUNT_SIGN.search(text, before, start) or _IDENTIFIER_BEFORE.search(text, before, start):
        return False
    if _NOT_BEHIND.match(text, end):
        return False
    return not (_HYPHENED_BEFORE.search(text, before, start) and _HYPHENED_BEHIND.match(text, end))


def passes_luhn(digits: str) -> bool:
    """Whether the last digit of a card number fits the others."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) << (position & 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
