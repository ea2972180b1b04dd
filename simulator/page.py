"""The chat page and its JSON interface: what the browser asks, and a stream of what changes.

The page is for the developer at this machine. It accepts writes only from itself: a
foreign site in the same browser is refused by ``Sec-Fetch-Site`` and ``Origin``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from aiohttp import hdrs, web

from simulator.callbacks import BacklogFull
from simulator.chats import Bubble
from simulator.corp import NobodyThere
from simulator.faults import FAULTS, FaultUnknown, Switch
from simulator.journal import Entry
from simulator.rules import described

if TYPE_CHECKING:
    from simulator.app import Simulator

_FOLDER: Final = Path(__file__).parent / "page"
_FILES: Final = {"/": "index.html", "/app.js": "app.js", "/markdown.js": "markdown.js", "/style.css": "style.css"}
_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FEED: Final = 1000
"""Changes that a slow page may lag behind before it is told to load anew."""
_STRIP: Final = 200

_IMAGE: Final = {"msgtype": "image", "image": {"url": "https://example.invalid/picture", "aeskey": ""}}
_APP_KINDS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "image": ("[图片]", {"PicUrl": "https://example.invalid/picture", "MediaId": "simulated-media"}),
    "voice": ("[语音]", {"MediaId": "simulated-media", "Format": "amr"}),
    "location": (
        "[位置] 深圳市南山区",
        {"Location_X": "22.54", "Location_Y": "113.93", "Scale": "15", "Label": "深圳市南山区", "AppType": "wxwork"},
    ),
}
_BOT_KINDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "image": ("[图片]", _IMAGE),
    "voice": ("[语音]", {"msgtype": "voice", "voice": {"content": "语音转成的文字"}}),
    "location": ("[位置]", {"msgtype": "location", "location": {"label": "深圳市南山区"}}),
}


class _Write(msgspec.Struct, forbid_unknown_fields=True):
    person: str
    chat: str
    text: str = ""
    kind: Literal["text", "image", "voice", "location"] = "text"


class _Enter(msgspec.Struct, forbid_unknown_fields=True):
    person: str
    chat: str


class _SetFault(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    on: bool = True
    probability: float = 1.0
    count: int | None = None
    seconds: float | None = None


class _Act(msgspec.Struct, forbid_unknown_fields=True):
    name: Literal["kick", "cut", "lose_subscription", "silence", "expire_tokens", "expire_streams", "clear_faults"]
    bot: str | None = None
    seconds: float = 10.0


class _SaveUrl(msgspec.Struct, forbid_unknown_fields=True):
    app: int
    url: str


class Page:
    """Serves the page of one simulator."""

    def __init__(self, simulator: "Simulator") -> None:
        self._sim = simulator
        self._feeds: set[asyncio.Queue[Bubble | Entry | None]] = set()

    async def hang_up(self, _application: web.Application) -> None:
        """Ends every stream of changes, before the web server waits for its handlers."""
        for queue in self._feeds:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)

    def routes(self) -> list[web.AbstractRouteDef]:
        """The addresses, to be put under the root of an application."""
        files = [web.get(path, self._file(name)) for path, name in _FILES.items()]
        return [
            *files,
            web.get("/livez", self._alive),
            web.get("/readyz", self._alive),
            web.get("/api/state", self._state),
            web.get("/api/rules", self._rules),
            web.get("/api/bubbles", self._bubbles),
            web.get("/api/journal", self._journal),
            web.get("/api/feed", self._feed),
            web.post("/api/write", self._guarded(_Write, self._write)),
            web.post("/api/enter", self._guarded(_Enter, self._enter)),
            web.post("/api/faults", self._guarded(_SetFault, self._set_fault)),
            web.post("/api/act", self._guarded(_Act, self._act)),
            web.post("/api/callback", self._guarded(_SaveUrl, self._save_url)),
        ]

    # --- files ---

    def _file(self, name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(_request: web.Request) -> web.Response:
            path = _FOLDER / name
            body = await asyncio.to_thread(path.read_bytes)
            return web.Response(body=body, content_type=_TYPES[path.suffix], charset="utf-8", headers=_HEADERS)

        return serve

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    # --- reading ---

    async def _state(self, _request: web.Request) -> web.Response:
        sim = self._sim
        corp = sim.corp
        return _json(
            {
                "people": [
                    {"id": person.id, "name": person.name, "title": person.title, "chats": corp.chats_of(person.id)}
                    for person in sim.settings.people
                ],
                "apps": [
                    {"id": app.agent_id, "name": app.name, "url": sim.callbacks.urls[app.agent_id]}
                    for app in sim.settings.apps
                ],
                "bots": [
                    {"id": bot.id, "name": bot.name, "connected": sim.socket.connected(bot.id)}
                    for bot in sim.settings.bots
                ],
                "groups": [
                    {
                        "id": group.id,
                        "name": group.name,
                        "members": corp.members(group),
                        "bot": _name(corp.group_bot(group)),
                    }
                    for group in sim.settings.groups
                ],
                "faults": list(FAULTS.values()),
                "switches": sim.faults.active,
                "struck": sim.faults.struck,
                "counters": sim.counters,
                "rest_base": sim.rest_base,
                "socket_base": sim.socket_base,
                "stream_seconds": sim.settings.rules.stream_seconds,
            }
        )

    async def _rules(self, _request: web.Request) -> web.Response:
        return _json(list(described(self._sim.settings.rules)))

    async def _bubbles(self, request: web.Request) -> web.Response:
        """All conversations of a person, or one of them."""
        person, chat = request.query.get("person", ""), request.query.get("chat", "")
        try:
            self._sim.corp.must_know(person)
            chats = [self._sim.corp.chat_key(chat)] if chat else [key for key, _ in self._sim.corp.chats_of(person)]
        except NobodyThere as error:
            return _wrong(str(error))
        return _json({key: self._sim.bubbles(person, key) for key in chats})

    async def _journal(self, request: web.Request) -> web.Response:
        """The newest entries, of a chat and person if given."""
        query = request.query
        after = int(query.get("after", "0")) if query.get("after", "0").isdecimal() else 0
        entries = self._sim.journal.entries(chat=query.get("chat", ""), person=query.get("person", ""), after=after)
        return _json(entries[-_STRIP:])

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: bubbles and entries as they come."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        queue: asyncio.Queue[Bubble | Entry | None] = asyncio.Queue(_FEED)
        stop = self._sim.listen(lambda change: _offer(queue, change))
        self._feeds.add(queue)
        try:
            await response.prepare(request)
            await response.write(b"retry: 500\nevent: hello\ndata: {}\n\n")
            while (change := await queue.get()) is not None:
                event = b"bubble" if isinstance(change, Bubble) else b"entry"
                await response.write(b"event: %s\ndata: %s\n\n" % (event, msgspec.json.encode(change)))
            await response.write(b"event: reload\ndata: {}\n\n")
        except ConnectionResetError:
            pass  # the page was closed
        finally:
            stop()
            self._feeds.discard(queue)
        return response

    # --- writing ---

    def _guarded(
        self, kind: type[Any], handler: Callable[[Any], Awaitable[Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            if _is_foreign(request):
                return _wrong("this interface belongs to the chat page", status=403)
            try:
                answer = await handler(msgspec.json.decode(await request.read(), type=kind))
            except (msgspec.DecodeError, UnicodeDecodeError, NobodyThere, FaultUnknown) as error:
                return _wrong(str(error))
            except BacklogFull as error:
                return _wrong(str(error), status=503)
            return _json({} if answer is None else answer)

        return guarded

    async def _write(self, asked: _Write) -> dict[str, str]:
        sim, chat = self._sim, self._sim.corp.chat_key(asked.chat)
        kind, _, name = chat.partition(":")
        if kind == "group":
            return {"msg_id": sim.write_in_group(asked.person, _said(asked.text), chat)}
        if asked.kind != "text":
            return {"msg_id": self._other(asked, kind, name)}
        if kind == "app":
            return {"msg_id": await sim.write_to_app(asked.person, _said(asked.text), app=int(name))}
        return {"msg_id": await sim.write_to_bot(asked.person, _said(asked.text), bot=name)}

    def _other(self, asked: _Write, kind: str, name: str) -> str:
        if kind == "app":
            shown, fields = _APP_KINDS[asked.kind]
            return self._sim.send_to_app(asked.person, asked.kind, fields, shown=shown, app=int(name))
        shown, content = _BOT_KINDS[asked.kind]
        return self._sim.send_to_bot(asked.person, content, shown=shown, bot=name)

    async def _enter(self, asked: _Enter) -> None:
        self._sim.enter(asked.person, asked.chat)

    async def _set_fault(self, asked: _SetFault) -> dict[str, Switch]:
        if asked.on:
            bounded = msgspec.convert(
                {"probability": asked.probability, "count": asked.count, "seconds": asked.seconds}, Switch
            )
            self._sim.faults.set(asked.name, bounded)
        else:
            self._sim.faults.clear(asked.name)
        return dict(self._sim.faults.active)

    async def _act(self, asked: _Act) -> None:
        sim = self._sim
        actions: dict[str, Callable[[], None]] = {
            "kick": lambda: sim.kick(asked.bot),
            "cut": lambda: sim.cut(asked.bot),
            "lose_subscription": lambda: sim.lose_subscription(asked.bot),
            "silence": lambda: sim.silence(asked.seconds, asked.bot),
            "expire_tokens": sim.expire_tokens,
            "expire_streams": sim.expire_streams,
            "clear_faults": sim.faults.clear,
        }
        actions[asked.name]()

    async def _save_url(self, asked: _SaveUrl) -> Any:
        return await self._sim.save_callback_url(asked.url, app=asked.app)


def _offer(queue: asyncio.Queue[Bubble | Entry | None], change: Bubble | Entry) -> None:
    """Puts a change in line; the last place is for the word that the page has to load anew."""
    if queue.qsize() < _FEED - 1:
        queue.put_nowait(change)
    elif not queue.full():
        queue.put_nowait(None)


def _is_foreign(request: web.Request) -> bool:
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is not None and origin.partition("://")[2] != request.host


def _said(text: str) -> str:
    if not text.strip():
        raise NobodyThere("text is empty")
    return text


def _name(bot: Any) -> str:
    return bot.name if bot else ""


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", headers=_HEADERS)


def _wrong(reason: str, status: int = 400) -> web.Response:
    return web.Response(body=msgspec.json.encode({"error": reason}), status=status, content_type="application/json")
