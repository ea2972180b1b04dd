"""When two spellings are the same value, and what is left of a value that is masked. Pure."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from server.filter.pii.digits import digits_of
from server.filter.pii.kinds import PiiKind
from server.filter.pii.phone import canonical_phone
from server.filter.rendering import MASK

_HIDDEN: Final = MASK * 4
_IN_CAPITALS: Final = frozenset({PiiKind.PLATE, PiiKind.PASSPORT, PiiKind.PERMIT, PiiKind.USCC})
_SPACES: Final = re.compile(r"\s+")


def canonical(kind: PiiKind, value: str) -> str:
    """The form in which values are compared: grouping, country code, case and spaces do not matter."""
    if kind in (PiiKind.MOBILE, PiiKind.LANDLINE):
        return canonical_phone(value)
    if kind in (PiiKind.ID_CARD, PiiKind.BANK_CARD, PiiKind.QQ):
        return digits_of(value)
    if kind is PiiKind.SECRET:
        return value
    plain = _SPACES.sub("", value)
    return plain.upper() if kind in _IN_CAPITALS else plain.casefold()


def _ends(first: int, last: int) -> Callable[[PiiKind, str], str]:
    """Keeps so many characters at both ends of the canonical form; the length stays as it is."""

    def style(kind: PiiKind, value: str) -> str:
        plain = canonical(kind, value)
        hidden = len(plain) - first - last
        if hidden < 1:
            return MASK * len(plain)
        return plain[:first] + MASK * hidden + (plain[-last:] if last else "")

    return style


def _mailbox(_: PiiKind, value: str) -> str:
    local, _at, domain = value.partition("@")
    return f"{local[:1]}{MASK * 3}@{domain}"


def _network(_: PiiKind, value: str) -> str:
    separator = "." if "." in value and ":" not in value else "-" if "-" in value else ":"
    first, second, *_rest = value.split(separator)
    return separator.join((first, second, MASK, MASK))


def _nothing(_: PiiKind, value: str) -> str:
    return _HIDDEN


_STYLES: Final[Mapping[PiiKind, Callable[[PiiKind, str], str]]] = {
    PiiKind.MOBILE: _ends(3, 4),
    PiiKind.LANDLINE: _ends(4, 2),
    PiiKind.ID_CARD: _ends(3, 2),
    PiiKind.BANK_CARD: _ends(4, 4),
    PiiKind.EMAIL: _mailbox,
    PiiKind.NAME: _ends(1, 0),
    PiiKind.PLATE: _ends(2, 1),
    PiiKind.PASSPORT: _ends(1, 2),
    PiiKind.PERMIT: _ends(1, 2),
    PiiKind.WECHAT_ID: _ends(1, 1),
    PiiKind.QQ: _ends(2, 1),
    PiiKind.USCC: _ends(2, 2),
    PiiKind.IP: _network,
    PiiKind.MAC: _network,
    PiiKind.ADDRESS: _nothing,
    PiiKind.BIRTHDAY: _nothing,
    PiiKind.SECRET: _nothing,
    PiiKind.OTHER: _nothing,
}


def mask(kind: PiiKind, value: str) -> str:
    """What stands for a value where nobody may read it: its kind can still be told, and mostly its length.

    Args:
        value: as :class:`~server.filter.pii.text.PlainText` has it.
    """
    return _STYLES[kind](kind, value)
