"""The name under which a reply is kept. Pure."""

import hashlib
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import msgspec

from server.cache.fold import fold


class AskedMessage(Protocol):
    """One message of a prompt, as far as a key needs it."""

    @property
    def role(self) -> Enum: ...
    @property
    def text(self) -> str: ...


class AskedWithPictures(AskedMessage, Protocol):
    """The same, and what else belongs to it."""

    @property
    def images(self) -> Sequence[object]: ...


class Asked(Protocol):
    """A prompt, as far as a key needs it (``server.llm.base.Prompt``).

    The rooms do not know each other, so this one says what it reads.
    """

    @property
    def model(self) -> str: ...
    @property
    def messages(self) -> Sequence[AskedMessage]: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def max_output_tokens(self) -> int | None: ...


class AskedBy(Protocol):
    """A prompt with the one who asks, as far as a partition needs it."""

    @property
    def model(self) -> str: ...
    @property
    def fallbacks(self) -> Sequence[str]: ...
    @property
    def messages(self) -> Sequence[AskedWithPictures]: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def max_output_tokens(self) -> int | None: ...
    @property
    def caller(self) -> str: ...


_encode = msgspec.msgpack.Encoder().encode


def reply_key(assistant_version: str, prompt: Asked) -> bytes:
    """32 bytes that are equal for asks that may share a reply.

    Made of the assistant's version, the model, the sampling settings and all messages;
    the last message, the question, is folded (see ``fold.py``). Who asks and under which
    request id is left out: a prompt with memory of a person has that memory in its
    messages.
    """
    *before, question = [(message.role.value, message.text) for message in prompt.messages] or [("", "")]
    parts = (
        assistant_version,
        prompt.model,
        prompt.temperature,
        prompt.max_output_tokens,
        before,
        (question[0], fold(question[1])),
    )
    return hashlib.blake2b(_encode(parts), digest_size=32).digest()


def partition_key(assistant_version: str, prompt: AskedBy) -> bytes | None:
    """32 bytes within which questions may share an answer, or ``None`` for a prompt that shares with no other.

    Made of everything but the question: the assistant's version, the calling service, the
    models, the sampling settings, the instructions. A prompt that holds more than
    instructions and a question is the business of one person, and so is a picture.
    """
    instructions = [(message.role.value, message.text) for message in prompt.messages[:-1]]
    if not prompt.messages or prompt.messages[-1].images or any(role != "system" for role, _ in instructions):
        return None
    parts = (
        assistant_version,
        prompt.caller,
        prompt.model,
        tuple(prompt.fallbacks),
        prompt.temperature,
        prompt.max_output_tokens,
        instructions,
    )
    return hashlib.blake2b(_encode(parts), digest_size=32, person=b"partition").digest()
