"""What a model's words pass before anybody sees them, in this order: names become values again, the
word lists, and whoever has to approve."""

import msgspec

from server.budget import Budget
from server.filter.base import Screened, Screening, TextStream
from server.filter.entries import Action, Direction
from server.filter.moderated_text import ModeratedStream, Moderation
from server.filter.pii.guard import ReplyText
from server.turn.personal import NewReply


class Passage(msgspec.Struct, frozen=True):
    """The filter of one turn's replies; makes a new stream for each beginning."""

    assistant: str
    screening: Screening
    moderation: Moderation | None
    new_reply: NewReply | None

    def reply(self) -> "PassingText":
        """For a reply, from its beginning."""
        approval = None if self.moderation is None else self.moderation.stream(self.assistant)
        return PassingText(self._personal(), self.screening.stream(Direction.OUTPUT), approval)

    def thoughts(self) -> "PassingText":
        """For what the model thinks aloud: a text of its own, which nobody has to approve."""
        return PassingText(self._personal(), self.screening.stream(Direction.OUTPUT), None)

    def _personal(self) -> ReplyText | None:
        return None if self.new_reply is None else self.new_reply()


class PassingText:
    """A text on its way. What it gives is final; behind an action that stops, nothing more may be fed."""

    __slots__ = ("_approval", "_personal", "_words")

    def __init__(self, personal: ReplyText | None, words: TextStream, approval: ModeratedStream | None) -> None:
        self._personal = personal
        self._words = words
        self._approval = approval

    async def feed(self, text: str, budget: Budget) -> Screened:
        """The next piece."""
        if self._personal is not None:
            text = self._personal.feed(text)
        screened = self._words.feed(text)
        if self._approval is None or not screened.text:
            return screened
        if screened.action.stops:
            return Screened("", screened.action)  # what stands before the words that stop it has no approval
        return _stricter(await self._approval.feed(screened.text, budget), screened.action)

    async def close(self, budget: Budget) -> Screened:
        """The rest, at the end of the text."""
        rest = "" if self._personal is None else self._personal.close()
        first = await self.feed(rest, budget) if rest else Screened("")
        if first.action.stops:
            return first
        last = self._words.close()
        if self._approval is None:
            return Screened(first.text + last.text, max(first.action, last.action))
        if last.action.stops:
            return Screened(first.text, last.action)
        shown = await self._approval.feed(last.text, budget) if last.text else Screened("")
        if not shown.action.stops:
            closed = await self._approval.close(budget)
            shown = Screened(shown.text + closed.text, max(shown.action, closed.action))
        return Screened(first.text + shown.text, max(first.action, last.action, shown.action))


def _stricter(screened: Screened, action: Action) -> Screened:
    return screened if screened.action >= action else Screened(screened.text, action)
