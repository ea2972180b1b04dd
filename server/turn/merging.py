"""Messages that one person sends in a row become one question.

A turn that comes first in its line waits a moment whether the person writes on. If the
turn behind it asks in the same breath, it hands its message over and ends, and the one
behind it waits in its place. So the last of them answers all.

Whether that has happened is decided by the store, in one transaction, and by nothing that
only this process knows: the later turn reads its question from its row when it is claimed.
"""

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from server.domain import Ask, DeliveryState, FinishReason, Turn, TurnState
from server.logged_names import logged_name
from server.store.base import TurnStore
from server.turn.assistants import Assistants
from server.turn.commands import asks_for_person, asks_to_forget
from server.turn.lane import Ticket
from server.turn.live import LiveTurn

_log = structlog.get_logger()

MOST_PARTS: Final = 16
"""Messages, or parts of messages, that one question may be made of."""


class Merging:
    """Decides which turns are answered by the one behind them."""

    def __init__(
        self,
        assistants: Assistants,
        store: TurnStore,
        max_characters: int,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Args: how long a question may be, POSIX seconds, and what waits."""
        self._assistants = assistants
        self._store = store
        self._max_characters = max_characters
        self._clock = clock
        self._sleep = sleep

    def may_wait(self, ask: Ask) -> bool:
        """Whether an owed turn must not be claimed with its acceptance, because it may wait for another message.

        Raises:
            ResourceNotFound: if there is no such assistant.
        """
        entry = self._assistants.get(ask.assistant).settings
        return entry.merge_seconds > 0 and self._plain(ask)

    async def successor(self, live: LiveTurn, ticket: Ticket) -> LiveTurn | None:
        """Waits whether the person writes on.

        Args:
            live: an owed turn that is not claimed.
            ticket: its place, which is the first.

        Returns:
            the turn that is to answer this message too; ``None`` if this turn is to answer it.

        Raises:
            ResourceNotFound: if there is no such assistant any more.
            StoreUnavailable: if the store cannot be read.
        """
        if live.attempts or not self.may_wait(live.ask):
            return None
        if await self._store.handed_off(live.turn.name.conversation):
            return None  # it gets no answer, and so need not wait for a longer question
        seconds = self._assistants.get(live.ask.assistant).settings.merge_seconds
        # Counted from the arrival: what has waited in line, or for a restart, has waited long enough.
        pause = min(seconds, live.turn.create_time + seconds - self._clock())
        if pause > 0:
            await self._sleep(pause)
        later = ticket.behind()
        return later if later is not None and self._same_breath(live.ask, later) else None

    async def merge(self, live: LiveTurn, later: LiveTurn) -> Turn | None:
        """Hands the message of ``live`` over to ``later``.

        Not to be cancelled: the store does it or not, and whoever writes an end must know which.

        Returns:
            the turn as it has ended, on disk; ``None`` if it is to be answered itself after all.

        Raises:
            StoreUnavailable: it may have ended all the same.
        """
        turn = copy.copy(live.turn)
        turn.state, turn.finish_reason, turn.end_time = TurnState.SUCCEEDED, FinishReason.MERGED, self._clock()
        merged = await self._store.merge(turn, later.turn.name)
        if merged is None:
            return None
        later.ask_more(merged.input)
        if merged.settled:
            turn.delivery_state = DeliveryState.DELIVERED
        _log.info("turn_merged", into=later.turn.name.request_id, **logged_name(turn.name))
        return turn

    def _same_breath(self, ask: Ask, later: LiveTurn) -> bool:
        """Whether ``later`` goes on with what ``ask`` says."""
        other = later.ask
        return (
            later.owed
            and later.waits
            and self._plain(other)
            and ask.sender is not None
            and other.sender is not None
            and ask.sender.id == other.sender.id
            and (ask.assistant, ask.options, ask.channel, ask.language_code, ask.caller)
            == (other.assistant, other.options, other.channel, other.language_code, other.caller)
            and len(ask.input.parts) + len(other.input.parts) <= MOST_PARTS
            # With the line break between them.
            and len(ask.input.text) + 1 + len(other.input.text) <= self._max_characters
        )

    def _plain(self, ask: Ask) -> bool:
        """Whether it is text of a person who may write on, and no command."""
        entry = self._assistants.get(ask.assistant).settings
        return (
            ask.sender is not None
            and not ask.input.media
            and not ask.history
            and not asks_to_forget(ask, entry)
            and not asks_for_person(ask, entry)
        )
