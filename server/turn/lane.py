"""One turn of a conversation at a time, in order of arrival."""

import asyncio
from collections import deque

from server.errors import ConversationBusy
from server.turn.live import LiveTurn

_RETRY_AFTER_SECONDS = 2.0
"""What a caller is told to wait when a line is full: about the time of a short answer."""


class Ticket:
    """A place in the line of a conversation, taken at the moment of arrival."""

    __slots__ = ("_lanes", "_left", "_ready", "conversation", "live")

    def __init__(self, lanes: "Lanes", conversation: str) -> None:
        self._lanes = lanes
        self._left = False
        self._ready: asyncio.Future[None] | None = None
        self.conversation = conversation
        self.live: LiveTurn | None = None
        """The turn that holds it. A turn that is owed holds it once it is on disk."""

    @property
    def first(self) -> bool:
        """Whether nobody is in front."""
        return self._lanes.is_first(self)

    def behind(self) -> LiveTurn | None:
        """The turn that comes next, if this one is first and there is one."""
        return self._lanes.behind(self)

    async def come_first(self) -> None:
        """Waits until nobody is in front. Cancelling the wait keeps the place until :meth:`leave`."""
        if self.first:
            return
        self._ready = asyncio.get_running_loop().create_future()
        await self._ready

    def leave(self) -> None:
        """Gives the place up and lets the next one come first. Idempotent."""
        if not self._left:
            self._left = True
            self._lanes.remove(self)

    def wake(self) -> None:
        """Tells the holder that it is first now."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)


class Lanes:
    """The lines of all conversations. Taking a place is synchronous, so that order is arrival."""

    def __init__(self, max_waiting: int) -> None:
        """Args: how many may wait behind the first one of a conversation."""
        self._max_waiting = max_waiting
        self._lines: dict[str, deque[Ticket]] = {}

    def full(self, conversation: str) -> bool:
        """Whether the line has no free place."""
        line = self._lines.get(conversation)
        return line is not None and len(line) > self._max_waiting

    def enter(self, conversation: str, *, always: bool = False) -> Ticket:
        """Takes the last place in the line.

        Args:
            always: takes a place even when the line is full, for a turn that is owed.

        Raises:
            ConversationBusy: if the line is full.
        """
        if not always and self.full(conversation):
            raise ConversationBusy(self._max_waiting, _RETRY_AFTER_SECONDS)
        ticket = Ticket(self, conversation)
        line = self._lines.get(conversation)
        if line is None:
            self._lines[conversation] = deque((ticket,))
        else:
            line.append(ticket)
        return ticket

    def is_first(self, ticket: Ticket) -> bool:
        line = self._lines.get(ticket.conversation)
        return bool(line) and line[0] is ticket  # type: ignore[index]  # bool(line) says it is there

    def behind(self, ticket: Ticket) -> LiveTurn | None:
        line = self._lines.get(ticket.conversation)
        return line[1].live if line is not None and len(line) > 1 and line[0] is ticket else None

    def remove(self, ticket: Ticket) -> None:
        line = self._lines[ticket.conversation]
        was_first = line[0] is ticket
        line.remove(ticket)
        if not line:
            del self._lines[ticket.conversation]
        elif was_first:
            line[0].wake()
