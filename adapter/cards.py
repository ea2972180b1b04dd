"""Template cards (模板卡片): made from choices, read when they are touched, said in words where none can be shown.

A card travels through the service as a part of type :data:`CARD_TYPE` that holds WeCom's own
JSON. Pure.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from adapter.card_rules import MAX_BUTTONS, MAX_KEY_BYTES, CardDoor, checked
from weconverse.v1.conversation_pb2 import Choice, Part, Turn

__all__ = [
    "CARD_TYPE",
    "DONE_KEY",
    "MESSAGE_TYPE",
    "CardDoor",
    "card_text",
    "check_not_native",
    "checked",
    "choices_card",
    "choices_text",
    "chosen_card",
    "chosen_label",
    "flaws",
    "looks_spoken",
    "said_by_click",
    "task_id",
]

MESSAGE_TYPE: Final = "application/vnd.wecom.message+json"
"""The media type of a part that holds a message in WeCom's own JSON, without receiver and ``agentid``."""

CARD_TYPE: Final = "application/vnd.wecom.template-card+json"
"""The media type of a part that holds a ``template_card`` object as JSON."""

DONE_KEY: Final = "weconverse:done"
"""The key of a button that only shows what was chosen. A click on it means nothing."""

_BUTTON_CHARACTERS: Final = 20
_TITLE: Final = "请选择"
_LIST_HEAD: Final = "您可以直接回复："
_SUBMITTED: Final = "已提交"


def check_not_native(parts: Iterable[Part]) -> None:
    """For doors that know no messages of :data:`MESSAGE_TYPE`, which would go out as files of JSON.

    Raises:
        ValueError: a part is one; names it and the remedy.
    """
    for number, part in enumerate(parts):
        if part.media.mime_type == MESSAGE_TYPE:
            raise ValueError(
                f"parts[{number}]: {MESSAGE_TYPE} goes through applications and robots only; push text, cards or files"
            )


# --- From choices to buttons, and back ---------------------------------------------------


def task_id(turn: str) -> str:
    """The ``task_id`` of the card that a turn sends: the same in every attempt."""
    return hashlib.blake2b(turn.encode(), digest_size=16).hexdigest()


def choices_card(turn: Turn) -> dict[str, Any] | None:
    """A card with a button for each short reply on offer, to follow the text of the reply.

    A button's key is the text that the person then says, so whoever hears of the click needs
    no memory. ``None`` where there are no choices, or more than six, or a text does not fit
    into a key: then :func:`choices_text` says them.
    """
    choices = _distinct(turn.choices)
    if not 1 <= len(choices) <= MAX_BUTTONS:
        return None
    if any(not choice.text or len(choice.text.encode()) > MAX_KEY_BYTES for choice in choices):
        return None
    return {
        "card_type": "button_interaction",
        "main_title": {"title": _TITLE},
        "button_list": [
            {"text": _short(choice.label or choice.text), "style": 1, "key": choice.text} for choice in choices
        ],
        "task_id": task_id(turn.name),
    }


def choices_text(turn: Turn) -> str:
    """The choices as lines to be read; empty where there are none."""
    choices = _distinct(turn.choices)
    if not choices:
        return ""
    lines = []
    for choice in choices:
        label, text = choice.label or choice.text, choice.text or choice.label
        lines.append(f"• {label}" if label == text else f"• {text}（{label}）")
    return "\n".join([_LIST_HEAD, *lines])


def _distinct(choices: Iterable[Choice]) -> list[Choice]:
    return list({choice.text or choice.label: choice for choice in choices}.values())


def said_by_click(event_key: str, selected: Iterable[tuple[str, tuple[str, ...]]] = ()) -> str:
    """What a person says by touching a card: the text of their next turn. Empty: nothing.

    Args: ``selected`` has for each question its key and the ids of what was chosen; who sends
        such a card chooses keys and ids that can be read.
    """
    if event_key == DONE_KEY:
        return ""
    lines = [f"{question}：{'、'.join(options)}" for question, options in selected if options]
    # Beside a selection, which of several buttons was touched counts as well; a submit button is only a name.
    if not lines or looks_spoken(event_key):
        lines.insert(0, event_key.strip())
    return "\n".join(lines)


