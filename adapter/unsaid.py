"""Turns of which nothing is to be shown."""

from typing import Final

from adapter.text.render import MERGED
from weconverse import Turn, text_of

HANDED_OFF: Final = "（已转人工，请等待同事回复）"
"""Ends a bubble that was opened for a message which came while a person has the conversation."""


def unsaid(turn: Turn) -> str:
    """What ends a bubble for an ended turn that gets no reply of its own; empty where its reply is to be shown.

    Where no bubble was opened, nothing at all is shown of such a turn.
    """
    if turn.finish_reason == Turn.MERGED:
        return MERGED
    return HANDED_OFF if turn.finish_reason == Turn.HANDED_OFF and not text_of(turn.reply) else ""
