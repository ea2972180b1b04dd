"""Prompts for backends in whose conversations two sides take turns. Pure.

Instructions stand apart there, the person begins, and nobody says nothing.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Final

import msgspec

from server.llm.base import Message, Role

OPENER: Final = Message(Role.USER, "…")
"""Put in front of a conversation that the assistant began, with a greeting or because older
messages were left out: without it such a backend refuses the whole prompt."""


class Side(msgspec.Struct, frozen=True):
    """What one side said before the other spoke."""

    by_person: bool
    messages: tuple[Message, ...]
    """At least one, each with text or pictures."""


class Alternation(msgspec.Struct, frozen=True):
    """A prompt in the form above."""

    instructions: str
    """Those of all system messages, one below the other; may be empty."""
    sides: tuple[Side, ...]
    """Oldest first; the person's and the assistant's in turn, the first the person's."""


def alternate(messages: Iterable[Message]) -> Alternation:
    """Brings messages into this form. Blank ones without pictures are left out."""
    said = [message for message in messages if message.images or message.text.strip()]
    instructions = "\n\n".join(message.text for message in said if message.role is Role.SYSTEM)
    spoken = [message for message in said if message.role is not Role.SYSTEM]
    if spoken and spoken[0].role is Role.ASSISTANT:
        spoken.insert(0, OPENER)
    sides = tuple(
        Side(by_person, tuple(group)) for by_person, group in groupby(spoken, lambda message: message.role is Role.USER)
    )
    return Alternation(instructions, sides)