def chosen_label(said: str) -> str:
    """What the touched button reads afterwards."""
    return f"已选择：{_short(said, 12)}" if said and "\n" not in said and looks_spoken(said) else _SUBMITTED


def chosen_card(task: str, said: str) -> dict[str, Any]:
    """What takes a touched card's place where the whole card has to be given: it shows the choice."""
    return {
        "card_type": "button_interaction",
        "main_title": {"title": _SUBMITTED, "desc": said},
        "button_list": [{"text": chosen_label(said), "style": 4, "key": DONE_KEY}],
        "task_id": task,
    }


_SPOKEN: Final = re.compile(r"[\u3400-\u9fff\u3040-\u30ff\uac00-\ud7a3]|\S\s+\S|[?!]\s*\Z")


def looks_spoken(key: str) -> bool:
    """Whether a key reads like something a person says, and not like a name for programs."""
    return bool(_SPOKEN.search(key))


def _short(text: str, characters: int = _BUTTON_CHARACTERS) -> str:
    text = " ".join(text.split())
    return text if len(text) <= characters else text[: characters - 1] + "…"


def flaws(turn: Turn, door: CardDoor) -> Iterator[str]:
    """Why cards of a reply cannot be shown at that door, and are said in words: field, rule and remedy of each."""
    for part in turn.reply.parts:
        if part.media.mime_type == CARD_TYPE:
            try:
                checked(part.media.inline_data, door)
            except ValueError as error:
                yield str(error)


# --- In words ----------------------------------------------------------------------------


def card_text(card: Mapping[str, Any]) -> str:
    """What a card says, for where no card can be shown: the personal WeChat, customer service. Never empty."""
    lines = list(_lines(card))
    return "\n".join(line for line in lines if line.strip()) or "[卡片]"


def _lines(card: Mapping[str, Any]) -> Iterator[str]:
    source, title, emphasis = (_part(card, name) for name in ("source", "main_title", "emphasis_content"))
    if source.get("desc"):
        yield f"〔{source['desc']}〕"
    if title.get("title"):
        yield f"【{title['title']}】"
    yield _string(title.get("desc"))
    yield " ".join(_string(emphasis.get(name)) for name in ("title", "desc")).strip()
    yield _string(card.get("sub_title_text"))
    beside = _part(card, "image_text_area")
    yield _pair(beside.get("title"), beside.get("desc"))
    for item in _list(card, "vertical_content_list"):
        yield _pair(item.get("title"), item.get("desc"))
    for item in _list(card, "horizontal_content_list"):
        yield _pair(item.get("keyname"), item.get("value") or item.get("userid") or item.get("url"))
        if item.get("url") and item.get("value"):
            yield _string(item["url"])
    quote = _part(card, "quote_area")
    if quote.get("quote_text") or quote.get("title"):
        yield f"> {_pair(quote.get('title'), quote.get('quote_text'))}"
    yield from _questions(card)
    for button in _list(card, "button_list"):
        yield _pair(f"• {_string(button.get('text'))}", button.get("url"))
    for link in _list(card, "jump_list"):
        yield _pair(link.get("title"), link.get("url") or link.get("question"))
    yield _string(_part(card, "card_action").get("url"))


def _questions(card: Mapping[str, Any]) -> Iterator[str]:
    asked = [_part(card, "button_selection"), _part(card, "checkbox"), *_list(card, "select_list")]
    for question in asked:
        if question.get("title"):
            yield f"{question['title']}："
        for option in _list(question, "option_list"):
            yield f"• {_string(option.get('text'))}"


def _pair(left: object, right: object) -> str:
    return "：".join(piece for piece in (_string(left), _string(right)) if piece)


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = of.get(name)
    return value if isinstance(value, dict) else {}


def _list(of: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = of.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
