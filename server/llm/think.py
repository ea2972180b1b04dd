"""Splits ``<think>…</think>`` off the beginning of a reply. Pure.

Servers without a reasoning parser send what the model thought as text between these
tags. Only a tag at the very start counts: anywhere else it is something the model
talks about.
"""

from typing import Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ThinkSplitter:
    """Takes a reply in pieces and gives (thought, text); nothing is lost but the tags.

    White space around the tags goes with them.
    """

    __slots__ = ("_held", "_state", "_thought_begun")

    def __init__(self) -> None:
        self._held = ""
        self._thought_begun = False
        self._state = self._at_start

    @property
    def plain(self) -> bool:
        """Whether all that follows is text, so that nobody needs to ask any more."""
        return self._state == self._in_text

    def feed(self, text: str) -> tuple[str, str]:
        """What can be told of the reply with this piece. Holds back what may be half a tag."""
        return self._state(self._held + text)

    def close(self) -> tuple[str, str]:
        """What was held back, when the reply has ended."""
        held, self._held = self._held, ""
        if self._state == self._in_thought:
            return held, ""
        if self._state == self._behind_thought:
            return "", ""
        return "", held

    def _at_start(self, text: str) -> tuple[str, str]:
        begin = text.lstrip()
        if begin.startswith(_OPEN):
            self._state = self._in_thought
            return self._state(begin[len(_OPEN) :])
        if _OPEN.startswith(begin):
            self._held = text
            return "", ""
        self._state = self._in_text
        return self._state(text)

    def _in_thought(self, text: str) -> tuple[str, str]:
        if not self._thought_begun:
            text = text.lstrip()
            self._thought_begun = bool(text)
        thought, close, rest = text.partition(_CLOSE)
        if close:
            self._state = self._behind_thought
            return thought.rstrip(), self._state(rest)[1]
        kept = _hold_back(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept], ""

    def _behind_thought(self, text: str) -> tuple[str, str]:
        self._held = ""
        text = text.lstrip()
        if not text:
            return "", ""
        self._state = self._in_text
        return self._state(text)

    def _in_text(self, text: str) -> tuple[str, str]:
        self._held = ""
        return "", text


def _hold_back(text: str) -> int:
    """How many characters at the end may belong to the closing tag: white space before it, and half of it."""
    half = next((size for size in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:size])), 0)
    before = text[: len(text) - half]
    return half + len(before) - len(before.rstrip())
