"""What the filter does to what a person says, and which sentence they get for it."""

import msgspec

from server.domain import Content, FinishReason, Part, TextPart
from server.filter.base import Screening
from server.filter.entries import Action, Direction
from server.settings import TextSettings
from server.turn.live import LiveTurn


def screen_input(live: LiveTurn, screening: Screening) -> Action:
    """Hides what has to be hidden in the message and in what its caller remembers; returns the strictest action.

    Of a message that is hidden in part, only the rest is kept: on disk too, once the turn
    has ended. One that is stopped stays as it is, and is never remembered.
    """
    checked = [_screened(part, screening) for part in live.ask.input.parts]
    action = max((action for _, action in checked), default=Action.PASS)
    if action.stops:
        return action
    parts = tuple(part for part, _ in checked)
    if parts != live.ask.input.parts:
        live.hide(Content(parts))
    if live.ask.history:
        history = tuple(
            msgspec.structs.replace(said, text=screening.check(said.text, Direction.INPUT).text)
            if said.by_person
            else said
            for said in live.ask.history
        )
        live.ask = msgspec.structs.replace(live.ask, history=tuple(said for said in history if said.text))
    return action


def _screened(part: Part, screening: Screening) -> tuple[Part, Action]:
    # Part by part: no word reaches over the line break that stands between two parts.
    if not isinstance(part, TextPart):
        return part, Action.PASS
    screened = screening.check(part.text, Direction.INPUT)
    return (part if screened.text == part.text else TextPart(screened.text)), screened.action


def sentence_of(action: Action, direction: Direction, texts: TextSettings) -> tuple[str, FinishReason]:
    """The fixed sentence for a message or a reply that was stopped, and the end it makes."""
    if action is Action.HAND_OVER:
        return texts.handed_over, FinishReason.HANDED_OFF
    if direction is Direction.INPUT:
        return texts.input_blocked, FinishReason.INPUT_BLOCKED
    return texts.output_blocked, FinishReason.OUTPUT_BLOCKED
