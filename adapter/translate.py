"""What a WeCom message means to the service: who speaks where, what was said, and where the answer goes.

Pure. A message becomes one of these: :class:`Incoming` is submitted as a turn,
:class:`Greeting` is answered with the assistant's greeting, :class:`Chosen` is a turn and
changes the card that was touched, :class:`Rated` is noted, :class:`Silence` is
acknowledged and nothing more. The rule: a person who sent something gets an answer,
whatever its kind; what the platform says on its own gets none. Which message becomes which
is said by the ``translate.py`` of each door.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from weconverse.v1.conversation_pb2 import Content, Media, Part, Sender

ADDRESS_BYTES: Final = 4096
"""What the contract lets an address have."""

_NAME_CHARACTERS: Final = 64
_SAFE_ID: Final = re.compile(r"[a-zA-Z0-9._~-]{1,128}", re.ASCII)

FETCHABLE: Final[Mapping[str, Literal["image", "voice", "video", "file"]]] = {
    "image": "image",
    "voice": "voice",
    "video": "video",
    "file": "file",
}
"""Kinds of messages whose bytes stay with WeCom until they are fetched."""

_MIME: Final[Mapping[str, str]] = {
    "image": "image/jpeg",
    "voice": "audio/amr",
    "video": "video/mp4",
    "file": "application/octet-stream",
}
_UNKNOWN_MIME: Final = "application/x-unknown"


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


# --- What all doors share ---------------------------------------------------------------


def incoming(
    account: str,
    key: bytes,
    request_id: str,
    content: Content,
    address: Address,
    attachments: tuple[Attachment, ...] = (),
) -> Incoming | Silence:
    """A message that is owed an answer.

    Args:
        account: the account's name, 1 to 64 characters of ``[a-zA-Z0-9._-]``.
        key: keeps digests of people's ids from being looked up in a list; the same for every instance.
        request_id: the same for every delivery of the same message, of whatever characters.
    """
    encoded = msgspec.json.encode(address)
    if len(encoded) > ADDRESS_BYTES:
        return Silence("address too long")
    who = digest(key, "person", address.user)
    # One customer may write to several accounts of customer service, each with an assistant of its own.
    desk = (address.open_kfid,) if address.open_kfid else ()
    own = (address.door, "group", address.chat) if address.chat else (address.door, *desk, who)
    where = digest(key, *own)
    return Incoming(
        conversation=f"conversations/wecom.{account}.{where}",
        request_id=request_id if _SAFE_ID.fullmatch(request_id) else digest(key, "unsafe", request_id),
        content=content,
        # In a group the model must tell people apart; WeCom gives it no better name than the UserID.
        sender=Sender(id=who, display_name=address.user[:_NAME_CHARACTERS] if address.chat else ""),
        address=encoded,
        attachments=attachments,
    )


def digest(key: bytes, *pieces: str) -> str:
    """32 hexadecimal digits; the pieces are framed, so that no two lists of them read the same."""
    framed = msgspec.msgpack.encode([piece.encode("utf-8", "surrogatepass") for piece in pieces])
    short_key = key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()
    return hashlib.blake2b(framed, digest_size=16, key=short_key).hexdigest()


def text_parts(text: str) -> list[Part]:
    """The text as a part; nothing where there is none."""
    stripped = text.strip()
    return [Part(text=stripped)] if stripped else []


def media_part(kind: str, uri: str = "", display_name: str = "") -> Part:
    """A picture, a recording, a film or a file, whose bytes are not here yet; what is of another kind keeps no type."""
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
