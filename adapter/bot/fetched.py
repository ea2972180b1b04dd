"""What WeCom is given when it fetches an answer of a bot in callback mode. Pure.

In this mode WeCom fetches: after the first passive answer it posts the stream's id about
every second, for six minutes from the person's message, until an answer says ``finish``
(DOC 101031). The poll may reach any instance, so everything here follows from the turn as
the service has it and from the clock:

- the stream's id names the turn, and says when its message was sent;
- a turn that ended while its bubble could still show it belongs to the bubble; one that
  ended later belongs to the message behind ``response_url``. When a turn ended, and when its
  message was sent, is the same for everybody, so every instance decides alike.
"""

import base64
import hashlib
import re
from typing import Any, Final, Literal, NamedTuple

import msgspec

from adapter import cards
from adapter.media.kinds import media_type
from adapter.text.render import BOT_STREAM_LIMIT, bot_stream_content, clean, for_bot, has_visible, split
from adapter.text.visible import utf8_length
from adapter.unsaid import unsaid
from weconverse import Turn, text_of
from weconverse.v1.conversation_pb2 import Media

FEEDBACK_BYTES: Final = 256
"""What WeCom takes for a ``feedback.id`` (DOC 101031)."""
MAX_PICTURES: Final = 10
MAX_PICTURE_BYTES: Final = 10 * 1024 * 1024
"""Of one picture in a stream's last answer, before base64: JPG or PNG (DOC 101031)."""

CONTINUED_LATER: Final = "\n\n（回答用时较长，完成后会另发一条完整的消息。）"
"""Ends a bubble that WeCom would close before the answer is complete."""
SENT_SEPARATELY: Final = "（回答用时较长，请看另发的完整消息。）"
"""In a bubble that WeCom asks for after its answer went another way."""
NOT_SURE: Final = "服务暂时没有响应，请稍候…"
"""In a bubble for a message of which nobody knows whether the service has it, and while the service is away."""
STILL_AWAY: Final = "服务暂时没有响应。如果稍后没有收到回答，请再发一次。"
"""Ends such a bubble before WeCom does: an answer that is owed comes as a message."""
UNKNOWN: Final = "抱歉，您的消息没有处理成功，请再发一次。"
"""Ends a bubble whose turn the service does not know, or does not know any more."""

_STREAM_ID: Final = re.compile(r"([0-9a-f]{32})-([0-9a-f]{1,10})-([a-zA-Z0-9._~-]{1,128})", re.ASCII)
_LONGEST_WAY: Final = 120.0
"""Seconds that a message can be on its way to the service, repetitions included; more is a wrong clock."""
_REST_FOLLOWS: Final = "\n\n（内容较长，余下部分另发一条消息。）"
_CUT: Final = "\n\n（内容过长，后面的部分没有显示。请缩小问题的范围再问。）"
_PICTURES: Final = "（图片见下）"


class Shown(msgspec.Struct, frozen=True):
    """What a whole reply looks like in this mode."""

    content: str
    """Of the bubble, at most 20480 bytes."""
    pictures: tuple[dict[str, Any], ...]
    """``msg_item`` of the last answer."""
    beside: dict[str, Any] | None
    """The one message that goes to ``response_url`` beside the bubble; ``None`` where it shows everything."""


class Named(NamedTuple):
    """What a stream's id names."""

    turn: str
    sent_at: int
    """When WeCom says the message was sent, in POSIX seconds; 0 if it does not say."""


def stream_id(turn: str, sent_at: int) -> str:
    """The id under which WeCom asks for a turn of this adapter.

    It is the same for every delivery of a message: its conversation's digest, when it was
    sent, and its request id.
    """
    conversation, _, request_id = turn.removeprefix("conversations/").partition("/turns/")
    return f"{conversation.rpartition('.')[2]}-{sent_at:x}-{request_id}"


def named_by(account: str, stream: str) -> Named | None:
    """What a stream's id names, or ``None`` if we never made such an id.

    The id comes back in an envelope that only WeCom can seal, and names no other account's turns.
    """
    found = _STREAM_ID.fullmatch(stream)
    if found is None:
        return None
    return Named(f"conversations/wecom.{account}.{found[1]}/turns/{found[3]}", int(found[2], 16))


def feedback_id(turn: str) -> str:
    """What a rating of the reply will name: the turn; empty where its name is too long for WeCom."""
    return turn if len(turn) <= FEEDBACK_BYTES else ""


def ended(turn: Turn) -> bool:
    """Whether the reply is complete."""
    return turn.state in (Turn.SUCCEEDED, Turn.FAILED, Turn.CANCELLED)


def began(turn: Turn, sent_at: int) -> float:
    """From when WeCom's window counts, in POSIX seconds: the message, which may have come late to the service."""
    taken_at = turn.create_time.ToNanoseconds() / 1e9
    return sent_at if 0.0 < taken_at - sent_at < _LONGEST_WAY else taken_at


def belongs_to_bubble(turn: Turn, sent_at: int, close_seconds: float) -> bool:
    """Whether a turn ended early enough for the bubble: the same for whoever asks, whenever."""
    return turn.end_time.ToNanoseconds() / 1e9 - began(turn, sent_at) <= close_seconds


