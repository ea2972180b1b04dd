"""What travels between WeCom's customer service (微信客服) and this program, as values. Pure.

A callback only says that there is something; what there is stands in the answers of
``kf/sync_msg`` (DOC 94670), item after item. Everything that comes in is foreign: what is
missing or of another type reads as empty, and unknown kinds keep their name.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from adapter.text.visible import utf8_length
from adapter.wire import AppMessage

TEXT_BYTES: Final = 2048
"""Of a text message (DOC 96427)."""
MENU_HEAD_BYTES: Final = 1024
MENU_ITEM_BYTES: Final = 128
"""Of the id and of the content of an item."""
MENU_ITEMS: Final = 10
"""Beyond it WeCom answers 95008."""
MESSAGE_BUDGET: Final = 5
"""Messages that a customer can be sent until they write again (95001)."""
WINDOW_SECONDS: Final = 48 * 3600.0
"""After a customer's last message in which they can be sent anything (95002)."""
WELCOME_SECONDS: Final = 20.0
"""After a customer came in, in which they can be welcomed."""
TOKEN_SECONDS: Final = 600.0
"""Life of the token of a callback."""
PAGE_ITEMS: Final = 1000
"""Items of one answer of ``kf/sync_msg``, its default and its most."""

CUSTOMER: Final = 3
SYSTEM: Final = 4
SERVICER: Final = 5
"""Who an item is from (``origin``)."""

NEW, ASSISTANT, POOL, PERSON, OVER = range(5)
"""The states of a session (DOC 94669). It can be written to by the API in the first two only."""


_OURS: Final = "say:"


# --- What comes in -----------------------------------------------------------------------


class Hint(NamedTuple):
    """What a callback says: an account has something new, and ``token`` lets it be fetched for ten minutes."""

    open_kfid: str
    token: str


def hint_of(message: AppMessage) -> Hint | None:
    """The hint of a decrypted callback; ``None`` for every other event."""
    open_kfid = message.fields.get("OpenKfId", "").strip()
    if message.event != "kf_msg_or_event" or not open_kfid:
        return None
    return Hint(open_kfid, message.fields.get("Token", "").strip())


class KfItem(msgspec.Struct, frozen=True, kw_only=True):
    """One item of ``kf/sync_msg``: a message, or an event."""

    msgid: str
    """Longer than what may be sent as a ``msgid``; of unknown form."""
    open_kfid: str
    external_userid: str
    """The customer; empty for what concerns none."""
    send_time: int = 0
    """POSIX seconds; 0 if absent."""
    origin: int = 0
    servicer_userid: str = ""
    """The person of the company who wrote, if :data:`SERVICER` did."""
    kind: str = ""
    """The ``msgtype``; of an event its ``event_type``."""
    is_event: bool = False
    body: Mapping[str, Any] = {}
    """What stands under the name of the type."""

    def text(self, field: str) -> str:
        """A field of the body; empty where there is none."""
        return _string(self.body.get(field))


def read_item(raw: Mapping[str, Any], open_kfid: str) -> KfItem:
    """Reads an item; of an event, account and customer stand inside (DOC 94670).

    Args: ``open_kfid`` is the account that was asked for, for items that name none.
    """
    msgtype = _string(raw.get("msgtype"))
    body = _mapping(raw.get(msgtype))
    is_event = msgtype == "event"
    named = body if is_event else raw
    return KfItem(
        msgid=_string(raw.get("msgid")),
        open_kfid=_string(named.get("open_kfid")) or _string(raw.get("open_kfid")) or open_kfid,
        external_userid=_string(named.get("external_userid")) or _string(raw.get("external_userid")),
        send_time=_integer(raw.get("send_time")),
        origin=_integer(raw.get("origin")),
        servicer_userid=_string(raw.get("servicer_userid")),
        kind=_string(body.get("event_type")) if is_event else msgtype,
        is_event=is_event,
        body=body,
    )


# --- What goes out -----------------------------------------------------------------------


def message_id(turn: str, part: str) -> str:
    """The ``msgid`` of one message of ours: the same for every attempt, so that WeCom can refuse a repetition.

    32 characters, the most that WeCom takes (DOC 96427).

    Args: ``part`` tells the messages of a turn apart.
    """
    return hashlib.blake2b(f"{turn}\0{part}".encode(), digest_size=16).hexdigest()


class Receiver(NamedTuple):
    """To whom a message goes: a customer, from an account."""

    open_kfid: str
    external_userid: str


def text_message(to: Receiver, msgid: str, content: str) -> bytes:
    """A request of ``kf/send_msg``; ``content`` at most 2,048 bytes."""
    return _message(to, msgid, "text", {"content": content})


def media_message(to: Receiver, msgid: str, kind: Literal["image", "voice", "video", "file"], media_id: str) -> bytes:
    """The same for what was uploaded before."""
    return _message(to, msgid, kind, {"media_id": media_id})


class MenuItem(NamedTuple):
    """What can be clicked: ``label`` is shown, ``text`` is what the customer then says."""

    label: str
    text: str

    @property
    def id(self) -> str:
        """Comes back as ``menu_id`` of the click, and tells our menus from those of the admin console."""
        return _OURS + self.text

    @property
    def fits(self) -> bool:
        """Whether WeCom takes it."""
        return utf8_length(self.id) <= MENU_ITEM_BYTES and utf8_length(self.label) <= MENU_ITEM_BYTES


def clicked(menu_id: str) -> str:
    """The text that a click on an item of ours stands for; empty for every other ``menu_id``."""
    return menu_id.removeprefix(_OURS) if menu_id.startswith(_OURS) else ""


def menu_message(to: Receiver, msgid: str, head: str, items: Sequence[MenuItem]) -> bytes:
    """A menu; a click comes back as a text with the ``menu_id`` of the item.

    Args: ``head`` at most 1,024 bytes; at most 10 ``items``, which all fit.
    """
    listed = [{"type": "click", "click": {"id": item.id, "content": item.label}} for item in items]
    return _message(to, msgid, "msgmenu", {"head_content": head, "list": listed})


def _message(to: Receiver, msgid: str, kind: str, body: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(
        {"touser": to.external_userid, "open_kfid": to.open_kfid, "msgid": msgid, "msgtype": kind, kind: body}
    )


def event_message(code: str, msgid: str, content: str) -> bytes:
    """A request of ``kf/send_msg_on_event``: a text in answer to an event, under its code."""
    return msgspec.json.encode({"code": code, "msgid": msgid, "msgtype": "text", "text": {"content": content}})


def sync_request(open_kfid: str, cursor: str, token: str, limit: int) -> bytes:
    """A request of ``kf/sync_msg``: without a cursor from three days back on, without a token strictly limited."""
    body: dict[str, Any] = {"open_kfid": open_kfid, "limit": limit, "voice_format": 0}
    if cursor:
        body["cursor"] = cursor
    if token:
        body["token"] = token
    return msgspec.json.encode(body)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if type(value) in (int, float) else ""


def _integer(value: Any) -> int:
    return value if type(value) is int else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
