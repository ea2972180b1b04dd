"""Listeners: one of a turn that runs, one of a turn that is only on disk."""

from collections.abc import AsyncIterator, Sequence

from server.domain import Completed, Event, Started, Turn
from server.store.base import StoredTurn
from server.turn.live import LiveTurn


class LiveFollower:
    """Follows a turn that runs, or has just ended."""

    def __init__(self, live: LiveTurn, *, attached: bool, after_sequence: int = 0) -> None:
        self._live = live
        self._after = after_sequence
        self.attached = attached

    @property
    def turn(self) -> Turn:
        return self._live.snapshot()

    async def batches(self) -> AsyncIterator[Sequence[tuple[int, Event]]]:
        sequence = self._after + 1
        async for batch in self._live.events.batches(self._after):
            yield list(enumerate(batch, sequence))
            sequence += len(batch)


class StoredFollower:
    """Replays a turn that has ended, exactly as it was streamed."""

    def __init__(self, stored: StoredTurn, *, after_sequence: int = 0) -> None:
        self._stored = stored
        self._after = after_sequence
        self.attached = True

    @property
    def turn(self) -> Turn:
        return self._stored.turn

    async def batches(self) -> AsyncIterator[Sequence[tuple[int, Event]]]:
        events: list[Event] = [Started(), *self._stored.events, Completed()]
        numbered = list(enumerate(events, 1))[self._after :]
        if numbered:
            yield numbered
