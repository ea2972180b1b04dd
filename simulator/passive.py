"""Passive replies of applications, as the platform understands them (DOC 90241)."""

import re
from typing import Any, Final
from xml.etree.ElementTree import Element

from simulator.app_cards import AppCards
from simulator.chats import Look, cut
from simulator.corp import Corp
from simulator.journal import Kind
from simulator.media import MediaStore
from simulator.rules import Refused
from simulator.settings import AppSettings

EVENTS: Final = frozenset(
    {"subscribe", "enter_agent", "LOCATION", "click", "view", "view_miniprogram", "scancode_waitmsg"}
)
"""Events whose answer can be a message; those of cards can only change the card."""
CARD_EVENTS: Final = frozenset({"template_card_event", "taskcard_click"})

_UPPER: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_ONE_WORD: Final = {"key_name": "keyname", "app_id": "appid", "page_path": "pagepath", "user_id": "userid"}


class CannotRead(Exception):
    """Not a reply that is possible here; the text says why."""


class Passive:
    """Shows passive replies, and changes cards by them."""

    def __init__(self, corp: Corp, media: MediaStore, cards: AppCards) -> None:
        self._corp = corp
        self._media = media
        self._cards = cards

    def show(self, app: AppSettings, person: str, event: str, task_id: str, msg_id: str, reply: Element) -> None:
        """Does what a reply says.

        Args:
            event: that it answers; empty for a message.
            task_id: of the card that was touched.
            msg_id: of the message that it answers.
            reply: the opened XML.

        Raises:
            CannotRead: nothing happens.
        """
        kind = reply.findtext("MsgType", "")
        if reply.findtext("ToUserName") != person or reply.findtext("FromUserName") != self._corp.settings.corp_id:
            raise CannotRead("收发方不符")
        if kind in ("update_button", "update_template_card"):
            if event not in CARD_EVENTS or not self._changed(app, person, task_id, kind, reply):
                raise CannotRead("没有可更新的卡片")
            return
        if event and event not in EVENTS:
            raise CannotRead("该事件不支持被动回复")
        look, text, lost, content = self._read(kind, reply)
        self._corp.chats.post(
            chat=f"app:{app.agent_id}",
            person=person,
            speaker=f"app:{app.agent_id}",
            text=text,
            look=look,
            now=self._corp.now,
            answers=msg_id,
            lost_bytes=lost,
            content=content,
        )
        self._corp.journal.note(Kind.SHOWN, chat=f"app:{app.agent_id}", person=person, msg_id=msg_id)

    def _changed(self, app: AppSettings, person: str, task_id: str, kind: str, reply: Element) -> bool:
        if kind == "update_button":
            name = reply.findtext("Button/ReplaceName", "")
            return bool(name) and self._cards.rename_button(app, task_id, person, name)
        found = reply.find("TemplateCard")
        card = _as_json(found) if found is not None else None
        if not isinstance(card, dict):
            raise CannotRead("缺少 TemplateCard")
        words = str(card.pop("replace_text", ""))
        try:
            return self._cards.replace(app, task_id, person, {"task_id": task_id, **card}, words)
        except Refused as refused:
            raise CannotRead(refused.errmsg) from None

    def _read(self, kind: str, reply: Element) -> tuple[Look, str, int, dict[str, Any] | None]:
        if kind == "text" and (words := reply.findtext("Content")):
            return "text", *cut(words, self._corp.rules.passive_text_bytes), None
        if kind in ("image", "voice", "video"):
            place = reply.find(kind.capitalize())
            media_id = place.findtext("MediaId", "") if place is not None else ""
            try:
                content = self._media.content(media_id, kind)
            except Refused as refused:
                raise CannotRead(refused.errmsg) from None
            title = place.findtext("Title", "") if place is not None else ""
            return "media", f"[{kind}] {title}".rstrip(), 0, content
        if kind == "news":
            articles = [_article(item) for item in reply.findall("Articles/item")]
            if not 1 <= len(articles) <= 8 or reply.findtext("ArticleCount") != str(len(articles)):
                raise CannotRead("图文条数不符")
            text = "\n".join(article["title"] for article in articles)
            return "card", text, 0, {"kind": "news", "articles": articles}
        raise CannotRead("不支持的被动回复类型")


def _article(item: Element) -> dict[str, str]:
    names = {"title": "Title", "description": "Description", "picurl": "PicUrl", "url": "Url"}
    return {name: item.findtext(tag, "") for name, tag in names.items()}


def _as_json(element: Element) -> Any:
    """A card in XML as it would be in JSON: ``MainTitle`` is ``main_title``, and repeated elements are a list."""
    if len(element) == 0:
        text = element.text or ""
        return int(text) if text.strip().isascii() and text.strip().isdecimal() and len(text) < 3 else text
    found: dict[str, Any] = {}
    for child in element:
        name = _UPPER.sub("_", child.tag).lower()
        name = _ONE_WORD.get(name, name)
        value = _as_json(child)
        if name.endswith("_list"):
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found
