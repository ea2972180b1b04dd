"""The long connection of intelligent bots: subscribing, heartbeats, pushes, acks, kicks (DOC 101463).

One live connection a bot; the last to subscribe has it. Everything that a frame does to
chats is in ``bots.py``.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import WSMsgType, web

from adapter.wire import Frame, WireError, ack_frame, callback_frame, event_frame, parse_frame, ping_frame
from simulator.bots import Bot, Push
from simulator.chores import Chores
from simulator.clock import Clock
from simulator.corp import Corp
from simulator.journal import Kind
from simulator.media import MediaStore
from simulator.rules import ERRORS, Refused

_MAX_FRAME = 4 << 20
_QUEUE = 1000
_SWEEP_SECONDS = 1.0


class Line:
    """One connection."""

    def __init__(self, ws: web.WebSocketResponse, transport: "asyncio.Transport | None", clock: Clock) -> None:
        self.ws = ws
        self._transport = transport
        self._clock = clock
        self.outgoing: asyncio.Queue[str | None] = asyncio.Queue(_QUEUE)
        self.bot: Bot | None = None
        self.heard_at = clock.time()
        self.silent_until = 0.0
        self.reason = ""

    def send(self, text: str) -> None:
        """Puts a frame in line, or nowhere while the platform is silent.

        A peer that does not read loses its connection, not our memory.
        """
        if self._clock.time() < self.silent_until:
            return
        try:
            self.outgoing.put_nowait(text)
        except asyncio.QueueFull:
            self.abort("对端不接收")

    def finish(self, reason: str) -> None:
        """Closes the connection after what is in line."""
        self.reason = self.reason or reason
        try:
            self.outgoing.put_nowait(None)
        except asyncio.QueueFull:
            self.abort(reason)

    def abort(self, reason: str) -> None:
        """Cuts the connection."""
        self.reason = self.reason or reason
        if self._transport is not None:
            self._transport.abort()


class Socket:
    """What stands at ``wss://openws.work.weixin.qq.com``. A context manager."""

    def __init__(self, corp: Corp, media: MediaStore) -> None:
        self._corp = corp
        self._chores = Chores()
        self._lines: set[Line] = set()
        self._live: dict[str, Line] = {}
        self.bots: Mapping[str, Bot] = {bot.id: Bot(corp, bot, media) for bot in corp.settings.bots}

    async def __aenter__(self) -> "Socket":
        self._chores.start(self._mind())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.hang_up()
        await self._chores.aclose()

    async def hang_up(self, _application: web.Application | None = None) -> None:
        """Cuts every connection; also what the web server calls before it waits for its handlers."""
        for line in list(self._lines):
            line.abort("平台停止")

    def connected(self, bot_id: str) -> bool:
        """Whether the bot has a live, subscribed connection."""
        return bot_id in self._live

    # --- one connection ---

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Handles a connection from its handshake to its end."""
        ws = web.WebSocketResponse(max_msg_size=_MAX_FRAME, timeout=1.0)
        await ws.prepare(request)
        transport = request.transport
        line = Line(ws, transport if isinstance(transport, asyncio.Transport) else None, self._corp.clock)
        self._lines.add(line)
        writer = self._chores.start(self._write(line))
        try:
            async for message in ws:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    self._hear(line, message.data)
        finally:
            self._lines.discard(line)
            self._gone(line)
            writer.cancel()
        return ws

    async def _write(self, line: Line) -> None:
        try:
            while (text := await line.outgoing.get()) is not None:
                await line.ws.send_str(text)
            await line.ws.close()
        except (ConnectionError, RuntimeError):
            # The peer went first; aiohttp says RuntimeError when it had already begun to close.
            line.abort("连接已断开")

    def _gone(self, line: Line) -> None:
        bot = line.bot
        if bot is None:
            return
        if self._live.get(bot.settings.id) is line:
            del self._live[bot.settings.id]
        line.bot = None
        self._corp.journal.note(Kind.DISCONNECTED, chat=f"bot:{bot.settings.id}", detail=line.reason or "对端关闭")

    def _hear(self, line: Line, data: str | bytes) -> None:
        now = self._corp.now
        if now < line.silent_until:
            return
        line.heard_at = now
        if self._corp.strike("frame_lost"):
            return
        try:
            frame = parse_frame(data)
        except WireError:
            line.send(ack_frame("", 47001, ERRORS[47001]))
            return
        if frame.cmd == "ping":
            line.send(ack_frame(frame.req_id, 0, ERRORS[0]))
        elif frame.cmd == "aibot_subscribe":
            self._subscribe(line, frame)
        elif frame.cmd and frame.cmd != "pong":
            self._command(line, frame)

    # --- subscribing ---

    def _subscribe(self, line: Line, frame: Frame) -> None:
        bot = self.bots.get(str(frame.body.get("bot_id", "")))
        try:
            if bot is None:
                raise Refused(853000)
            bot.subscribe(frame.body)
        except Refused as refused:
            self._refuse(line, frame, refused, chat=f"bot:{bot.settings.id}" if bot else "")
            return
        old = self._live.get(bot.settings.id)
        if old is not None and old is not line:
            self._kick(old, "另一个连接接替")
        line.bot = bot
        self._live[bot.settings.id] = line
        line.send(ack_frame(frame.req_id, 0, ERRORS[0]))
        self._corp.journal.note(Kind.CONNECTED, chat=f"bot:{bot.settings.id}")
        self._catch_up(bot)

    def _catch_up(self, bot: Bot) -> None:
        """Pushes what has no reply yet: first what was pushed before, then what waited."""
        for push in bot.unreplied():
            if push.pushed and not self._corp.rules.redelivers:
                continue
            if push.pushed and not self._corp.rules.redelivery_keeps_req_id:
                bot.renamed(push)
            if push.pushed or bot.may_push(push):
                self.push(bot, push)

    def _kick(self, line: Line, reason: str, *, half: bool = False) -> None:
        """Tells a connection that another one took its place, and closes it."""
        bot = line.bot
        if bot is None:
            return
        body = {
            "msgid": self._corp.new_opaque_id("EV"),
            "create_time": int(self._corp.now),
            "aibotid": bot.settings.id,
            "msgtype": "event",
            "event": {"eventtype": "disconnected_event"},
        }
        line.send(event_frame(self._corp.new_opaque_id(""), body))
        line.reason = line.reason or reason
        self._gone(line)
        if not half:
            line.finish(reason)

    # --- commands ---

    def _command(self, line: Line, frame: Frame) -> None:
        for name in ("kick", "kick_half"):
            if line.bot and self._corp.strike(name, chat=f"bot:{line.bot.settings.id}"):
                self._kick(line, "故障开关", half=name == "kick_half")
        if line.bot and self._corp.strike("subscription_lost"):
            self._gone(line)
        if self._corp.strike("socket_cut"):
            line.abort("故障开关")
            return
        if silence := self._corp.strike("silence"):
            line.silent_until = self._corp.now + silence.seconds
            return
        bot = line.bot
        try:
            if bot is None or self._live.get(bot.settings.id) is not line:
                raise Refused(846609)
            self._maybe_refuse(bot, frame)
            said = bot.handle(frame.cmd, frame.req_id, frame.body)
        except Refused as refused:
            self._refuse(line, frame, refused, chat=f"bot:{bot.settings.id}" if bot else "")
            return
        self._acknowledge(line, frame, said)
        for person in {push.person for push in bot.unreplied() if not push.pushed}:
            for push in list(bot.next_due(person)):
                self.push(bot, push)

    def _maybe_refuse(self, bot: Bot, frame: Frame) -> None:
        if self._corp.strike("conflict"):
            raise Refused(6000)
        if self._corp.strike("socket_limited"):
            raise Refused(45009)
        if frame.body.get("msgtype") == "stream_with_template_card" and not self._corp.rules.streams_with_card:
            raise Refused(40008)
        if frame.body.get("msgtype") == "stream" and self._corp.strike("stream_expired"):
            bot.expire_stream_of(frame.body)
            raise Refused(846608)

    def _refuse(self, line: Line, frame: Frame, refused: Refused, chat: str) -> None:
        self._corp.journal.note(Kind.REFUSED, chat=chat, code=refused.code, detail=f"{frame.cmd}: {refused.errmsg}")
        line.send(ack_frame(frame.req_id, refused.code, refused.errmsg))

    def _acknowledge(self, line: Line, frame: Frame, body: Mapping[str, Any] | None) -> None:
        if self._corp.strike("socket_cut_after"):
            line.abort("故障开关")
            return
        if self._corp.strike("ack_lost"):
            return
        ack = ack_frame(frame.req_id, 0, ERRORS[0], body)
        if late := self._corp.strike("ack_late"):
            self._chores.start(self._later(line, ack, late.seconds))
        else:
            line.send(ack)

    async def _later(self, line: Line, text: str, seconds: float) -> None:
        await self._corp.clock.sleep(seconds)
        line.send(text)

    # --- pushes ---

    def push(self, bot: Bot, push: Push) -> None:
        """Hands a message or an event to the bot's live connection, if there is one."""
        line = self._live.get(bot.settings.id)
        if line is None or (not push.event and not push.pushed and not bot.may_push(push)):
            return
        chat, person, msg_id = push.chat, push.person, push.msg_id
        push.pushed += 1
        if push.anew is not None and push.pushed > 1:
            push.body.update(push.anew())
        if self._corp.strike("push_lost", chat=chat, person=person, msg_id=msg_id):
            return
        text = (event_frame if push.event else callback_frame)(push.req_id, push.body)
        if self._corp.strike("control_characters", chat=chat, person=person, msg_id=msg_id):
            text = _with_controls(text)
        self._corp.journal.note(Kind.POSTED, chat=chat, person=person, msg_id=msg_id)
        if self._corp.strike("server_ping"):
            line.send(ping_frame(self._corp.new_opaque_id("ping_")))
        copies = 2 if self._corp.strike("push_duplicated", chat=chat, person=person, msg_id=msg_id) else 1
        late = self._corp.strike("push_reordered", chat=chat, person=person, msg_id=msg_id)
        for _ in range(copies):
            if late:
                self._chores.start(self._later(line, text, late.seconds))
            else:
                line.send(text)

    # --- accidents on demand ---

    def kick(self, bot_id: str, *, half: bool = False) -> None:
        """Takes the live connection away, with a farewell; ``half`` leaves the socket open."""
        if line := self._live.get(bot_id):
            self._kick(line, "手动踢下线", half=half)

    def cut(self, bot_id: str) -> None:
        """Cuts the live connection without a word."""
        if line := self._live.get(bot_id):
            line.abort("手动断开")

    def lose_subscription(self, bot_id: str) -> None:
        """Forgets the subscription while the socket stays open (846609)."""
        if line := self._live.get(bot_id):
            line.reason = "订阅丢失"
            self._gone(line)

    def silence(self, bot_id: str, seconds: float) -> None:
        """Neither reads nor writes for a while."""
        if line := self._live.get(bot_id):
            line.silent_until = self._corp.now + seconds

    async def _mind(self) -> None:
        """Drops silent sockets and ends streams whose window has closed."""
        while True:
            await self._corp.clock.sleep(_SWEEP_SECONDS)
            for line in list(self._lines):
                if self._corp.now - line.heard_at >= self._corp.rules.socket_silence_seconds:
                    line.abort("长时间没有心跳")
            for bot in self.bots.values():
                bot.sweep()


def _with_controls(text: str) -> str:
    """Puts raw control characters inside a string of the frame, as the platform sometimes does."""
    return text.replace('"aibotid":"', '"note":"a\x01b\x0bc","aibotid":"', 1)


def respond_by_code(bots: Mapping[str, Bot], code: str, body: Mapping[str, Any]) -> None:
    """Finds the bot whose ``response_code`` this is.

    Raises:
        Refused: nobody's, used, or out of date.
    """
    if not any(bot.respond_by_code(code, body) for bot in bots.values()):
        raise Refused(40058, "invalid response_code")
