"""Finds personal data, in a whole text or in one that comes in pieces.

The whole text is a stream of one piece, so both are the same by construction. What could
still become a value, or belong to one, is held back; everything before it is final.

Why that is exact: let ``h`` be the hold point. Every rule begins its search where the last
piece ended, and sees :data:`~server.filter.pii.rule.CONTEXT` characters before that. No
candidate, taken or not, reaches over ``h``: if one did, ``h`` would be moved to its start.
So whatever comes later, the candidates before ``h`` stay the same, and so does the choice
among them.
"""

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from server.filter.pii.address import AddressRecognition, divisions_before
from server.filter.pii.card import BANK_CARD
from server.filter.pii.documents import PASSPORT, PERMIT, PLATE, USCC
from server.filter.pii.email import EMAIL
from server.filter.pii.identity import FIRST_GENERATION, IDENTITY
from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.network import IPV4, IPV6, MAC
from server.filter.pii.people import BIRTHDAY, NAME, QQ, WECHAT_ID
from server.filter.pii.phone import LANDLINE, MOBILE, SPOKEN_MOBILE
from server.filter.pii.rule import CONTEXT, Recognition
from server.filter.pii.secrets import BEARER, PASSWORD, PASSWORD_IN_ADDRESS, PREFIXED_KEY, PRIVATE_KEY, WEB_TOKEN
from server.filter.pii.text import PlainText

_ADDRESS: Final = AddressRecognition()

_ORDER: Final[tuple[Recognition, ...]] = (
    PRIVATE_KEY,
    WEB_TOKEN,
    PREFIXED_KEY,
    BEARER,
    PASSWORD,
    PASSWORD_IN_ADDRESS,
    EMAIL,  # before numbers: one may be the local part
    IDENTITY,
    FIRST_GENERATION,
    USCC,
    BANK_CARD,
    MOBILE,
    SPOKEN_MOBILE,
    LANDLINE,
    PASSPORT,
    PERMIT,
    PLATE,
    MAC,
    IPV6,
    IPV4,
    WECHAT_ID,
    QQ,
    BIRTHDAY,
    _ADDRESS,
    NAME,
)
"""Who chooses first: what one has taken no later one takes again."""

_BEGIN_IN_CHINESE: Final = frozenset({SPOKEN_MOBILE, PLATE, _ADDRESS, NAME})
"""The values of all others begin with an ASCII character, so most Chinese text is none of their business."""
_ASCII: Final = re.compile("[!-~]")

EVERY_KIND: Final = frozenset(kind for kind in PiiKind if kind is not PiiKind.OTHER)
"""What can be looked for without an external recogniser."""


class Decided(msgspec.Struct, frozen=True):
    """What has become final: a stretch of the source that continues the last one, and what was found in it."""

    text: str
    findings: tuple[Finding, ...] = ()
    """In their order, without overlaps, with positions in ``text``."""
    values: tuple[str, ...] = ()
    """Each of them in the form in which it was looked for: without dress, spelling kept."""


class PiiStream:
    """One text. What it holds back is bounded by the longest value of the kinds it looks for."""

    def __init__(self, kinds: Collection[PiiKind] = EVERY_KIND) -> None:
        """Args: what to look for."""
        self._rules = tuple(rule for rule in _ORDER if rule.kind in kinds)
        self._in_chinese = tuple(rule for rule in self._rules if rule in _BEGIN_IN_CHINESE)
        self._held = ""
        self._before = ""
        """Folded text directly before what is held."""
        self._invisible = 0

    def feed(self, text: str) -> Decided:
        """Takes the next piece, and gives what is final now."""
        return self._decide(text, ended=False)

    def close(self) -> Decided:
        """The rest. Nothing may be fed afterwards."""
        return self._decide("", ended=True)

    def close_with(self, text: str) -> Decided:
        """The last piece and the rest."""
        return self._decide(text, ended=True)

    def _decide(self, text: str, *, ended: bool) -> Decided:
        source = self._held + text
        plain = PlainText(source, self._invisible)
        base = len(self._before)
        searched = self._before + plain.text
        rules = self._rules if _ASCII.search(searched, base) else self._in_chinese
        candidates = [list(rule.find(searched, base)) for rule in rules]
        hold = len(searched)
        if not ended:
            hold = min((rule.live(searched, base) for rule in rules), default=hold)
            hold = _outside(candidates, hold)
        taken = _choose(candidates, hold)
        cut = plain.start(hold - base)
        findings = tuple(
            msgspec.structs.replace(each, start=plain.start(each.start - base), end=plain.end(each.end - base))
            for each in taken
        )
        self._invisible = plain.trailing if hold == len(searched) else 0
        self._before = searched[max(0, hold - CONTEXT) : hold]
        self._held = source[cut:]
        return Decided(source[:cut], findings, tuple(searched[each.start : each.end] for each in taken))


def find_all(text: str, kinds: Collection[PiiKind] = EVERY_KIND) -> Decided:
    """Everything in a whole text. An address begins where its detail does: see :func:`with_divisions`."""
    return PiiStream(kinds).close_with(text)


def with_divisions(decided: Decided) -> Decided:
    """The same with addresses from their provinces and cities on, which belong to the value and not to its mask."""
    if not any(finding.kind is PiiKind.ADDRESS for finding in decided.findings):
        return decided
    plain = PlainText(decided.text)
    findings: list[Finding] = []
    values: list[str] = []
    end = 0
    for finding, value in zip(decided.findings, decided.values, strict=True):
        if finding.kind is PiiKind.ADDRESS:
            begin = plain.position(finding.start)
            first = max(divisions_before(plain.text, begin), plain.position(end))
            value = plain.text[first:begin] + value
            finding = msgspec.structs.replace(finding, start=plain.start(first))
        end = finding.end
        findings.append(finding)
        values.append(value)
    return Decided(decided.text, tuple(findings), tuple(values))


def _outside(candidates: Iterable[Sequence[Finding]], hold: int) -> int:
    """The last place up to ``hold`` that no candidate reaches over."""
    for candidate in sorted((each for some in candidates for each in some), key=lambda each: -each.end):
        if candidate.end <= hold:
            break
        hold = min(hold, candidate.start)
    return hold


def _choose(candidates: Iterable[Sequence[Finding]], hold: int) -> list[Finding]:
    """The candidates before ``hold`` that no earlier rule's overlaps, in the order of the text."""
    taken: list[Finding] = []
    starts: list[int] = []
    for some in candidates:
        for each in some:
            if each.end > hold:
                break
            where = bisect_left(starts, each.end)
            # Those before it do not overlap each other, so only the nearest can reach into it.
            if where and taken[where - 1].end > each.start:
                continue
            starts.insert(where, each.start)
            taken.insert(where, each)
    return taken
