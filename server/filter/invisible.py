"""Shortens rows of characters that nobody sees, so that what has to be held back of a stream stays bounded."""

from typing import Final

from server.filter.fold import NOTHING, fold_characters

MAX_IN_A_ROW: Final = 16
"""Marks, joiners, controls and the like without anything between. No writing needs more."""


class Thinning:
    """One text. Takes the rest of each longer row out, wherever pieces end."""

    def __init__(self) -> None:
        self._row = 0
        """Invisible characters that the text so far ends with."""

    def feed(self, text: str) -> tuple[str, str]:
        """The next piece as it goes on, and its characters folded."""
        folded = fold_characters(text)
        if NOTHING not in folded:
            if text:
                self._row = 0
            return text, folded
        kept: list[str] = []
        for character in text:
            self._row = self._row + 1 if fold_characters(character) == NOTHING else 0
            if self._row <= MAX_IN_A_ROW:
                kept.append(character)
        text = "".join(kept)
        return text, fold_characters(text)
