"""The chat page and its JSON interface: what the browser asks, and a stream of what changes.

The page is for the developer at this machine. It accepts writes only from itself: a
foreign site in the same browser is refused by ``Sec-Fetch-Site`` and ``Origin``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import hdrs, web

from simulator.callbacks import BacklogFull
from simulator.cards import CannotTouch
from simulator.chats import Bubble
from simulator.corp import NobodyThere
from simulator.faults import FaultUnknown
from simulator.journal import Entry
from simulator.menus import NoSuchEntry
from simulator.page_files import read_form
from simulator.page_reading import Reading
from simulator.page_writing import ACTIONS, Writing
from simulator.rules import Refused, described

if TYPE_CHECKING:
    from simulator.app import Simulator

_FOLDER: Final = Path(__file__).parent / "page"
_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FEED: Final = 1000
"""Changes that a slow page may lag behind before it is told to load anew."""
_STRIP: Final = 200
_REFUSALS: Final = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    NobodyThere,
    FaultUnknown,
    CannotTouch,
    NoSuchEntry,
    Refused,
)


class Page:
    """Serves the page of one simulator."""

    def __init__(self, simulator: "Simulator") -> None:
        self._sim = simulator
        self._reading = Reading(simulator)
        self._writing = Writing(simulator)
        self._feeds: set[asyncio.Queue[Bubble | Entry | None]] = set()

    async def hang_up(self, _application: web.Application) -> None:
        """Ends every stream of changes, before the web server waits for its handlers."""
        for queue in self._feeds:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)

    def routes(self) -> list[web.AbstractRouteDef]:
        """The addresses, to be put under the root of an application."""
        files = {f"/{path.name}": path for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}
        files["/"] = files.pop("/index.html")
        return [
            *(web.get(address, _file(path)) for address, path in files.items()),
            web.get("/livez", self._alive),
            web.get("/readyz", self._alive),
            web.get("/api/state", self._state),
            web.get("/api/rules", self._rules),
            web.get("/api/bubbles", self._bubbles),
            web.get("/api/journal", self._journal),
            web.get("/api/feed", self._feed),
            *(web.post(f"/api/{name}", self._guarded(self._asked(kind, name))) for name, kind in ACTIONS.items()),
            web.post("/api/files", self._guarded(self._files)),
        ]

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    # --- reading ---

    async def _state(self, _request: web.Request) -> web.Response:
        return _json(self._reading.state())

    async def _rules(self, _request: web.Request) -> web.Response:
        return _json(list(described(self._sim.settings.rules)))

    async def _bubbles(self, request: web.Request) -> web.Response:
        """All conversations that a person or a customer has, or one of them."""
        try:
            return _json(self._reading.bubbles(request.query.get("person", ""), request.query.get("chat", "")))
        except NobodyThere as error:
            return _wrong(str(error))

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
        self, handler: Callable[[web.Request], Awaitable[Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            if _is_foreign(request):
                return _wrong("this interface belongs to the chat page", status=403)
            try:
                answer = await handler(request)
            except _REFUSALS as error:
                return _wrong(str(error))
            except BacklogFull as error:
                return _wrong(str(error), status=503)
            return _json({} if answer is None else answer)

        return guarded

    def _asked(self, kind: type[Any], name: str) -> Callable[[web.Request], Awaitable[Any]]:
        action: Callable[[Any], Awaitable[Any]] = getattr(self._writing, name)

        async def asked(request: web.Request) -> Any:
            return await action(msgspec.json.decode(await request.read(), type=kind))

        return asked

    async def _files(self, request: web.Request) -> Any:
        return await self._writing.files(await read_form(request))


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(_request: web.Request) -> web.Response:
        body = await asyncio.to_thread(path.read_bytes)
        return web.Response(body=body, content_type=_TYPES[path.suffix], charset="utf-8", headers=_HEADERS)

    return serve


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


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", headers=_HEADERS)


def _wrong(reason: str, status: int = 400) -> web.Response:
    return web.Response(body=msgspec.json.encode({"error": reason}), status=status, content_type="application/json")
