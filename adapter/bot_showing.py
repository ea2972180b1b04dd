"""One delivery of a bot: a bubble that grows with the reply, further messages for what does not fit.

The stream's id is made from the turn's name, so every attempt writes to the same bubble and
repeating it shows nothing twice. Messages of the bot's own accord (``aibot_send_msg``) have
no such protection; how many were sent is recorded after each, and what remains is that the
one between the sending and the record may be seen twice.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import structlog

from adapter.bot_bubble import Bubble
from adapter.bot_connection import new_req_id
from adapter.bot_errors import (
    DEVICE,
    NOT_FOR_THIS,
    SLOW_DOWN,
    STREAM_CLOSED,
    TOO_LONG,
    AckMissing,
    BotError,
    ConnectionLost,
    FrameRefused,
)
from adapter.bot_line import BotLine
from adapter.outcome import Record
from adapter.render import BOT_STREAM_LIMIT, bot_parts, bot_stream_content, has_visible, split
from adapter.translate import Address
from adapter.unsaid import unsaid
from adapter.wire import send_markdown_frame
from weconverse import ConversationClient, Delivery, Turn, TurnStream, text_of

log = structlog.get_logger()

CONTINUED_LATER: Final = "\n\n（回答用时较长，完成后会另发一条完整的消息。）"
"""Ends a bubble that WeCom would close before the answer is complete."""

_WAIT: Final = 60.0
"""Seconds to wait for a connection, or in all for a frequency limit, before a delivery is put off."""
_BUBBLE_TRIES: Final = 3
"""How often the end of a bubble is sent when no acknowledgement comes: it is the same bubble each time."""
_LEVELS: Final = 4
_CLOSED: Final = frozenset({NOT_FOR_THIS, STREAM_CLOSED, DEVICE})
"""The bubble cannot show the reply; a message of our own accord can."""


class BotTiming(msgspec.Struct, frozen=True, kw_only=True):
    """How replies are shown; all in seconds."""

    refresh: float = 0.5
    """Between two refreshes of a bubble."""
    thinking: float = 1.5
    """Without any text until a person is told that we are thinking."""
    stream: float = 330.0
    """For which one bubble is written to."""
    follow: float = 900.0
    """For which one attempt watches a reply grow; the turn itself ends much sooner."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the next attempt must know."""

    sent: int = 0
    """Parts that WeCom took, the bubble's counted."""
    level: int = 0
    """How often the parts were halved because WeCom called them too long."""
    proactive: bool = False
    """Whether the bubble is closed, so that all parts are messages of our own accord."""
    tries: int = 0
    """How often the delivery was put off."""


def read_progress(data: bytes) -> Progress:
    """What an earlier attempt recorded; nothing when that cannot be read."""
    try:
        return msgspec.json.decode(data, type=Progress) if data else Progress()
    except msgspec.MsgspecError:
        return Progress()


def parts_of(reply: str, level: int) -> list[str]:
    """The parts of a reply, halved ``level`` times. The parts of one level are those of the one before, cut."""
    parts = bot_parts(reply)
    for step in range(1, level + 1):
        parts = _halved(parts, step)
    return parts


def _halved(parts: list[str], step: int) -> list[str]:
    return [piece for part in parts for piece in split(part, BOT_STREAM_LIMIT >> step, numbered=False)]


