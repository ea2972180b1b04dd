"""What Gemini is asked, whatever brings it there. Pure.

The types have the names and fields of the vendor's interface, in snake case; their JSON
is in camel case.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from server.llm.alternating import Side, alternate
from server.llm.base import Image, Message, Prompt

THINKING_TOKENS: Final = 8192
"""Tokens for thoughts. They count against the vendor's cap, and all current models think unless
they are told not to; without room of their own they would leave nothing of the cap for the reply."""


class Blob(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Bytes; base64 in JSON."""

    mime_type: str
    data: bytes


class FileData(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Where the vendor can fetch a file."""

    file_uri: str
    mime_type: str = ""


class Part(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Text or a picture: exactly one of the fields is set."""

    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None


class Content(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What one side says."""

    parts: tuple[Part, ...]
    role: str = ""
    """``user`` or ``model``; empty for instructions."""


class GenerationConfig(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How to answer. ``None`` is left out."""

    temperature: float | None = None
    max_output_tokens: int | None = None
    thinking_config: dict[str, object] | None = None
    """With the vendor's names, in camel case."""


class GenerateContentRequest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A request, but for the model, which HTTP has in the address."""

    contents: tuple[Content, ...]
    system_instruction: Content | None = None
    generation_config: GenerationConfig = GenerationConfig()


def request_for(
    prompt: Prompt, *, temperature: float | None, thinking: Mapping[str, object] | None = None
) -> GenerateContentRequest:
    """The request that asks ``prompt``.

    Args:
        prompt: its model and temperature are not read.
        temperature: within what the vendor takes.
        thinking: the fields of ``thinkingConfig``, such as ``{"thinkingBudget": 0}``.
    """
    conversation = alternate(prompt.messages)
    instructions = conversation.instructions
    return GenerateContentRequest(
        tuple(_content(side) for side in conversation.sides),
        Content((Part(instructions),)) if instructions else None,
        GenerationConfig(
            temperature,
            cap_for(prompt, thinking),
            dict(thinking) if thinking else None,
        ),
    )


def resource_name(model: str) -> str:
    """The model as the vendor names it: ``models/gemini-2.5-flash``, with or without the prefix before."""
    return model if "/" in model else f"models/{model}"


def cap_for(prompt: Prompt, thinking: Mapping[str, object] | None = None) -> int | None:
    """The ``maxOutputTokens`` of :func:`request_for`; ``None`` where none is sent."""
    cap = prompt.max_output_tokens
    return None if cap is None else cap + _room(thinking or {})


def _room(thinking: Mapping[str, object]) -> int:
    budget = thinking.get("thinkingBudget")
    # -1 lets the model choose.
    return budget if isinstance(budget, int) and budget >= 0 else THINKING_TOKENS


def _content(side: Side) -> Content:
    parts = tuple(part for message in side.messages for part in _parts(message, by_person=side.by_person))
    return Content(parts, "user" if side.by_person else "model")


def _parts(message: Message, *, by_person: bool) -> list[Part]:
    # Only people show pictures, and a picture is best seen before what is asked about it.
    parts = [_picture(image) for image in message.images] if by_person else []
    if message.text.strip():
        parts.append(Part(message.text))
    return parts


def _picture(image: Image) -> Part:
    if image.data:
        return Part(inline_data=Blob(image.mime_type, image.data))
    return Part(file_data=FileData(image.uri, image.mime_type))
