"""What messages and events of an intelligent bot mean (DOC 100719, 101027). Pure."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from adapter.cards import said_by_click
from adapter.translate import (
    FETCHABLE,
    Address,
    Attachment,
    Chosen,
    Greeting,
    Incoming,
    Rated,
    Silence,
    digest,
    incoming,
    media_part,
    text_parts,
)
from adapter.wire import BotCardClick, BotFeedback, BotMedia, BotMessage
from weconverse.v1.conversation_pb2 import Content, Part, Sender

FETCHED: Final = "fetched"
"""The ``req_id`` of an address in callback mode whose answer WeCom fetches as a stream."""

_QUOTE_CHARACTERS: Final = 2000
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
_KIND_NAME: Final[Mapping[str, str]] = {
    "image": "图片",
    "voice": "语音",
    "video": "视频",
    "file": "文件",
    "mixed": "图文消息",
}


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
        key: as for ``adapter.translate.incoming``.
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
    request_id = message.msgid or digest(key, "request", message.userid, str(message.create_time), message.text)
    return incoming(account, key, request_id, Content(parts=parts), address, attachments)


def _from_bot_event(
    account: str, key: bytes, message: BotMessage, address: Address
) -> Greeting | Chosen | Rated | Silence:
    if message.feedback is not None:
        return _rated(key, message.userid, message.feedback)
    if message.click is not None:
        return _chosen(account, key, message.click, address)
    if message.event != "enter_chat":
        return Silence("event")
    event_id = message.msgid or digest(key, "event", message.userid, str(message.create_time), message.event)
    opened = incoming(account, key, event_id, Content(), address)
    if isinstance(opened, Silence):
        return opened
    return Greeting(opened.conversation, opened.request_id, opened.address)


def _chosen(account: str, key: bytes, click: BotCardClick, address: Address) -> Chosen | Silence:
    said = said_by_click(click.event_key, click.selected)
    if not said:
        return Silence("event")
    # A card answers once for each person, however often it is touched and its event comes.
    request_id = digest(key, "card", address.user, click.task_id, "" if click.task_id else str(address.create_time))
    turn = incoming(
        account, key, request_id, Content(parts=text_parts(said)), msgspec.structs.replace(address, req_id="")
    )
    if isinstance(turn, Silence):
        return turn
    return Chosen(turn, click.task_id, said, bool(address.chat), address.user)


def _rated(key: bytes, user: str, feedback: BotFeedback) -> Rated | Silence:
    kind = _RATINGS.get(feedback.kind)
    if kind is None or not _TURN.fullmatch(feedback.id):
        return Silence("event")
    words = [_REASONS[reason] for reason in feedback.reasons if reason in _REASONS]
    comment = "；".join(piece for piece in ("、".join(words), feedback.content.strip()) if piece)
    rater = Sender(id=digest(key, "person", user))
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
            parts += text_parts(piece)
            continue
        kind = FETCHABLE.get(piece.kind)
        if kind is not None and piece.url:
            # Their addresses are signed anew on each delivery: in the content, they would make a
            # redelivery look like another message.
            attachments.append(Attachment(part=len(parts), kind=kind, url=piece.url, aeskey=piece.aeskey))
        parts.append(media_part(piece.kind))
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
