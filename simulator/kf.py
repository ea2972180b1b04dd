"""Customer service (微信客服): what customers and the persons who serve them do, and what the platform makes of it.

Sessions, their states and their limits are those of DOC 94669 and 96427; what the
application learns of them stands in the list of ``kf/sync_msg`` (DOC 94670), and a
callback says no more than that there is something new.
"""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from adapter.wire import AppMessage
from simulator.callbacks import BacklogFull, Callbacks
from simulator.chats import Bubble
from simulator.corp import Corp, NobodyThere
from simulator.journal import Kind
from simulator.kf_items import ItemList
from simulator.media import KINDS, MediaStore
from simulator.windows import Remembered

NEW, ASSISTANT, POOL, PERSON, OVER = range(5)
CUSTOMER, SYSTEM, SERVICER = 3, 4, 5
FROM_POOL, TRANSFER, END, AGAIN = 1, 2, 3, 4
"""What happens to a session (``change_type``)."""

_CODES: Final = 10_000


class Session(msgspec.Struct):
    """One customer at one account."""

    state: int = OVER
    servicer: str = ""
    wrote_at: float = 0.0
    """When the customer wrote last, in POSIX seconds; 0 if never."""
    sent: int = 0
    """Messages of the application since then."""
    welcomed_at: float = 0.0


_STATES: Final = ("新接入", "由智能助手接待", "在待接入池排队", "由人工接待", "已结束")


class Code(msgspec.Struct, frozen=True):
    """What ``send_msg_on_event`` can be called with, once."""

    open_kfid: str
    customer: str
    kinds: tuple[str, ...]


