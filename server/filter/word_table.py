"""Many strings in one: a million words without a million objects, which every collection of garbage would visit."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from server.filter.numbered import Numbered

_PIECE: Final = 1 << 16
"""Characters that are decoded at a time: the interpreter is not kept from other threads for long."""


class WordTable(Numbered[str]):
    """Strings by their number. Immutable."""

    __slots__ = ("_ends", "_text")

    def __init__(self, words: Iterable[str]) -> None:
        words = list(words)
        self._text = "".join(words)
        self._ends = array("I", [0, *accumulate(map(len, words))])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def _at(self, number: int) -> str:
        return self._text[self._ends[number] : self._ends[number + 1]]

    def __iter__(self) -> Iterator[str]:
        text, start = self._text, 0
        for end in self._ends[1:]:
            yield text[start:end]
            start = end

    def save(self) -> list[bytes]:
        """The table as pieces of bytes."""
        pieces = range(0, len(self._text), _PIECE)
        return [
            self._ends.tobytes(),
            *(self._text[start : start + _PIECE].encode("utf-8", "surrogatepass") for start in pieces),
        ]

    @classmethod
    def load(cls, pieces: Sequence[bytes]) -> "WordTable":
        """What :meth:`save` gave, on the same machine."""
        table = cls(())
        table._ends = array("I")
        table._ends.frombytes(pieces[0])
        table._text = "".join([piece.decode("utf-8", "surrogatepass") for piece in pieces[1:]])
        return table
