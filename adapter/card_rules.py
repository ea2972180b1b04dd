"""What WeCom refuses of a template card. Pure.

The limits are those of DOC 90236 (application), 101032 (bot) and 91770 (robot of a group).
Lengths that WeCom only suggests are not checked: it shows longer ones cut.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

CardDoor = Literal["app", "bot", "robot"]
"""Where cards can be shown: a self-built application, an intelligent bot, the robot of a group."""

MAX_BUTTONS: Final = 6
MAX_KEY_BYTES: Final = 1024
_MAX_BYTES: Final = 64 * 1024
_TASK_ID: Final = re.compile(r"[0-9a-zA-Z_\-@]{1,128}", re.ASCII)
_RATIO: Final = (1.3, 2.25)

_Text = str
_Url = Annotated[str, Meta(pattern="^[a-z][a-z0-9+.-]*://.")]


class _Item(msgspec.Struct, kw_only=True):
    """A piece of a card. Fields that WeCom adds later pass through unread."""


class _Titled(_Item, kw_only=True):
    title: _Text = ""
    desc: _Text = ""


class _MenuAction(_Item, kw_only=True):
    text: Annotated[str, Meta(min_length=1)]
    key: Annotated[str, Meta(min_length=1)]


class _ActionMenu(_Item, kw_only=True):
    desc: _Text = ""
    action_list: Annotated[list[_MenuAction], Meta(min_length=1, max_length=3)]


class _Source(_Item, kw_only=True):
    icon_url: _Text = ""
    desc: _Text = ""
    desc_color: Literal[0, 1, 2, 3] = 0


class _Link(_Item, kw_only=True):
    """What a touch opens: 0 nothing, 1 ``url``, 2 the mini program of ``appid``; 3, of a bot, asks ``question``."""

    type: Literal[0, 1, 2, 3] = 0
    url: _Url | Literal[""] = ""
    appid: _Text = ""
    pagepath: _Text = ""
    title: _Text = ""
    question: _Text = ""


class _Quote(_Link, kw_only=True):
    quote_text: _Text = ""


class _Beside(_Link, kw_only=True):
    desc: _Text = ""
    image_url: _Text = ""


class _Row(_Item, kw_only=True):
    """A line of two columns; ``type`` 0 text, 1 ``url``, 2 the file ``media_id``, 3 the member ``userid``."""

    type: Literal[0, 1, 2, 3] = 0
    keyname: Annotated[str, Meta(min_length=1)]
    value: _Text = ""
    url: _Url | Literal[""] = ""
    media_id: _Text = ""
    userid: _Text = ""


class _Image(_Item, kw_only=True):
    url: _Url
    aspect_ratio: Annotated[float, Meta(ge=_RATIO[0], le=_RATIO[1])] = _RATIO[0]


class _Option(_Item, kw_only=True):
    id: Annotated[str, Meta(min_length=1)]
    text: Annotated[str, Meta(min_length=1)]


class _Selection(_Item, kw_only=True):
    question_key: Annotated[str, Meta(min_length=1)]
    title: _Text = ""
    selected_id: _Text = ""
    option_list: Annotated[list[_Option], Meta(min_length=1, max_length=10)]


class _Checkbox(_Item, kw_only=True):
    question_key: Annotated[str, Meta(min_length=1)]
    mode: Literal[0, 1] = 0
    option_list: Annotated[list[_Option], Meta(min_length=1, max_length=20)]


class _Button(_Item, kw_only=True):
    type: Literal[0, 1] = 0
    text: Annotated[str, Meta(min_length=1)]
    style: Literal[0, 1, 2, 3, 4] = 1
    key: _Text = ""
    url: _Url | Literal[""] = ""


class _Submit(_Item, kw_only=True):
    text: Annotated[str, Meta(min_length=1)]
    key: Annotated[str, Meta(min_length=1)]


class _Feedback(_Item, kw_only=True):
    id: Annotated[str, Meta(min_length=1)]


class _Card(_Item, kw_only=True):
    card_type: Literal["text_notice", "news_notice", "button_interaction", "vote_interaction", "multiple_interaction"]
    source: _Source | None = None
    action_menu: _ActionMenu | None = None
    main_title: _Titled | None = None
    emphasis_content: _Titled | None = None
    quote_area: _Quote | None = None
    sub_title_text: _Text = ""
    horizontal_content_list: Annotated[list[_Row], Meta(max_length=6)] = []
    jump_list: Annotated[list[_Link], Meta(max_length=3)] = []
    card_action: _Link | None = None
    card_image: _Image | None = None
    image_text_area: _Beside | None = None
    vertical_content_list: Annotated[list[_Titled], Meta(max_length=4)] = []
    button_selection: _Selection | None = None
    button_list: Annotated[list[_Button], Meta(max_length=MAX_BUTTONS)] = []
    checkbox: _Checkbox | None = None
    select_list: Annotated[list[_Selection], Meta(max_length=3)] = []
    submit_button: _Submit | None = None
    task_id: _Text = ""
    feedback: _Feedback | None = None


def checked(card_bytes: bytes, door: CardDoor) -> dict[str, Any]:
    """The card that these bytes hold, as it may be sent at that door.

    Raises:
        ValueError: names the field, the rule that is broken, and what to do.
    """
    if len(card_bytes) > _MAX_BYTES:
        raise ValueError(f"card: longer than {_MAX_BYTES} bytes; shorten its texts")
    try:
        value = msgspec.json.decode(card_bytes, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("card: is not a JSON object; give the template_card object itself, in UTF-8") from None
    try:
        card = msgspec.convert(value, _Card)
    except msgspec.ValidationError as error:
        rule, _, where = str(error).partition(" - at `$")
        raise ValueError(f"card{where.rstrip('`')}: {rule}; see the limits in docs/wecom.md") from None
    for field, rule in _broken(card, door):
        raise ValueError(f"card.{field}: {rule}")
    return value


def _broken(card: _Card, door: CardDoor) -> Iterator[tuple[str, str]]:
    """What types cannot say: pairs of a field, and the rule with its remedy."""
    yield from _broken_kind(card, door)
    yield from _broken_links(card, door)
    yield from _broken_lengths(card)
    if door != "bot" and card.feedback is not None:
        yield "feedback", "is for intelligent bots only; remove it"
    if card.task_id and not _TASK_ID.fullmatch(card.task_id):
        yield "task_id", "may hold 1 to 128 of 0-9 a-z A-Z _ - @; choose another one"
    if card.action_menu is not None and not card.task_id:
        yield "task_id", "is required with action_menu; add one that no other card has"
    keys = [action.key for action in card.action_menu.action_list] if card.action_menu else []
    keys += [button.key for button in card.button_list if button.type == 0]
    if len(set(keys)) != len(keys):
        yield "button_list", "two actions have the same key; give each its own"


def _broken_kind(card: _Card, door: CardDoor) -> Iterator[tuple[str, str]]:
    kind = card.card_type
    if kind in ("text_notice", "news_notice"):
        if card.card_action is None or card.card_action.type not in (1, 2):
            yield "card_action", f"is required for {kind}; add type 1 with url, or type 2 with appid"
        if kind == "news_notice" and card.card_image is None and card.image_text_area is None:
            yield "card_image", "is required for news_notice; add it, or image_text_area"
        if kind == "text_notice" and not (_title(card) or card.sub_title_text):
            yield "main_title", "is required for text_notice; add it, or sub_title_text"
        return
    if door == "robot":
        yield "card_type", "the robot of a group shows text_notice and news_notice; use one of these"
    if not card.task_id:
        yield "task_id", f"is required for {kind}; add one that no other card has"
    if kind == "button_interaction":
        if not card.button_list:
            yield "button_list", "is required for button_interaction; add 1 to 6 buttons"
        return
    if card.submit_button is None:
        yield "submit_button", f"is required for {kind}; add text and key"
    if kind == "vote_interaction" and card.checkbox is None:
        yield "checkbox", "is required for vote_interaction; add question_key and option_list"
    if kind == "multiple_interaction" and not card.select_list:
        yield "select_list", "is required for multiple_interaction; add 1 to 3 selections"


def _title(card: _Card) -> str:
    return card.main_title.title if card.main_title is not None else ""


def _broken_links(card: _Card, door: CardDoor) -> Iterator[tuple[str, str]]:
    links: list[tuple[str, _Link | None]] = [
        ("card_action", card.card_action),
        ("quote_area", card.quote_area),
        ("image_text_area", card.image_text_area),
        *((f"jump_list[{number}]", link) for number, link in enumerate(card.jump_list)),
    ]
    for field, link in links:
        if link is None:
            continue
        if link.type == 1 and not link.url:
            yield f"{field}.url", "is required for type 1; add it with its scheme"
        if link.type == 2 and not link.appid:
            yield f"{field}.appid", "is required for type 2; add it"
        if link.type == 3 and (door != "bot" or not field.startswith("jump_list")):
            yield f"{field}.type", "3 is for the jump_list of intelligent bots only; use 1 or 2"
        if link.type == 3 and not 1 <= len(link.question.encode()) <= 200:
            yield f"{field}.question", "must have 1 to 200 bytes for type 3; change it"
    for number, row in enumerate(card.horizontal_content_list):
        for kind, name in ((1, "url"), (2, "media_id"), (3, "userid")):
            if row.type == kind and not getattr(row, name):
                yield f"horizontal_content_list[{number}].{name}", f"is required for type {kind}; add it"
        if row.type == 2 and door == "bot":
            yield f"horizontal_content_list[{number}].type", "2 (a file) is not for intelligent bots; use 0, 1 or 3"
    for number, button in enumerate(card.button_list):
        if button.type == 1 and door == "bot":
            yield f"button_list[{number}].type", "1 (an address) is not for intelligent bots; use jump_list"
        if button.type == 1 and not button.url:
            yield f"button_list[{number}].url", "is required for type 1; add it"
        if button.type == 0 and not button.key:
            yield f"button_list[{number}].key", "is required; add one that no other button has"


def _broken_lengths(card: _Card) -> Iterator[tuple[str, str]]:
    keys = [(f"button_list[{number}].key", button.key) for number, button in enumerate(card.button_list)]
    if card.action_menu is not None:
        actions = enumerate(card.action_menu.action_list)
        keys += [(f"action_menu.action_list[{number}].key", action.key) for number, action in actions]
    if card.submit_button is not None:
        keys.append(("submit_button.key", card.submit_button.key))
    for field, key in keys:
        if len(key.encode()) > MAX_KEY_BYTES:
            yield field, f"longer than {MAX_KEY_BYTES} bytes; shorten it"
    for field, options in _options(card):
        ids = [option.id for option in options]
        if any(len(one.encode()) > 128 for one in ids):
            yield f"{field}.option_list", "an id is longer than 128 bytes; shorten it"
        if len(set(ids)) != len(ids):
            yield f"{field}.option_list", "two options have the same id; give each its own"
    if card.feedback is not None and len(card.feedback.id.encode()) > 256:
        yield "feedback.id", "longer than 256 bytes; shorten it"


def _options(card: _Card) -> Iterator[tuple[str, list[_Option]]]:
    if card.button_selection is not None:
        yield "button_selection", card.button_selection.option_list
    if card.checkbox is not None:
        yield "checkbox", card.checkbox.option_list
    for number, selection in enumerate(card.select_list):
        yield f"select_list[{number}]", selection.option_list
