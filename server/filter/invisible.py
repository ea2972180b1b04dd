"""Shortens rows of characters that nobody sees, so that what has to be held back of a stream stays bounded."""

from typing import Final

from server.filter.fold import invisible_of

MAX_IN_A_ROW: Final = 16
"""Marks, joiners, controls and the like without anything between. No writing needs more."""


class Thinning:
    """One text. Takes the rest of each longer row out, wherever pieces end."""

    def __init__(self) -> None:
        self._row = 0
        """Invisible characters that the text so far ends with."""

    def feed(self, text: str) -> str:
        """The next piece, as it goes on."""
        invisible = invisible_of(text)
        if invisible.isdisjoint(text):
            if text:
                self._row = 0
            return text
        kept: list[str] = []
        for character in text:
            self._row = self._row + 1 if character in invisible else 0
            if self._row <= MAX_IN_A_ROW:
                kept.append(character)
        return "".join(kept)