def so_far(turn: Turn) -> str:
    """The bubble while the reply grows."""
    return bot_stream_content(text_of(turn.reply))


def closed_early(turn: Turn) -> str:
    """The last content of a bubble whose reply is not complete yet."""
    text = for_bot(text_of(turn.reply))
    if not has_visible(text):
        return CONTINUED_LATER.strip()
    room = BOT_STREAM_LIMIT - utf8_length(CONTINUED_LATER)
    return split(text, room, numbered=False)[0] + CONTINUED_LATER


def shown(turn: Turn, *, group: bool) -> Shown:
    """A reply that has ended, as bubble and perhaps one message beside it."""
    if note := unsaid(turn):
        return Shown(note, (), None)
    text, native = _words(turn, card=not group)
    pictures, left_out = _pictures(turn)
    whole = "\n\n".join(piece for piece in (text, *left_out) if has_visible(piece))
    if not has_visible(whole) and pictures:
        whole = _PICTURES
    first, rest = _in_two(whole)
    if rest and native:  # One message beside the bubble is all there is, and text goes before its buttons.
        first, rest = _in_two(f"{whole}\n\n{cards.card_text(native)}")
    if rest:
        return Shown(first, pictures, markdown(turn.name, rest))
    return Shown(first, pictures, {"msgtype": "template_card", "template_card": native} if native else None)


def message(turn: Turn) -> dict[str, Any]:
    """A whole reply as the one message that ``response_url`` takes: Markdown, cut where it must be."""
    text, _ = _words(turn, card=False)
    pictures, left_out = _pictures(turn)
    if pictures:
        left_out.append(f"（{len(pictures)} 张图片无法在这里显示）")
    return markdown(turn.name, "\n\n".join(piece for piece in (text, *left_out) if has_visible(piece)))


def markdown(turn: str, text: str) -> dict[str, Any]:
    """The body of a Markdown message (DOC 101138); what is beyond 20480 bytes is cut, and said to be."""
    content = for_bot(text)
    if not has_visible(content):
        content = bot_stream_content("（没有可以显示的内容）")
    elif utf8_length(content) > BOT_STREAM_LIMIT:
        content = split(content, BOT_STREAM_LIMIT - utf8_length(_CUT), numbered=False)[0] + _CUT
    inner: dict[str, Any] = {"content": content}
    if rated := feedback_id(turn):
        inner["feedback"] = {"id": rated}
    return {"msgtype": "markdown", "markdown": inner}


def _in_two(text: str) -> tuple[str, str]:
    """What a bubble holds, and what does not fit; the first part says that the other one follows."""
    content = for_bot(text)
    if not has_visible(content):
        return "（没有可以显示的内容）", ""
    if utf8_length(content) <= BOT_STREAM_LIMIT:
        return content, ""
    first, *others = split(content, BOT_STREAM_LIMIT - utf8_length(_REST_FOLLOWS), numbered=False)
    return first + _REST_FOLLOWS, "\n\n".join(others)


def _words(turn: Turn, *, card: bool) -> tuple[str, dict[str, Any] | None]:
    """The text of a reply, and the one card that is sent as a card; others, and choices, are said in words."""
    texts: list[str] = []
    native: dict[str, Any] | None = None
    for part in turn.reply.parts:
        if part.HasField("text"):
            texts.append(part.text)
        elif part.media.mime_type == cards.CARD_TYPE:
            try:
                found = cards.checked(part.media.inline_data, "bot")
            except ValueError:
                texts.append("（有一张卡片无法显示）")
                continue
            if card and native is None:
                native = found
            else:
                texts.append(cards.card_text(found))
    choices = cards.choices_card(turn) if card and native is None else None
    if choices is not None:
        native = choices
    elif said := cards.choices_text(turn):
        texts.append(said)
    return "\n\n".join(filter(has_visible, map(clean, texts))), native


def _pictures(turn: Turn) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """The pictures that a bubble can show, and a line for everything that it cannot."""
    items: list[dict[str, Any]] = []
    left_out: list[str] = []
    for part in turn.reply.parts:
        if not part.HasField("media") or part.media.mime_type == cards.CARD_TYPE:
            continue
        media = part.media
        if media.uri:
            left_out.append(f"[{_label(media)}]({media.uri})")
        elif _shows(media.inline_data) and len(items) < MAX_PICTURES:
            items.append({"msgtype": "image", "image": _image(media.inline_data)})
        else:
            left_out.append(f"（{_label(media)} 无法在这里发送）")
    return tuple(items), left_out


def _shows(data: bytes) -> bool:
    return len(data) <= MAX_PICTURE_BYTES and media_type(data[:16], "") in ("image/png", "image/jpeg")


def _image(data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return {"base64": base64.b64encode(data).decode("ascii"), "md5": digest}


def _label(media: Media) -> str:
    kind: Literal["图片", "文件"] = "图片" if media.mime_type.startswith("image/") else "文件"
    name = " ".join(clean(media.display_name).split()).translate({ord("["): "［", ord("]"): "］"})
    return f"{kind}“{name}”" if name else kind
