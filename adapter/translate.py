"""What a WeCom message means to the service: who speaks where, what was said, and where the answer goes.

Pure. A message becomes one of these: :class:`Incoming` is submitted as a turn,
:class:`Greeting` is answered with the assistant's greeting, :class:`Chosen` is a turn and
changes the card that was touched, :class:`Rated` is noted, :class:`Silence` is
acknowledged and nothing more. The rule: a person who sent something gets an answer,
whatever its kind; what the platform says on its own gets none.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from adapter.cards import said_by_click
from adapter.wire import AppMessage, BotCardClick, BotFeedback, BotMedia, BotMessage
from weconverse.v1.conversation_pb2 import Content, Media, Part, Sender

ADDRESS_BYTES: Final = 4096
"""What the contract lets an address have."""

FETCHED: Final = "fetched"
"""The ``req_id`` of an address in callback mode whose answer WeCom fetches as a stream."""

_QUOTE_CHARACTERS: Final = 2000
_NAME_CHARACTERS: Final = 64
_SAFE_ID: Final = re.compile(r"[a-zA-Z0-9._~-]{1,128}", re.ASCII)
_AT: Final = ("@", "＠")
_BLANK: Final = " \t\r\n\u2005\u200b\u00a0\u3000\ufeff"
"""What stands around a mention, and is nothing that anybody wrote."""
_LEADING_WORD: Final = re.compile(r"\A[@＠]\S+(?:\s+|$)")
_TURN: Final = re.compile(r"conversations/[a-zA-Z0-9._~-]{1,128}/turns/[a-zA-Z0-9._~-]{1,128}", re.ASCII)

_RATINGS: Final[Mapping[int, Literal["helpful", "unhelpful", "withdrawn"]]] = {
    1: "helpful",
    2: "unhelpful",
    3: "withdrawn",
}
_REASONS: Final[Mapping[int, str]] = {1: "与问题无关", 2: "内容不完整", 3: "内容有错误", 4: "数据分析有误"}
"""Why a reply was called inaccurate (DOC 101027)."""
_FETCHED: Final[Mapping[str, Literal["image", "voice", "video", "file"]]] = {
    "image": "image",
    "voice": "voice",
    "video": "video",
    "file": "file",
}

_MIME: Final[Mapping[str, str]] = {
    "image": "image/jpeg",
    "voice": "audio/amr",
    "video": "video/mp4",
    "file": "application/octet-stream",
}
_UNKNOWN_MIME: Final = "application/x-unknown"
_KIND_NAME: Final[Mapping[str, str]] = {
    "image": "图片",
    "voice": "语音",
    "video": "视频",
    "file": "文件",
    "mixed": "图文消息",
}


class Address(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Where an answer goes: all that another instance of this program needs to deliver it."""

    version: int = 1
    door: Literal["app", "bot", "bot_callback", "kf"]
    user: str
    """The UserID of the person who wrote; of a customer, the external_userid."""
    chat: str = ""
    """The group; empty for the person's own chat."""
    chat_type: Literal["single", "group"] = "single"
    req_id: str = ""
    """Of the callback frame; replies under it are possible for 24 hours (DOC 101463)."""
    create_time: int = 0
    """When WeCom says the message was sent, in POSIX seconds; 0 if it does not say."""

    response_url: str = ""
    """Of a bot in callback mode: takes one message within an hour (DOC 101138). Whoever knows it can use it."""
    open_kfid: str = ""
    """The customer service account that was written to."""

    @property
    def target(self) -> str:
        """To whom a message of our own accord goes: the group, or the person."""
        return self.chat or self.user


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that belong to a message, and stay with WeCom until they are fetched."""

    part: int
    """Which part of ``Incoming.content`` they are for, from 0."""
    kind: Literal["image", "voice", "video", "file"]
    media_id: str = ""
    """For ``media/get``; lives three days."""
    url: str = ""
    """Of a bot: a signed address, good for five minutes for everybody who knows it. Never log it."""
    aeskey: str = ""
    """Opens what ``url`` yields; in callback mode the door puts the bot's EncodingAESKey here."""

    def __repr__(self) -> str:
        """Without what opens the file, so that no log line or traceback holds it."""
        return f"Attachment(part={self.part}, kind={self.kind!r})"


