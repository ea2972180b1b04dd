"""Robots of group chats: their webhooks, limits and uploads (DOC 91770). They say and do not hear."""

import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from simulator.cards import content_of, template_card
from simulator.chats import Look, has_visible
from simulator.corp import Corp
from simulator.journal import Kind
from simulator.media import MediaStore
from simulator.media_rest import read_file
from simulator.rules import ERRORS, Refused
from simulator.settings import RobotSettings
from simulator.windows import Window

_MOST: Final = 8 * 1024 * 1024
Handler = Callable[[web.Request], Awaitable[dict[str, Any] | web.StreamResponse]]


class _Message(msgspec.Struct):
    """What a message looks like in the group."""

    look: Look
    text: str
    content: dict[str, Any] | None = None


class _Robot:
    """One robot, its window and its files."""

    def __init__(self, settings: RobotSettings, per_minute: int) -> None:
        self.settings = settings
        self.disabled = False
        self.window = Window(per_minute, 60 * per_minute)
        self.files: set[str] = set()


class Robots:
    """Every robot of the corporation, by the key of its webhook."""

    def __init__(self, corp: Corp, media: MediaStore) -> None:
        self._corp = corp
        self._media = media
        self._robots = {
            robot.key.reveal(): _Robot(robot, corp.rules.robot_per_minute) for robot in corp.settings.robots
        }

    def disable(self, name: str, *, disabled: bool = True) -> None:
        """Somebody in the group disables a robot, or enables it again."""
        for robot in self._robots.values():
            if robot.settings.name == name:
                robot.disabled = disabled

    def listed(self) -> list[dict[str, Any]]:
        """Name, group and whether it is disabled, of each."""
        return [
            {"name": robot.settings.name, "group": self._group(robot), "disabled": robot.disabled}
            for robot in self._robots.values()
        ]

    def _group(self, robot: _Robot) -> str:
        return robot.settings.group or next(iter(self._corp.groups), "")

    def routes(
        self, guarded: Callable[[Handler], Callable[[web.Request], Awaitable[web.StreamResponse]]]
    ) -> list[web.AbstractRouteDef]:
        """The addresses, with accidents and error codes around them."""
        return [
            web.post("/cgi-bin/webhook/send", guarded(self._send)),
            web.post("/cgi-bin/webhook/upload_media", guarded(self._upload)),
        ]

    def _robot(self, request: web.Request) -> _Robot:
        robot = self._robots.get(request.query.get("key", ""))
        if robot is None:
            raise Refused(93000)
        if robot.disabled:
            raise Refused(93004)
        return robot

    async def _upload(self, request: web.Request) -> dict[str, Any]:
        robot, kind = self._robot(request), request.query.get("type", "")
        if kind not in ("file", "voice"):
            raise Refused(40004)
        name, data = await read_file(request)
        media_id = self._media.put(kind, name, data)
        robot.files.add(media_id)
        answer = {"type": kind, "media_id": media_id, "created_at": str(int(self._corp.now))}
        return {"errcode": 0, "errmsg": ERRORS[0], **answer}

    async def _send(self, request: web.Request) -> dict[str, Any]:
        robot = self._robot(request)
        # Pictures travel inside, so a body may be larger than elsewhere.
        raw = await request.content.read(_MOST)
        while not request.content.at_eof() and len(raw) < _MOST:
            raw += await request.content.read(_MOST - len(raw))
        try:
            body = msgspec.json.decode(raw, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refused(47001) from None
        message = self._read(robot, body)
        if not robot.window.admit(self._corp.now):
            raise Refused(45009)
        self._show(robot, message)
        return {"errcode": 0, "errmsg": ERRORS[0]}

    def _show(self, robot: _Robot, message: _Message) -> None:
        corp = self._corp
        chat, msg_id = f"group:{self._group(robot)}", corp.new_opaque_id("rm")
        corp.chats.post(
            chat=chat,
            person="",
            speaker=f"robot:{robot.settings.name}",
            text=message.text,
            look=message.look,
            now=corp.now,
            msg_id=msg_id,
            content=message.content,
        )
        corp.journal.note(Kind.SHOWN, chat=chat, msg_id=msg_id)

    # --- kinds of messages ---

    def _read(self, robot: _Robot, body: Mapping[str, Any]) -> _Message:
        kind = body.get("msgtype")
        readers: Mapping[str, Callable[[_Robot, Mapping[str, Any]], _Message]] = {
            "text": self._text,
            "markdown": self._markdown,
            "markdown_v2": self._markdown,
            "image": self._image,
            "news": self._news,
            "file": self._file,
            "voice": self._file,
            "template_card": self._card,
        }
        if not isinstance(kind, str) or kind not in readers:
            raise Refused(40008)
        inner = body.get(kind)
        if not isinstance(inner, dict):
            raise Refused(40058, f"missing field: {kind}")
        return readers[kind](robot, inner)

    def _text(self, _robot: _Robot, inner: Mapping[str, Any]) -> _Message:
        text = _content(inner, "text", self._corp.rules.robot_text_bytes)
        called = [f"@{self._name(user)}" for user in _names(inner, "mentioned_list")]
        called += [f"@{mobile}" for mobile in _names(inner, "mentioned_mobile_list")]
        return _Message("text", " ".join([text, *called]))

    def _name(self, user: str) -> str:
        person = self._corp.people.get(self._corp.person_named(user) or "")
        return "所有人" if user == "@all" else person.name if person else user

    def _markdown(self, _robot: _Robot, inner: Mapping[str, Any]) -> _Message:
        return _Message("markdown", _content(inner, "markdown", self._corp.rules.robot_markdown_bytes))

    def _image(self, _robot: _Robot, inner: Mapping[str, Any]) -> _Message:
        try:
            data = base64.b64decode(str(inner.get("base64", "")), validate=True)
        except (binascii.Error, ValueError):
            raise Refused(40058, "invalid base64") from None
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != inner.get("md5"):
            raise Refused(40058, "md5 does not match")
        if len(data) > self._corp.rules.robot_image_bytes:
            raise Refused(45001)
        return _Message("media", "[图片]", self._media.content(self._media.put("image", "", data)))

    def _news(self, _robot: _Robot, inner: Mapping[str, Any]) -> _Message:
        articles = inner.get("articles")
        if not isinstance(articles, list) or not articles or not all(isinstance(one, dict) for one in articles):
            raise Refused(40058, "missing field: articles")
        if len(articles) > 8:
            raise Refused(45008)
        for article in articles:
            title, url = article.get("title"), article.get("url")
            if not isinstance(title, str) or not title or not isinstance(url, str) or not url:
                raise Refused(40058, "news.articles need title and url")
            if len(title.encode()) > 128 or len(str(article.get("description", "")).encode()) > 512:
                raise Refused(40058, "news.articles exceed max length")
        text = "\n".join(f"[图文] {article['title']}" for article in articles)
        return _Message("media", text, {"kind": "news", "articles": articles})

    def _file(self, robot: _Robot, inner: Mapping[str, Any]) -> _Message:
        media_id = inner.get("media_id")
        if media_id not in robot.files:  # of another robot, or of an application
            raise Refused(40007)
        content = self._media.content(media_id)
        return _Message("media", f"[{'语音' if content['kind'] == 'voice' else '文件'}]", content)

    def _card(self, _robot: _Robot, inner: Mapping[str, Any]) -> _Message:
        look, text = template_card(inner, "robot")
        return _Message(look, text, content_of(inner))


def _content(inner: Mapping[str, Any], kind: str, most: int) -> str:
    content = inner.get("content")
    if not isinstance(content, str) or not has_visible(content):
        raise Refused(44004)
    if len(content.encode()) > most:
        raise Refused(40058, f"{kind}.content exceed max length {most}")
    return content


def _names(inner: Mapping[str, Any], field: str) -> list[str]:
    names = inner.get(field) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refused(40058, f"invalid {field}")
    return names
