"""What messages and events of a self-built application mean (DOC 90239, 90240). Pure.

The rule for events: what a person touched is answered like what a person wrote; what WeCom
tells of its own accord, or what is followed by a message anyway, is acknowledged and nothing
more. So is every event that is not known.
"""

from collections.abc import Mapping
from typing import Final

from adapter.cards import looks_spoken, said_by_click
from adapter.translate import (
    FETCHABLE,
    Address,
    Attachment,
    Chosen,
    Greeting,
    Incoming,
    Silence,
    digest,
    incoming,
    media_part,
    text_parts,
)
from adapter.wire import AppMessage
from weconverse.v1.conversation_pb2 import Content, Part

_GREETED: Final = frozenset({"subscribe", "enter_agent"})
_CARDS: Final = frozenset({"template_card_event", "template_card_menu_event", "taskcard_click"})
_WITH_BUTTONS: Final = frozenset({"button_interaction", "vote_interaction", "multiple_interaction"})

# --- Messages ---------------------------------------------------------------------------


def from_app_message(account: str, message: AppMessage, *, key: bytes = b"") -> Incoming | Greeting | Silence:
    """Decides what a decrypted message of the application means.

    Args:
        account: the account's name, 1 to 64 characters of ``[a-zA-Z0-9._-]``.
        key: as for ``adapter.translate.incoming``.
    """
    if message.from_user in ("", "sys"):
        return Silence("no person")
    if message.msg_type in ("event", ""):
        return Silence("event")  # from_app_event says what it means
    parts, attachments = _app_parts(message)
    if not parts:
        return Silence("empty")
    address = Address(door="app", user=message.from_user, create_time=message.create_time)
    request_id = message.msg_id or digest(
        key, "request", message.from_user, str(message.create_time), message.msg_type, message.content
    )
    return incoming(account, key, request_id, Content(parts=parts), address, attachments)


def _app_parts(message: AppMessage) -> tuple[list[Part], tuple[Attachment, ...]]:
    """The parts of a message, and what has to be fetched for them."""
    words = _app_words(message)
    if words is not None:
        return text_parts(words), ()
    kind, fields = FETCHABLE.get(message.msg_type), message.fields
    name, media_id = fields.get("FileName", ""), fields.get("MediaId", "").strip()
    if kind is not None and media_id:
        return [media_part(kind, display_name=name)], (Attachment(part=0, kind=kind, media_id=media_id),)
    return [media_part(message.msg_type, fields.get("PicUrl", "") if kind == "image" else "", name)], ()


def _app_words(message: AppMessage) -> str | None:
    """What can be said of a message in words; ``None`` for kinds that cannot be."""
    kind, fields = message.msg_type, message.fields
    if kind == "text":
        return message.content
    if kind == "voice" and fields.get("Recognition", "").strip():
        return fields["Recognition"]
    if kind == "location":
        where = f"（纬度 {fields.get('Location_X', '?')}，经度 {fields.get('Location_Y', '?')}）"
        return f"位置：{fields.get('Label', '').strip()}{where}"
    if kind == "link":
        line = " ".join(piece for piece in (fields.get("Title", "").strip(), fields.get("Url", "").strip()) if piece)
        return f"链接：{line}\n{fields.get('Description', '').strip()}"
    return None


# --- Events -----------------------------------------------------------------------------


def from_app_event(
    account: str, message: AppMessage, menu: Mapping[str, str], *, key: bytes = b""
) -> Incoming | Greeting | Chosen | Silence:
    """Decides what an event means.

    Args:
        account: the account's name.
        menu: what a person says by touching an entry of the application's menu, by the entry's key.
        key: as for :func:`from_app_message`.
    """
    if message.from_user in ("", "sys"):
        return Silence("no person")
    event, fields = message.event, message.fields
    if event in _GREETED:
        return Greeting("", app_event_id(message, key=key), b"")
    if event in _CARDS:
        return _touched(account, message, key)
    if event == "click":
        return _said_by_event(account, message, _of_menu(menu, message.event_key), key=key)
    if event == "scancode_waitmsg":
        # The other kind, scancode_push, is opened by the client; the person waits for nothing.
        scanned = fields.get("ScanCodeInfo.ScanResult", "").strip()
        said = "\n".join(piece for piece in (menu.get(message.event_key, ""), scanned) if piece and scanned)
        return _said_by_event(account, message, said, key=key)
    if event == "location_select":
        return _said_by_event(account, message, _place(fields), key=key)
    # pic_*: the pictures follow as messages. LOCATION: reported again and again, and asks for nothing.
    # view, view_miniprogram, scancode_push: the person is looking at something else by now.
    # change_*, *_approval_change, share_*, batch_job_result, inactive* and low_active*: no person waits.
    return Silence("event")


def _of_menu(menu: Mapping[str, str], event_key: str) -> str:
    return menu.get(event_key) or (event_key if looks_spoken(event_key) else "")


def _touched(account: str, message: AppMessage, key: bytes) -> Incoming | Chosen | Silence:
    said = said_by_click(message.event_key, _selected(message.fields))
    turn = _said_by_event(account, message, said, key=key)
    if isinstance(turn, Silence) or message.event != "template_card_event":
        return turn
    if message.fields.get("CardType", "button_interaction") not in _WITH_BUTTONS:
        return turn
    return Chosen(turn, message.fields.get("TaskId", ""), said, False, message.from_user)


def _selected(fields: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """The key of each question of a card, and the ids of what was chosen, in their order."""
    chosen: dict[str, list[str]] = {}
    questions: dict[str, str] = {}
    for path, value in fields.items():
        group, _, item = path.partition(".")
        number, _, name = item.partition(".")
        if group != "SelectedItems" or not number.startswith("SelectedItem"):
            continue
        if name == "QuestionKey":
            questions[number] = value.strip()
        elif name.startswith("OptionIds.OptionId") and value.strip():
            chosen.setdefault(number, []).append(value.strip())
    return [(questions[number], tuple(chosen.get(number, ()))) for number in questions]


def _place(fields: Mapping[str, str]) -> str:
    found = {name: fields.get(f"SendLocationInfo.{name}", "").strip() for name in ("Location_X", "Location_Y")}
    names = [fields.get(f"SendLocationInfo.{name}", "").strip() for name in ("Poiname", "Label")]
    # A place that was not named is written as a placeholder by some clients.
    label = "，".join(name for name in dict.fromkeys(names) if name and name != "[位置]")
    if not label and not all(found.values()):
        return ""
    return f"位置：{label}（纬度 {found['Location_X'] or '?'}，经度 {found['Location_Y'] or '?'}）"


def app_event_id(message: AppMessage, *, key: bytes = b"") -> str:
    """Names an event, which has no id of its own.

    User and second are not enough: two events of one user may share them, so the
    application, the event, its key, the card and what was scanned take part (DOC 90238
    names only the first two).
    """
    what = [message.fields.get(name, "") for name in ("TaskId", "ScanCodeInfo.ScanResult")]
    return digest(
        key,
        "event",
        message.from_user,
        str(message.create_time),
        message.agent_id,
        message.event,
        message.event_key,
        *what,
    )


def _said_by_event(account: str, message: AppMessage, text: str, *, key: bytes = b"") -> Incoming | Silence:
    """An event as the message that it stands for: a person who touched something said ``text`` by it."""
    parts = text_parts(text)
    if not parts:
        return Silence("event")
    address = Address(door="app", user=message.from_user, create_time=message.create_time)
    return incoming(account, key, app_event_id(message, key=key), Content(parts=parts), address)
