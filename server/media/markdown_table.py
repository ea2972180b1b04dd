"""Rows as a Markdown table, one at a time."""

from collections.abc import Sequence
from typing import Final

from server.media.bounded_text import BoundedText

MAX_COLUMNS: Final = 64


class MarkdownTable:
    """Writes rows as they come. The first is the head, because Markdown knows no table without one."""

    def __init__(self, text: BoundedText) -> None:
        self._text = text
        self._columns = 0

    def row(self, cells: Sequence[str]) -> None:
        """Writes a row. One without any text is left out, and columns beyond :data:`MAX_COLUMNS` are too.

        Raises:
            Enough: if there is enough text.
        """
        shown = [_cell(cell) for cell in cells[:MAX_COLUMNS]]
        while shown and not shown[-1]:
            shown.pop()
        if not shown:
            return
        head = not self._columns
        if head:
            self._text.add("\n")
            self._columns = len(shown)
        shown += [""] * (self._columns - len(shown))
        self._text.line(f"| {' | '.join(shown)} |")
        if head:
            self._text.line(f"|{' --- |' * self._columns}")

    def end(self) -> None:
        """Ends the table."""
        if self._columns:
            self._text.add("\n")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
