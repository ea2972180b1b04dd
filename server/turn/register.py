"""The turns that run now, or ended a moment ago: where a second listener finds the first."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from server.domain import TurnName
from server.errors import TurnCancelled
from server.turn.live import LiveTurn


class Register:
    """Running turns by name, and who listens to them.

    An ended turn stays for a moment, so that a poll or a listener that comes just behind
    its end is answered from memory.
    """

    def __init__(self, linger_seconds: float, keep_ended_seconds: float) -> None:
        self._linger = linger_seconds
        self._keep_ended = keep_ended_seconds
        self._turns: dict[TurnName, LiveTurn] = {}
        self._ended: deque[tuple[float, LiveTurn]] = deque()
        self.running = 0
        """How many have not ended."""

    def find(self, name: TurnName) -> LiveTurn | None:
        """The turn of that name, if it runs or has just ended."""
        return self._turns.get(name)

    def all(self) -> list[LiveTurn]:
        """Every turn it knows, in order of arrival."""
        return list(self._turns.values())

    def of_conversation(self, conversation: str) -> list[LiveTurn]:
        """The running turns of a conversation, in order of arrival."""
        return [
            live
            for live in self._turns.values()
            if live.turn.name.conversation == conversation and not live.turn.state.ended
        ]

    def add(self, live: LiveTurn) -> None:
        """Enters a turn that begins, in the place of an ended one of the same name."""
        self._turns[live.turn.name] = live
        self.running += 1

    def ended(self, live: LiveTurn) -> None:
        """Notes that a turn has ended, and drops those that ended long enough ago."""
        self.running -= 1
        now = asyncio.get_running_loop().time()
        self._ended.append((now + self._keep_ended, live))
        while self._ended and self._ended[0][0] <= now:
            self._drop(self._ended.popleft()[1])

    def forget_conversation(self, conversation: str) -> None:
        """Drops the ended turns of a conversation that is being deleted."""
        for name in [name for name in self._turns if name.conversation == conversation]:
            if self._turns[name].turn.state.ended:
                del self._turns[name]

    def _drop(self, live: LiveTurn) -> None:
        if self._turns.get(live.turn.name) is live:
            del self._turns[live.turn.name]

    # --- interest ------------------------------------------------------------------------

    @contextmanager
    def listening(self, live: LiveTurn) -> Iterator[None]:
        """Counts as a listener of a turn. When the last one leaves, the turn may stop."""
        live.listeners += 1
        self._stay(live)
        try:
            yield
        finally:
            live.listeners -= 1
            self._maybe_stop(live)

    def show_interest(self, live: LiveTurn) -> None:
        """Counts a poll: the turn goes on for another while without listeners."""
        if not live.listeners:
            self._maybe_stop(live)

    def _stay(self, live: LiveTurn) -> None:
        if live.linger is not None:
            live.linger.cancel()
            live.linger = None

    def _maybe_stop(self, live: LiveTurn) -> None:
        """Stops a turn that nobody is owed or listens to: at once, or after a while if it can be found again."""
        self._stay(live)
        if live.owed or live.listeners or live.turn.state.ended:
            return
        if live.ask.repeatable:
            live.linger = asyncio.get_running_loop().call_later(self._linger, live.stop, TurnCancelled())
        else:
            live.stop(TurnCancelled())
