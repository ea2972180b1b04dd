"""Template cards as the platform has them: what it refuses, what they look like, and what touching them means. Pure.

DOC 90236 (application), 101032 (bot), 91770 (robot of a group); error codes of DOC 90313.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from simulator.chats import Look
from simulator.rules import Refused

CardDoor = Literal["app", "bot", "robot"]

KINDS: Final = ("text_notice", "news_notice", "button_interaction", "vote_interaction", "multiple_interaction")
INTERACTIVE: Final = frozenset(KINDS[2:])

_TASK_ID: Final = re.compile(r"[0-9a-zA-Z_\-@]{1,128}", re.ASCII)
_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*://.")
_MOST_KEY: Final = 1024
_LISTS: Final = {
    "horizontal_content_list": (6, 42035),
    "vertical_content_list": (4, 42036),
    "jump_list": (3, 42042),
    "select_list": (3, 42047),
    "button_list": (6, 40058),
}
"""How many items a list may have, and the code beyond that."""


class CannotTouch(Exception):
    """There is no such thing on the card, or it was answered already."""


class Touch(msgspec.Struct, frozen=True):
    """What somebody did with a card, as its event tells."""

    card_type: str
    task_id: str
    event_key: str
    selected: Mapping[str, tuple[str, ...]]
    """By question, the ids of what was chosen."""
    from_menu: bool
    """Whether it was the menu in the corner."""


# --- What is refused ---------------------------------------------------------------------


def check(card: Mapping[str, Any], door: CardDoor) -> None:
    """Looks at a card.

    Raises:
        Refused: it breaks a rule of that door.
    """
    kind = card.get("card_type")
    if kind not in KINDS or (door == "robot" and kind in INTERACTIVE):
        raise Refused(42031)
    for name, (most, code) in _LISTS.items():
        items = card.get(name, [])
        if not isinstance(items, list) or len(items) > most or not all(isinstance(item, dict) for item in items):
            raise Refused(code, f"{name}: at most {most} items")
    for code, detail in (*_of_kind(card, str(kind)), *_of_links(card, door), *_of_questions(card), *_of_keys(card)):
        raise Refused(code, detail)


def _of_kind(card: Mapping[str, Any], kind: str) -> Iterator[tuple[int, str]]:
    task_id = card.get("task_id", "")
    needs_task = kind in INTERACTIVE or bool(card.get("action_menu"))
    if (needs_task or task_id) and not (isinstance(task_id, str) and _TASK_ID.fullmatch(task_id)):
        yield 42014, "task_id"
    if kind not in INTERACTIVE and _part(card, "card_action").get("type") not in (1, 2):
        yield 42045, "card_action"
    if kind == "news_notice":
        image = _part(card, "card_image")
        if image and not _is_address(image.get("url")):
            yield 42044, "card_image.url"
        ratio = image.get("aspect_ratio", 1.3)
        if not isinstance(ratio, int | float) or not 1.3 <= ratio <= 2.25:
            yield 40058, "card_image.aspect_ratio"
        if not image and not _part(card, "image_text_area"):
            yield 42044, "card_image or image_text_area"
    if kind == "button_interaction" and not card.get("button_list"):
        yield 40058, "button_list"
    if kind == "vote_interaction" and not _part(card, "checkbox"):
        yield 40058, "checkbox"
    if kind == "multiple_interaction" and not card.get("select_list"):
        yield 42047, "select_list"
    if kind in ("vote_interaction", "multiple_interaction") and not _part(card, "submit_button").get("text"):
        yield 42046, "submit_button.text"


def _of_links(card: Mapping[str, Any], door: CardDoor) -> Iterator[tuple[int, str]]:
    links = [_part(card, name) for name in ("card_action", "quote_area", "image_text_area")]
    for link in [*links, *_items(card, "jump_list")]:
        if link.get("type") == 1 and not _is_address(link.get("url")):
            yield 42028, "url"
        if link.get("type") == 2 and not link.get("appid"):
            yield 42030, "appid"
    for row in _items(card, "horizontal_content_list"):
        if not row.get("keyname"):
            yield 42027, "keyname"
        if row.get("type") == 1 and not _is_address(row.get("url")):
            yield 42028, "url"
        if row.get("type") == 2 and (door == "bot" or not row.get("media_id")):
            yield 42029, "media_id"
        if row.get("type") == 3 and not row.get("userid"):
            yield 42050, "userid"


def _of_questions(card: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for question, most in _questions(card):
        options = _items(question, "option_list")
        if not question.get("question_key"):
            yield 42043, "question_key"
        if not 1 <= len(options) <= most:
            yield 42037, f"option_list: 1 to {most} items"
        ids = [option.get("id") for option in options]
        if len(set(map(str, ids))) != len(ids) or not all(isinstance(one, str) and one for one in ids):
            yield 42040, "option id"
        if not all(option.get("text") for option in options):
            yield 42041, "option text"


def _of_keys(card: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    buttons = [button for button in _items(card, "button_list") if button.get("type", 0) == 0]
    actions = _items(_part(card, "action_menu"), "action_list")
    if _part(card, "action_menu") and not 1 <= len(actions) <= 3:
        yield 40058, "action_list: 1 to 3 items"
    for button in [*_items(card, "button_list"), *actions]:
        if not button.get("text"):
            yield 42038, "button text"
    for button in [*buttons, *actions]:
        if not _is_key(button.get("key")):
            yield 42039, "button key"
    submit = _part(card, "submit_button")
    if submit and not _is_key(submit.get("key")):
        yield 42049, "submit_button.key"
    keys = [button["key"] for button in [*buttons, *actions]]
    if len(set(keys)) != len(keys):
        yield 42051, "two actions have one key"


def _is_key(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value.encode()) <= _MOST_KEY


def _is_address(value: object) -> bool:
    return isinstance(value, str) and bool(_ADDRESS.match(value))


# --- What is seen ------------------------------------------------------------------------


def template_card(card: Mapping[str, Any], door: CardDoor = "bot") -> tuple[Look, str]:
    """How a card is summed up in a bubble.

    Raises:
        Refused: it breaks a rule of that door.
    """
    check(card, door)
    title = _part(card, "main_title")
    lines = [str(title.get(part, "")) for part in ("title", "desc")]
    return "card", "\n".join(line for line in [*lines, str(card.get("sub_title_text", ""))] if line) or "[卡片]"


def content_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card for ``chats.Bubble.content``; ``replaced`` becomes what was chosen."""
    return {"kind": "card", "card": dict(card), "replaced": ""}


