"""What ``message/send`` does with a request (DOC 90236): the checks in order, and what members see."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from simulator.cards import template_card
from simulator.chats import Bubble, Look, cut
from simulator.corp import Corp
from simulator.journal import Kind
from simulator.media import KINDS, MediaStore
from simulator.rules import Refused
from simulator.settings import AppSettings
from simulator.windows import Remembered, Windows


class _Sent(msgspec.Struct):
    """A message that was taken, for the duplicate check and for recall."""

    msg_id: str
    agent_id: int
    at: float
    answer: dict[str, Any]
    bubbles: list[Bubble]
    content: dict[str, Any] | None = None
    """What of it is more than text (``chats.Bubble.content``)."""


class Sending:
    """The application side of the platform: takes messages and shows them."""

    def __init__(self, corp: Corp, media: MediaStore) -> None:
        self._corp = corp
        self._media = media
        limit = corp.settings.bounds.messages
        self._sent: Remembered[str, _Sent] = Remembered(limit)
        self._seen: Remembered[bytes, _Sent] = Remembered(limit)
        rules = corp.rules
        self._members: Windows[tuple[int, str]] = Windows(rules.member_per_minute, rules.member_per_hour, limit)

    def send(self, app: AppSettings, raw: bytes) -> dict[str, Any]:
        """Takes a request of this application and answers it.

        Raises:
            Refused: nothing was taken and nothing is shown.
        """
        body = _decoded(raw)
        self._check_agent(app, body)
        look, text, lost = self._shown(body)
        content = self._content(body)
        people, invalid = self._recipients(body)
        twin, key, interval = self._twin(app, raw, body)
        if twin is not None:
            return self._suppress(app, twin)
        sent = _Sent(self._corp.new_opaque_id("msg_"), app.agent_id, self._corp.now, {}, [], content)
        sent.answer = {
            "errcode": 0,
            "errmsg": "ok",
            "invaliduser": "|".join(invalid),
            "invalidparty": "",
            "invalidtag": "",
            "unlicenseduser": "",
            "msgid": sent.msg_id,
        }
        self._sent.put(sent.msg_id, sent, sent.at + self._corp.rules.recall_seconds)
        if key is not None:
            self._seen.put(key, sent, sent.at + interval)
        for person in people:
            self._show(app, person, look, text, lost, sent)
        return sent.answer

    # --- checks, in the order in which the platform makes them ---

    def _check_agent(self, app: AppSettings, body: Mapping[str, Any]) -> None:
        agent_id = body.get("agentid")
        if isinstance(agent_id, str) and agent_id.isdecimal():
            agent_id = int(agent_id)
        if type(agent_id) is not int:
            raise Refused(40056)
        if agent_id != app.agent_id:
            raise Refused(301002)

    def _shown(self, body: Mapping[str, Any]) -> tuple[Look, str, int]:
        msgtype = body.get("msgtype")
        if msgtype == "text":
            return "text", *self._text(body)
        if msgtype == "markdown":
            return "markdown", self._markdown(body), 0
        reader = _OTHERS.get(msgtype) if isinstance(msgtype, str) else None
        if reader is None:
            raise Refused(40008)
        inner = body.get(str(msgtype))
        if not isinstance(inner, dict):
            raise Refused(40058, f"missing field: {msgtype}")
        look, text = reader(inner)
        return look, text, 0

    def _content(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What of the message is more than text (``chats.Bubble.content``)."""
        kind = body["msgtype"]
        return self._media.content(body[kind].get("media_id"), kind) if kind in KINDS else None

    def _text(self, body: Mapping[str, Any]) -> tuple[str, int]:
        content = _content(body, "text")
        rules = self._corp.rules
        if len(content.encode()) > rules.text_refused_bytes:
            raise Refused(40058, f"text.content exceed max length {rules.text_refused_bytes}")
        return cut(content, rules.text_bytes)

    def _markdown(self, body: Mapping[str, Any]) -> str:
        content = _content(body, "markdown")
        rules = self._corp.rules
        if len(content.encode()) > rules.markdown_bytes:
            raise Refused(rules.markdown_over_code, f"markdown.content exceed max length {rules.markdown_bytes}")
        return content

    def _recipients(self, body: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Who gets it, and which names nobody has, in lower case."""
        parties, tags = _names(body, "toparty"), _names(body, "totag")
        if len(parties) > 100:
            raise Refused(82002)
        if len(tags) > 100:
            raise Refused(82003)
        names = _names(body, "touser")
        if not names and not parties and not tags:
            raise Refused(82001)
        if names == ["@all"]:
            return list(self._corp.people), []
        if len(names) > self._corp.rules.recipients:
            raise Refused(40058, f"touser exceed max count {self._corp.rules.recipients}")
        found = {name: self._corp.person_named(name) for name in names}
        people = list(dict.fromkeys(person for person in found.values() if person))
        if not people:
            raise Refused(81013)
        return people, [name.lower() for name, person in found.items() if person is None]

    def _twin(self, app: AppSettings, raw: bytes, body: Mapping[str, Any]) -> tuple[_Sent | None, bytes | None, float]:
        """An earlier request that was the same, within the interval that this one names."""
        if body.get("enable_duplicate_check") not in (1, True):
            return None, None, 0
        rules = self._corp.rules
        interval = body.get("duplicate_check_interval", rules.duplicate_seconds)
        if type(interval) is not int or interval < 0:
            raise Refused(40058, "invalid duplicate_check_interval")
        interval = min(interval or rules.duplicate_seconds, rules.duplicate_seconds_limit)
        said = raw if rules.duplicate_compares == "bytes" else msgspec.json.encode(body, order="deterministic")
        key = hashlib.blake2b(said, digest_size=16, key=str(app.agent_id).encode()).digest()
        return self._seen.get(key, self._corp.now), key, interval

    # --- effects ---

    def _suppress(self, app: AppSettings, twin: _Sent) -> dict[str, Any]:
        for bubble in twin.bubbles:
            bubble.sent += 1
            bubble.suppressed += 1
            self._corp.chats.touched(bubble)
        self._corp.journal.note(
            Kind.SUPPRESSED,
            chat=f"app:{app.agent_id}",
            person=twin.bubbles[0].person if len(twin.bubbles) == 1 else "",
            msg_id=twin.msg_id,
            detail="与此前的请求完全相同，在重复检查间隔内，未再次下发",
        )
        return twin.answer

    def _show(self, app: AppSettings, person: str, look: Look, text: str, lost: int, sent: _Sent) -> None:
        chat = f"app:{app.agent_id}"
        journal = self._corp.journal
        if not self._members.admit((app.agent_id, person), sent.at):
            journal.note(
                Kind.DROPPED,
                chat=chat,
                person=person,
                msg_id=sent.msg_id,
                detail="超过该成员的接收频率，平台已丢弃且不报错",
            )
            return
        bubble = self._corp.chats.post(
            chat=chat,
            person=person,
            speaker=chat,
            text=text,
            look=look,
            now=sent.at,
            msg_id=sent.msg_id,
            lost_bytes=lost,
            content=sent.content,
        )
        sent.bubbles.append(bubble)
        journal.note(Kind.SHOWN, chat=chat, person=person, msg_id=sent.msg_id)
        if lost:
            journal.note(
                Kind.CUT,
                chat=chat,
                person=person,
                msg_id=sent.msg_id,
                detail=f"超过 {self._corp.rules.text_bytes} 字节，末尾 {lost} 字节被截断且不报错",
            )

    def recall(self, app: AppSettings, raw: bytes) -> dict[str, Any]:
        """Takes a message back.

        Raises:
            Refused: 40058 for another application's or an unknown message, 42052 when it is too late.
        """
        msg_id = _decoded(raw).get("msgid")
        found = next((sent for sent in self._sent.values() if sent.msg_id == msg_id), None)
        if found is None or found.agent_id != app.agent_id:
            raise Refused(40058, "invalid msgid")
        if self._corp.now > found.at + self._corp.rules.recall_seconds:
            raise Refused(42052)
        for bubble in found.bubbles:
            bubble.recalled = True
            bubble.text = "消息已撤回"
            self._corp.chats.touched(bubble)
        self._corp.journal.note(Kind.RECALLED, chat=f"app:{app.agent_id}", msg_id=found.msg_id)
        return {"errcode": 0, "errmsg": "ok"}


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused(47001) from None
    if not isinstance(body, dict):
        raise Refused(47001)
    return body


def _content(body: Mapping[str, Any], kind: str) -> str:
    inner = body.get(kind)
    content = inner.get("content") if isinstance(inner, dict) else None
    if not isinstance(content, str) or not content:
        raise Refused(44004)
    return content


def _names(body: Mapping[str, Any], field: str) -> list[str]:
    value = body.get(field, "")
    if not isinstance(value, str):
        raise Refused(40058, f"invalid {field}")
    return [name for name in value.split("|") if name]


def _media(label: str) -> Callable[[Mapping[str, Any]], tuple[Look, str]]:
    def read(inner: Mapping[str, Any]) -> tuple[Look, str]:
        if not isinstance(inner.get("media_id"), str) or not inner["media_id"]:
            raise Refused(40007)
        return "media", f"[{label}] {inner.get('title') or ''}".rstrip()

    return read


def _textcard(inner: Mapping[str, Any]) -> tuple[Look, str]:
    for field, longest in (("title", 128), ("description", 512)):
        if not inner.get(field) or len(str(inner[field])) > longest:
            raise Refused(40058, f"textcard.{field} missing or exceed max length {longest}")
    if not str(inner.get("url", "")).startswith(("http://", "https://")):
        raise Refused(40058, "textcard.url invalid")
    return "card", f"{inner['title']}\n{inner['description']}"


def _news(inner: Mapping[str, Any]) -> tuple[Look, str]:
    articles = inner.get("articles")
    if not isinstance(articles, list) or not 1 <= len(articles) <= 8:
        raise Refused(40058, "news.articles must have 1 to 8 items")
    titles = [str(article.get("title", "")) for article in articles if isinstance(article, dict)]
    return "card", "\n".join(titles)


def _card(inner: Mapping[str, Any]) -> tuple[Look, str]:
    return template_card(inner, "app")


_OTHERS: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[Look, str]]]] = {
    "image": _media("图片"),
    "voice": _media("语音"),
    "video": _media("视频"),
    "file": _media("文件"),
    "textcard": _textcard,
    "news": _news,
    "template_card": _card,
}
