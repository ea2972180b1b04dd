"""The kinds of messages that applications send, each with its limits and its looks (DOC 90236). Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.cards import content_of, template_card
from simulator.chats import Look, cut
from simulator.media import KINDS, MediaStore
from simulator.rules import Refused, Rules

Shown = tuple[Look, str, int, dict[str, Any] | None]
"""What a bubble is: how it looks, its text, the bytes cut off its end, and what is more than text."""

_LABELS: Final = {"image": "图片", "voice": "语音", "video": "视频", "file": "文件"}


def shown(body: Mapping[str, Any], rules: Rules, media: MediaStore) -> Shown:
    """What people see of a message.

    Raises:
        Refused: it breaks a rule of its kind.
    """
    kind = body.get("msgtype")
    if kind == "text":
        return "text", *_text(body, rules), None
    if kind == "markdown":
        return "markdown", _markdown(body, rules), 0, None
    inner = body.get(str(kind))
    if kind not in KINDS and kind not in _READERS:
        raise Refused(40008)
    if not isinstance(inner, dict):
        raise Refused(40058, f"missing field: {kind}")
    if kind in KINDS:
        title = _limited(inner, "title", 128, f"{kind}.title")
        _limited(inner, "description", 512, f"{kind}.description")
        content = media.content(inner.get("media_id"), str(kind))
        return "media", f"[{_LABELS[str(kind)]}] {title}".rstrip(), 0, content
    if kind == "news" and body.get("safe"):
        raise Refused(40074)
    return _READERS[str(kind)](inner)


def _text(body: Mapping[str, Any], rules: Rules) -> tuple[str, int]:
    content = _content(body, "text")
    if len(content.encode()) > rules.text_refused_bytes:
        raise Refused(40058, f"text.content exceed max length {rules.text_refused_bytes}")
    return cut(content, rules.text_bytes)


def _markdown(body: Mapping[str, Any], rules: Rules) -> str:
    content = _content(body, "markdown")
    if len(content.encode()) > rules.markdown_bytes:
        raise Refused(rules.markdown_over_code, f"markdown.content exceed max length {rules.markdown_bytes}")
    return content


def _content(body: Mapping[str, Any], kind: str) -> str:
    inner = body.get(kind)
    content = inner.get("content") if isinstance(inner, dict) else None
    if not isinstance(content, str) or not content:
        raise Refused(44004)
    return content


def _textcard(inner: Mapping[str, Any]) -> Shown:
    for field, longest in (("title", 128), ("description", 512)):
        if not inner.get(field) or len(str(inner[field])) > longest:
            raise Refused(40058, f"textcard.{field} missing or exceed max length {longest}")
    if len(str(inner.get("btntxt", ""))) > 4:
        raise Refused(40058, "textcard.btntxt exceed max length 4")
    _address(inner, "textcard.url")
    content = {"kind": "textcard", **{name: inner.get(name, "") for name in ("title", "description", "url", "btntxt")}}
    return "card", f"{inner['title']}\n{inner['description']}", 0, content


def _news(inner: Mapping[str, Any]) -> Shown:
    articles = _articles(inner, "news")
    for article in articles:
        _limited(article, "title", 128, "news.title", needed=True)
        _limited(article, "description", 512, "news.description")
        if not (article.get("appid") and article.get("pagepath")):
            _address(article, "news.url")
    return "card", _titles(articles), 0, {"kind": "news", "articles": articles}


def _mpnews(inner: Mapping[str, Any]) -> Shown:
    articles = _articles(inner, "mpnews")
    for article in articles:
        for field, most, needed in (("title", 128, True), ("content", 666 * 1024, True), ("author", 64, False)):
            _limited(article, field, most, f"mpnews.{field}", needed=needed)
        _limited(article, "digest", 512, "mpnews.digest")
        if not article.get("thumb_media_id"):
            raise Refused(40007)
    seen = [{"title": article["title"], "description": article.get("digest", "")} for article in articles]
    return "card", _titles(articles), 0, {"kind": "news", "articles": seen}


def _notice(inner: Mapping[str, Any]) -> Shown:
    if not inner.get("appid") or not 4 <= len(str(inner.get("title", ""))) <= 12:
        raise Refused(40058, "miniprogram_notice.appid or title invalid")
    _limited(inner, "page", 1024, "miniprogram_notice.page")
    items = inner.get("content_item", [])
    if not isinstance(items, list) or len(items) > 10:
        raise Refused(40058, "miniprogram_notice.content_item must have at most 10 items")
    lines = [str(inner["title"])]
    for item in items:
        if not isinstance(item, dict) or not 1 <= len(str(item.get("key", ""))) <= 10:
            raise Refused(40058, "miniprogram_notice.content_item.key invalid")
        if not 1 <= len(str(item.get("value", ""))) <= 30:
            raise Refused(40058, "miniprogram_notice.content_item.value invalid")
        lines.append(f"{item['key']}：{item['value']}")
    return "card", "\n".join(lines), 0, {**inner, "kind": "miniprogram"}


def _card(inner: Mapping[str, Any]) -> Shown:
    return *template_card(inner, "app"), 0, content_of(inner)


def _articles(inner: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    articles = inner.get("articles")
    if not isinstance(articles, list) or not 1 <= len(articles) <= 8:
        raise Refused(45008 if isinstance(articles, list) and articles else 40058, f"{kind}.articles: 1 to 8 items")
    if not all(isinstance(article, dict) for article in articles):
        raise Refused(40058, f"{kind}.articles: items must be objects")
    return articles


def _titles(articles: list[dict[str, Any]]) -> str:
    return "\n".join(str(article["title"]) for article in articles)


def _limited(inner: Mapping[str, Any], field: str, most: int, name: str, *, needed: bool = False) -> str:
    value = str(inner.get(field, ""))
    if len(value.encode()) > most or (needed and not value):
        raise Refused(40058, f"{name} missing or exceed max length {most}")
    return value


def _address(inner: Mapping[str, Any], name: str) -> None:
    address = str(inner.get("url", ""))
    if not address.startswith(("http://", "https://")) or len(address.encode()) > 2048:
        raise Refused(40058, f"{name} invalid")


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Shown]]] = {
    "textcard": _textcard,
    "news": _news,
    "mpnews": _mpnews,
    "miniprogram_notice": _notice,
    "template_card": _card,
}
