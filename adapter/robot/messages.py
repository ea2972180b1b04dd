"""What the robot of a group says: the messages that a push becomes, within the limits of DOC 91770. Pure.

The messages of a push are the same in every attempt, so that counting them says what was sent.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from adapter.cards import CARD_TYPE, MESSAGE_TYPE, card_text, checked
from adapter.text.markdown import Framed, blocks
from adapter.text.plain import plain, without_tables
from adapter.text.render import clean, has_visible
from adapter.text.split import split
from adapter.text.visible import utf8_length
from weconverse.v1.conversation_pb2 import Media, Part

TEXT_BYTES: Final = 2048
MARKDOWN_BYTES: Final = 4096
"""Of ``markdown`` and ``markdown_v2``; longer ones are refused as a whole with 40058."""

Style = Literal["auto", "v1", "v2", "text"]
"""What texts are sent as; ``auto`` looks at each."""

_MAX_NATIVE_BYTES: Final = 1024 * 1024
_LOOK_ABOVE: Final = "请看上面的消息"
"""Of the message that only mentions people, behind one that cannot."""
_EMPTY: Final = "（没有可以显示的内容）"
_MENTION: Final = re.compile(r"<@[^<>\s]{1,64}>")
_COLOUR: Final = re.compile(r"<font\s+color\s*=", re.IGNORECASE)
_LIST: Final = re.compile(r"^\s{0,8}(?:[-*+]|\d{1,9}[.)])\s+\S", re.MULTILINE)
_PICTURE: Final = re.compile(r"!\[[^\]\n]{0,200}\]\(https?://")
_MARKS: Final = re.compile(
    r"^#{1,6}\s+\S|^>\s*\S|\*\*[^*\n]+\*\*|\[[^\]\n]{1,200}\]\(https?://|`[^`\n]+`", re.MULTILINE
)
_USER: Final = re.compile(r"@([a-zA-Z0-9._@-]{1,64})", re.ASCII)
_MOBILE: Final = re.compile(r"mobile:(\+?[0-9]{5,20})", re.ASCII)


class Mentions(msgspec.Struct, frozen=True):
    """Who is called by a message."""

    users: tuple[str, ...] = ()
    """UserIDs, or ``@all``."""
    mobiles: tuple[str, ...] = ()


class Said(msgspec.Struct, frozen=True):
    """A message that can be sent as it is."""

    body: dict[str, Any]


class File(msgspec.Struct, frozen=True):
    """A picture, a recording or a file, to be read first, and perhaps put up."""

    media: Media


Piece = Said | File


def mentions_of(recipient: str) -> Mentions:
    """Who a push calls: ``@USERID``, ``@all`` and ``mobile:NUMBER``, joined by ``|``; nobody when it is empty.

    Raises:
        ValueError: something else stands there.
    """
    users: dict[str, None] = {}
    mobiles: dict[str, None] = {}
    for one in filter(None, (piece.strip() for piece in recipient.split("|"))):
        if user := _USER.fullmatch(one):
            users["@all" if one == "@all" else user[1]] = None
        elif mobile := _MOBILE.fullmatch(one):
            mobiles[mobile[1]] = None
        else:
            raise ValueError("recipient: who is mentioned: @USERID, @all or mobile:NUMBER, joined by |, or nothing")
    return Mentions(tuple(users), tuple(mobiles))


def pieces_of(parts: Iterable[Part], mentions: Mentions, style: Style) -> list[Piece]:
    """The messages of a push, in order; at least one. Texts in a row become one message where they fit into it.

    Raises:
        ValueError: a part is not what its type says; names the field, the rule and the remedy.
    """
    saying = _Saying(mentions, style)
    return saying.pieces(parts)


class _Saying:
    def __init__(self, mentions: Mentions, style: Style) -> None:
        self._style = style
        self._left = mentions
        """Who was not called yet: the first message that can calls them."""

    def pieces(self, parts: Iterable[Part]) -> list[Piece]:
        found: list[Piece] = []
        texts: list[str] = []
        for part in parts:
            if part.HasField("text"):
                texts.append(clean(part.text))
                continue
            kind = part.media.mime_type
            if kind == CARD_TYPE:
                try:
                    card = checked(part.media.inline_data, "robot")
                except ValueError:
                    # It would be refused. What it says reaches people all the same.
                    texts.append(card_text(_object(part.media.inline_data, "card")))
                    continue
                found += self._flushed(texts)
                found.append(Said({"msgtype": "template_card", "template_card": card}))
            else:
                found += self._flushed(texts)
                found.append(Said(native(part.media.inline_data)) if kind == MESSAGE_TYPE else File(part.media))
        found += self._flushed(texts)
        if not found:
            found += self._words(_EMPTY)
        if self._left != Mentions():
            found.append(Said(self._text(_LOOK_ABOVE)))
        return found

    def _flushed(self, texts: list[str]) -> Iterator[Piece]:
        whole = "\n\n".join(text.strip("\n") for text in texts if has_visible(text))
        texts.clear()
        if whole:
            yield from self._words(whole)

    def _words(self, text: str) -> Iterator[Piece]:
        match style_of(text) if self._style == "auto" else self._style:
            case "text":
                for part in split(plain(text), TEXT_BYTES):
                    yield Said(self._text(part))
            case "v1":
                called = self._called()
                room = MARKDOWN_BYTES - utf8_length(called)
                for part in split(without_tables(text), room):
                    yield Said({"msgtype": "markdown", "markdown": {"content": called + part}})
                    called = ""
            case _:
                for part in split(text, MARKDOWN_BYTES):
                    yield Said({"msgtype": "markdown_v2", "markdown_v2": {"content": part}})

    def _text(self, content: str) -> dict[str, Any]:
        inner: dict[str, Any] = {"content": content}
        if self._left.users:
            inner["mentioned_list"] = list(self._left.users)
        if self._left.mobiles:
            inner["mentioned_mobile_list"] = list(self._left.mobiles)
        self._left = Mentions()
        return {"msgtype": "text", "text": inner}

    def _called(self) -> str:
        """Mentions in front of Markdown, which knows no numbers, no ``@all`` and no long lists."""
        left = self._left
        line = " ".join(f"<@{user}>" for user in left.users)
        if not line or left.mobiles or "@all" in left.users or utf8_length(line) > TEXT_BYTES:
            return ""
        self._left = Mentions()
        return f"{line}\n"


def style_of(text: str) -> Literal["v1", "v2", "text"]:
    """As what a text shows most: mentions and colours need ``v1``, tables, lists and pictures ``v2``."""
    if _MENTION.search(text) or _COLOUR.search(text):
        return "v1"
    framed = any(isinstance(block, Framed) for block in blocks(text))
    if framed or _LIST.search(text) or _PICTURE.search(text):
        return "v2"
    return "v1" if _MARKS.search(text) else "text"


# --- WeCom's own JSON --------------------------------------------------------------------


class _Article(msgspec.Struct):
    title: Annotated[str, Meta(min_length=1)]
    url: Annotated[str, Meta(min_length=1)]
    description: str = ""
    picurl: str = ""


class _News(msgspec.Struct):
    articles: Annotated[list[_Article], Meta(min_length=1, max_length=8)]


class _Content(msgspec.Struct):
    content: Annotated[str, Meta(min_length=1)]


_BODIES: Final[Mapping[str, type[msgspec.Struct]]] = {
    "text": _Content,
    "markdown": _Content,
    "markdown_v2": _Content,
    "news": _News,
}
_MOST_BYTES: Final[Mapping[str, Mapping[str, int]]] = {
    "text": {"content": TEXT_BYTES},
    "markdown": {"content": MARKDOWN_BYTES},
    "markdown_v2": {"content": MARKDOWN_BYTES},
    "news": {"title": 128, "description": 512},
}


def native(message_bytes: bytes) -> dict[str, Any]:
    """The message that these bytes hold in WeCom's own JSON, as ``{"msgtype": "news", "news": {…}}``.

    Raises:
        ValueError: names the field, the rule that is broken, and what to do.
    """
    value = _object(message_bytes, "message")
    kind = value.get("msgtype")
    if kind == "template_card":
        return {"msgtype": kind, kind: checked(msgspec.json.encode(value.get(kind)), "robot")}
    if not isinstance(kind, str) or kind not in _BODIES:
        raise ValueError(
            f"message.msgtype: must be one of {', '.join([*_BODIES, 'template_card'])}; give files as media"
        )
    try:
        body = msgspec.convert(value.get(kind), _BODIES[kind])
    except msgspec.ValidationError as error:
        rule, _, where = str(error).partition(" - at `$")
        raise ValueError(f"message.{kind}{where.rstrip('`')}: {rule}; see the limits in docs/wecom.md") from None
    for path, item in _items(kind, body):
        for name, most in _MOST_BYTES[kind].items():
            if len(getattr(item, name).encode()) > most:
                raise ValueError(f"message.{path}.{name}: longer than {most} bytes; shorten it")
    return {"msgtype": kind, kind: value[kind]}


def _items(kind: str, body: msgspec.Struct) -> Iterator[tuple[str, msgspec.Struct]]:
    if isinstance(body, _News):
        for number, article in enumerate(body.articles):
            yield f"{kind}.articles[{number}]", article
    else:
        yield kind, body


def _object(data: bytes, name: str) -> dict[str, Any]:
    if len(data) > _MAX_NATIVE_BYTES:
        raise ValueError(f"{name}: longer than {_MAX_NATIVE_BYTES} bytes; shorten its texts")
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{name}: is not a JSON object; give WeCom's own, in UTF-8") from None