class Incoming(msgspec.Struct, frozen=True, weakref=True):
    """A message that is owed an answer."""

    conversation: str
    """``conversations/wecom.{account}.{digest}``."""
    request_id: str
    """The same for every delivery of the same message."""
    content: Content
    sender: Sender
    address: bytes
    """An encoded :class:`Address`, at most 4096 bytes."""
    attachments: tuple[Attachment, ...] = ()
    """What has to be fetched before the message is whole."""
    assistant: str = ""
    """Who is to answer, where that depends on the person; empty: the account's assistant."""


class Greeting(msgspec.Struct, frozen=True):
    """Somebody opened the chat with the bot for the first time today."""

    conversation: str
    request_id: str
    address: bytes


class Chosen(msgspec.Struct, frozen=True):
    """Somebody touched a bot's card, and says by it what :attr:`said` holds."""

    incoming: Incoming
    """The choice as the person's next message. It has no ``req_id``: an event takes no reply but a new card."""
    task_id: str
    """Of the card, which is the same for whatever takes its place."""
    said: str
    group: bool
    """Whether it was in a group, where only this person's card changes."""
    user: str


class Rated(msgspec.Struct, frozen=True):
    """Somebody rated a reply, or took the rating back."""

    turn: str
    """The full name of the turn, as it went out with the reply."""
    kind: Literal["helpful", "unhelpful", "withdrawn"]
    comment: str
    rater: Sender


class Silence(msgspec.Struct, frozen=True):
    """Nothing is to be said."""

    reason: str
    """Why, for metrics: a short fixed word."""


def read_address(data: bytes) -> Address:
    """The address that a delivery hands back.

    Raises:
        ValueError: not an address of this program, or of a version it does not know.
    """
    try:
        address = msgspec.json.decode(data, type=Address)
    except msgspec.MsgspecError:
        raise ValueError("address: not one that this program wrote") from None
    if address.version != 1:
        raise ValueError("address: of an unknown version")
    return address


# --- The self-built application ----------------------------------------------------------


def from_app_message(account: str, message: AppMessage, *, key: bytes = b"") -> Incoming | Greeting | Silence:
    """Decides what a decrypted message of the application means.

    Args:
        account: the account's name, 1 to 64 characters of ``[a-zA-Z0-9._-]``.
        key: keeps digests of people's ids from being looked up in a list; the same for every instance.
    """
    if message.from_user in ("", "sys"):
        return Silence("no person")
    if message.msg_type in ("event", ""):
        return Silence("event")  # what events mean: see app_events
    parts, attachments = _app_parts(message)
    if not parts:
        return Silence("empty")
    address = Address(door="app", user=message.from_user, create_time=message.create_time)
    request_id = message.msg_id or _digest(
        key, "request", message.from_user, str(message.create_time), message.msg_type, message.content
    )
    return _incoming(account, key, request_id, Content(parts=parts), address, attachments)


def app_event_id(message: AppMessage, *, key: bytes = b"") -> str:
    """Names an event, which has no id of its own.

    User and second are not enough: two events of one user may share them, so the
    application, the event, its key, the card and what was scanned take part (DOC 90238
    names only the first two).
    """
    what = [message.fields.get(name, "") for name in ("TaskId", "ScanCodeInfo.ScanResult")]
    return _digest(
        key,
        "event",
        message.from_user,
        str(message.create_time),
        message.agent_id,
        message.event,
        message.event_key,
        *what,
    )


def said_by_app_event(account: str, message: AppMessage, text: str, *, key: bytes = b"") -> Incoming | Silence:
    """An event as the message that it stands for: a person who touched something said ``text`` by it."""
    parts = _text_parts(text)
    if not parts:
        return Silence("event")
    address = Address(door="app", user=message.from_user, create_time=message.create_time)
    return _incoming(account, key, app_event_id(message, key=key), Content(parts=parts), address)


