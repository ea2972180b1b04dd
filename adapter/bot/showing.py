"""One delivery of a bot: a bubble that grows with the reply, further messages for what does not fit in it.

The stream's id is made from the turn's name, so every attempt writes to the same bubble and
repeating it shows nothing twice. Messages of the bot's own accord (``aibot_send_msg``), cards
and files have no such protection. How many were sent is recorded after each, and remembered
here too, for an attempt that begins before the record has arrived, as after a restart of the
service. What remains is that of an instance that dies the one between the sending and the
record may be seen twice.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import msgspec
import structlog

from adapter.bot.bubble import CMD, Bubble
from adapter.bot.connection import new_req_id
from adapter.bot.errors import (
    BAD_MEDIA,
    DEVICE,
    NOT_FOR_THIS,
    NOT_SENDABLE,
    RECEIVER,
    SLOW_DOWN,
    STREAM_CLOSED,
    TOO_LONG,
    AckMissing,
    BotError,
    ConnectionLost,
    FrameRefused,
    OverBudget,
)
from adapter.bot.line import BotLine
from adapter.bot.pieces import Card, File, Piece, Words, halved, pieces_of
from adapter.outcome import Record
from adapter.recently_sent import MemberPace
from adapter.text.render import bot_stream_content, has_visible
from adapter.translate import Address
from adapter.unsaid import unsaid
from adapter.wire import respond_frame, send_frame
from weconverse import ConversationClient, Delivery, Turn, TurnStream
from weconverse.v1.conversation_pb2 import Media

log = structlog.get_logger()

CONTINUED_LATER: Final = "\n\n（回答用时较长，完成后会另发一条完整的消息。）"
"""Ends a bubble that WeCom would close before the answer is complete."""

_FEEDBACK_BYTES: Final = 256
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
    """Pieces that WeCom took, the bubble's counted."""
    level: int = 0
    """How often the texts were halved because WeCom called them too long."""
    proactive: bool = False
    """Whether the bubble is closed, so that all pieces are messages of our own accord."""
    tries: int = 0
    """How often the delivery was put off."""
    refused: tuple[int, ...] = ()
    """Cards and files that WeCom refused, so that they are said in words."""


def read_progress(data: bytes) -> Progress:
    """What an earlier attempt recorded; nothing when that cannot be read."""
    try:
        return msgspec.json.decode(data, type=Progress) if data else Progress()
    except msgspec.MsgspecError:
        return Progress()


def further(one: Progress, other: Progress) -> Progress:
    """What is known from two sources: the one of an attempt that came later, or further."""
    return max(one, other, key=lambda known: (known.proactive, known.level, len(known.refused), known.sent))


class Upload(Protocol):
    """Gives WeCom the bytes of a file."""

    async def __call__(self, media: Media) -> tuple[str, Mapping[str, Any]]:
        """The ``msgtype`` that shows it, and what belongs to that.

        Raises:
            FrameRefused: WeCom does not take it.
            BotError: it is not known whether it does.
        """
        ...

    def forget(self, media_id: str) -> None:
        """Tells that WeCom has let go of what was put up: the same file is then put up anew."""
        ...


