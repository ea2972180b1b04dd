"""What an application sends, and to whom, as WeCom takes it (DOC 90236, 90248). Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from adapter.cards import card_text, checked

MESSAGE_TYPE: Final = "application/vnd.wecom.message+json"
"""The media type of a part that holds a message in WeCom's own JSON, without receiver and ``agentid``."""

_MAX_BYTES: Final = 1024 * 1024
_GROUP: Final = re.compile(r"[0-9a-zA-Z_-]{1,64}", re.ASCII)
_PLACES: Final = {"user": "touser", "party": "toparty", "tag": "totag"}
_TAG: Final = re.compile(r"<[^<>]{1,200}>")

_NOT_IN_GROUPS: Final = frozenset({"template_card", "miniprogram_notice"})
"""Kinds that ``appchat/send`` does not take."""


# --- To whom -----------------------------------------------------------------------------


class Receiver(msgspec.Struct, frozen=True):
    """Who gets a message: people, or a group that this application created."""

    people: Mapping[str, str] = {}
    """Where ``message/send`` has them: ``touser``, ``toparty`` or ``totag``."""
    chat: str = ""
    """The ``chatid`` for ``appchat/send``."""

    @property
    def users(self) -> tuple[str, ...]:
        """The UserIDs, where they are known; of departments, tags and everybody they are not."""
        users = self.people.get("touser", "")
        return () if users == "@all" else tuple(filter(None, users.split("|")))

    @property
    def key(self) -> str:
        """Tells receivers apart."""
        return f"chat:{self.chat}" if self.chat else "|".join(f"{where}:{who}" for where, who in self.people.items())


def to_user(user: str) -> Receiver:
    """One person."""
    return Receiver({"touser": user})


def receiver_of(recipient: str) -> Receiver:
    """The receiver that a push names: ``user:ID``, ``party:ID``, ``tag:ID``, ``@all`` or ``chat:CHATID``.

    Several ids of one kind are joined by ``|``.

    Raises:
        ValueError: none of these.
    """
    if recipient == "@all":
        return to_user("@all")
    kind, _, who = recipient.partition(":")
    ids = [one.strip() for one in who.split("|")]
    if kind == "chat" and _GROUP.fullmatch(who):
        return Receiver(chat=who)
    # An @all among the people would reach everybody, which nobody asked for.
    if kind in _PLACES and all(ids) and "@all" not in ids:
        return Receiver({_PLACES[kind]: "|".join(ids)})
    raise ValueError("recipient: must be user:ID, party:ID, tag:ID (several joined by |), @all or chat:CHATID")


# --- What --------------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True):
    """One message, without its receiver."""

    kind: str
    """The ``msgtype``."""
    body: Mapping[str, Any]
    """What stands under the name of the kind."""
    options: Mapping[str, int] = {}
    """``safe`` and ``enable_id_trans``."""


def text(content: str) -> Message:
    """A text of at most 2048 bytes."""
    return Message("text", {"content": content})


def markdown(content: str) -> Message:
    """Markdown of at most 2048 bytes."""
    return Message("markdown", {"content": content})


def card(template_card: Mapping[str, Any]) -> Message:
    """A template card that was checked."""
    return Message("template_card", template_card)


def call_for(receiver: Receiver) -> str:
    """The path of the request that sends something there."""
    return "appchat/send" if receiver.chat else "message/send"


def encode(message: Message, receiver: Receiver, agent_id: int, *, duplicate_check: bool, interval: int) -> bytes:
    """The body of the request; UTF-8 without escapes (DOC 90313, 40033).

    Equal arguments give equal bytes. The order of the fields is part of that promise: the
    duplicate check compares the request as a whole, so the same part must be the same bytes
    in every attempt and every release that may recover it. Groups have no such check.
    """
    if receiver.chat:
        return msgspec.json.encode(
            {"msgtype": message.kind, "chatid": receiver.chat, message.kind: message.body, **message.options}
        )
    return msgspec.json.encode(
        {
            "msgtype": message.kind,
            **receiver.people,
            "agentid": agent_id,
            message.kind: message.body,
            **message.options,
            "enable_duplicate_check": int(duplicate_check),
            "duplicate_check_interval": interval,
        }
    )


def fits(message: Message, receiver: Receiver) -> bool:
    """Whether messages of this kind can go there at all."""
    return not (receiver.chat and message.kind in _NOT_IN_GROUPS)


# --- WeCom's own JSON --------------------------------------------------------------------


class _Content(msgspec.Struct):
    content: Annotated[str, Meta(min_length=1)]


class _Media(msgspec.Struct):
    media_id: Annotated[str, Meta(min_length=1)]
    title: str = ""
    description: str = ""


class _TextCard(msgspec.Struct):
    title: Annotated[str, Meta(min_length=1, max_length=128)]
    description: Annotated[str, Meta(min_length=1, max_length=512)]
    url: Annotated[str, Meta(pattern="^https?://.")]
    btntxt: Annotated[str, Meta(max_length=4)] = ""


class _Article(msgspec.Struct):
    title: Annotated[str, Meta(min_length=1)]
    description: str = ""
    url: str = ""
    picurl: str = ""
    appid: str = ""
    pagepath: str = ""


class _News(msgspec.Struct):
    articles: Annotated[list[_Article], Meta(min_length=1, max_length=8)]


class _Page(msgspec.Struct):
    title: Annotated[str, Meta(min_length=1)]
    thumb_media_id: Annotated[str, Meta(min_length=1)]
    content: Annotated[str, Meta(min_length=1)]
    author: str = ""
    content_source_url: str = ""
    digest: str = ""


