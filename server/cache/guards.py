"""Which questions may share an answer at all, however near their vectors are. Pure.

Vectors of 年假能结转吗 and 年假不能结转吗 nearly coincide; so do those of 5天 and 15天, or
开通 and 关闭. What vectors are blind to is compared here in words: polarity, numbers and
names, what is asked for, words that stand against one another, places, and quotations
must be equal. Two questions that differ in a single stretch of words must not differ in
what that stretch says.

The guards err on the side of a model call: what they do not know keeps questions apart.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

from server.cache.fold import fold, looks_like_code
from server.cache.quantities import exact_tokens, mask_quantities
from server.cache.wording import WORDING, Asked

_RULES: Final = 1
"""Raised with every change of this file or of ``quantities.py`` that changes what passes."""

GUARDS_VERSION: Final = f"{_RULES}-{WORDING.digest()}"
"""A calibration holds for one version of rules and words."""

MAX_CHARACTERS: Final = 200
"""Longer questions say too much for one vector."""

MIN_CHARACTERS: Final = 3

SHORT_CORE: Final = 5
"""Characters up to which what is left of two questions must be the same."""

LONGEST_SWAP: Final = 6
"""Characters of a stretch that makes the difference between two questions which are otherwise alike."""

_CHINESE: Final = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_QUOTED: Final = re.compile('「([^」]+)」|『([^』]+)』|“([^”]+)”|"([^"]+)"|《([^》]+)》|【([^】]+)】|‘([^’]+)’')
_UNIT: Final = re.compile(r"[A-Za-z0-9.]+|[^\s]")
_WORD: Final = re.compile(r"[a-z0-9']+")


class Gist(msgspec.Struct, frozen=True):
    """What a question says, as far as words can tell."""

    asks: tuple[str, ...]
    """What is asked for: how, when, who …"""
    polarity: tuple[str, ...]
    """What is negated: the sign behind each negation."""
    exact: tuple[str, ...]
    """Numbers with units, and names, in order."""
    quoted: tuple[str, ...]
    sides: tuple[str, ...]
    """On which sides of the opposed words it stands, and people and places in order."""
    core: tuple[str, ...]
    """What is left, in characters or in English words."""

    @property
    def fingerprint(self) -> tuple[tuple[str, ...], ...]:
        """What must be equal. Usable as a key, so that others need not be compared at all."""
        return (self.asks, self.polarity, self.exact, self.quoted, self.sides)


def gist_of(question: str) -> Gist | None:
    """The gist, or ``None`` for a question that never shares an answer.

    Those are code, texts of several lines, very short or long ones, and those that say nothing but 请问怎么办.
    """
    text = fold(question)
    if not MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS or looks_like_code(question):
        return None
    quoted = tuple(next(filter(None, found.groups())) for found in _QUOTED.finditer(text))
    exact = exact_tokens(text)
    gist = _chinese(text, exact, quoted) if _CHINESE.search(text) else _english(text, exact, quoted)
    return gist if gist.core else None


def stopped_by(one: Gist, other: Gist) -> str:
    """The name of the guard that keeps two questions apart; empty if none does."""
    for name in ("polarity", "exact", "quoted", "asks", "sides"):
        if getattr(one, name) != getattr(other, name):
            return name
    return "swap" if _swapped(one.core, other.core) else ""


def _chinese(text: str, exact: tuple[str, ...], quoted: tuple[str, ...]) -> Gist:
    lower = text.lower()
    places = tuple(_PLACE.findall(lower))
    neutral = _NEUTRAL.sub(lambda found: found[0].translate(_MASK), _PREFACE.sub("", lower))
    neutral, whether = _A_NOT_A.subn(lambda found: (found["verb"] or "有") + "吗", neutral)
    neutral = _CANNOT.sub("不能", _COMPLEMENT.sub(r"不能\1", neutral))
    rest, asks = _take_asked(neutral, _ASKED)
    if whether:
        asks.add("whether")
    rest, polarity = _take_negations(mask_quantities(rest))
    return Gist(
        _settled(asks),
        polarity,
        exact,
        quoted,
        (*_sides(lower), *_people(lower), *places),
        tuple(_UNIT.findall(_stripped(rest))),
    )


def _english(text: str, exact: tuple[str, ...], quoted: tuple[str, ...]) -> Gist:
    lower = text.lower().replace("’", "'").replace("can't", "can not").replace("cannot", "can not")
    lower = lower.replace("won't", "will not").replace("n't", " not")
    rest, asks = _take_asked(lower, _ASKED_IN_ENGLISH)
    words = _WORD.findall(lower)
    polarity = tuple("not" for word in words if word in WORDING.negations_in_english)
    sides = sorted(_TURNED_IN_ENGLISH[word] for word in words if word in _TURNED_IN_ENGLISH)
    core = [word for word in _WORD.findall(rest) if word not in WORDING.fillers_in_english]
    return Gist(_settled(asks), polarity, exact, quoted, tuple(sides), tuple(core))


def _take_asked(text: str, table: Iterable[tuple[str, re.Pattern[str]]]) -> tuple[str, set[str]]:
    asks = set()
    for kind, pattern in table:
        text, count = pattern.subn(" ", text)
        if count:
            asks.add(kind)
    return text, asks


def _settled(asks: set[str]) -> tuple[str, ...]:
    """Without ``whether`` where something is asked for: 能告诉我怎么连吗 asks how."""
    wanted = asks - {""}
    return tuple(sorted(wanted - {"whether"} or wanted))


def _take_negations(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without its negations, and the character behind each: what is negated."""
    heads = tuple(sorted(text[found.end() : found.end() + 1].strip() for found in _NEGATION.finditer(text)))
    return _NEGATION.sub("", text), heads


