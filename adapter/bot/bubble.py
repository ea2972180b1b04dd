"""The bubble of a bot's reply: whole text so far, frame after frame, at a bounded rate (DOC 101031, 101463)."""

import hashlib
import time
from collections.abc import Callable
from typing import Final

from adapter.bot.errors import SLOW_DOWN, AckMissing, ConnectionLost, FrameRefused
from adapter.bot.line import BotLine
from adapter.text.render import bot_stream_content
from adapter.wire import stream_frame

CMD: Final = "aibot_respond_msg"
_SLOWEST: Final = 10.0


def stream_id(turn: str) -> str:
    """The id of the stream that shows a turn: the same in every attempt, so that another one continues it."""
    return hashlib.sha256(turn.encode()).hexdigest()[:32]


class Bubble:
    """One stream. Frames go out one by one, so a slow acknowledgement skips refreshes by itself."""

    def __init__(
        self,
        line: BotLine,
        req_id: str,
        turn: str,
        *,
        refresh_seconds: float,
        window_seconds: float,
        feedback_id: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        window_seconds: for how long this stream may be written to, from its first frame.
        feedback_id: what a rating of the reply names; empty where an earlier attempt may have said it.
        """
        self._line = line
        self._req_id = req_id
        self._stream_id = stream_id(turn)
        self._refresh = refresh_seconds
        self._window_seconds = window_seconds
        self._feedback_id = feedback_id
        self._clock = clock
        self._shown = ""
        self._next_at = clock()
        self._opened_at: float | None = None

    @property
    def due_in(self) -> float:
        """Seconds until the next refresh may go out."""
        return max(0.0, self._next_at - self._clock())

    @property
    def left(self) -> float:
        """Seconds for which the stream may still be written to; before its first frame, the whole window."""
        if self._opened_at is None:
            return self._window_seconds
        return self._opened_at + self._window_seconds - self._clock()

    @property
    def opened(self) -> bool:
        """Whether a frame of it went out from here."""
        return self._opened_at is not None

    async def refresh(self, text: str) -> None:
        """Shows the text so far. Losing a refresh is harmless, so only what ends the stream is raised.

        Raises:
            FrameRefused: the stream cannot be written to; a frequency limit only slows this down.
        """
        content = bot_stream_content(text)
        if content == self._shown:
            return
        began = self._clock()
        if self._opened_at is None:
            self._opened_at = began
        try:
            await self._write(content, finish=False, wait_seconds=self._refresh)
        except FrameRefused as refused:
            if refused.code not in SLOW_DOWN:
                raise
            self._refresh = min(_SLOWEST, self._refresh * 2)
            self._next_at = self._clock() + SLOW_DOWN[refused.code]
            return
        except (AckMissing, ConnectionLost):
            pass  # The next refresh, or the end, shows the same text and more.
        else:
            self._shown = content
        # From the sending on: what the acknowledgement takes is part of the pause, not beside it.
        self._next_at = began + self._refresh

    async def finish(self, content: str, *, wait_seconds: float, taken: Callable[[], None] | None = None) -> None:
        """Shows the last content and ends the stream. Repeating it shows nothing twice.

        Args: ``taken`` is called when WeCom has it.

        Raises:
            BotError: it may not be shown.
        """
        await self._write(content, finish=True, wait_seconds=wait_seconds, taken=taken)

    async def _write(
        self, content: str, *, finish: bool, wait_seconds: float, taken: Callable[[], None] | None = None
    ) -> None:
        feedback_id, self._feedback_id = self._feedback_id, ""  # in the first reply only (DOC 101031)
        frame = stream_frame(self._req_id, self._stream_id, content, finish, feedback_id)
        try:
            await self._line.request(self._req_id, frame, CMD, wait_seconds=wait_seconds, taken=taken)
        except FrameRefused:
            self._feedback_id = feedback_id  # which did nothing, so the next one is the first
            raise
