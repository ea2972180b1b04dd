"""Messages of applications in WeCom's own JSON (DOC 90236): checked before they are sent, and said in words. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from adapter.application.messages import Message
from adapter.cards import card_text, checked

_MAX_BYTES: Final = 1024 * 1024
_TAG: Final = re.compile(r"<[^<>]{1,200}>")


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