def _sides(text: str) -> tuple[str, ...]:
    """On which sides the text stands; where on several of one group, in the order of the text."""
    stands = []
    for group in _OPPOSED:
        found = ((pattern.search(text), side) for side, pattern in group)
        order = sorted((match.start(), side) for match, side in found if match)
        if order:
            stands.append(" ".join(side for _, side in order))
    return tuple(stands)


def _people(text: str) -> tuple[str, ...]:
    """Who occurs, in the order of the text; who asks is left out where nobody else does."""
    found = tuple(WORDING.people[(match.lastindex or 1) - 1] for match in _PERSON.finditer(text))
    return found if any(who != WORDING.people[0] for who in found) else ()


def _stripped(text: str) -> str:
    for short, pattern in _SAME:
        text = pattern.sub(short, text)
    return _PUNCTUATION.sub("", _FILLERS.sub("", text))


def _swapped(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two texts are alike but for one short stretch, or for two that have changed places."""
    if sorted(one) == sorted(other):
        return _exchanged(one, other)
    shorter = min(len(one), len(other))
    if len(one) + len(other) <= 2 * SHORT_CORE:
        return True  # of so few words, each is decisive
    front = next((place for place in range(shorter) if one[place] != other[place]), shorter)
    most = shorter - front
    back = next((place for place in range(most) if one[-1 - place] != other[-1 - place]), most)
    longest = max(len(one), len(other)) - front - back
    if front + back == shorter:
        return True  # one says something more
    return longest <= LONGEST_SWAP and front + back >= longest


def _exchanged(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two stretches have changed places around one that has not: 主卡丢副卡, 副卡丢主卡.

    A single stretch that has moved is another order of the same words: 离职证明开, 开离职证明.
    """
    differ = [a != b for a, b in zip(one, other, strict=True)]
    return sum(here and not before for before, here in pairwise([False, *differ])) > 1


# --- the tables, as patterns --------------------------------------------------------------


def _any(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))))


def _kinds(table: Iterable[Asked], frame: str = "{}") -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((asked.kind, re.compile(frame.format(asked.words))) for asked in table)


_NEUTRAL: Final = _any(WORDING.neutral)
_MASK: Final = {ord(sign): 0xE000 + place for place, sign in enumerate(sorted(set("".join(WORDING.negations))))}
"""Makes the sign of a negation another one where it negates nothing; it stays a part of what is said."""
_PREFACE: Final = _any(WORDING.prefaces)
_CANNOT: Final = _any(WORDING.cannot)
_NEGATION: Final = _any(WORDING.negations)
_A_NOT_A: Final = re.compile("(?P<verb>[\u4e00-\u9fff])不(?P=verb)(?:[以意许要])?|有没有|有没(?=.)")
_COMPLEMENT: Final = re.compile(
    "([\u4e00-\u9fff])不(?:了(?!解)|上(?!班)|到(?![位0-9一二三四五六七八九十])|通|出|进|动|起|开|掉|成)"
)
_PERSON: Final = re.compile("|".join(f"({pattern})" for pattern in WORDING.people))
_PLACE: Final = _any(WORDING.places)
_FILLERS: Final = re.compile("|".join(WORDING.fillers))
_PUNCTUATION: Final = re.compile(r"[\s,.;:!?，。；：！？、·~()（）「」『』“”\"《》【】‘’'-]+")
_ASKED: Final = _kinds(WORDING.asked)
_ASKED_IN_ENGLISH: Final = _kinds(WORDING.asked_in_english, r"\b(?:{})\b")
_OPPOSED: Final = tuple(
    tuple((side[0], _any(side)) for side in group)
    for group in (*WORDING.opposed, *((words,) for words in WORDING.turned))
)
_TURNED_IN_ENGLISH: Final = {word: words[0] for words in WORDING.turned_in_english for word in words}
_SAME: Final = tuple((short, re.compile(pattern)) for short, pattern in WORDING.same)
