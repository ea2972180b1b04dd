"""Texts under a second opinion: whole ones in parts, and replies in windows.

A window is a piece of a reply that is asked about at once: up to the end of a sentence, or
a number of characters. Nothing of it is shown before it is approved, so a reply comes in
sentences instead of characters: the first words wait for the rest of their sentence and
one answer of the service, and each later sentence for its own. Where windows end depends on
the text alone, and not on the pieces it comes in.
"""

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
    """One reply. What it gives is approved and final; what it holds is bounded by the window and the last piece."""

    def __init__(self, opinions: Opinions, settings: ModerationSettings, assistant: str) -> None:
        """Made by :meth:`Moderation.stream`."""
        self._opinions = opinions
        self._settings = settings
        self._assistant = assistant
        self._waiting = ""
        self._searched = 0
        """Characters at the beginning of what waits that end no window."""
        self._before = ""
        """The end of what was approved: goes along with the next question."""

    async def feed(self, text: str, budget: Budget) -> Screened:
        """The next piece. Gives what is approved now, which may be nothing; waits for the answers that takes.

        Nothing may be fed behind an answer whose action stops: the text of that answer is
        what was approved before, and the window that was stopped is not shown.
        """
        self._waiting += text
        shown, strictest = "", Action.PASS
        while (end := self._window_end()) is not None:
            action = await self._ask(end, budget)
            strictest = max(strictest, action)
            if action.stops:
                break
            shown += self._take(end)
        return Screened(shown, strictest)

    async def close(self, budget: Budget) -> Screened:
        """The rest, at the end of the reply."""
        if not self._waiting:
            return Screened("")
        action = await self._ask(len(self._waiting), budget)
        return Screened("" if action.stops else self._take(len(self._waiting)), action)

    def _window_end(self) -> int | None:
        """Where the first window of what waits ends; ``None`` while that is open."""
        waiting, most = self._waiting, self._settings.window_characters
        least = min(self._settings.least_characters, most)
        for end in range(max(self._searched, least - 1) + 1, min(len(waiting), most) + 1):
            if end == most or _ends_sentence(waiting, end):
                return end
        self._searched = max(self._searched, min(len(waiting), most))
        return None

    async def _ask(self, end: int, budget: Budget) -> Action:
        window = self._waiting[:end]
        if window.isspace():
            return Action.PASS
        text = self._before + window
        return (await self._opinions.opinion(text, Direction.OUTPUT, self._assistant, budget)).action

    def _take(self, end: int) -> str:
        window, self._waiting = self._waiting[:end], self._waiting[end:]
        self._searched = 0
        kept = self._settings.context_characters
        self._before = (self._before + window)[-kept:] if kept else ""
        return window


def _ends_sentence(text: str, end: int) -> bool:
    """Whether a sentence ends with the character before ``end``: a full stop does if white space follows it."""
    last = text[end - 1]
    return last in _ENDS or (last.isspace() and end > 1 and text[end - 2] == ".")
