"""The REST interface of customer service (DOC 94670, 96427, 94669): the checks in order, and their codes."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from simulator.corp import Corp, NobodyThere
from simulator.journal import Kind
from simulator.kf import ASSISTANT, NEW, OVER, PERSON, POOL, CustomerService, Session
from simulator.media import KINDS, MediaStore
from simulator.rules import ERRORS, Refused
from simulator.settings import AppSettings
from simulator.windows import Remembered, Windows

Handler = Callable[[web.Request], Awaitable[dict[str, Any]]]

_PAGE: Final = 1000
"""What a request may ask for at most, and does when it says nothing."""
_MSGID: Final = re.compile("[0-9a-zA-Z_-]+", re.ASCII)
_MAY_GO: Final[Mapping[int, tuple[int, ...]]] = {
    NEW: (ASSISTANT, POOL, PERSON),
    ASSISTANT: (POOL, PERSON),
    POOL: (PERSON,),
    PERSON: (PERSON, OVER),
    OVER: (),
}
_OK: Final[Mapping[str, Any]] = {"errcode": 0, "errmsg": ERRORS[0]}


class KfRest:
    """What ``kf/…`` does."""

    def __init__(self, corp: Corp, service: CustomerService, media: MediaStore) -> None:
        self._corp = corp
        self._service = service
        self._media = media
        rules, limit = corp.rules, corp.settings.bounds.messages
        self._tokenless: Windows[str] = Windows(
            rules.kf_pulls_without_token, 60 * rules.kf_pulls_without_token, len(corp.desks) + 1
        )
        self._msgids: Remembered[tuple[str, str], bool] = Remembered(limit)

    def routes(
        self, guarded: Callable[[Handler], Any], app: Callable[[web.Request], AppSettings]
    ) -> list[web.AbstractRouteDef]:
        """The addresses.

        Args:
            guarded: puts accidents and error codes around a handler.
            app: the application that a request's token belongs to.
        """

        def for_kf(handler: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
            async def checked(request: web.Request) -> dict[str, Any]:
                if app(request).agent_id != self._corp.kf_app.agent_id:
                    raise Refused(48007)
                return handler(_decoded(await request.read()))

            return guarded(checked)

        calls = {
            "sync_msg": self._sync,
            "send_msg": self._send,
            "send_msg_on_event": self._send_on_event,
            "service_state/get": self._state,
            "service_state/trans": self._trans,
            "account/list": self._accounts,
            "customer/batchget": self._customers,
        }
        return [web.post(f"/cgi-bin/kf/{name}", for_kf(handler)) for name, handler in calls.items()]

    # --- what is new ---

    def _sync(self, body: dict[str, Any]) -> dict[str, Any]:
        desk = self._desk(body)
        rules, now = self._corp.rules, self._corp.now
        limit = body.get("limit", _PAGE)
        if type(limit) is not int or not 0 <= limit <= _PAGE:
            raise Refused(40058, "invalid limit")
        if token := body.get("token"):
            if self._service.tokens.get(str(token), now) != desk:
                raise Refused(95007)
        elif not self._tokenless.admit(desk, now):
            raise Refused(45009)
        if self._corp.strike("kf_empty_page", chat=f"kf:{desk}"):
            cursor = body.get("cursor") or ""
            return {**_OK, "next_cursor": cursor, "has_more": 1, "msg_list": []}
        limit = min(limit or _PAGE, rules.kf_page_items)
        page = self._service.items[desk].page(body.get("cursor"), limit, now)
        return {**_OK, "next_cursor": page.next_cursor, "has_more": int(page.has_more), "msg_list": page.items}

    # --- sending ---

    def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        desk, session = self._session(body, "touser")
        customer, rules = str(body["touser"]), self._corp.rules
        msgid = self._msgid(body)
        text, content, look = self._content(body)
        if session.state not in (NEW, ASSISTANT):
            raise Refused(95018)
        if rules.kf_repeats_before_budget:
            self._refuse_repeated(desk, customer, msgid)
        if not session.wrote_at or self._corp.now - session.wrote_at > rules.kf_window_seconds:
            raise Refused(95002)
        if session.sent >= rules.kf_messages:
            raise Refused(95001)
        msgid = self._fresh(desk, customer, msgid)
        session.state = ASSISTANT
        session.sent += 1
        if self._corp.strike("kf_send_fail", chat=f"kf:{desk}", person=customer, msg_id=msgid):
            self._service.send_failed(desk, customer, msgid)
        else:
            self._service.show(desk, customer, text, content, look, msgid)
        return {**_OK, "msgid": msgid}

    def _send_on_event(self, body: dict[str, Any]) -> dict[str, Any]:
        code = self._service.codes.get(str(body.get("code", "")), self._corp.now)
        if code is None:
            raise Refused(40058, "invalid code")
        if body.get("msgtype") not in code.kinds:
            raise Refused(40008)
        text, content, look = self._content(body)
        msgid = self._fresh(code.open_kfid, code.customer, self._msgid(body))
        self._service.codes.pop(str(body["code"]))
        self._service.show(code.open_kfid, code.customer, text, content, look, msgid)
        return {**_OK, "msgid": msgid}

    def _msgid(self, body: Mapping[str, Any]) -> str:
        """The caller's id, if there is one: absent is not the same as empty."""
        if "msgid" not in body:
            return ""
        msgid = body["msgid"]
        if not isinstance(msgid, str) or not _MSGID.fullmatch(msgid):
            raise Refused(40058, "invalid msgid")
        if len(msgid) > self._corp.rules.kf_msgid_bytes:
            raise Refused(40058, "msgid exceed max length")
        return msgid

    def _fresh(self, desk: str, customer: str, msgid: str) -> str:
        """An id that was not used in this account."""
        if not msgid:
            return self._corp.new_opaque_id("msg")
        self._refuse_repeated(desk, customer, msgid)
        self._msgids.put((desk, msgid), True, self._corp.now + self._corp.rules.kf_window_seconds)
        return msgid

    def _refuse_repeated(self, desk: str, customer: str, msgid: str) -> None:
        if self._msgids.get((desk, msgid), self._corp.now):
            for bubble in self._corp.chats.bubbles(customer, f"kf:{desk}"):
                if bubble.msg_id == msgid:
                    bubble.sent += 1
                    bubble.suppressed += 1
                    self._corp.chats.touched(bubble)
            self._corp.journal.note(Kind.SUPPRESSED, chat=f"kf:{desk}", person=customer, msg_id=msgid)
            raise Refused(self._corp.rules.kf_repeated_msgid_code, "msgid already used")

    def _content(self, body: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None, str]:
        """What is seen of a message: its text, its content and its look (see ``chats.Bubble``)."""
        kind = body.get("msgtype")
        inner = body.get(kind) if isinstance(kind, str) else None
        if kind not in ("text", "msgmenu", "link", "miniprogram", "location", *KINDS):
            raise Refused(40008)
        if not isinstance(inner, dict):
            raise Refused(40058, f"missing field: {kind}")
        if kind == "text":
            return _bounded(inner, "content", self._corp.rules.kf_text_bytes), None, "text"
        if kind == "msgmenu":
            return self._menu(inner)
        if kind in KINDS:
            content = self._media.content(inner.get("media_id"), kind)
            return f"[{kind}] {content['name']}", content, "media"
        for field, longest in {"link": (("title", 128), ("url", 2048)), "miniprogram": (("appid", 64),)}.get(kind, ()):
            _bounded(inner, field, longest)
        return str(inner.get("title") or inner.get("name") or f"[{kind}]"), {"kind": kind, **inner}, "media"

    def _menu(self, inner: Mapping[str, Any]) -> tuple[str, dict[str, Any], str]:
        listed = inner.get("list")
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise Refused(40058, "invalid msgmenu.list")
        if len(listed) > self._corp.rules.kf_menu_items:
            raise Refused(95008)
        items = [_menu_item(item) for item in listed]
        head, tail = (_bounded(inner, field, 1024, needed=False) for field in ("head_content", "tail_content"))
        lines = [head, *(f"• {item['content']}" for item in items), tail]
        content = {"kind": "menu", "head": head, "items": items, "tail": tail}
        return "\n".join(line for line in lines if line), content, "card"

    # --- sessions ---

    def _state(self, body: dict[str, Any]) -> dict[str, Any]:
        _, session = self._session(body, "external_userid")
        return {**_OK, "service_state": session.state, "servicer_userid": session.servicer}

    def _trans(self, body: dict[str, Any]) -> dict[str, Any]:
        desk, session = self._session(body, "external_userid")
        customer, state = str(body["external_userid"]), body.get("service_state")
        if session.state == OVER:
            raise Refused(95013)
        if state not in _MAY_GO[session.state]:
            raise Refused(95016)
        servicer = self._servicer(body, int(state))
        self._service.move(desk, customer, int(state), servicer)
        seconds = self._corp.rules.kf_welcome_seconds if state == OVER else self._corp.rules.kf_window_seconds
        kinds = ("text", "msgmenu") if state == OVER else ("text",)
        code = "" if state == ASSISTANT else self._service.new_code(desk, customer, seconds, *kinds)
        return {**_OK, "msg_code": code}

    def _servicer(self, body: Mapping[str, Any], state: int) -> str:
        receiving = self._service.receiving
        if state == POOL and self._corp.rules.kf_pool_needs_servicer and not any(receiving.values()):
            raise Refused(95019)
        if state != PERSON:
            return ""
        servicer = str(body.get("servicer_userid", ""))
        if servicer not in self._corp.people:
            raise Refused(60111)
        if servicer not in receiving:
            raise Refused(95014)
        if not receiving[servicer]:
            raise Refused(95019)
        return servicer

    # --- who is there ---

    def _accounts(self, body: dict[str, Any]) -> dict[str, Any]:
        offset, limit = body.get("offset", 0), body.get("limit", 100)
        if type(offset) is not int or type(limit) is not int or offset < 0 or not 0 < limit <= 100:
            raise Refused(40058, "invalid offset or limit")
        desks = list(self._corp.desks.values())[offset : offset + limit]
        listed = [{"open_kfid": desk.open_kfid, "name": desk.name, "avatar": ""} for desk in desks]
        return {**_OK, "account_list": listed}

    def _customers(self, body: dict[str, Any]) -> dict[str, Any]:
        names = body.get("external_userid_list")
        if not isinstance(names, list) or not 0 < len(names) <= 100:
            raise Refused(40058, "invalid external_userid_list")
        customers = self._corp.customers
        known = [{"external_userid": name, "nickname": customers[name].name} for name in names if name in customers]
        return {
            **_OK,
            "customer_list": known,
            "invalid_external_userid": [name for name in names if name not in customers],
        }

    def _desk(self, body: Mapping[str, Any]) -> str:
        desk = body.get("open_kfid")
        if not isinstance(desk, str) or desk not in self._corp.desks:
            raise Refused(95000)
        return desk

    def _session(self, body: Mapping[str, Any], field: str) -> tuple[str, Session]:
        desk, customer = self._desk(body), body.get(field)
        try:
            return desk, self._service.session(desk, customer if isinstance(customer, str) else "")
        except NobodyThere:
            raise Refused(40096) from None


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused(47001) from None


def _bounded(inner: Mapping[str, Any], field: str, longest: int, *, needed: bool = True) -> str:
    value = inner.get(field, "")
    if not isinstance(value, str):
        raise Refused(40058, f"invalid {field}")
    if not value and needed:
        raise Refused(44004 if field == "content" else 40058)
    if len(value.encode()) > longest:
        raise Refused(40058, f"{field} exceed max length {longest}")
    return value


def _menu_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as the bubble keeps it: what is shown, and the id that a click comes back with."""
    kind = item.get("type")
    inner = item.get(kind) if isinstance(kind, str) else None
    if kind not in ("click", "view", "miniprogram", "text") or not isinstance(inner, dict):
        raise Refused(40058, "invalid msgmenu.list.type")
    longest = {"click": 128, "text": 256}.get(kind, 1024)
    content = _bounded(inner, "content", longest)
    found = {"type": kind, "content": content}
    if kind == "click":
        found["id"] = _bounded(inner, "id", 128, needed=False)
    if kind == "view":
        found["url"] = _bounded(inner, "url", 2048)
    return found
