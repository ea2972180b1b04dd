"""One long connection of a bot, subscribed: frames out with their acknowledgements, pushes in (DOC 101463).

An acknowledgement names nothing but the ``req_id``, and all refreshes of a reply share one.
So frames of one ``req_id`` go out one by one, the next when the one before is
acknowledged; a late acknowledgement is waited for, because it would otherwise be taken for
that of the next frame. Frames of different ``req_id`` do not wait for each other.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from weakref import WeakValueDictionary

import aiohttp
import structlog

from adapter.bot.errors import AckMissing, ConnectionLost, FrameRefused, SubscribeRefused
from adapter.metrics import Metrics
from adapter.wire import Frame, WireError, parse_frame, ping_frame, pong_frame, subscribe_frame
from program.secret import Secret

log = structlog.get_logger()

_MISSED_BEATS: Final = 2
"""Heartbeats without an acknowledgement after which a connection counts as dead."""
_SILENT_FRAMES: Final = 3
"""Frames in a row without an acknowledgement, whatever their ``req_id``, after which it counts as dead too."""
_MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
_CLOSE_SECONDS: Final = 1.0
_LAST_ACK_SECONDS: Final = 1.0
"""What a cancelled sender still waits for an acknowledgement, which takes some 50 ms."""


def new_req_id(cmd: str) -> str:
    """A ``req_id`` of our own, for frames that answer nothing."""
    return f"{cmd}_{secrets.token_hex(12)}"


class _Awaited:
    """A frame that went out and whose acknowledgement may still come."""

    __slots__ = ("ack", "give_up_at")

    def __init__(self, give_up_at: float) -> None:
        self.ack: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self.give_up_at = give_up_at


class BotConnection:
    """Made by :func:`connecting`. Belongs to one event loop."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        metrics: Metrics,
        *,
        ack_seconds: float,
        heartbeat_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = socket
        self._metrics = metrics
        self._ack_seconds = ack_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._clock = clock
        self._awaited: dict[str, _Awaited] = {}
        self._turnstiles: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._silent = 0
        self._lost = False

    async def request(
        self, req_id: str, frame: str, cmd: str, taken: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """Sends one frame and returns the body of the acknowledgement, mostly empty, once WeCom took it.

        Waits for twice ``ack_seconds``: what comes in the second half is late, and counted.
        A task that is cancelled here leaves the frame sent.

        Args:
            taken: called when WeCom took the frame. With it a task that is cancelled waits for a
                moment longer, so that less is sent again by whoever goes on.

        Raises:
            FrameRefused: with WeCom's code; it did nothing.
            AckMissing, ConnectionLost: nobody knows what it did.
        """
        turnstile = self._turnstiles.setdefault(req_id, asyncio.Lock())
        async with turnstile:
            await self._settle(req_id)
            awaited = self._awaited[req_id] = _Awaited(self._clock() + 2 * self._ack_seconds)
            await self._send(frame)
            try:
                ack = await self._ack(req_id, awaited)
            except asyncio.CancelledError:
                if taken is not None and await _came(awaited):
                    taken()
                raise
        if ack.errcode:
            raise FrameRefused(ack.errcode, cmd)
        if taken is not None:
            taken()
        return ack.body

    async def subscribe(self, bot_id: str, secret: Secret, seconds: float) -> None:
        """Subscribes. To be called before :meth:`pushes`, which it does not need.

        Raises:
            SubscribeRefused: the bot's id or secret, or too many subscriptions.
            ConnectionLost: no answer within that many seconds, or none at all.
        """
        req_id = new_req_id("aibot_subscribe")
        try:
            async with asyncio.timeout(seconds):
                await self._send(subscribe_frame(req_id, bot_id, secret.reveal()))
                async for frame in self._frames():
                    if frame.req_id == req_id and frame.errcode is not None:
                        if frame.errcode:
                            raise SubscribeRefused(frame.errcode, "aibot_subscribe")
                        return
        except TimeoutError:
            raise ConnectionLost("no answer to the subscription") from None
        raise ConnectionLost("closed before the subscription was answered")

    async def pushes(self) -> AsyncIterator[Frame]:
        """What WeCom sends on its own, until the connection ends. Acknowledgements and pings are dealt with here."""
        async for frame in self._frames():
            if frame.errcode is not None and not frame.cmd:
                self._acknowledged(frame)
            elif frame.cmd == "ping":
                await self._send(pong_frame(frame.req_id))
            elif frame.cmd != "pong":
                yield frame

    async def beat(self) -> None:
        """Sends heartbeats until two in a row were not acknowledged; then closes the connection and returns.

        Only their own acknowledgements count as life: pushes of single chats have been seen to
        go on while those of groups had stopped.
        """
        missed = 0
        while missed < _MISSED_BEATS:
            await asyncio.sleep(self._heartbeat_seconds)
            self._forget_overdue()
            req_id = new_req_id("ping")
            try:
                await self.request(req_id, ping_frame(req_id), "ping")
            except AckMissing:
                missed += 1
            except FrameRefused as refused:
                # An answer is a sign of life; what it says is dealt with where a message is sent.
                log.warning("heartbeat_refused", code=refused.code)
                missed = 0
            except ConnectionLost:
                return
            else:
                missed = 0
        log.warning("heartbeat_lost")
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connection; whoever waits for an acknowledgement gets :class:`ConnectionLost`. Idempotent."""
        self._fail()
        await self._socket.close()

    async def _frames(self) -> AsyncIterator[Frame]:
        async for message in self._socket:
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                break
            try:
                yield parse_frame(message.data)
            except WireError as error:
                log.warning("frame_malformed", why=str(error))
        self._fail()

    async def _send(self, frame: str) -> None:
        if self._lost:
            raise ConnectionLost("the connection is closed")
        try:
            # A peer that does not read would block the writer for ever.
            async with asyncio.timeout(self._ack_seconds):
                await self._socket.send_str(frame)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            self._fail()
            raise ConnectionLost(type(error).__name__) from None

    async def _settle(self, req_id: str) -> None:
        """Waits for the acknowledgement of an earlier frame that nobody waits for any more."""
        earlier = self._awaited.get(req_id)
        if earlier is not None:
            await asyncio.wait((earlier.ack,), timeout=max(0.0, earlier.give_up_at - self._clock()))
            self._awaited.pop(req_id, None)

    async def _ack(self, req_id: str, awaited: _Awaited) -> Frame:
        await asyncio.wait((awaited.ack,), timeout=self._ack_seconds)
        if not awaited.ack.done():
            self._metrics.late_acks.labels("late").inc()
            await asyncio.wait((awaited.ack,), timeout=self._ack_seconds)
        if not awaited.ack.done():
            self._awaited.pop(req_id, None)
            self._metrics.late_acks.labels("never").inc()
            self._silent += 1
            if self._silent >= _SILENT_FRAMES:
                log.warning("connection_silent", frames=self._silent)
                await self.aclose()
            raise AckMissing(f"no acknowledgement within {2 * self._ack_seconds:g} s")
        return awaited.ack.result()

    def _acknowledged(self, frame: Frame) -> None:
        self._silent = 0
        awaited = self._awaited.pop(frame.req_id, None)
        if awaited is None:
            self._metrics.late_acks.labels("unexpected").inc()
        elif not awaited.ack.done():
            awaited.ack.set_result(frame)

    def _forget_overdue(self) -> None:
        """Frames whose sender was cancelled leave an entry; without this it would stay."""
        now = self._clock()
        for req_id in [req_id for req_id, awaited in self._awaited.items() if awaited.give_up_at < now]:
            if req_id not in self._turnstiles:
                del self._awaited[req_id]

    def _fail(self) -> None:
        self._lost = True
        for awaited in self._awaited.values():
            if not awaited.ack.done():
                awaited.ack.set_exception(ConnectionLost("the connection ended"))
                awaited.ack.exception()  # marks it as seen, for frames that nobody waits for
        self._awaited.clear()


async def _came(awaited: _Awaited) -> bool:
    """Whether a frame that is on its way turns out to be taken, within a moment."""
    await asyncio.wait((awaited.ack,), timeout=_LAST_ACK_SECONDS)
    return awaited.ack.done() and awaited.ack.exception() is None and not awaited.ack.result().errcode


@asynccontextmanager
async def connecting(
    session: aiohttp.ClientSession,
    url: str,
    metrics: Metrics,
    *,
    connect_seconds: float,
    ack_seconds: float,
    heartbeat_seconds: float,
) -> AsyncIterator[BotConnection]:
    """Opens a connection and closes it on leaving. It is not subscribed yet.

    Raises:
        ConnectionLost: it could not be opened within ``connect_seconds``.
    """
    try:
        async with asyncio.timeout(connect_seconds):
            socket = await session.ws_connect(
                url,
                max_msg_size=_MAX_FRAME_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
            )
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ConnectionLost(f"cannot connect: {type(error).__name__}") from None
    connection = BotConnection(socket, metrics, ack_seconds=ack_seconds, heartbeat_seconds=heartbeat_seconds)
    try:
        yield connection
    finally:
        await connection.aclose()