class CustomerService:
    """Every account of customer service."""

    def __init__(self, corp: Corp, callbacks: Callbacks, media: MediaStore) -> None:
        self._corp = corp
        self._callbacks = callbacks
        self._media = media
        rules, limit = corp.rules, corp.settings.bounds.messages
        self.items = {desk: ItemList(desk, limit, rules.kf_history_seconds) for desk in corp.desks}
        self.codes: Remembered[str, Code] = Remembered(_CODES)
        self.tokens: Remembered[str, str] = Remembered(_CODES)
        """The account by the token of a callback."""
        self._sessions: dict[tuple[str, str], Session] = {}
        people = corp.settings.kf.servicers or tuple(corp.people)
        self.receiving: dict[str, bool] = dict.fromkeys(people, True)
        """Who may serve, and whether they are receiving (正在接待)."""
        callbacks.urls[corp.kf_app.agent_id] = corp.kf_app.callback_url

    # --- what customers do ---

    def write(self, customer: str, content: Mapping[str, Any], desk: str | None = None, *, shown: str = "") -> str:
        """A customer writes: ``content`` has ``msgtype`` and its body (DOC 94670). Returns the message id.

        Raises:
            NobodyThere: unknown customer or account.
        """
        desk = self.desk(desk)
        session = self.session(desk, customer)
        if session.state == OVER:
            session.state, session.servicer = NEW, ""
        session.wrote_at, session.sent = self._corp.now, 0
        kind = str(content.get("msgtype", ""))
        msg_id = self._add(desk, {"external_userid": customer, "origin": CUSTOMER, **content})
        look, bubble = self._seen(kind, content)
        self._corp.chats.post(
            chat=f"kf:{desk}",
            person=customer,
            speaker=customer,
            text=shown or _text_of(content) or f"[{kind}]",
            look=look,
            now=self._corp.now,
            msg_id=msg_id,
            content=bubble,
        )
        self._corp.journal.note(Kind.WRITTEN, chat=f"kf:{desk}", person=customer, msg_id=msg_id)
        self._notify(desk)
        return msg_id

    def send_file(self, customer: str, kind: str, name: str, data: bytes, desk: str | None = None) -> str:
        """A customer sends a picture, a recording, a film or a file."""
        media_id = self._media.put(kind, name, data, checked=False)
        return self.write(customer, {"msgtype": kind, kind: {"media_id": media_id}}, desk)

    def click(self, customer: str, label: str, desk: str | None = None) -> str:
        """A customer chooses from the last menu; it comes back as a text (DOC 94670).

        Raises:
            NobodyThere: no menu has this item.
        """
        key = f"kf:{self.desk(desk)}"
        for bubble in reversed(self._corp.chats.bubbles(customer, key)):
            for item in (bubble.content or {}).get("items", []) if bubble.look == "card" else []:
                if item["type"] == "click" and item["content"] == label:
                    text = {"content": label, "menu_id": item["id"]}
                    return self.write(customer, {"msgtype": "text", "text": text}, desk)
        raise NobodyThere(f"no menu with {label!r}")

    def enter(self, customer: str, desk: str | None = None, *, scene: str = "") -> str:
        """A customer opens the chat. Returns the ``welcome_code``; empty where none is given (DOC 94670)."""
        desk = self.desk(desk)
        session, now = self.session(desk, customer), self._corp.now
        code = ""
        if not session.wrote_at and now - session.welcomed_at >= self._corp.rules.kf_window_seconds:
            code = self._code(desk, customer, self._corp.rules.kf_welcome_seconds, "text", "msgmenu")
            # Once somebody was given a code, it is a while until the next one, used or not.
            session.welcomed_at = now
        event = {"scene": scene, "scene_param": ""} | ({"welcome_code": code} if code else {})
        self._event(desk, customer, "enter_session", event)
        return code

    def recall(self, customer: str, msg_id: str, desk: str | None = None) -> None:
        """A customer takes a message back."""
        desk = self.desk(desk)
        self._gone(desk, customer, msg_id)
        self._event(desk, customer, "user_recall_msg", {"recall_msgid": msg_id})

    def _gone(self, desk: str, customer: str, msg_id: str) -> None:
        for bubble in self._corp.chats.bubbles(customer, f"kf:{desk}"):
            if bubble.msg_id == msg_id:
                bubble.recalled, bubble.text, bubble.content = True, "消息已撤回", None
                self._corp.chats.touched(bubble)

    # --- what the persons who serve do ---

    def take(self, servicer: str, customer: str, desk: str | None = None) -> None:
        """A person takes a customer over: from the pool, from the assistant, from a colleague, or again."""
        desk = self.desk(desk)
        session = self.session(desk, customer)
        self._must_serve(servicer)
        change = {PERSON: TRANSFER, OVER: AGAIN}.get(session.state, FROM_POOL)
        event: dict[str, Any] = {"change_type": change, "new_servicer_userid": servicer}
        if change == TRANSFER:
            event["old_servicer_userid"] = session.servicer
        if change == FROM_POOL:
            event["msg_code"] = self._code(desk, customer, self._corp.rules.kf_window_seconds, "text")
        self.move(desk, customer, PERSON, servicer)
        self._event(desk, customer, "session_status_change", event)

    def write_as(self, servicer: str, customer: str, text: str, desk: str | None = None) -> str:
        """A person writes to a customer whom they serve; to one whose session is over, they take it up again."""
        desk = self.desk(desk)
        session = self.session(desk, customer)
        if session.state == OVER:
            self.take(servicer, customer, desk)
        if session.state != PERSON or session.servicer != servicer:
            raise NobodyThere(f"{servicer!r} does not serve {customer!r}")
        item = {"external_userid": customer, "origin": SERVICER, "servicer_userid": servicer}
        msg_id = self._add(desk, item | {"msgtype": "text", "text": {"content": text}})
        self._corp.chats.post(
            chat=f"kf:{desk}", person=customer, speaker=servicer, text=text, now=self._corp.now, msg_id=msg_id
        )
        self._notify(desk)
        return msg_id

    def end(self, servicer: str, customer: str, desk: str | None = None) -> None:
        """A person ends a session."""
        desk = self.desk(desk)
        session = self.session(desk, customer)
        if session.state != PERSON or session.servicer != servicer:
            raise NobodyThere(f"{servicer!r} does not serve {customer!r}")
        self.move(desk, customer, OVER)
        code = self._code(desk, customer, self._corp.rules.kf_welcome_seconds, "text", "msgmenu")
        event = {"change_type": END, "old_servicer_userid": servicer, "msg_code": code}
        self._event(desk, customer, "session_status_change", event)

    def receive(self, servicer: str, *, receiving: bool) -> None:
        """A person begins to receive customers, or stops (接待状态)."""
        self._must_serve(servicer)
        self.receiving[servicer] = receiving
        for desk in self._corp.desks:
            item = {"servicer_userid": servicer, "status": 1 if receiving else 2, "open_kfid": desk}
            self._add_event(desk, "servicer_status_change", item | ({} if receiving else {"stop_type": 0}))
            self._notify(desk)

    def recall_as(self, servicer: str, customer: str, msg_id: str, desk: str | None = None) -> None:
        """A person takes a message back."""
        desk = self.desk(desk)
        self._gone(desk, customer, msg_id)
        event = {"recall_msgid": msg_id, "servicer_userid": servicer}
        self._event(desk, customer, "servicer_recall_msg", event)

    # --- what the application's requests stand on ---

    def desk(self, desk: str | None) -> str:
        """An account by its ``open_kfid``; ``None`` means the first. Raises :class:`NobodyThere`."""
        key = self._corp.chat_key("kf" if desk is None else f"kf:{desk.removeprefix('kf:')}")
        return key.partition(":")[2]

    def session(self, desk: str, customer: str) -> Session:
        """Where a customer stands. A session that nobody used for 48 hours is over. Raises :class:`NobodyThere`."""
        if customer not in self._corp.customers:
            raise NobodyThere(f"no customer {customer!r}")
        session = self._sessions.setdefault((desk, customer), Session())
        if session.state != OVER and self._corp.now - session.wrote_at > self._corp.rules.kf_window_seconds:
            session.state, session.servicer = OVER, ""
        return session

    def sessions(self) -> Iterator[tuple[str, str, Session]]:
        """Account, customer and session, of all who were there."""
        for desk, customer in list(self._sessions):
            yield desk, customer, self.session(desk, customer)

    def move(self, desk: str, customer: str, state: int, servicer: str = "") -> None:
        """Puts a customer into other hands."""
        session = self.session(desk, customer)
        session.state, session.servicer = state, servicer
        detail = f"{_STATES[state]} {servicer}".rstrip()
        self._corp.journal.note(Kind.SESSION, chat=f"kf:{desk}", person=customer, detail=detail)

    def show(
        self, desk: str, customer: str, text: str, content: dict[str, Any] | None, look: Any, msg_id: str
    ) -> Bubble:
        """Shows a message of the application."""
        chat = f"kf:{desk}"
        bubble = self._corp.chats.post(
            chat=chat,
            person=customer,
            speaker=chat,
            text=text,
            look=look,
            now=self._corp.now,
            msg_id=msg_id,
            content=content,
        )
        self._corp.journal.note(Kind.SHOWN, chat=chat, person=customer, msg_id=msg_id)
        return bubble

    def send_failed(self, desk: str, customer: str, msg_id: str, fail_type: int = 0) -> None:
        """Tells the application that a message which was accepted did not arrive."""
        self._event(desk, customer, "msg_send_fail", {"fail_msgid": msg_id, "fail_type": fail_type})

    def new_code(self, desk: str, customer: str, seconds: float, *kinds: str) -> str:
        """A code for ``send_msg_on_event``."""
        return self._code(desk, customer, seconds, *kinds)

    # --- inside ---

    def _code(self, desk: str, customer: str, seconds: float, *kinds: str) -> str:
        code = secrets.token_urlsafe(24)
        self.codes.put(code, Code(desk, customer, kinds), self._corp.now + seconds)
        return code

    def _must_serve(self, servicer: str) -> None:
        if servicer not in self.receiving:
            raise NobodyThere(f"{servicer!r} does not serve customers")

    def _seen(self, kind: str, content: Mapping[str, Any]) -> tuple[Any, dict[str, Any] | None]:
        if kind == "text":
            return "text", None
        body = content.get(kind)
        if kind in KINDS and isinstance(body, dict):
            return "media", self._media.content(body.get("media_id"), kind)
        return "media", {"kind": kind, **body} if isinstance(body, dict) else None

    def _event(self, desk: str, customer: str, event_type: str, fields: Mapping[str, Any]) -> None:
        self._add_event(desk, event_type, {"open_kfid": desk, "external_userid": customer, **fields})
        self._notify(desk)

    def _add_event(self, desk: str, event_type: str, fields: Mapping[str, Any]) -> None:
        event = {"event_type": event_type, **fields}
        item = {"msgid": _new_id(), "send_time": int(self._corp.now), "origin": SYSTEM, "msgtype": "event"}
        self.items[desk].add(item | {"event": event}, self._corp.now)

    def _add(self, desk: str, item: Mapping[str, Any]) -> str:
        msg_id = _new_id()
        named = {"msgid": msg_id, "open_kfid": desk, "send_time": int(self._corp.now)}
        self.items[desk].add(named | dict(item), self._corp.now)
        return msg_id

    def _notify(self, desk: str) -> None:
        """Tells the application that there is something new. Nobody waits for that, and no callback holds content."""
        app = self._corp.kf_app
        chat = f"kf:{desk}"
        if not self._callbacks.urls.get(app.agent_id) or self._corp.strike("kf_callback_lost", chat=chat):
            return
        token = secrets.token_urlsafe(48)
        self.tokens.put(token, desk, self._corp.now + self._corp.rules.kf_token_seconds)
        message = AppMessage(
            to_user=self._corp.settings.corp_id,
            create_time=int(self._corp.now),
            msg_type="event",
            event="kf_msg_or_event",
            fields={"Token": token, "OpenKfId": desk},
        )
        try:
            self._callbacks.post(app, message)
        except BacklogFull:
            self._corp.journal.note(Kind.DROPPED, chat=chat, detail="回调积压过多，这次没有通知应用")


def _new_id() -> str:
    """As long as the platform's own, which is longer than a caller's may be."""
    return "4" + secrets.token_urlsafe(30)


def _text_of(content: Mapping[str, Any]) -> str:
    body = content.get("text")
    return str(body.get("content", "")) if content.get("msgtype") == "text" and isinstance(body, dict) else ""