class Showing:
    """Shows one reply. ``progress`` is what the next attempt must know, should this one fail."""

    def __init__(
        self,
        client: ConversationClient,
        line: BotLine,
        timing: BotTiming,
        *,
        delivery: Delivery,
        address: Address,
        record: Record,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._line = line
        self._timing = timing
        self._delivery = delivery
        self._address = address
        self._record = record
        self._clock = clock
        self._bubble = Bubble(
            line,
            address.req_id,
            delivery.turn,
            refresh_seconds=timing.refresh,
            window_seconds=timing.stream,
            clock=clock,
        )
        self.progress = read_progress(delivery.progress)

    async def run(self) -> None:
        """Returns when WeCom has all of it.

        Raises:
            BotError: it has not.
            WeConverseError: the service broke off.
        """
        if not self._address.req_id and not self.progress.proactive:
            self.progress = msgspec.structs.replace(self.progress, proactive=True)
        if self._delivery.HasField("ended_turn"):
            turn = self._delivery.ended_turn
        else:
            turn = await self._watch()
        if note := unsaid(turn):
            await self._withdraw(note)
            return
        reply = text_of(turn.reply)
        while self.progress.sent < len(parts := parts_of(reply, self.progress.level)):
            try:
                await self._show(parts[self.progress.sent])
            except FrameRefused as refused:
                await self._make_way(refused, parts)
                continue
            self.progress = msgspec.structs.replace(self.progress, sent=self.progress.sent + 1)
            if self.progress.sent < len(parts):
                await self._recorded()

    # --- the reply as it is -----------------------------------------------------------------

    async def _show(self, part: str) -> None:
        if self.progress.sent == 0 and not self.progress.proactive:
            if self._bubble.left <= 0:
                raise FrameRefused(STREAM_CLOSED, "a bubble that is too old")
            await _patiently(lambda: self._finish(part))
            return
        req_id = new_req_id("aibot_send_msg")
        chat_type = 2 if self._address.chat else 1
        frame = send_markdown_frame(req_id, self._address.target, chat_type, part)
        await _patiently(lambda: self._line.request(req_id, frame, "aibot_send_msg", wait_seconds=_WAIT))

    async def _finish(self, part: str) -> None:
        for left in reversed(range(_BUBBLE_TRIES)):
            try:
                await self._bubble.finish(part, wait_seconds=_WAIT)
            except (AckMissing, ConnectionLost):
                if left == 0:
                    raise
            else:
                return

    async def _withdraw(self, note: str) -> None:
        """Ends the bubble of a message that gets no answer of its own, if one may be open; shows nothing otherwise."""
        if self.progress.proactive or not (self._bubble.opened or self._delivery.attempt > 1):
            return
        try:
            await self._finish(note)
        except FrameRefused as refused:
            # It is closed already, or closes by itself: there is nothing that a person would miss.
            log.info("bubble_left_open", turn=self._delivery.turn, why=str(refused))

    async def _make_way(self, refused: FrameRefused, parts: list[str]) -> None:
        """Changes what a refusal asks to be changed, or raises it."""
        progress = self.progress
        if refused.code in TOO_LONG and progress.level < _LEVELS:
            # The parts before this one were sent: count how many they are when halved.
            level = progress.level + 1
            sent = len(_halved(parts[: progress.sent], level))
            self.progress = msgspec.structs.replace(progress, level=level, sent=sent)
        elif refused.code in _CLOSED and progress.sent == 0 and not progress.proactive:
            self.progress = msgspec.structs.replace(progress, proactive=True)
        else:
            raise refused
        log.info("reply_shown_differently", turn=self._delivery.turn, code=refused.code)
        await self._recorded()

    async def _recorded(self) -> None:
        await self._record(msgspec.json.encode(self.progress))

    # --- the reply as it grows --------------------------------------------------------------

    async def _watch(self) -> Turn:
        async with self._client.follow(self._delivery.turn, timeout=self._timing.follow) as stream:
            if not self.progress.proactive and self.progress.sent == 0:
                async with _reading(stream) as news:
                    await self._paint(stream, news)
                    await news.end()
            return await stream.result()

    async def _paint(self, stream: TurnStream, news: "_News") -> None:
        """Refreshes the bubble until the reply is complete or the bubble closes."""
        think_at = self._clock() + self._timing.thinking
        painted: str | None = None
        while not news.ended:
            if self._bubble.left <= 0:
                await self._close_early(stream.text)
                return
            text, now = stream.text, self._clock()
            visible = has_visible(text)
            wanted = text if visible else "" if now >= think_at else None
            if wanted is None:
                pause = think_at - now
            elif wanted == painted:
                pause = self._bubble.left
            else:
                pause = self._bubble.due_in
                if pause <= 0:
                    painted = wanted
                    if not await self._refreshed(text):
                        return
                    continue
            await news.wait(min(pause, self._bubble.left), end_only=wanted is not None and wanted != painted)

    async def _refreshed(self, text: str) -> bool:
        """Whether the bubble can go on."""
        try:
            await self._bubble.refresh(text)
        except FrameRefused as refused:
            if refused.code in _CLOSED:
                self.progress = msgspec.structs.replace(self.progress, proactive=True)
                await self._recorded()
                return False
            log.warning("refresh_refused", turn=self._delivery.turn, code=refused.code)
        return True

    async def _close_early(self, text: str) -> None:
        self.progress = msgspec.structs.replace(self.progress, proactive=True)
        await self._recorded()
        try:
            await self._bubble.finish(bot_stream_content(text + CONTINUED_LATER), wait_seconds=self._timing.refresh)
        except BotError as error:
            log.info("bubble_left_open", turn=self._delivery.turn, why=str(error))


async def _patiently(send: Callable[[], Awaitable[None]]) -> None:
    """Waits where a frequency limit says so: a refusal means that nothing was shown."""
    waited = 0.0
    while True:
        try:
            await send()
        except FrameRefused as refused:
            pause = SLOW_DOWN.get(refused.code)
            if pause is None or waited + pause > _WAIT:
                raise
            waited += pause
            await asyncio.sleep(pause)
        else:
            return


class _News:
    """Tells when a stream has moved, while it is read in a task of its own."""

    def __init__(self, stream: TurnStream) -> None:
        self._stream = stream
        self._moved = asyncio.Event()
        self.task = asyncio.create_task(self._read(), name=f"follow {stream.name}")

    @property
    def ended(self) -> bool:
        return self.task.done()

    async def wait(self, seconds: float, *, end_only: bool) -> None:
        """Returns when something came (or the end, if only that matters), or after that many seconds."""
        if end_only:
            await asyncio.wait((self.task,), timeout=seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            pass
        self._moved.clear()

    async def end(self) -> None:
        """Waits for the end of the stream. Raises what reading it raised."""
        await self.task

    async def _read(self) -> None:
        try:
            async for _ in self._stream:
                self._moved.set()
        finally:
            self._moved.set()


@asynccontextmanager
async def _reading(stream: TurnStream) -> AsyncIterator[_News]:
    news = _News(stream)
    try:
        yield news
    finally:
        news.task.cancel()
        await asyncio.gather(news.task, return_exceptions=True)
