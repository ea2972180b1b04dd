"""What an application does over REST beside sending to members: cards that change, groups, its menu."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from simulator.app_cards import AppCards
from simulator.appchats import AppChats
from simulator.menus import Menus
from simulator.rules import ERRORS, Refused
from simulator.sending import decoded
from simulator.settings import AppSettings

Handler = Callable[[web.Request], Awaitable[dict[str, Any] | web.StreamResponse]]
Served = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AppRest:
    """The addresses of ``message/update_template_card``, ``appchat/…`` and ``menu/…``."""

    def __init__(self, cards: AppCards, groups: AppChats, menus: Menus) -> None:
        self._cards = cards
        self._groups = groups
        self._menus = menus

    def routes(
        self, guarded: Callable[[Handler], Served], app_of: Callable[[web.Request], AppSettings]
    ) -> list[web.RouteDef]:
        """The addresses.

        Args:
            guarded: puts accidents and error codes around a handler.
            app_of: looks at the token of a request. Raises :class:`Refused`.
        """

        def posted(act: Callable[[AppSettings, dict[str, Any]], dict[str, Any] | None]) -> Served:
            async def handler(request: web.Request) -> dict[str, Any]:
                app = app_of(request)
                return act(app, decoded(await request.read())) or {"errcode": 0, "errmsg": ERRORS[0]}

            return guarded(handler)

        def asked(act: Callable[[AppSettings, web.Request], dict[str, Any]]) -> Served:
            async def handler(request: web.Request) -> dict[str, Any]:
                return act(app_of(request), request)

            return guarded(handler)

        return [
            web.post("/cgi-bin/message/update_template_card", posted(self._cards.update)),
            web.post("/cgi-bin/appchat/create", posted(self._groups.create)),
            web.post("/cgi-bin/appchat/update", posted(self._groups.update)),
            web.post("/cgi-bin/appchat/send", posted(self._groups.send)),
            web.get("/cgi-bin/appchat/get", asked(self._group), allow_head=False),
            web.post("/cgi-bin/menu/create", posted(self._menus.create)),
            web.get("/cgi-bin/menu/get", asked(self._menu), allow_head=False),
            web.get("/cgi-bin/menu/delete", asked(self._no_menu), allow_head=False),
        ]

    def _group(self, app: AppSettings, request: web.Request) -> dict[str, Any]:
        return self._groups.get(app, request.query.get("chatid", ""))

    def _menu(self, app: AppSettings, request: web.Request) -> dict[str, Any]:
        _same(app, request)
        return {"errcode": 0, "errmsg": ERRORS[0], "button": self._menus.get(app)}

    def _no_menu(self, app: AppSettings, request: web.Request) -> dict[str, Any]:
        _same(app, request)
        self._menus.delete(app)
        return {"errcode": 0, "errmsg": ERRORS[0]}


def _same(app: AppSettings, request: web.Request) -> None:
    if request.query.get("agentid") != str(app.agent_id):
        raise Refused(301002)
