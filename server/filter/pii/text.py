"""The form of a text in which personal data is looked for: width and what cannot be seen are gone.

Other than in the fold of the word filter, separators, case and line breaks stay: a number
is told from a longer one by what stands between its digits. Each character is folded by
itself, with one piece of state: how many invisible ones in a row came directly before.
More than :data:`MAX_INVISIBLE` of them are a line break, which keeps what a stream has to
hold back within bounds.
"""

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

MAX_INVISIBLE: Final = 4

_LINE_BREAKS: Final = frozenset("\n\r\v\f\x85\u2028\u2029")
_INVISIBLE: Final = frozenset({"Mn", "Me", "Cf", "Cc"})
_INVISIBLE_LETTERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
_MIDDLE_DOTS: Final = frozenset("·•‧∙⋅・･")
_MINUS: Final = "\u2212"


def _fold(character: str) -> str:
    """One character, or nothing for what cannot be seen."""
    if character == "\t":
        return character
    if character in _LINE_BREAKS:
        return "\n"
    category = unicodedata.category(character)
    if category in _INVISIBLE or character in _INVISIBLE_LETTERS:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Pd" or character == _MINUS:
        return "-"
    if category == "Zs":
        return " "
    if character in _MIDDLE_DOTS:
        return "·"
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 else character


class _Table(dict[int, str]):
    """For ``str.translate``: filled in when a character is first met, so bounded by Unicode."""

    def __init__(self) -> None:
        super().__init__()
        self.invisible: set[str] = set()
        """Characters met that become nothing."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        folded = _fold(character)
        if not folded:
            self.invisible.add(character)
        self[code] = folded
        return folded


_TABLE: Final = _Table()


class PlainText:
    """A text in the form in which it is searched, and where each character of it came from."""

    __slots__ = ("_at", "_source", "text", "trailing")

    def __init__(self, source: str, invisible_before: int = 0) -> None:
        """Args: the text, and how many invisible characters stood in a row before it."""
        self._source = source
        text = source.translate(_TABLE)
        self.trailing = 0
        """Invisible characters at the end, with those before it if there is nothing else."""
        self._at: Sequence[int]
        if len(text) == len(source) and _TABLE.invisible.isdisjoint(source):
            self.text, self._at = text, range(len(source))
        else:
            self._fold_each(source, invisible_before)
        if not source:
            self.trailing = invisible_before

    def _fold_each(self, source: str, row: int) -> None:
        characters: list[str] = []
        at: list[int] = []
        for position, character in enumerate(source):
            folded = _TABLE[ord(character)]
            row = 0 if folded else row + 1
            if row == MAX_INVISIBLE + 1:
                folded = "\n"
            if folded:
                characters.append(folded)
                at.append(position)
        self.text, self._at = "".join(characters), at
        self.trailing = row

    def start(self, position: int) -> int:
        """Where a character came from; the length of the source behind the last one."""
        return self._at[position] if position < len(self._at) else len(self._source)

    def position(self, start: int) -> int:
        """The first character that came from a place of the source or from behind it."""
        return bisect_left(self._at, start)

    def end(self, position: int) -> int:
        """Where the character before ``position`` ends, with the marks that it wears."""
        if not position:
            return 0
        end, following = self._at[position - 1] + 1, self.start(position)
        while end < following and unicodedata.category(self._source[end]) in ("Mn", "Me"):
            end += 1
        return end
