"""A turn while it runs: what it has said so far, and who listens."""

import asyncio
import copy
import time

import msgspec

from server.broadcast import Broadcast
from server.domain import (
    Ask,
    Completed,
    Content,
    Delta,
    Event,
    FinishReason,
    Progress,
    ProgressStage,
    Reasoning,
    Replacement,
    ReplacementCause,
    Started,
    Turn,
    TurnState,
)
from server.errors import DomainError, RequestIdReused

_STARTED = Started()
_COMPLETED = Completed()


class LiveTurn:
    """One running turn: its row to be, its events, its listeners.

    The engine writes, listeners read. An event's sequence number is its position, from 1.
    """

    __slots__ = (
        "_digest",
        "_reply",
        "_shown",
        "_withheld",
        "ask",
        "attempts",
        "began",
        "begun",
        "claimed",
        "epoch",
        "events",
        "hidden",
        "linger",
        "listeners",
        "owed",
        "stop_reason",
        "task",
        "turn",
    )

    def __init__(
        self,
        ask: Ask,
        turn: Turn,
        *,
        owed: bool = False,
        epoch: int = 0,
        attempts: int = 0,
        claimed: bool = False,
        input_digest: bytes | None = None,
    ) -> None:
        """Args: for an owed turn, its epoch and count of claims on disk, whether this process made the last
        one, and the digest of what was said under its name, if that may differ from what it asks.
        """
        self.ask = ask
        self.turn = turn
        self.owed = owed
        self.epoch = epoch
        self.attempts = attempts
        self.claimed = claimed
        self.begun = False
        self.began = time.monotonic()
        self.events: Broadcast[Event] = Broadcast()
        self.events.append(_STARTED)
        self.listeners = 0
        self.linger: asyncio.TimerHandle | None = None
        self.stop_reason: DomainError | None = None
        self.task: asyncio.Task[None] | None = None
        self.hidden = False
        """Whether a part of what was said must not be kept."""
        self._reply: list[str] = []
        self._shown: str | None = None
        self._withheld: list[Event] = []
        self._digest = input_digest

    @property
    def input_digest(self) -> bytes:
        if self._digest is None:
            self._digest = self.ask.said_digest
        return self._digest

    @property
    def waits(self) -> bool:
        """Whether it stands in line, and nobody has asked it to stop."""
        return self.turn.state is TurnState.QUEUED and not self.attempts and self.stop_reason is None

    def ask_more(self, content: Content) -> None:
        """Takes over what this turn asks: by its row, messages of earlier turns included, or by what was read of it."""
        if content != self.ask.input:
            self._digest = self.input_digest
            self.ask = msgspec.structs.replace(self.ask, input=content)
            self.turn.input = content

    def hide(self, content: Content) -> None:
        """Keeps this, which the filter left, in the place of what was said."""
        self._digest = self.input_digest
        self.ask = msgspec.structs.replace(self.ask, input=content)
        self.turn.input = content
        self.hidden = True

    def check_same(self, ask: Ask) -> None:
        """Raises ``RequestIdReused`` if ``ask`` has another input than this turn."""
        # What it asks may be something else than what was said: merged, hidden in part, or read of a file.
        unchanged = self._digest is None and ask.input == self.ask.input
        if not unchanged and ask.said_digest != self.input_digest:
            raise RequestIdReused(str(self.turn.name))

    # --- what the engine says ------------------------------------------------------------

    def add(self, text: str) -> None:
        """More reply text, decided by every filter. Empty text is no event."""
        if not text:
            return
        if self.turn.first_delta_latency is None:
            self.turn.first_delta_latency = time.monotonic() - self.began
        self._say(Delta(text))
        self._reply.append(text)

    def reason(self, text: str) -> None:
        """More of what the model thought aloud."""
        self.events.append(Reasoning(text))

    def replace(self, text: str, cause: ReplacementCause) -> None:
        """Takes the reply so far back. A reply of which nothing was shown needs no taking back."""
        self._take_back_withheld()
        if not self._reply:
            self.add(text)
            return
        self._say(Replacement(text, cause))
        self._reply = [text] if text else []

    def _say(self, event: Delta | Replacement) -> None:
        """Shows it now; but that a person takes over only once that is on disk, with the end of the turn.

        Else somebody could read it, and the process die, and the assistant answer the next message.
        """
        if self.turn.finish_reason is not FinishReason.HANDED_OFF or not self.ask.options.can_hand_off:
            self.events.append(event)
            return
        if self._shown is None:
            self._shown = self.reply()
        self._withheld.append(event)

    def _take_back_withheld(self) -> None:
        if self._shown is not None:
            self._reply = [self._shown] if self._shown else []
            self._shown = None
            self._withheld.clear()

    def wait_for(self, stage: ProgressStage) -> None:
        """A sign of life."""
        self.events.append(Progress(stage, time.monotonic() - self.began))

    def reply(self) -> str:
        """The reply so far, as it would be stored."""
        if len(self._reply) > 1:
            self._reply = ["".join(self._reply)]
        return self._reply[0] if self._reply else ""

    def adopt_end(self, turn: Turn) -> None:
        """Takes over an end that is on disk already."""
        self.turn = turn
        self.replace(turn.reply, ReplacementCause.UNSPECIFIED)

    def complete(self) -> None:
        """The turn is over and stored."""
        for event in self._withheld:
            self.events.append(event)
        self._withheld.clear()
        self.events.append(_COMPLETED)
        self.events.close()

    def fail(self, error: DomainError) -> None:
        """The turn is over, and its callers get ``error``."""
        self.events.close(error)

    def recorded(self) -> tuple[Event, ...]:
        """The events for the row: everything between ``Started`` and ``Completed``."""
        return (*self.events.items[1:], *self._withheld)

    def snapshot(self) -> Turn:
        """The turn as it stands now, with what may be shown of its reply so far."""
        if self.turn.state.ended:
            return self.turn
        turn = copy.copy(self.turn)
        turn.reply = self.reply() if self._shown is None else self._shown
        return turn

    def forget(self) -> None:
        """The conversation was reset under this turn: it will not be remembered."""
        options = msgspec.structs.replace(self.ask.options, bypass_memory=True)
        self.ask = msgspec.structs.replace(self.ask, options=options)

    # --- who listens -----------------------------------------------------------------------

    def stop(self, reason: DomainError) -> None:
        """Ends the turn from outside, unless it has ended."""
        if self.task is None or self.task.done() or self.stop_reason is not None:
            return
        self.stop_reason = reason
        if self.begun:  # a task that is cancelled before its first step would never reach its own clean-up
            self.task.cancel()

    @property
    def failed_or_stopped(self) -> bool:
        """Whether it ended so that a new request of the same name runs anew."""
        return self.turn.state in (TurnState.FAILED, TurnState.CANCELLED)
