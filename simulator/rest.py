"""The REST interface: gettoken, message/send, message/recall, addresses. Errors travel in JSON with HTTP 200."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from simulator.app_rest import AppRest
from simulator.corp import Corp
from simulator.directory import Directory, Question
from simulator.journal import Kind
from simulator.kf_rest import KfRest
from simulator.media import MediaStore
from simulator.media_rest import MediaRest
from simulator.robots import Robots
from simulator.rules import ERRORS, Refused
from simulator.sending import Sending
from simulator.settings import AppSettings
from simulator.tokens import Tokens

_MAX_BODY = 1 << 20
_SENDS = ("/message/send", "/appchat/send", "/kf/send_msg", "/webhook/send", "/aibot/response")


class Rest:
    """What stands at ``https://qyapi.weixin.qq.com``."""

    def __init__(
        self,
        corp: Corp,
        tokens: Tokens,
        sending: Sending,
        respond: Callable[[str, bytes], None],
        media: MediaStore,
        kf: KfRest,
        apps: AppRest,
        robots: Robots,
    ) -> None:
        """Args: ``respond`` takes a ``response_code`` and the body that was posted to its address (DOC 101138)."""
        self._corp = corp
        self._tokens = tokens
        self._sending = sending
        self._respond = respond
        self._media = MediaRest(corp, media)
        self._kf = kf
        self._apps = apps
        self._robots = robots
        self._directory = Directory(corp)

    def routes(self) -> list[web.AbstractRouteDef]:
        """The addresses, to be put under the root of an application."""
        return [
            web.get("/cgi-bin/gettoken", self._guarded(self._gettoken)),
            web.post("/cgi-bin/message/send", self._guarded(self._send)),
            web.post("/cgi-bin/media/upload", self._guarded(self._for_app(self._media.upload))),
            web.post("/cgi-bin/media/uploadimg", self._guarded(self._for_app(self._media.upload_image))),
            web.get("/cgi-bin/media/get", self._guarded(self._for_app(self._media.get)), allow_head=False),
            web.post("/cgi-bin/message/recall", self._guarded(self._recall)),
            web.get("/cgi-bin/getcallbackip", self._guarded(self._addresses)),
            web.get("/cgi-bin/get_api_domain_ip", self._guarded(self._addresses)),
            web.post("/cgi-bin/aibot/response", self._guarded(self._response)),
            *self._directory.routes(lambda question: self._guarded(self._asked(question))),
            *self._kf.routes(self._guarded, self._app),
            *self._apps.routes(self._guarded, self._app),
            *self._robots.routes(self._guarded),
            # A GET where POST is wanted is refused in JSON like everything else (DOC 90313).
            web.get("/cgi-bin/message/{rest:.*}", self._guarded(self._only_post)),
        ]

    def _guarded(
        self, handler: Callable[[web.Request], Awaitable[dict[str, Any] | web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Puts accidents and error codes around a handler, which answers in JSON or has answered already."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if self._corp.strike("rest_cut_before"):
                return _hang_up(request)
            if self._corp.strike("rest_5xx"):
                return web.Response(
                    status=502, text="<html><body>502 Bad Gateway</body></html>", content_type="text/html"
                )
            answer = await self._answer(request, handler)
            if isinstance(answer, web.StreamResponse):
                return answer
            if slow := self._corp.strike("rest_slow"):
                await self._corp.clock.sleep(slow.seconds)
            accepted = answer.get("errcode") == 0
            if accepted and request.path.endswith(_SENDS) and self._corp.strike("send_cut_after"):
                return _hang_up(request)
            return web.Response(body=msgspec.json.encode(answer), content_type="application/json", charset="utf-8")

        return guarded

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[dict[str, Any] | web.StreamResponse]]
    ) -> dict[str, Any] | web.StreamResponse:
        try:
            if self._corp.strike("rest_busy"):
                raise Refused(-1)
            if self._corp.strike("rest_limited"):
                raise Refused(45009)
            return await handler(request)
        except Refused as refused:
            self._corp.journal.note(
                Kind.REFUSED, code=refused.code, detail=f"{request.path.removeprefix('/cgi-bin/')}: {refused.errmsg}"
            )
            return {"errcode": refused.code, "errmsg": refused.errmsg}

    async def _gettoken(self, request: web.Request) -> dict[str, Any]:
        query = request.query
        token, seconds = self._tokens.issue(query.get("corpid", ""), query.get("corpsecret", ""), request.remote or "")
        return {"errcode": 0, "errmsg": ERRORS[0], "access_token": token, "expires_in": seconds}

    def _app(self, request: web.Request) -> AppSettings:
        if self._corp.strike("token_expired"):
            self._tokens.expire()
            raise Refused(self._corp.faults.draw(40014, 42001))
        return self._tokens.app_of(request.query.get("access_token", ""))

    def _for_app(
        self, handler: Callable[[web.Request], Awaitable[dict[str, Any] | web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[dict[str, Any] | web.StreamResponse]]:
        """Looks at the token first."""

        async def checked(request: web.Request) -> dict[str, Any] | web.StreamResponse:
            self._app(request)
            return await handler(request)

        return checked

    async def _send(self, request: web.Request) -> dict[str, Any]:
        app = self._app(request)
        return self._sending.send(app, await request.read())

    async def _recall(self, request: web.Request) -> dict[str, Any]:
        app = self._app(request)
        return self._sending.recall(app, await request.read())

    async def _addresses(self, request: web.Request) -> dict[str, Any]:
        self._app(request)
        return {"errcode": 0, "errmsg": ERRORS[0], "ip_list": self._corp.settings.callback_addresses}

    def _asked(self, question: Question) -> Callable[[web.Request], Awaitable[dict[str, Any]]]:
        async def asked(request: web.Request) -> dict[str, Any]:
            return question(self._app(request), request)

        return asked

    async def _response(self, request: web.Request) -> dict[str, Any]:
        self._respond(request.query.get("response_code", ""), await request.read())
        return {"errcode": 0, "errmsg": ERRORS[0]}

    async def _only_post(self, _request: web.Request) -> dict[str, Any]:
        raise Refused(43002)


def _hang_up(request: web.Request) -> web.Response:
    """Cuts the connection instead of answering."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
