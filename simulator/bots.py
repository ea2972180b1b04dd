"""An intelligent bot over the long connection: what its frames do. Pure but for the clock.

DOC 101463 (commands), 101031 (streams), 101027 (events), 100719 (messages). Whoever owns
a ``req_id`` may answer it, over whatever connection: it belongs to the message.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from simulator.bot_cards import Touched, content_for, feedback_event, feedback_id, touch_event
from simulator.bot_cards import update as update_card
from simulator.bot_uploads import Uploads
from simulator.cards import content_of, template_card, touched
from simulator.chats import EXPIRED_TEXT, Bubble, Look, folded, has_visible
from simulator.corp import Corp
from simulator.journal import Kind
from simulator.media import KINDS, MediaStore
from simulator.rules import Refused
from simulator.settings import BotSettings
from simulator.windows import Remembered, Window, Windows

_MOST_PICTURES: Final = 10


class Push(msgspec.Struct):
    """A message or an event for the bot."""

    req_id: str
    msg_id: str
    chat: str
    person: str
    body: dict[str, Any]
    at: float
    event: str = ""
    """The eventtype; empty for messages."""
    replied: bool = False
    pushed: int = 0
    anew: Callable[[], Mapping[str, Any]] | None = None
    """Writes its content again for a redelivery: addresses of files are signed anew."""
    stream_id: str = ""
    """Of the stream that answers it; empty until there is one."""
    carded: bool = False
    """Whether a card came with its stream."""
    touched: Touched | None = None
    """With a ``template_card_event``: which card."""

    @property
    def conversation(self) -> tuple[str, str]:
        return self.chat, "" if self.chat.startswith("group:") else self.person


class Stream(msgspec.Struct):
    """A streamed reply."""

    stream_id: str
    push: Push
    bubble: Bubble
    until: float
    """When its window closes; known from the first unfinished frame on."""
    content: str = ""
    finished: bool = False
    expired: bool = False


class Bot:
    """One bot: its open messages, its streams, its limits."""

    def __init__(self, corp: Corp, settings: BotSettings, media: MediaStore) -> None:
        self._corp = corp
        self._media = media
        self._uploads = Uploads(corp, media)
        self.settings = settings
        limit = corp.settings.bounds.messages
        self._pushes: Remembered[str, Push] = Remembered(limit)
        self._unreplied: dict[str, Push] = {}
        self._streams: Remembered[str, Stream] = Remembered(limit)
        self._running: dict[str, Stream] = {}
        rules = corp.rules
        self._rates: Windows[tuple[str, str]] = Windows(
            rules.conversation_per_minute, rules.conversation_per_hour, limit
        )
        self._subscribes = Window(rules.subscribes_per_minute, 60 * rules.subscribes_per_minute)
        self._wrote: set[str] = set()
        self._entered: dict[str, int] = {}
        self._response_codes: Remembered[str, Push] = Remembered(limit)
        self.response_base = ""
        """Where ``response_url`` points to; empty: messages carry none."""

    # --- towards the bot ---

    def write(self, person: str, chat: str, text: str) -> Push:
        """A person's text, as the bot will get it; ``chat`` is the bot's own or a group's."""
        now = self._corp.now
        body = self._body(person, chat, now)
        body |= {"msgtype": "text", "text": {"content": text}}
        return self._open(person, chat, body, now)

    def write_other(
        self,
        person: str,
        chat: str,
        content: Mapping[str, Any],
        *,
        anew: Callable[[], Mapping[str, Any]] | None = None,
    ) -> Push:
        """A message of another kind: ``content`` has ``msgtype`` and what belongs to it; ``anew`` as in ``Push``."""
        now = self._corp.now
        push = self._open(person, chat, self._body(person, chat, now) | dict(content), now)
        push.anew = anew
        return push

    def _body(self, person: str, chat: str, now: float) -> dict[str, Any]:
        body: dict[str, Any] = {
            "msgid": self._corp.new_opaque_id("CAEQ"),
            "create_time": int(now),
            "aibotid": self.settings.id,
            "chattype": "single",
            "from": {"userid": person},
        }
        if chat.startswith("group:"):
            body |= {"chattype": "group", "chatid": chat.removeprefix("group:")}
        return body

    def _open(self, person: str, chat: str, body: dict[str, Any], now: float) -> Push:
        push = Push(self._corp.new_opaque_id(""), body["msgid"], chat, person, body, now)
        self._give_response_url(push)
        self._wrote.add(chat.removeprefix("group:") if chat.startswith("group:") else person)
        self._pushes.put(push.req_id, push, now + self._corp.rules.req_id_seconds)
        self._unreplied[push.req_id] = push
        while len(self._unreplied) > self._corp.settings.bounds.backlog:
            del self._unreplied[next(iter(self._unreplied))]
        return push

    def _give_response_url(self, push: Push) -> None:
        """Puts an address into a message or the event of a card that takes one answer (DOC 101138)."""
        if self.response_base:
            code = self._corp.new_opaque_id("rc")
            push.body["response_url"] = f"{self.response_base}/cgi-bin/aibot/response?response_code={code}"
            self._response_codes.put(code, push, push.at + self._corp.rules.response_url_seconds)

    def enter(self, person: str) -> Push | None:
        """The event of a person's first look at the chat on this day, or nothing on later ones (DOC 101027)."""
        now = self._corp.now
        # Days end at midnight in China, where WeCom's clocks are.
        day = int(now + 8 * 3600) // 86400
        if self._entered.get(person) == day:
            return None
        self._entered[person] = day
        chat = f"bot:{self.settings.id}"
        body = self._body(person, chat, now) | {"msgtype": "event", "event": {"eventtype": "enter_chat"}}
        push = Push(self._corp.new_opaque_id(""), body["msgid"], chat, person, body, now, event="enter_chat")
        self._pushes.put(push.req_id, push, now + self._corp.rules.welcome_seconds)
        return push

    def unreplied(self) -> list[Push]:
        """Messages without a reply, oldest first: what a reconnect brings again."""
        horizon = self._corp.now - self._corp.rules.req_id_seconds
        for req_id in [push.req_id for push in self._unreplied.values() if push.at <= horizon]:
            del self._unreplied[req_id]
        return list(self._unreplied.values())

    def next_due(self, person: str) -> Iterator[Push]:
        """Messages of a person that waited because too many were open and may go now."""
        allowed = self._corp.rules.open_messages
        mine = [push for push in self._unreplied.values() if push.person == person]
        for push in mine[: allowed or len(mine)]:
            if not push.pushed:
                yield push

    def may_push(self, push: Push) -> bool:
        """Whether the person has few enough messages open."""
        return push in list(self.next_due(push.person))

    def renamed(self, push: Push) -> None:
        """Gives a message a new req_id for its redelivery; the old one stays good as well."""
        self._unreplied.pop(push.req_id, None)
        push.req_id = self._corp.new_opaque_id("")
        self._pushes.put(push.req_id, push, push.at + self._corp.rules.req_id_seconds)
        self._unreplied[push.req_id] = push

    # --- from the bot ---

    def subscribe(self, body: Mapping[str, Any]) -> None:
        """Checks a subscription.

        Raises:
            Refused: 45009 too often, 853000 wrong secret.
        """
        if not self._subscribes.admit(self._corp.now):
            raise Refused(45009)
        # A bot is in one mode or in the other (DOC 101463).
        if self.settings.mode != "socket" or body.get("secret") != self.settings.secret.reveal():
            raise Refused(853000)

    def handle(self, cmd: str, req_id: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Does what a frame asks for. Returns the body of its acknowledgement, if that has one.

        Raises:
            Refused: nothing changed.
        """
        actions: dict[str, Callable[[str, Mapping[str, Any]], Mapping[str, Any] | None]] = {
            "aibot_respond_msg": self._respond,
            "aibot_respond_welcome_msg": self._welcome,
            "aibot_respond_update_msg": self._update,
            "aibot_send_msg": self._send,
            "aibot_upload_media_init": lambda _, said: self._uploads.begin(said),
            "aibot_upload_media_chunk": lambda _, said: self._uploads.chunk(said),
            "aibot_upload_media_finish": lambda _, said: self._uploads.finish(said),
        }
        if cmd not in actions:
            raise Refused(40058, f"unsupported cmd: {cmd}")
        return actions[cmd](req_id, body)

    def _respond(self, req_id: str, body: Mapping[str, Any]) -> None:
        push = self._pushes.get(req_id, self._corp.now)
        if push is None or push.event:
            raise Refused(846605)
        msgtype = body.get("msgtype")
        if msgtype in ("stream", "stream_with_template_card"):
            card = body.get("template_card") if msgtype == "stream_with_template_card" else None
            shown = template_card(card) if isinstance(card, dict) and not push.carded else None
            self._stream(push, _inner(body, "stream"))
            if shown is not None and isinstance(card, dict):
                push.carded = True  # it is sent once (DOC 101031)
                self._post(push.conversation, *shown, answers=push.msg_id, content=content_of(card))
        else:
            look, text = self._read(body)
            content = self._content(body)
            rated = feedback_id(_inner(body, str(msgtype)))
            self._admit(push.conversation)
            bubble = self._post(push.conversation, look, text, answers=push.msg_id, content=content)
            bubble.feedback_id = rated
        self._replied(push)

    def _read(self, body: Mapping[str, Any]) -> tuple[Look, str]:
        """What a bubble of this body would look like."""
        msgtype = body.get("msgtype")
        if not isinstance(msgtype, str) or msgtype not in _READERS:
            raise Refused(40008)
        return _READERS[msgtype](self._corp, _inner(body, msgtype))

    def _content(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What of a message is more than text (``chats.Bubble.content``)."""
        kind = str(body.get("msgtype"))
        if kind == "template_card":
            return content_of(_inner(body, kind))
        return self._media.content(_inner(body, kind).get("media_id"), kind) if kind in KINDS else None

    def _replied(self, push: Push) -> None:
        if not push.replied:
            push.replied = True
            self._corp.journal.note(Kind.REPLIED, chat=push.chat, person=push.person, msg_id=push.msg_id)
        self._unreplied.pop(push.req_id, None)

    def _stream(self, push: Push, stream: Mapping[str, Any]) -> None:
        stream_id, content, finish = stream.get("id"), stream.get("content", ""), stream.get("finish", False)
        if not isinstance(stream_id, str) or not stream_id or not isinstance(content, str) or type(finish) is not bool:
            raise Refused(40058, "invalid stream")
        if len(content.encode()) > self._corp.rules.stream_bytes:
            raise Refused(45002, f"stream.content exceed max length {self._corp.rules.stream_bytes}")
        pictures = self._pictures(stream["msg_item"]) if stream.get("msg_item") and finish else []
        if pictures:
            content = f"{content}\n\n[图片 ×{len(pictures)}]"
        known = self._streams.get(stream_id, self._corp.now)
        if known is not None and known.push.conversation != push.conversation:
            raise Refused(40058, "stream.id is used in another conversation")
        if self._corp.rules.refreshes_count or known is None:
            self._admit(push.conversation)
        rated = feedback_id(stream)
        if known is None:
            known = self._first_frame(push, stream_id)
            known.bubble.feedback_id = rated
        else:
            known.bubble.sent += 1
        if pictures:
            known.bubble.content = {"kind": "mixed", "items": pictures}
        self._draw(known, content, finish)

    def _pictures(self, items: Any) -> list[dict[str, Any]]:
        """The pictures of a last frame, kept in the store (DOC 101031)."""
        if not isinstance(items, list) or len(items) > _MOST_PICTURES:
            raise Refused(40058, "invalid msg_item")
        found = []
        for item in items:
            if not isinstance(item, dict) or item.get("msgtype") != "image":
                raise Refused(40058, "invalid msg_item")
            image = _inner(item, "image")
            try:
                data = base64.b64decode(str(image.get("base64", "")), validate=True)
            except ValueError:
                raise Refused(40058, "invalid base64") from None
            if hashlib.md5(data, usedforsecurity=False).hexdigest() != image.get("md5"):
                raise Refused(40058, "md5 does not match")
            found.append(self._media.content(self._media.put("image", "", data)))
        return found

    def _first_frame(self, push: Push, stream_id: str) -> Stream:
        now = self._corp.now
        bubble = self._post(push.conversation, "stream", "", answers=push.msg_id, stream_id=stream_id, finished=False)
        stream = Stream(stream_id, push, bubble, now + self._corp.rules.stream_seconds)
        push.stream_id = stream_id
        self._streams.put(stream_id, stream, now + self._corp.rules.req_id_seconds)
        self._running[stream_id] = stream
        return stream

    def _draw(self, stream: Stream, content: str, finish: bool) -> None:
        corp, bubble, push = self._corp, stream.bubble, stream.push
        if not stream.finished and (stream.expired or corp.now > stream.until):
            self.expire(stream)
            raise Refused(846608)
        if stream.finished:
            if corp.rules.write_after_finish == "refuse":
                raise Refused(846608)
            corp.journal.note(
                Kind.IGNORED,
                chat=push.chat,
                person=push.person,
                msg_id=push.msg_id,
                detail="流式消息已结束，后续内容被忽略" if content != stream.content else "与已展示内容相同",
            )
            corp.chats.touched(bubble)
            return
        if not has_visible(content):
            corp.journal.note(
                Kind.IGNORED,
                chat=push.chat,
                person=push.person,
                msg_id=push.msg_id,
                detail="内容没有可见字符，已忽略" + ("，气泡会一直转圈" if finish else ""),
            )
            return
        stream.content = content
        stream.finished = finish
        corp.chats.redraw(bubble, content, finished=finish, now=corp.now)
        if finish:
            self._running.pop(stream.stream_id, None)
            corp.journal.note(Kind.FINISHED, chat=push.chat, person=push.person, msg_id=push.msg_id)

    def stream_of(self, push: Push) -> Stream | None:
        """The stream that answers a message, if there is one."""
        return self._streams.get(push.stream_id, self._corp.now) if push.stream_id else None

    def expire(self, stream: Stream) -> None:
        """Ends a stream that was not finished in its window."""
        self._running.pop(stream.stream_id, None)
        if stream.expired or stream.finished:
            return
        stream.expired = True
        stream.bubble.expired = True
        stream.bubble.finished = True
        stream.bubble.updated_at = self._corp.now
        self._corp.chats.touched(stream.bubble)
        push = stream.push
        self._corp.journal.note(
            Kind.EXPIRED, chat=push.chat, person=push.person, msg_id=push.msg_id, detail=EXPIRED_TEXT
        )

    def sweep(self) -> None:
        """Ends every stream whose window has closed."""
        for stream in [stream for stream in self._running.values() if stream.until < self._corp.now]:
            self.expire(stream)

    def expire_all(self) -> None:
        """Ends every running stream now."""
        for stream in list(self._running.values()):
            self.expire(stream)

    def expire_stream_of(self, body: Mapping[str, Any]) -> None:
        """Ends the stream that a frame writes to, if it runs."""
        inner = body.get("stream")
        stream_id = inner.get("id") if isinstance(inner, dict) else None
        if isinstance(stream_id, str) and (stream := self._running.get(stream_id)):
            self.expire(stream)

    def _welcome(self, req_id: str, body: Mapping[str, Any]) -> None:
        push = self._pushes.get(req_id, self._corp.now)
        if push is None or push.event != "enter_chat" or push.replied:
            raise Refused(846605)
        if body.get("msgtype") == "text":
            look, text = _text(self._corp, _inner(body, "text"))
        elif body.get("msgtype") == "template_card":
            look, text = template_card(_inner(body, "template_card"))
        else:
            raise Refused(40008)
        push.replied = True
        self._post(push.conversation, look, text, answers=push.msg_id, content=self._content(body))

    # --- cards and ratings ---

    def touch(self, person: str, bubble: Bubble, key: str, selected: Mapping[str, tuple[str, ...]]) -> Push:
        """The event of a person who touches a button of a card.

        Raises:
            CannotTouch: a person could not do that.
        """
        touch = touched(content_for(bubble, person), key, selected)
        push = self._event(person, bubble.chat, touch_event(touch, flat=self._corp.rules.card_events_flat))
        push.touched = Touched(bubble, touch)
        self._give_response_url(push)
        return push

    def rate(self, person: str, bubble: Bubble, kind: int, reasons: Sequence[int], content: str) -> Push:
        """The event of a rating: ``kind`` 1 accurate, 2 inaccurate, 3 withdrawn.

        Raises:
            NobodyThere: the message asks for none.
        """
        return self._event(person, bubble.chat, feedback_event(bubble, kind, reasons, content))

    def _event(self, person: str, chat: str, event: Mapping[str, Any]) -> Push:
        now = self._corp.now
        body = self._body(person, chat, now) | {"msgtype": "event", "event": event}
        push = Push(self._corp.new_opaque_id(""), body["msgid"], chat, person, body, now, event=event["eventtype"])
        self._pushes.put(push.req_id, push, now + self._corp.rules.welcome_seconds)
        return push

    def _update(self, req_id: str, body: Mapping[str, Any]) -> None:
        push = self._pushes.get(req_id, self._corp.now)
        if push is None or push.touched is None or push.replied:
            raise Refused(846605)
        update_card(self._corp, push.touched, body)
        push.replied = True

    def _send(self, _req_id: str, body: Mapping[str, Any]) -> None:
        conversation = self._target(body)
        if body.get("msgtype") == "template_card" and conversation[0].startswith("group:"):
            raise Refused(40058, "template_card is for single chats")  # DOC 101463; the code is not documented
        look, text = self._read(body)
        content = self._content(body)
        self._admit(conversation)
        self._post(conversation, look, text, content=content)

    def _target(self, body: Mapping[str, Any]) -> tuple[str, str]:
        """The conversation that ``chatid`` means: group first unless ``chat_type`` says otherwise; case counts."""
        chat_id, chat_type = body.get("chatid"), body.get("chat_type", 0)
        if not isinstance(chat_id, str) or chat_id not in self._wrote:
            raise Refused(93006)
        if chat_type in (0, 2) and chat_id in self._corp.groups:
            return f"group:{chat_id}", ""
        if chat_type in (0, 1) and chat_id in self._corp.people:
            return f"bot:{self.settings.id}", chat_id
        raise Refused(93006)

    def respond_by_code(self, code: str, body: Mapping[str, Any]) -> bool:
        """Answers over a ``response_url``; whether the code was one of this bot's. One use (DOC 101138)."""
        push = self._response_codes.get(code, self._corp.now)
        if push is None:
            return False
        # Cards are for single chats only.
        kinds = ("markdown",) if push.chat.startswith("group:") else ("markdown", "template_card")
        if body.get("msgtype") not in kinds:
            raise Refused(40008)
        look, text = self._read(body)
        content, rated = self._content(body), feedback_id(_inner(body, str(body["msgtype"])))
        self._response_codes.pop(code)
        bubble = self._post(push.conversation, look, text, answers=push.msg_id, content=content)
        bubble.feedback_id = rated
        self._replied(push)
        return True

    def _admit(self, conversation: tuple[str, str]) -> None:
        if not self._rates.admit(conversation, self._corp.now):
            raise Refused(45009)

    def _post(
        self,
        conversation: tuple[str, str],
        look: Look,
        text: str,
        *,
        answers: str = "",
        stream_id: str = "",
        finished: bool = True,
        content: dict[str, Any] | None = None,
    ) -> Bubble:
        chat, person = conversation
        if look == "markdown":
            text = folded(text)[0]
        bubble = self._corp.chats.post(
            chat=chat,
            person=person,
            speaker=f"bot:{self.settings.id}",
            text=text,
            look=look,
            now=self._corp.now,
            msg_id=self._corp.new_opaque_id("bm"),
            answers=answers,
            stream_id=stream_id,
            finished=finished,
            content=content,
        )
        self._corp.journal.note(Kind.SHOWN, chat=chat, person=person, msg_id=answers or bubble.msg_id)
        return bubble


def _inner(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = body.get(name)
    if not isinstance(inner, dict):
        raise Refused(40058, f"missing field: {name}")
    return inner


def _text(corp: Corp, inner: Mapping[str, Any]) -> tuple[Look, str]:
    content = inner.get("content")
    if not isinstance(content, str) or not has_visible(content):
        raise Refused(44004)
    if len(content.encode()) > corp.rules.stream_bytes:
        raise Refused(45002)
    return "text", content


def _markdown(corp: Corp, inner: Mapping[str, Any]) -> tuple[Look, str]:
    content = inner.get("content")
    if not isinstance(content, str) or not has_visible(content):
        raise Refused(44004)
    if len(content.encode()) > corp.rules.push_markdown_bytes:
        raise Refused(45002, f"markdown.content exceed max length {corp.rules.push_markdown_bytes}")
    return "markdown", content


def _media(_corp: Corp, inner: Mapping[str, Any]) -> tuple[Look, str]:
    if not inner.get("media_id"):
        raise Refused(40007)
    return "media", "[媒体文件]"


def _card(corp: Corp, inner: Mapping[str, Any]) -> tuple[Look, str]:
    if corp.strike("card_refused"):
        raise Refused(42045)
    return template_card(inner)


_READERS: Final[Mapping[str, Callable[[Corp, Mapping[str, Any]], tuple[Look, str]]]] = {
    "markdown": _markdown,
    "template_card": _card,
    "image": _media,
    "file": _media,
    "voice": _media,
    "video": _media,
}
"""Message types of replies and pushes beside streams. ``text`` is not among them (DOC 101463)."""
