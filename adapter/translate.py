"""What a WeCom message means to the service: who speaks where, what was said, and where the answer goes.

Pure. A message becomes one of three things: :class:`Incoming` is submitted as a turn,
:class:`Greeting` is answered with the assistant's greeting, :class:`Silence` is
acknowledged and nothing more. The rule: a person who sent something gets an answer,
whatever its kind; what the platform says on its own gets none.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from adapter.wire import AppMessage, BotMessage
from weconverse.v1.conversation_pb2 import Content, Media, Part, Sender

ADDRESS_BYTES: Final = 4096
"""What the contract lets an address have."""

_QUOTE_CHARACTERS: Final = 2000
_NAME_CHARACTERS: Final = 64
_SAFE_ID: Final = re.compile(r"[a-zA-Z0-9._~-]{1,128}", re.ASCII)
_LEADING_WORD: Final = re.compile(r"\A@\S+(?:\s+|$)")

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
    """Opens what ``url`` yields; empty in callback mode, where the bot's EncodingAESKey does."""


class Incoming(msgspec.Struct, frozen=True):
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


class Greeting(msgspec.Struct, frozen=True):
    """Somebody opened the chat with the bot for the first time today."""

    conversation: str
    request_id: str
    address: bytes


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
        # Menus, cards and subscriptions have no meaning yet that a person would expect an answer to.
        return Silence("event")
    parts = _app_parts(message)
    if not parts:
        return Silence("empty")
    address = Address(door="app", user=message.from_user, create_time=message.create_time)
    request_id = message.msg_id or _digest(
        key, "request", message.from_user, str(message.create_time), message.msg_type, message.content
    )
    return _incoming(account, key, request_id, Content(parts=parts), address)


def app_event_id(message: AppMessage, *, key: bytes = b"") -> str:
    """Names an event, which has no id of its own.

    User and second are not enough: two events of one user may share them, so the
    application, the event and its key take part (DOC 90238 names only the first two).
    """
    return _digest(
        key, "event", message.from_user, str(message.create_time), message.agent_id, message.event, message.event_key
    )


def _app_parts(message: AppMessage) -> list[Part]:
    kind, fields = message.msg_type, message.fields
    if kind == "text":
        return _text_parts(message.content)
    if kind == "voice" and fields.get("Recognition", "").strip():
        return _text_parts(fields["Recognition"])
    if kind == "location":
        where = f"（纬度 {fields.get('Location_X', '?')}，经度 {fields.get('Location_Y', '?')}）"
        return _text_parts(f"位置：{fields.get('Label', '').strip()}{where}")
    if kind == "link":
        line = " ".join(piece for piece in (fields.get("Title", "").strip(), fields.get("Url", "").strip()) if piece)
        return _text_parts(f"链接：{line}\n{fields.get('Description', '').strip()}")
    uri = fields.get("PicUrl", "") if kind == "image" else ""
    return [_media(kind, uri, fields.get("FileName", ""))]


# --- The intelligent bot -----------------------------------------------------------------


def from_bot_message(
    account: str, bot_name: str, message: BotMessage, *, req_id: str = "", key: bytes = b""
) -> Incoming | Greeting | Silence:
    """Decides what a message or an event of the bot means.

    Args:
        account: the account's name, 1 to 64 characters of ``[a-zA-Z0-9._-]``.
        bot_name: as WeCom shows it, to cut the mention off; empty if not known.
        req_id: of the frame that brought the message.
        key: as for :func:`from_app_message`.
    """
    if message.userid in ("", "sys"):
        return Silence("no person")
    in_group = message.chattype == "group"
    address = Address(
        door="bot",
        user=message.userid,
        chat=message.chatid if in_group else "",
        chat_type="group" if in_group else "single",
        req_id=req_id,
        create_time=message.create_time,
    )
    if message.msgtype == "event":
        if message.event != "enter_chat":
            return Silence("event")
        event_id = message.msgid or _digest(key, "event", message.userid, str(message.create_time), message.event)
        incoming = _incoming(account, key, event_id, Content(), address)
        if isinstance(incoming, Silence):
            return incoming
        return Greeting(incoming.conversation, incoming.request_id, incoming.address)
    if message.msgtype in ("stream", ""):
        return Silence("poll")
    parts = _bot_parts(message, bot_name)
    if not parts:
        return Silence("empty")
    request_id = message.msgid or _digest(key, "request", message.userid, str(message.create_time), message.text)
    return _incoming(account, key, request_id, Content(parts=parts), address)


def _bot_parts(message: BotMessage, bot_name: str) -> list[Part]:
    text, quote = message.text.strip(), _quote(message)
    if message.chattype == "group":
        # Who only calls the bot by its name wants to be answered too, so the name then stays.
        text = strip_mention(text, bot_name) or ("" if quote else text)
    # The addresses of a bot's files stay here: what they yield is encrypted, so the service could not read it,
    # and they are signed anew on each delivery, which would make a redelivery look like another message.
    media = [_media(one.kind) for one in message.media]
    if not text and not media and message.msgtype not in ("text", "mixed", "voice"):
        media = [_media(message.msgtype)]
    if quote:
        text = f"{quote}\n\n{text}"
    return [*_text_parts(text), *media]


def strip_mention(text: str, bot_name: str) -> str:
    """The text of a group message without the mention of the bot in front (DOC 100719).

    The platform puts it there as plain text, ended by a space or U+2005. Names may hold
    spaces, so without knowing the name only one word can be cut off. Elsewhere an ``@``
    is the person's own.
    """
    rest = text.lstrip()
    name = bot_name.strip()
    if not name:
        return _LEADING_WORD.sub("", rest, count=1).strip()
    mention = f"@{name}"
    while rest.startswith(mention) and _ends_word(rest[len(mention) : len(mention) + 1]):
        rest = rest[len(mention) :].lstrip().lstrip("，,：:、").lstrip()
    return rest.strip()


def _ends_word(following: str) -> bool:
    """Whether a name ends here, and is not the beginning of a longer one."""
    return not following or following.isspace() or unicodedata.category(following)[0] in "PZC"


def _quote(message: BotMessage) -> str:
    if not message.quote_type:
        return ""
    text = message.quote_text.strip() or f"[{_KIND_NAME.get(message.quote_type, '消息')}]"
    if len(text) > _QUOTE_CHARACTERS:
        text = text[:_QUOTE_CHARACTERS] + "…"
    return "\n".join(f"> {line}" for line in text.splitlines())


# --- What both doors share ---------------------------------------------------------------


def _incoming(account: str, key: bytes, request_id: str, content: Content, address: Address) -> Incoming | Silence:
    encoded = msgspec.json.encode(address)
    if len(encoded) > ADDRESS_BYTES:
        return Silence("address too long")
    who = _digest(key, "person", address.user)
    where = _digest(key, address.door, "group", address.chat) if address.chat else _digest(key, address.door, who)
    return Incoming(
        conversation=f"conversations/wecom.{account}.{where}",
        request_id=request_id if _SAFE_ID.fullmatch(request_id) else _digest(key, "unsafe", request_id),
        content=content,
        # In a group the model must tell people apart; WeCom gives it no better name than the UserID.
        sender=Sender(id=who, display_name=address.user[:_NAME_CHARACTERS] if address.chat else ""),
        address=encoded,
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
