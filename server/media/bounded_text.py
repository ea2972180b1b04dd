"""Text that is gathered up to a bound."""

import re
from typing import Final

_BLANKS: Final = re.compile(r"\n\s*\n\s*\n+")
_UNWANTED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")


class Enough(Exception):
    """No more text is wanted. Whoever reads stops where it is."""


class BoundedText:
    """Gathers pieces; knows when there is enough."""

    def __init__(self, max_characters: int) -> None:
        self._left = max_characters
        self._pieces: list[str] = []
        self.cut = False

    def add(self, piece: str) -> None:
        """Takes a piece as it is, but for characters that mean nothing in a text.

        Raises:
            Enough: once there is more than the bound; what fits is kept.
        """
        piece = _UNWANTED.sub("", piece)
        if len(piece) > self._left:
            self._pieces.append(piece[: self._left])
            self._left, self.cut = 0, True
            raise Enough
        self._left -= len(piece)
        self._pieces.append(piece)

    def line(self, piece: str) -> None:
        """Takes a piece and ends its line."""
        self.add(f"{piece}\n")

    def text(self) -> str:
        """What was gathered, with no more than one empty line in a row."""
        return _BLANKS.sub("\n\n", "".join(self._pieces)).strip()