def _app_parts(message: AppMessage) -> tuple[list[Part], tuple[Attachment, ...]]:
    """The parts of a message, and what has to be fetched for them."""
    words = _app_words(message)
    if words is not None:
        return _text_parts(words), ()
    kind, fields = _FETCHED.get(message.msg_type), message.fields
    name, media_id = fields.get("FileName", ""), fields.get("MediaId", "").strip()
    if kind is not None and media_id:
        return [_media(kind, display_name=name)], (Attachment(part=0, kind=kind, media_id=media_id),)
    return [_media(message.msg_type, fields.get("PicUrl", "") if kind == "image" else "", name)], ()


def _app_words(message: AppMessage) -> str | None:
    """What can be said of a message in words; ``None`` for kinds that cannot be."""
    kind, fields = message.msg_type, message.fields
    if kind == "text":
        return message.content
    if kind == "voice" and fields.get("Recognition", "").strip():
        return fields["Recognition"]
    if kind == "location":
        where = f"（纬度 {fields.get('Location_X', '?')}，经度 {fields.get('Location_Y', '?')}）"
        return f"位置：{fields.get('Label', '').strip()}{where}"
    if kind == "link":
        line = " ".join(piece for piece in (fields.get("Title", "").strip(), fields.get("Url", "").strip()) if piece)
        return f"链接：{line}\n{fields.get('Description', '').strip()}"
    return None


# --- The intelligent bot -----------------------------------------------------------------


def from_bot_message(
    account: str,
    bot_name: str,
    message: BotMessage,
    *,
    door: Literal["bot", "bot_callback"] = "bot",
    req_id: str = "",
    key: bytes = b"",
) -> Incoming | Greeting | Chosen | Rated | Silence:
    """Decides what a message or an event of the bot means.

    Args:
        account: the account's name, 1 to 64 characters of ``[a-zA-Z0-9._-]``.
        bot_name: as WeCom shows it, to cut the mention off; empty if not known.
        req_id: of the frame that brought the message; in callback mode :data:`FETCHED`.
        key: as for :func:`from_app_message`.
    """
    if message.userid in ("", "sys"):
        return Silence("no person")
    in_group = message.chattype == "group"
    address = Address(
        door=door,
        user=message.userid,
        chat=message.chatid if in_group else "",
        chat_type="group" if in_group else "single",
        req_id=req_id,
        create_time=message.create_time,
        response_url=message.response_url if door == "bot_callback" else "",
    )
    if message.msgtype == "event":
        return _from_bot_event(account, key, message, address)
    if message.msgtype in ("stream", ""):
        return Silence("poll")
    parts, attachments = _bot_parts(message, bot_name)
    if not parts:
        return Silence("empty")
    request_id = message.msgid or _digest(key, "request", message.userid, str(message.create_time), message.text)
    return _incoming(account, key, request_id, Content(parts=parts), address, attachments)


def _from_bot_event(
    account: str, key: bytes, message: BotMessage, address: Address
) -> Greeting | Chosen | Rated | Silence:
    if message.feedback is not None:
        return _rated(key, message.userid, message.feedback)
    if message.click is not None:
        return _chosen(account, key, message.click, address)
    if message.event != "enter_chat":
        return Silence("event")
    event_id = message.msgid or _digest(key, "event", message.userid, str(message.create_time), message.event)
    incoming = _incoming(account, key, event_id, Content(), address)
    if isinstance(incoming, Silence):
        return incoming
    return Greeting(incoming.conversation, incoming.request_id, incoming.address)


def _chosen(account: str, key: bytes, click: BotCardClick, address: Address) -> Chosen | Silence:
    said = said_by_click(click.event_key, click.selected)
    if not said:
        return Silence("event")
    # A card answers once for each person, however often it is touched and its event comes.
    request_id = _digest(key, "card", address.user, click.task_id, "" if click.task_id else str(address.create_time))
    incoming = _incoming(
        account, key, request_id, Content(parts=_text_parts(said)), msgspec.structs.replace(address, req_id="")
    )
    if isinstance(incoming, Silence):
        return incoming
    return Chosen(incoming, click.task_id, said, bool(address.chat), address.user)


def _rated(key: bytes, user: str, feedback: BotFeedback) -> Rated | Silence:
    kind = _RATINGS.get(feedback.kind)
    if kind is None or not _TURN.fullmatch(feedback.id):
        return Silence("event")
    words = [_REASONS[reason] for reason in feedback.reasons if reason in _REASONS]
    comment = "；".join(piece for piece in ("、".join(words), feedback.content.strip()) if piece)
    rater = Sender(id=_digest(key, "person", user))
    return Rated(feedback.id, kind, comment if kind == "unhelpful" else "", rater)


