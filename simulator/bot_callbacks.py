"""Intelligent bots in callback mode: encrypted JSON there and back, and polls for what is streamed.

DOC 101033 (envelope), 100719 (messages), 101031 (passive answers and polls), 101027
(events). What an answer does to chats is the same as over the long connection, and is in
``bots.py``.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from adapter.crypto import Envelope, EnvelopeError, Sealed
from simulator.bots import Bot, Push
from simulator.callbacks import BacklogFull
from simulator.chores import Chores
from simulator.corp import Corp
from simulator.journal import Kind
from simulator.posting import About, Call, Posting, UrlCheck, new_nonce
from simulator.rules import Refused
from simulator.settings import BotSettings

_TO_MESSAGES: Final = frozenset({"stream", "template_card", "stream_with_template_card"})
"""What a person's message can be answered with. Text and Markdown are not among them (DOC 101031)."""


class _Reply(msgspec.Struct):
    """The body of a passive answer. The time is a number in this mode (DOC 101033)."""

    encrypt: str
    msgsignature: str
    timestamp: int
    nonce: str


class BotCallbacks:
    """Delivers what people write to bots in callback mode. A context manager."""

    def __init__(self, corp: Corp, bots: Mapping[str, Bot]) -> None:
        self._corp = corp
        self._bots = bots
        self._chores = Chores()
        self._posting = Posting(corp)
        self._open: dict[tuple[str, str], list[Push]] = {}
        """By bot and person: messages that are being answered, then those that wait for their turn."""
        self._polled: set[str] = set()
        """Streams that are being asked for."""
        self.urls: dict[str, str] = {bot.id: bot.callback_url for bot in corp.settings.bots}

    async def __aenter__(self) -> "BotCallbacks":
        await self._posting.__aenter__()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        try:
            await self._chores.aclose()
        finally:
            await self._posting.__aexit__()

    @property
    def under_way(self) -> int:
        """Callbacks that are neither acknowledged nor given up, and streams that are being asked for."""
        return len(self._chores)

    def push(self, bot: Bot, push: Push) -> None:
        """Begins to deliver a message or an event; a message waits while too many of its person are open.

        Raises:
            BacklogFull: too many are under way.
        """
        if len(self._chores) >= self._corp.settings.bounds.backlog:
            raise BacklogFull(f"{len(self._chores)} callbacks are under way")
        if push.event:
            self._chores.start(self._deliver(bot, push, deliveries=1))
            return
        line = self._open.setdefault((bot.settings.id, push.person), [])
        line.append(push)
        most = self._corp.rules.open_messages
        if not most or len(line) <= most:
            self._chores.start(self._handle(bot, push))

    async def _handle(self, bot: Bot, push: Push) -> None:
        """A message from its first delivery to the end of its stream; then the next one may go."""
        await self._deliver(bot, push, deliveries=self._corp.rules.bot_callback_deliveries)
        stream = bot.stream_of(push)
        if stream is not None:
            await self._poll(bot, push, stream.stream_id)
        key = (bot.settings.id, push.person)
        line = self._open[key]
        line.remove(push)
        if not line:
            del self._open[key]
        most = self._corp.rules.open_messages
        if most and len(line) >= most:
            self._chores.start(self._handle(bot, line[most - 1]))

    async def _deliver(self, bot: Bot, push: Push, *, deliveries: int) -> None:
        def answered(call: Call, body: bytes) -> None:
            if push.event:
                self._passive(bot, push, call, body)
            else:
                self._first(bot, push, call, body)

        def call() -> Call:
            if push.pushed and push.anew is not None:
                push.body |= push.anew()
            push.pushed += 1
            return self._call(bot, push.body)

        about = About(push.chat, push.person, push.msg_id)
        await self._posting.deliver(about, lambda: self._url(bot), call, answered, deliveries=deliveries)

    def _url(self, bot: Bot) -> str:
        return self.urls.get(bot.settings.id, "")

    def _call(self, bot: Bot, body: Mapping[str, Any]) -> Call:
        sealed = self._seal(bot.settings, msgspec.json.encode(body))
        return Call(_query(sealed), msgspec.json.encode({"encrypt": sealed.encrypted}), "application/json")

    def _seal(self, bot: BotSettings, plain: bytes) -> Sealed:
        return _envelope(bot).seal(plain, str(int(self._corp.now)), new_nonce())

    # --- passive answers (DOC 101031) ---

    def _first(self, bot: Bot, push: Push, call: Call, body: bytes) -> None:
        """The answer to a person's message; a stream in it is asked for from then on."""
        reply = self._passive(bot, push, call, body)
        if reply is None:
            return
        stream = bot.stream_of(push)
        if stream is not None:
            # Counted from the message, not from the first answer.
            stream.until = push.at + self._corp.rules.stream_poll_seconds

    def _passive(self, bot: Bot, push: Push, call: Call, body: bytes) -> Mapping[str, Any] | None:
        """What a call was answered with, if that did something; an empty body means that there is nothing."""
        if not body.strip() or body.strip() == b"success":
            return None
        reply = _opened(bot.settings, call, body)
        try:
            if reply is None:
                raise Refused(40058, "被动回复无法识别，已忽略")
            bot.handle(self._command(push, reply), push.req_id, reply)
        except Refused as refused:
            self._corp.journal.note(
                Kind.REFUSED,
                chat=push.chat,
                person=push.person,
                msg_id=push.msg_id,
                code=refused.code,
                detail=refused.errmsg,
            )
            return None
        return reply

    def _command(self, push: Push, reply: Mapping[str, Any]) -> str:
        """The frame of the long connection that does what this answer does."""
        if push.event == "enter_chat":
            return "aibot_respond_welcome_msg"
        if push.event == "template_card_event" and reply.get("response_type") == "update_template_card":
            return "aibot_respond_update_msg"
        if push.event or reply.get("msgtype") not in _TO_MESSAGES:
            raise Refused(40008, "这种回调不能这样回复，已忽略")
        return "aibot_respond_msg"

    # --- polls ---

    async def _poll(self, bot: Bot, push: Push, stream_id: str) -> None:
        """Asks for a stream until it is finished or its time is over."""
        if stream_id in self._polled:
            return
        self._polled.add(stream_id)
        try:
            while (stream := bot.stream_of(push)) is not None and not (stream.finished or stream.expired):
                await self._corp.clock.sleep(self._corp.rules.stream_poll_interval_seconds)
                if self._corp.now > stream.until:
                    bot.expire(stream)
                    return
                about = About(push.chat, push.person, push.msg_id)
                body = self._poll_body(bot, push, stream_id)
                failure = await self._posting.attempt(
                    about,
                    self._url(bot),
                    self._call(bot, body),
                    lambda call, said: self._polled_for(bot, push, call, said),
                )
                if failure:
                    self._corp.journal.note(Kind.FAILED, **about._asdict(), detail=f"刷新：{failure}")
        finally:
            self._polled.discard(stream_id)

    def _poll_body(self, bot: Bot, push: Push, stream_id: str) -> dict[str, Any]:
        names = ("aibotid", "chatid", "chattype", "from")
        kept: dict[str, Any] = {name: push.body[name] for name in names if name in push.body}
        msg_id = self._corp.new_opaque_id("CAEQ")
        return {"msgid": msg_id, **kept, "msgtype": "stream", "stream": {"id": stream_id}}

    def _polled_for(self, bot: Bot, push: Push, call: Call, body: bytes) -> None:
        reply = _opened(bot.settings, call, body)
        if reply is None or reply.get("msgtype") == "stream":
            self._passive(bot, push, call, body)
            return
        self._corp.journal.note(
            Kind.IGNORED, chat=push.chat, person=push.person, msg_id=push.msg_id, detail="刷新只能回复流式消息，已忽略"
        )

    # --- "save configuration" ---

    async def check(self, bot: BotSettings, url: str) -> UrlCheck:
        """The address check; see :meth:`simulator.posting.Posting.check`."""

        def call(number: bytes) -> dict[str, str]:
            sealed = self._seal(bot, number)
            return _query(sealed) | {"echostr": sealed.encrypted}

        return await self._posting.check(url, call)


def _envelope(bot: BotSettings) -> Envelope:
    return Envelope(bot.token.reveal(), bot.encoding_aes_key.reveal(), "")


def _opened(bot: BotSettings, call: Call, body: bytes) -> dict[str, Any] | None:
    """A passive answer, if it was sealed for this call: under its nonce (DOC 101033)."""
    try:
        outer = msgspec.json.decode(body, type=_Reply)
        if outer.nonce != call.query["nonce"]:
            return None
        plain = _envelope(bot).open(outer.msgsignature, str(outer.timestamp), outer.nonce, outer.encrypt)
        return msgspec.json.decode(plain, type=dict[str, Any])
    except (msgspec.DecodeError, EnvelopeError, UnicodeDecodeError):
        return None


def _query(sealed: Sealed) -> dict[str, str]:
    return {"msg_signature": sealed.msg_signature, "timestamp": sealed.timestamp, "nonce": sealed.nonce}