class Showing:
    """Shows one reply, or sends one message. ``progress`` is what the next attempt must know, should this one fail."""

    def __init__(
        self,
        client: ConversationClient,
        line: BotLine,
        timing: BotTiming,
        *,
        delivery: Delivery,
        address: Address,
        record: Record,
        pace: MemberPace,
        shown: MutableMapping[str, Progress],
        upload: Upload | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: ``shown`` remembers of each turn how far this process has shown it."""
        self._client = client
        self._line = line
        self._timing = timing
        self._delivery = delivery
        self._address = address
        self._record = record
        self._pace = pace
        self._upload = upload
        self._clock = clock
        self._bubble = Bubble(
            line,
            address.req_id,
            delivery.turn,
            refresh_seconds=timing.refresh,
            window_seconds=timing.stream,
            feedback_id=delivery.turn if delivery.attempt <= 1 and len(delivery.turn) <= _FEEDBACK_BYTES else "",
            clock=clock,
        )
        self._shown = shown
        self.progress = read_progress(delivery.progress)
        # Only if it was offered before: a deleted turn's name may be used anew.
        if delivery.attempt > 1 and (known := shown.get(delivery.turn)) is not None:
            self.progress = further(self.progress, known)

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
        while self.progress.sent < len(pieces := self._pieces(turn)):
            piece = pieces[self.progress.sent]
            try:
                await self._show(piece)
            except FrameRefused as refused:
                await self._make_way(refused, piece, pieces)
                continue
            if self.progress.sent < len(pieces):
                await self._recorded()

    def _taken(self) -> None:
        """WeCom has the next piece."""
        self.progress = msgspec.structs.replace(self.progress, sent=self.progress.sent + 1)
        self._shown[self._delivery.turn] = self.progress

    # --- the reply as it is -----------------------------------------------------------------

    def _pieces(self, turn: Turn) -> list[Piece]:
        return pieces_of(
            turn,
            self._address,
            level=self.progress.level,
            refused=self.progress.refused,
            answering=bool(self._address.req_id),
        )

    async def _show(self, piece: Piece) -> None:
        match piece:
            case Words(text) if self.progress.sent == 0 and not self.progress.proactive:
                if self._bubble.left <= 0:
                    raise FrameRefused(STREAM_CLOSED, "a bubble that is too old")
                await self._in_budget(lambda: self._finish(text, self._taken))
            case Words(text):
                await self._send("markdown", {"content": text})
            case Card(card=card):
                await self._reply("template_card", card)
            case File(media=media):
                if self._upload is None:
                    raise FrameRefused(NOT_SENDABLE, "a file")
                await self._file(media, self._upload)

    async def _file(self, media: Media, upload: Upload) -> None:
        msgtype, inner = await upload(media)
        try:
            await self._reply(msgtype, inner)
        except FrameRefused as refused:
            if refused.code != BAD_MEDIA:
                raise
            # An earlier reply had put it up, and WeCom has let go of it.
            upload.forget(str(inner.get("media_id", "")))
            await self._reply(*await upload(media))

    async def _reply(self, msgtype: str, inner: Mapping[str, Any]) -> None:
        """A whole message: under the ``req_id`` of the person's, which takes several, or of our own accord."""
        req_id = self._address.req_id
        if not req_id:
            await self._send(msgtype, inner)
            return
        frame = respond_frame(req_id, msgtype, inner)
        await self._in_budget(lambda: self._line.request(req_id, frame, CMD, wait_seconds=_WAIT, taken=self._taken))

    async def _send(self, msgtype: str, inner: Mapping[str, Any]) -> None:
        req_id = new_req_id("aibot_send_msg")
        frame = send_frame(req_id, self._address.target, 2 if self._address.chat else 1, msgtype, inner)
        await self._in_budget(
            lambda: self._line.request(req_id, frame, "aibot_send_msg", wait_seconds=_WAIT, taken=self._taken)
        )

    async def _in_budget(self, send: Callable[[], Awaitable[object]]) -> None:
        """Sends when the conversation may get another message; a refusal for frequency showed nothing, and is repeated.

        Raises:
            OverBudget: that takes too long for one attempt.
        """
        target, waited = self._address.target, 0.0
        while True:
            pause = self._pace.wait(target)
            refusal: FrameRefused = OverBudget(pause)
            if pause <= 0:
                self._pace.sent(target)
                try:
                    await send()
                except FrameRefused as refused:
                    if refused.code not in SLOW_DOWN:
                        raise
                    pause, refusal = SLOW_DOWN[refused.code], refused
                else:
                    return
            if waited + pause > _WAIT:
                raise refusal
            waited += pause
            await asyncio.sleep(pause)

    async def _finish(self, part: str, taken: Callable[[], None] | None = None) -> None:
        for left in reversed(range(_BUBBLE_TRIES)):
            try:
                await self._bubble.finish(part, wait_seconds=_WAIT, taken=taken)
            except (AckMissing, ConnectionLost):
                if left == 0:
                    raise
            else:
                return

    async def _withdraw(self, words: str) -> None:
        """Ends the bubble of a message that gets no answer here, if one may be open; shows nothing otherwise."""
        if self.progress.proactive or not (self._bubble.opened or self._delivery.attempt > 1):
            return
        try:
            await self._finish(words)
        except FrameRefused as refused:
            # It is closed already, or closes by itself: there is nothing that a person would miss.
            log.info("bubble_left_open", turn=self._delivery.turn, why=str(refused))

    async def _make_way(self, refused: FrameRefused, piece: Piece, pieces: list[Piece]) -> None:
        """Changes what a refusal asks to be changed, or raises it."""
        progress = self.progress
        if refused.code in SLOW_DOWN or refused.code in RECEIVER:
            raise refused
        if not isinstance(piece, Words):
            self.progress = msgspec.structs.replace(progress, refused=(*progress.refused, piece.number))
        elif refused.code in TOO_LONG and progress.level < _LEVELS:
            # The pieces before this one were sent: count how many they are when halved.
            level = progress.level + 1
            sent = len(halved(pieces[: progress.sent], level))
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
                pause = max(self._bubble.due_in, self._until_room())
                if pause <= 0:
                    painted = wanted
                    if not await self._refreshed(text):
                        return
                    continue
            await news.wait(min(pause, self._bubble.left), end_only=wanted is not None and wanted != painted)

    def _until_room(self) -> float:
        """Seconds until a bubble may be opened: its first frame counts as a message, and so does its last."""
        return 0.0 if self._bubble.opened else self._pace.wait(self._address.target, 2)

    async def _refreshed(self, text: str) -> bool:
        """Whether the bubble can go on."""
        if not self._bubble.opened:
            self._pace.sent(self._address.target)
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
        self._pace.sent(self._address.target)
        try:
            await self._bubble.finish(bot_stream_content(text + CONTINUED_LATER), wait_seconds=self._timing.refresh)
        except BotError as error:
            log.info("bubble_left_open", turn=self._delivery.turn, why=str(error))


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
