"""Texts under a second opinion: whole ones in parts, and replies in windows.

A window is a piece of a reply that is asked about at once. It ends where a sentence does, or
when enough characters wait without one. Nothing of it is shown before it is approved, so a
reply comes in sentences instead of characters: the first words wait for the rest of their
sentence and one answer of the service, and each later sentence for its own. Whatever has
come meanwhile goes into one window: a fast model, or a reply that is there already, costs a
few questions and not one for each sentence.
"""

from collections.abc import Callable
from typing import Final, Protocol

from server.budget import Budget
from server.filter.base import Screened
from server.filter.entries import Action, Direction
from server.filter.moderation import Opinion
from server.settings import ModerationSettings

_ENDS: Final = frozenset("。！？!?；;…\n")
"""What ends a sentence wherever it stands."""


class Opinions(Protocol):
    """Whoever is asked; :class:`server.filter.moderation.HttpModeration` in production."""

    async def opinion(self, text: str, direction: Direction, assistant: str, budget: Budget) -> Opinion:
        """What is to be thought of a text, within the budget. Never raises for a failure of its own."""
        ...


class Moderation:
    """The second opinion for all assistants."""

    def __init__(self, opinions: Opinions, settings: ModerationSettings) -> None:
        self._opinions = opinions
        self._settings = settings

    async def check(self, text: str, direction: Direction, assistant: str, budget: Budget) -> Action:
        """What a whole text leads to; ``PASS`` if nobody is to be asked about it.

        A long text is asked about in parts, one after the other, up to the first that is stopped.
        """
        if not self._is_asked(direction, assistant) or not text or text.isspace():
            return Action.PASS
        size, strictest = self._settings.text_characters, Action.PASS
        for start in range(0, len(text), size):
            part = text[max(0, start - self._settings.context_characters) : start + size]
            opinion = await self._opinions.opinion(part, direction, assistant, budget)
            strictest = max(strictest, opinion.action)
            if strictest.stops:
                break
        return strictest

    def stream(self, assistant: str) -> "ModeratedStream | None":
        """A reply to come, or ``None`` if nobody is to be asked about it: its pieces are then shown as they are."""
        if not self._is_asked(Direction.OUTPUT, assistant):
            return None
        return ModeratedStream(self._opinions, self._settings, assistant)

    def _is_asked(self, direction: Direction, assistant: str) -> bool:
        settings = self._settings
        wanted = settings.input if direction is Direction.INPUT else settings.output
        return wanted and (not settings.assistants or assistant in settings.assistants)


class ModeratedStream:
    """One reply. What it gives is approved and final; between two pieces it holds less than a window."""

    def __init__(self, opinions: Opinions, settings: ModerationSettings, assistant: str) -> None:
        """Made by :meth:`Moderation.stream`."""
        self._opinions = opinions
        self._settings = settings
        self._assistant = assistant
        self._waiting = ""
        self._before = ""
        """The end of what was approved: goes along with the next question."""

    async def feed(self, text: str, budget: Budget) -> Screened:
        """The next piece. Gives what is approved now, which may be nothing; waits for the answers that takes.

        Nothing may be fed behind an answer whose action stops: the text of that answer is
        what was approved before, and the window that was stopped is not shown.
        """
        self._waiting += text
        return await self._approve(self._window_end, budget)

    async def close(self, budget: Budget) -> Screened:
        """The rest, at the end of the reply."""
        return await self._approve(lambda: min(len(self._waiting), self._settings.text_characters), budget)

    async def _approve(self, window_end: Callable[[], int], budget: Budget) -> Screened:
        shown, strictest = "", Action.PASS
        while (end := window_end()) > 0:
            action = await self._ask(end, budget)
            strictest = max(strictest, action)
            if action.stops:
                break
            shown += self._take(end)
        return Screened(shown, strictest)

    def _window_end(self) -> int:
        """Where the first window of what waits ends; 0 while less waits than a window, and no sentence ended."""
        settings, waiting = self._settings, self._waiting
        most = min(len(waiting), settings.text_characters)
        end = most
        while end >= settings.least_characters and not _ends_sentence(waiting, end):
            end -= 1
        if end < settings.least_characters:
            end = 0
        if len(waiting) - end >= settings.window_characters:
            return most
        return end

    async def _ask(self, end: int, budget: Budget) -> Action:
        window = self._waiting[:end]
        if window.isspace():
            return Action.PASS
        text = self._before + window
        return (await self._opinions.opinion(text, Direction.OUTPUT, self._assistant, budget)).action

    def _take(self, end: int) -> str:
        window, self._waiting = self._waiting[:end], self._waiting[end:]
        kept = self._settings.context_characters
        self._before = (self._before + window)[-kept:] if kept else ""
        return window


def _ends_sentence(text: str, end: int) -> bool:
    """Whether a sentence ends with the character before ``end``: a full stop does if white space follows it."""
    last = text[end - 1]
    return last in _ENDS or (last.isspace() and end > 1 and text[end - 2] == ".")
