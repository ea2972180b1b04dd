"""What the events of a self-built application mean (DOC 90240). Pure.

The rule: what a person touched is answered like what a person wrote; what WeCom tells of
its own accord, or what is followed by a message anyway, is acknowledged and nothing more.
So is every event that is not known.
"""

from collections.abc import Mapping
from typing import Final

from adapter.cards import looks_spoken, said_by_click
from adapter.translate import Chosen, Greeting, Incoming, Silence, app_event_id, said_by_app_event
from adapter.wire import AppMessage

_GREETED: Final = frozenset({"subscribe", "enter_agent"})
_CARDS: Final = frozenset({"template_card_event", "template_card_menu_event", "taskcard_click"})
_WITH_BUTTONS: Final = frozenset({"button_interaction", "vote_interaction", "multiple_interaction"})


def from_app_event(
    account: str, message: AppMessage, menu: Mapping[str, str], *, key: bytes = b""
) -> Incoming | Greeting | Chosen | Silence:
    """Decides what an event means.

    Args:
        account: the account's name.
        menu: what a person says by touching an entry of the application's menu, by the entry's key.
        key: as for ``translate.from_app_message``.
    """
    if message.from_user in ("", "sys"):
        return Silence("no person")
    event, fields = message.event, message.fields
    if event in _GREETED:
        return Greeting("", app_event_id(message, key=key), b"")
    if event in _CARDS:
        return _touched(account, message, key)
    if event == "click":
        return said_by_app_event(account, message, _of_menu(menu, message.event_key), key=key)
    if event == "scancode_waitmsg":
        # The other kind, scancode_push, is opened by the client; the person waits for nothing.
        scanned = fields.get("ScanCodeInfo.ScanResult", "").strip()
        said = "\n".join(piece for piece in (menu.get(message.event_key, ""), scanned) if piece and scanned)
        return said_by_app_event(account, message, said, key=key)
    if event == "location_select":
        return said_by_app_event(account, message, _place(fields), key=key)
    # pic_*: the pictures follow as messages. LOCATION: reported again and again, and asks for nothing.
    # view, view_miniprogram, scancode_push: the person is looking at something else by now.
    # change_*, *_approval_change, share_*, batch_job_result, inactive* and low_active*: no person waits.
    return Silence("event")


def _of_menu(menu: Mapping[str, str], event_key: str) -> str:
    return menu.get(event_key) or (event_key if looks_spoken(event_key) else "")


def _touched(account: str, message: AppMessage, key: bytes) -> Incoming | Chosen | Silence:
    said = said_by_click(message.event_key, _selected(message.fields))
    incoming = said_by_app_event(account, message, said, key=key)
    if isinstance(incoming, Silence) or message.event != "template_card_event":
        return incoming
    if message.fields.get("CardType", "button_interaction") not in _WITH_BUTTONS:
        return incoming
    return Chosen(incoming, message.fields.get("TaskId", ""), said, False, message.from_user)


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
