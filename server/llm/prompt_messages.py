"""What the service and its prompt worker say to each other. Each message is behind its length."""

import struct
from typing import Final

import msgspec

from server.llm.engine.vocabulary import Vocabulary

LENGTH: Final = struct.Struct(">I")
"""How the length of a message is written in front of it."""

MAX_ANSWER_BYTES: Final = 96 << 20
"""Bytes of an answer: a vocabulary of the largest size."""

MAX_QUESTION_BYTES: Final = 80 << 20
"""Bytes of a question: an archive of the largest size."""


class Load(msgspec.Struct, frozen=True, tag=True):
    """Use the tokeniser and the template in this archive from now on."""

    archive: bytes


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """They can be used."""

    vocabulary: Vocabulary


class Tokenize(msgspec.Struct, frozen=True, tag=True):
    """Make tokens of these messages."""

    messages: list[tuple[str, str]]
    """Role and text of each, oldest first."""
    variables: dict[str, object]
    """What else the template is given."""


class Tokenized(msgspec.Struct, frozen=True, tag=True):
    """The prompt."""

    ids: list[int]
    thinking: bool
    """Whether it ends with the opening tag of a thought."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """It cannot be done, and why."""

    reason: str


Question = Load | Tokenize
Answer = Loaded | Tokenized | Refused
