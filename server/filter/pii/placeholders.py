"""Names in the place of values: the model reads ``[手机号1]``, and the person reads the number again.

One value has one name in all texts of a prompt, and what people have typed themselves that
looks like such a name is never given to a value.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from server.filter.pii.kinds import PiiKind
from server.filter.pii.text import PlainText
from server.filter.pii.values import canonical

OPEN: Final = "[［【〔"
CLOSE: Final = "]］】〕"

HINT: Final = "形如[手机号1]的记号代表用户的真实信息，请在回答中原样使用，不要改写或猜测其内容。"
"""What a model may be told of names, so that it repeats them as they are."""

_ALIASES: Final[Mapping[PiiKind, tuple[str, ...]]] = {
    PiiKind.MOBILE: ("手机号码", "手机", "手機號", "手機號碼", "mobile", "phone"),
    PiiKind.ID_CARD: ("身份证号码", "身份证", "身份證號", "idcard"),
    PiiKind.BANK_CARD: ("银行卡", "銀行卡號", "bankcard"),
    PiiKind.EMAIL: ("邮箱地址", "电子邮箱", "郵箱", "email"),
    PiiKind.ADDRESS: ("住址", "address"),
    PiiKind.LANDLINE: ("座机", "座機號"),
    PiiKind.PLATE: ("车牌", "車牌號"),
    PiiKind.PASSPORT: ("护照", "護照號"),
    PiiKind.WECHAT_ID: ("微信",),
    PiiKind.QQ: ("qq",),
    PiiKind.NAME: ("名字", "name"),
}
"""Other words that models write for a kind."""

_FILLERS: Final = frozenset(" _-#:*`\\\t")
MAX_NUMBER: Final = 9999
MAX_WRITTEN: Final = 40
"""Characters of a name as a model may write it, brackets and spaces included."""


def labels_of(kind: PiiKind) -> tuple[str, ...]:
    """Every word that names a kind, in the form that :func:`bare` gives."""
    return (kind.label.casefold(), *_ALIASES.get(kind, ()))


_BY_LABEL: Final = {label: kind for kind in PiiKind for label in labels_of(kind)}
_TYPED: Final = re.compile(
    f"[{re.escape(OPEN)}]([^{re.escape(OPEN + CLOSE)}\n]{{1,{MAX_WRITTEN}}})(?=[{re.escape(CLOSE)}])"
)
_NAME: Final = re.compile(r"(.*?)([1-9]\d{0,3})", re.ASCII)


def bare(character: str) -> str:
    """A character of a name as names are compared: nothing for what models add between."""
    folded = PlainText(character).text.casefold()
    return "" if folded in _FILLERS else folded


def typed_names(text: str) -> set[tuple[PiiKind, int]]:
    """What in a text looks like a name of ours, however it is written."""
    found = set()
    for match in _TYPED.finditer(text):
        name = _NAME.fullmatch("".join(bare(character) for character in match.group(1)))
        if name is not None and (kind := _BY_LABEL.get(name.group(1))) is not None:
            found.add((kind, int(name.group(2))))
    return found


class Placeholders:
    """The names of one prompt."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Args: all texts of the prompt as people wrote them: the names in them are not given away."""
        self._typed = {name for text in texts for name in typed_names(text)}
        self._numbers: dict[tuple[PiiKind, str], int] = {}
        self._last: dict[PiiKind, int] = {}
        self._values: dict[tuple[PiiKind, int], str] = {}

    def name(self, kind: PiiKind, value: str, spelling: str) -> str:
        """The name of a value: the same for all its spellings.

        Args:
            value: as it was found, without dress.
            spelling: as it was written; of several, the first is what the person reads again.
        """
        key = kind, canonical(kind, value)
        number = self._numbers.get(key)
        if number is None:
            number = self._last.get(kind, 0) + 1
            while (kind, number) in self._typed:
                number += 1
            self._last[kind] = self._numbers[key] = number
            self._values[kind, number] = spelling
        return f"[{kind.label}{number}]"

    def names(self) -> Mapping[str, str]:
        """Every way to write every name, as :func:`bare` gives it and without brackets, and the value that it
        stands for."""
        return {
            f"{label}{number}": value for (kind, number), value in self._values.items() for label in labels_of(kind)
        }


class Restorer:
    """Gives values back in one text, such as a reply, that may come in pieces. What it gives is final.

    Holds back only what may still become the name of a value. Names that are not known stay
    as they are.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        """Args: see :meth:`Placeholders.names`."""
        self._names = names
        self._beginnings = frozenset(name[:length] for name in names for length in range(len(name) + 1))
        self._held = ""

    def feed(self, text: str) -> str:
        """Takes the next piece, and gives what is final now."""
        return self._restore(text, ended=False)

    def close(self) -> str:
        """The rest. Nothing may be fed afterwards."""
        return self._restore("", ended=True)

    def _restore(self, text: str, *, ended: bool) -> str:
        text = self._held + text
        if not self._names:
            return text
        given: list[str] = []
        position = 0
        while (opening := _OPENING.search(text, position)) is not None:
            given.append(text[position : opening.start()])
            end, value = self._read(text, opening.end())
            if end is None and not ended:
                self._held = text[opening.start() :]
                return "".join(given)
            # An opening that opens no name is text; what follows it may be one.
            position = end if end and value is not None else opening.start() + 1
            given.append(text[opening.start()] if value is None else value)
        given.append(text[position:])
        self._held = ""
        return "".join(given)

    def _read(self, text: str, position: int) -> tuple[int | None, str | None]:
        """Where a name ends and its value: ``None`` for an end that is not there yet, and for a value that is none."""
        if position and text[position - 1] == "\\":
            return (None if position == len(text) else position), None
        name = ""
        apart = False
        for place in range(position, min(len(text), position + MAX_WRITTEN)):
            character = text[place]
            if character in CLOSE:
                return place + 1, self._names.get(name)
            plain = bare(character)
            # ``1 2`` may be two numbers.
            if name + plain not in self._beginnings or (apart and plain.isdecimal() and name[-1:].isdecimal()):
                return place, None
            apart = not plain
            name += plain
        return (None if len(text) < position + MAX_WRITTEN else position), None


_OPENING: Final = re.compile(rf"\\?[{re.escape(OPEN)}]|\\\Z")
"""A bracket with or without the escape of Markdown, or an escape whose bracket may follow."""


def hide(text: str, parts: Sequence[tuple[int, int, str]]) -> str:
    """A text with other words for some of its stretches.

    Args:
        parts: start, end and what takes their place, in the order of the text.
    """
    pieces: list[str] = []
    position = 0
    for start, end, words in parts:
        pieces += text[position:start], words
        position = end
    pieces.append(text[position:])
    return "".join(pieces)
