"""Showing a growing reply in a terminal, or in a file that is read later."""

import shutil
import unicodedata
from collections.abc import Callable
from os import terminal_size
from typing import TextIO

PERSON = "you> "
"""What stands before a person's words."""

ASSISTANT = "assistant> "
"""What stands before a reply."""

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_CLEAR_BELOW = "\x1b[J"


def printable(text: str) -> str:
    """The text without what would steer the terminal: a reply is not to move cursors or rename windows."""
    return "".join(
        character
        for character in text.replace("\r\n", "\n")
        if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cs"}
    )


def rows(text: str, columns: int) -> int:
    """How many lines of a terminal the text takes, at least 1. Chinese characters are two columns wide."""
    count, column = 1, 0
    for character in text:
        if character == "\n":
            count, column = count + 1, 0
            continue
        width = _width(character, column)
        if column + width > columns:
            count, column = count + 1, 0
        column += width
    return count


def _width(character: str, column: int) -> int:
    if character == "\t":
        return 8 - column % 8
    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Screen:
    """Writes replies as they grow, and takes them back where that can be done.

    On a terminal a reply that is replaced is drawn over. Elsewhere, and when its
    beginning has scrolled away, the new text follows below a line that says so.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        colour: bool,
        size: Callable[[], terminal_size] = shutil.get_terminal_size,
    ) -> None:
        """Args: where to write; ``colour`` only where escape sequences are understood, that is on a terminal."""
        self._out = out
        self._colour = colour
        self._size = size
        self._shown = ""
        self._open = False

    def prompt(self) -> str:
        """What to ask for input with."""
        return PERSON

    def update(self, text: str) -> None:
        """Shows the reply so far: adds what is new, or draws it again when it is another one."""
        text = printable(text)
        if not self._open:
            self._begin()
        if text.startswith(self._shown):
            self._write(text[len(self._shown) :])
        elif self._can_draw_again():
            up = rows(ASSISTANT + self._shown, self._size().columns) - 1
            move = f"\x1b[{up}A" if up else ""
            self._write(f"\r{move}{_CLEAR_BELOW}{self._label()}{text}")
        else:
            self._write(f"\n{self._dim('(the reply was replaced)')}\n{self._label()}{text}")
        self._shown = text

    def end(self, note: str = "") -> None:
        """Ends the reply, if one was begun; says why when there is something to say."""
        if self._open:
            self._write("\n")
        self._open = False
        if note:
            self.note(note)

    def said(self, person: str, reply: str) -> None:
        """Shows an earlier turn."""
        self._write(f"{PERSON}{printable(person)}\n{self._label()}{printable(reply)}\n")

    def note(self, text: str) -> None:
        """Shows a line that nobody in the conversation said; an empty one only ends the line."""
        self._write(f"{self._dim(text)}\n" if text else "\n")

    def _begin(self) -> None:
        self._open = True
        self._shown = ""
        self._write(self._label())

    def _can_draw_again(self) -> bool:
        size = self._size()
        return self._colour and rows(ASSISTANT + self._shown, size.columns) < size.lines

    def _label(self) -> str:
        return f"{_BOLD}{ASSISTANT}{_PLAIN}" if self._colour else ASSISTANT

    def _dim(self, text: str) -> str:
        return f"{_DIM}{text}{_PLAIN}" if self._colour else text

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