def _bot_parts(message: BotMessage, bot_name: str) -> tuple[list[Part], tuple[Attachment, ...]]:
    """The quoted message, then the person's own, each in its order; and what has to be fetched for them."""
    pieces: list[str | BotMedia] = list(message.pieces or (*filter(None, (message.text.strip(),)), *message.media))
    quote = _quote(message)
    if message.chattype == "group" and pieces and isinstance(pieces[0], str):
        # Who only calls the bot by its name wants to be answered too, so the name then stays.
        alone = len(pieces) == 1 and not quote
        pieces[0] = strip_mention(pieces[0], bot_name) or (pieces[0] if alone else "")
    if not pieces and message.msgtype not in ("text", "mixed", "voice"):
        pieces = [BotMedia(message.msgtype)]
    if quote:
        own = pieces.pop(0) if pieces and isinstance(pieces[0], str) else ""
        pieces[:0] = [f"{quote}\n\n{own}", *message.quote_media]
    parts: list[Part] = []
    attachments: list[Attachment] = []
    for piece in pieces:
        if isinstance(piece, str):
            parts += _text_parts(piece)
            continue
        kind = _FETCHED.get(piece.kind)
        if kind is not None and piece.url:
            # Their addresses are signed anew on each delivery: in the content, they would make a
            # redelivery look like another message.
            attachments.append(Attachment(part=len(parts), kind=kind, url=piece.url, aeskey=piece.aeskey))
        parts.append(_media(piece.kind))
    return parts, tuple(attachments)


def strip_mention(text: str, bot_name: str) -> str:
    """The text of a group message without the mention of the bot in front (DOC 100719).

    The platform puts it there as plain text, ended by a space or U+2005. Names may hold
    spaces, so without knowing the name only one word can be cut off. Elsewhere an ``@``
    is the person's own, and so are the names of other people in front of the bot's.
    """
    rest = text.lstrip(_BLANK)
    name = bot_name.strip()
    if not name:
        return _LEADING_WORD.sub("", rest, count=1).strip(_BLANK)
    while rest[:1] in _AT and rest.startswith(name, 1) and _ends_word(rest[1 + len(name) : 2 + len(name)]):
        rest = rest[1 + len(name) :].lstrip(_BLANK).lstrip("，,：:、").lstrip(_BLANK)
    return rest.strip(_BLANK)


def _ends_word(following: str) -> bool:
    """Whether a name ends here, and is not the beginning of a longer one."""
    return not following or following.isspace() or unicodedata.category(following)[0] in "PZC"


def _quote(message: BotMessage) -> str:
    """The quoted message as lines that begin with ``>``; media stand there by name, and follow as parts."""
    if not message.quote_type:
        return ""
    pieces = message.quote_pieces or (*filter(None, (message.quote_text.strip(),)), *message.quote_media)
    lines = [piece if isinstance(piece, str) else f"[{_KIND_NAME.get(piece.kind, '消息')}]" for piece in pieces]
    text = "\n".join(lines) or f"[{_KIND_NAME.get(message.quote_type, '消息')}]"
    if len(text) > _QUOTE_CHARACTERS:
        text = text[:_QUOTE_CHARACTERS] + "…"
    return "\n".join(f"> {line}" for line in text.splitlines())


# --- What both doors share ---------------------------------------------------------------


def incoming(
    account: str,
    key: bytes,
    request_id: str,
    content: Content,
    address: Address,
    attachments: tuple[Attachment, ...] = (),
) -> Incoming | Silence:
    """A message whose parts a door has made itself.

    Args:
        account: the account's name, 1 to 64 characters of ``[a-zA-Z0-9._-]``.
        key: as for :func:`from_app_message`.
        request_id: the same for every delivery of the same message, of whatever characters.
    """
    return _incoming(account, key, request_id, content, address, attachments)


