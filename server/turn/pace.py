"""When text is passed on: at once, or merged with what follows within a set time."""

import asyncio

from server.domain import ProgressStage, ReplacementCause
from server.turn.live import LiveTurn


class Pace:
    """Passes text to a turn, at most once per interval, and says so when nothing comes.

    The first text is never held back: the wait for it is what a person feels. Belongs to
    one turn; :meth:`close` must be called, whatever happens.
    """

    __slots__ = ("_flush_handle", "_held", "_interval", "_live", "_loop", "_next_flush", "_progress", "_silence")

    def __init__(self, live: LiveTurn, interval: float, progress_seconds: float) -> None:
        """Args: seconds to merge over (0 passes everything on at once), and of silence before a sign of life."""
        self._live = live
        self._interval = interval
        self._progress = progress_seconds
        self._loop = asyncio.get_running_loop()
        self._held: list[str] = []
        self._next_flush = 0.0
        self._flush_handle: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None

    def waiting(self, stage: ProgressStage) -> None:
        """From now on, silence means waiting for ``stage``."""
        self._stop_silence()
        self._silence = self._loop.call_later(self._progress, self._say, stage)

    def add(self, text: str) -> None:
        """Passes text on, now or when the interval has passed."""
        self._stop_silence()
        if self._interval <= 0.0:
            self._live.add(text)
            return
        self._held.append(text)
        if self._flush_handle is None:
            wait = self._next_flush - self._loop.time()
            if wait <= 0:
                self.flush()
            else:
                self._flush_handle = self._loop.call_later(wait, self.flush)

    def flush(self) -> None:
        """Passes on what is held."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if self._held:
            text = "".join(self._held)
            self._held.clear()
            self._next_flush = self._loop.time() + self._interval
            self._live.add(text)

    def begin_anew(self, text: str) -> None:
        """Takes everything back, what is held too, and shows this text at once in its place."""
        self._stop_silence()
        self.drop()
        self._next_flush = self._loop.time() + self._interval
        self._live.replace(text, ReplacementCause.FAILOVER)

    def drop(self) -> None:
        """Forgets what is held: it is being taken back before it was shown."""
        self._held.clear()
        self.flush()

    def close(self) -> None:
        """Stops the timers. What is held is dropped; :meth:`flush` first to keep it."""
        self.drop()
        self._stop_silence()

    def _say(self, stage: ProgressStage) -> None:
        self._live.wait_for(stage)
        self._silence = self._loop.call_later(self._progress, self._say, stage)

    def _stop_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