# --- What touching means -----------------------------------------------------------------


def touched(content: Mapping[str, Any] | None, key: str, selected: Mapping[str, tuple[str, ...]]) -> Touch:
    """Somebody touches a button, an entry of the menu, or sends a selection off.

    Args:
        content: of the bubble.
        key: of the button or the entry; for votes and selections the submit button's, or empty.
        selected: by question, the ids of what was chosen.

    Raises:
        CannotTouch: a person could not do that.
    """
    if content is None or content.get("kind") != "card":
        raise CannotTouch("not a card")
    card: Mapping[str, Any] = content["card"]
    actions = {action.get("key") for action in _items(_part(card, "action_menu"), "action_list")}
    if key in actions:
        return Touch(card["card_type"], str(card.get("task_id", "")), key, {}, True)
    if content.get("replaced"):
        raise CannotTouch("the card was answered already")
    if card["card_type"] not in INTERACTIVE:
        raise CannotTouch("a notice has nothing to choose")
    buttons = {button.get("key") for button in _items(card, "button_list") if button.get("type", 0) == 0}
    submit = _part(card, "submit_button").get("key")
    chosen = key or str(submit or "")
    if chosen not in buttons and chosen != submit:
        raise CannotTouch(f"no button {key!r}")
    options = {str(question["question_key"]): question for question, _ in _questions(card)}
    for question_key, ids in selected.items():
        offered = {option.get("id") for option in _items(options.get(question_key, {}), "option_list")}
        if not set(ids) <= offered:
            raise CannotTouch(f"no such option of {question_key!r}")
    return Touch(card["card_type"], str(card.get("task_id", "")), chosen, dict(selected), False)


def _questions(card: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Every question of a card, and how many options it may have."""
    for name, most in (("button_selection", 10), ("checkbox", 20)):
        if _part(card, name):
            yield _part(card, name), most
    for question in _items(card, "select_list"):
        yield question, 10


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = of.get(name)
    return value if isinstance(value, dict) else {}


def _items(of: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = of.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