def _incoming(
    account: str,
    key: bytes,
    request_id: str,
    content: Content,
    address: Address,
    attachments: tuple[Attachment, ...] = (),
) -> Incoming | Silence:
    encoded = msgspec.json.encode(address)
    if len(encoded) > ADDRESS_BYTES:
        return Silence("address too long")
    who = _digest(key, "person", address.user)
    # One customer may write to several accounts of customer service, each with an assistant of its own.
    desk = (address.open_kfid,) if address.open_kfid else ()
    own = (address.door, "group", address.chat) if address.chat else (address.door, *desk, who)
    where = _digest(key, *own)
    return Incoming(
        conversation=f"conversations/wecom.{account}.{where}",
        request_id=request_id if _SAFE_ID.fullmatch(request_id) else _digest(key, "unsafe", request_id),
        content=content,
        # In a group the model must tell people apart; WeCom gives it no better name than the UserID.
        sender=Sender(id=who, display_name=address.user[:_NAME_CHARACTERS] if address.chat else ""),
        address=encoded,
        attachments=attachments,
    )


def _digest(key: bytes, *pieces: str) -> str:
    """32 hexadecimal digits; the pieces are framed, so that no two lists of them read the same."""
    framed = msgspec.msgpack.encode([piece.encode("utf-8", "surrogatepass") for piece in pieces])
    short_key = key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()
    return hashlib.blake2b(framed, digest_size=16, key=short_key).hexdigest()


def _text_parts(text: str) -> list[Part]:
    stripped = text.strip()
    return [Part(text=stripped)] if stripped else []


def _media(kind: str, uri: str = "", display_name: str = "") -> Part:
    mime_type = _MIME.get(kind, _UNKNOWN_MIME)
    if uri.startswith("https://"):
        return Part(media=Media(mime_type=mime_type, uri=uri, display_name=display_name))
    return Part(media=Media(mime_type=mime_type, display_name=display_name))


# --- What the adapter itself must say ----------------------------------------------------

UNREACHABLE: Final = "抱歉，服务暂时连接不上，您的消息没有处理成功，请稍后再发一次。"
"""When the service did not take a message for as long as WeCom repeats it."""

_UNAVAILABLE: Final = "抱歉，服务暂时不可用，请稍后再试。"
_TRY_AGAIN: Final = "抱歉，这次没能完成回答，请再发一次。"
_NOT_PROCESSABLE: Final = "抱歉，这条消息无法处理，请换个说法再试。"

_SENTENCES: Final[Mapping[str, str]] = {
    "INVALID_FIELD": _NOT_PROCESSABLE,
    "INPUT_TOO_LONG": "您的消息太长了，请精简或分成几条再发。",
    "MEDIA_NOT_SUPPORTED": "抱歉，暂时还不能处理这类消息，请用文字描述您的问题。",
    "REQUEST_ID_REUSED": _NOT_PROCESSABLE,
    "RESOURCE_NOT_FOUND": _UNAVAILABLE,
    "CALLER_UNKNOWN": _UNAVAILABLE,
    "CALLER_NOT_ALLOWED": _UNAVAILABLE,
    "RATE_LIMITED": "您发送得太频繁了，请稍等片刻再试。",
    "CONVERSATION_BUSY": "前面的消息还在处理中，请等回复后再发。",
    "OVERLOADED": "当前咨询的人较多，请稍后再试。",
    "NO_ROUTE_AVAILABLE": _UNAVAILABLE,
    "REPLY_INTERRUPTED": "抱歉，回答中途断开了，请再发一次。",
    "SHUTTING_DOWN": _UNAVAILABLE,
    "STORE_UNAVAILABLE": _UNAVAILABLE,
    "TURN_TIMED_OUT": "抱歉，这个问题处理超时了，请稍后再试。",
    "INTERNAL_ERROR": _TRY_AGAIN,
    "TURN_QUARANTINED": _NOT_PROCESSABLE,
    "TURN_CANCELLED": "这次回答已取消。",
    "PROVIDER_REFUSED": _UNAVAILABLE,
    "ROUTE_LOOP": _UNAVAILABLE,
    "LEXICON_REFUSED": _UNAVAILABLE,
}


def sentence(reason: str) -> str:
    """What a person is told about an error; ``reason`` is the name of a value of ``ErrorReason``.

    Unknown reasons get the sentence that promises least.
    """
    return _SENTENCES.get(reason, _UNAVAILABLE)
