"""Recent rounds of recent conversations, kept ready in this process."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from cachetools import LRUCache

from server.domain import Round

ReadRounds = Callable[[str, int], Awaitable[tuple[Round, ...]]]
"""Reads the last so many rounds of a conversation, oldest first, from the turn rows."""


class _Window(msgspec.Struct, gc=False):
    """What is known of a conversation: its last ``depth`` rounds, or all that it has."""

    rounds: tuple[Round, ...]
    depth: int


class _Reading:
    """A conversation that is being read back: who waits, and whether what is read is still true."""

    __slots__ = ("generation", "lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.generation = 0


class RecentRounds:
    """A :class:`~server.memory.base.Memory` over the turn rows.

    A conversation that is not known is read back once, however many ask for it. What is
    remembered or forgotten meanwhile makes the reading stale, and it is done again.

    Belongs to one event loop; not thread-safe.
    """

    def __init__(self, read: ReadRounds, conversations: int, clock: Callable[[], float] = time.time) -> None:
        """Args: the store's reading, how many conversations to keep (0: none), POSIX seconds."""
        self._read = read
        self._clock = clock
        self._windows: LRUCache[str, _Window] | None = LRUCache(conversations) if conversations > 0 else None
        self._readings: dict[str, _Reading] = {}

    async def recall(self, conversation: str, rounds: int, idle_seconds: float) -> tuple[Round, ...]:
        """See :meth:`server.memory.base.Memory.recall`."""
        if rounds <= 0:
            return ()
        window = self._known(conversation, rounds)
        if window is None:
            window = await self._read_back(conversation, rounds)
        return _since_silence(window.rounds[-rounds:], self._clock(), idle_seconds)

    def remember(self, conversation: str, round_: Round) -> None:
        """See :meth:`server.memory.base.Memory.remember`."""
        self._make_stale(conversation)
        window = self._windows.get(conversation) if self._windows is not None else None
        # A conversation that is not known stays so: one round would pass for all of them.
        if window is not None and not _holds(window.rounds, round_):
            window.rounds = (*window.rounds, round_)[-window.depth :]

    def forget(self, conversation: str) -> None:
        """See :meth:`server.memory.base.Memory.forget`."""
        self._make_stale(conversation)
        if self._windows is not None:
            self._windows.pop(conversation, None)

    def _known(self, conversation: str, rounds: int) -> _Window | None:
        window = self._windows.get(conversation) if self._windows is not None else None
        return window if window is not None and window.depth >= rounds else None

    async def _read_back(self, conversation: str, rounds: int) -> _Window:
        async with self._reading(conversation) as reading:
            # Whoever held the lock before may have read it.
            window = self._known(conversation, rounds)
            while window is None:
                generation = reading.generation
                found = _Window(await self._read(conversation, rounds), rounds)
                # Ends, because a conversation has one turn at a time: it cannot go stale for ever.
                if reading.generation == generation:
                    window = found
                    if self._windows is not None:
                        self._windows[conversation] = window
        return window

    @asynccontextmanager
    async def _reading(self, conversation: str) -> AsyncIterator[_Reading]:
        """The only reading of a conversation.

        A lock and not a shared task: a caller that is cancelled takes only itself along,
        and the next one in line reads.
        """
        reading = self._readings.setdefault(conversation, _Reading())
        reading.users += 1
        try:
            async with reading.lock:
                yield reading
        finally:
            reading.users -= 1
            if not reading.users:
                del self._readings[conversation]

    def _make_stale(self, conversation: str) -> None:
        reading = self._readings.get(conversation)
        if reading is not None:
            reading.generation += 1


def _since_silence(rounds: Sequence[Round], now: float, idle_seconds: float) -> tuple[Round, ...]:
    """The rounds after the last silence of more than ``idle_seconds``.

    What lapsed once must not come back with the next round, so every gap counts, not
    only the last. A gap is measured between the ends of answers.
    """
    first = len(rounds)
    later = now
    while first and not (idle_seconds and later - rounds[first - 1].time > idle_seconds):
        first -= 1
        later = rounds[first].time
    return tuple(rounds[first:])


def _holds(rounds: Sequence[Round], round_: Round) -> bool:
    """Whether the round is there: it may have been read back between its row and this call."""
    return any(
        past.question == round_.question and past.answer == round_.answer and abs(past.time - round_.time) < 1.0
        for past in rounds
    )