class _Pages(msgspec.Struct):
    articles: Annotated[list[_Page], Meta(min_length=1, max_length=8)]


class _Line(msgspec.Struct):
    key: Annotated[str, Meta(min_length=1, max_length=10)]
    value: Annotated[str, Meta(min_length=1, max_length=30)]


class _Notice(msgspec.Struct):
    appid: Annotated[str, Meta(min_length=1)]
    title: Annotated[str, Meta(min_length=4, max_length=12)]
    page: str = ""
    description: str = ""
    emphasis_first_item: bool = False
    content_item: Annotated[list[_Line], Meta(max_length=10)] = []


class _Native(msgspec.Struct):
    msgtype: Literal[
        "text",
        "markdown",
        "image",
        "voice",
        "video",
        "file",
        "textcard",
        "news",
        "mpnews",
        "miniprogram_notice",
        "template_card",
    ]
    safe: Literal[0, 1, 2] = 0
    enable_id_trans: Literal[0, 1] = 0


_S = TypeVar("_S", bound=msgspec.Struct)

_BODIES: Final[Mapping[str, type[msgspec.Struct]]] = {
    "text": _Content,
    "markdown": _Content,
    "image": _Media,
    "voice": _Media,
    "video": _Media,
    "file": _Media,
    "textcard": _TextCard,
    "news": _News,
    "mpnews": _Pages,
    "miniprogram_notice": _Notice,
}

_MOST_BYTES: Final[Mapping[str, Mapping[str, int]]] = {
    "text": {"content": 2048},
    "markdown": {"content": 2048},
    "video": {"title": 128, "description": 512},
    "textcard": {"url": 2048},
    "news": {"title": 128, "description": 512, "url": 2048},
    "mpnews": {"title": 128, "author": 64, "content": 666 * 1024, "digest": 512},
    "miniprogram_notice": {"page": 1024},
}


def native(message_bytes: bytes) -> Message:
    """The message that these bytes hold in WeCom's own JSON, as ``{"msgtype": "news", "news": {…}}``.

    Raises:
        ValueError: names the field, the rule that is broken, and what to do.
    """
    if len(message_bytes) > _MAX_BYTES:
        raise ValueError(f"message: longer than {_MAX_BYTES} bytes; shorten its texts")
    try:
        value = msgspec.json.decode(message_bytes, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("message: is not a JSON object; give the request of message/send, in UTF-8") from None
    outer = _converted(value, _Native, "message")
    kind: str = outer.msgtype
    inner: Any = value.get(kind)
    if kind == "template_card":
        inner = checked(msgspec.json.encode(inner), "app")
    else:
        body = _converted(inner, _BODIES[kind], f"message.{kind}")
        for field, rule in _broken(outer, body):
            raise ValueError(f"message.{field}: {rule}")
    options = {name: value[name] for name in ("safe", "enable_id_trans") if value.get(name)}
    return Message(kind, inner, options)


def _converted(value: Any, into: type[_S], path: str) -> _S:
    try:
        return msgspec.convert(value, into)
    except msgspec.ValidationError as error:
        rule, _, where = str(error).partition(" - at `$")
        raise ValueError(f"{path}{where.rstrip('`')}: {rule}; see the limits in docs/wecom.md") from None


def _broken(outer: _Native, body: msgspec.Struct) -> Iterator[tuple[str, str]]:
    kind = outer.msgtype
    if outer.safe == 2 and kind != "mpnews":
        yield "safe", "2 is for mpnews only; use 0 or 1"
    if outer.safe and kind == "news":
        yield "safe", "is not for news; remove it"
    for path, item in _items(kind, body):
        for name, most in _MOST_BYTES.get(kind, {}).items():
            if len(getattr(item, name).encode()) > most:
                yield f"{path}.{name}", f"longer than {most} bytes; shorten it"
        if isinstance(item, _Article) and not (item.url or (item.appid and item.pagepath)):
            yield f"{path}.url", "is required; add it, or appid and pagepath"


def _items(kind: str, body: msgspec.Struct) -> Iterator[tuple[str, msgspec.Struct]]:
    if isinstance(body, _News | _Pages):
        for number, article in enumerate(body.articles):
            yield f"{kind}.articles[{number}]", article
    else:
        yield kind, body


# --- In words ----------------------------------------------------------------------------


def in_words(message: Message) -> str:
    """What a message says, for when WeCom does not take it as it is; empty for pictures and files."""
    say = _WORDS.get(message.kind)
    return say(message.body) if say else ""


def _of_textcard(body: Mapping[str, Any]) -> str:
    return "\n".join([f"【{body['title']}】", _TAG.sub("", body["description"]), body["url"]])


def _of_articles(body: Mapping[str, Any]) -> str:
    found = []
    for article in body["articles"]:
        fields = ("description", "url", "digest", "content_source_url")
        found.append("\n".join([f"【{article['title']}】", *(article[name] for name in fields if article.get(name))]))
    return "\n\n".join(found)


def _of_notice(body: Mapping[str, Any]) -> str:
    lines = [f"{item['key']}：{item['value']}" for item in body.get("content_item", ())]
    return "\n".join(filter(None, [f"【{body['title']}】", body.get("description", ""), *lines]))


_WORDS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "template_card": card_text,
    "textcard": _of_textcard,
    "news": _of_articles,
    "mpnews": _of_articles,
    "miniprogram_notice": _of_notice,
}
