"""Cards and ratings of a bot's messages: the events of what people do, and what may take a card's place.

DOC 101027 (events), 101031 (updates): a touch is reported once and may be answered once,
within five seconds, by a card of the same ``task_id``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from simulator.cards import Touch, template_card
from simulator.chats import Bubble
from simulator.corp import Corp, NobodyThere
from simulator.rules import Refused

_MAX_FEEDBACK_BYTES: Final = 256


class Touched(msgspec.Struct, frozen=True):
    """A card of a bot, and what a person did with it."""

    bubble: Bubble
    touch: Touch


def content_for(bubble: Bubble, person: str) -> Mapping[str, Any] | None:
    """What this person sees of a bubble: in a group, one's own card may have been replaced."""
    content = bubble.content
    return content.get("by", {}).get(person, content) if content else None


def touch_event(touch: Touch, *, flat: bool) -> dict[str, Any]:
    """The ``event`` of a touch; ``flat`` puts its fields beside the ``eventtype``."""
    detail: dict[str, Any] = {"card_type": touch.card_type, "event_key": touch.event_key, "task_id": touch.task_id}
    if touch.selected:
        items = [{"question_key": key, "option_ids": {"option_id": list(ids)}} for key, ids in touch.selected.items()]
        detail["selected_items"] = {"selected_item": items}
    named = {"eventtype": "template_card_event"}
    return named | detail if flat else {**named, "template_card_event": detail}


def update(corp: Corp, touched: Touched, body: Mapping[str, Any]) -> None:
    """Puts a card in the place of the touched one; in a group, only for those who are named, if any are.

    Raises:
        Refused: the card, 42014 for one of another task, 40058 for another kind of answer.
    """
    card = body.get("template_card")
    if body.get("response_type") != "update_template_card" or not isinstance(card, dict):
        raise Refused(40058, "invalid response_type")
    _, text = template_card(card)
    if card.get("task_id") != touched.touch.task_id:
        raise Refused(42014)
    bubble, people = touched.bubble, body.get("userids")
    if people is not None and (not isinstance(people, list) or not bubble.chat.startswith("group:")):
        raise Refused(40058, "invalid userids")
    content = dict(bubble.content or {})
    changed = {"kind": "card", "card": card, "replaced": text}
    if people:
        content["by"] = content.get("by", {}) | {str(person): changed for person in people}
    else:
        content |= changed
        bubble.text = text
    bubble.content = content
    bubble.updated_at = corp.now
    corp.chats.touched(bubble)


def feedback_id(said: Mapping[str, Any]) -> str:
    """The id with which a message asks for a rating; empty if it does not.

    Raises:
        Refused: none, or one that is too long.
    """
    feedback = said.get("feedback")
    if feedback is None:
        return ""
    found = feedback.get("id") if isinstance(feedback, dict) else None
    if not isinstance(found, str) or not 1 <= len(found.encode()) <= _MAX_FEEDBACK_BYTES:
        raise Refused(40058, "invalid feedback.id")
    return found


def feedback_event(bubble: Bubble, kind: int, reasons: Sequence[int], content: str) -> dict[str, Any]:
    """The ``event`` of a rating.

    Raises:
        NobodyThere: the message asks for none.
    """
    if not bubble.feedback_id:
        raise NobodyThere(f"bubble {bubble.number} cannot be rated")
    detail: dict[str, Any] = {"id": bubble.feedback_id, "type": kind}
    if kind == 2:
        detail |= {"content": content, "inaccurate_reason_list": list(reasons)}
    return {"eventtype": "feedback_event", "feedback_event": detail}
