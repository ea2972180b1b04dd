"""What the Messages API of Anthropic, and of those who copy it, is asked. Pure."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from server.llm.alternating import Side, alternate
from server.llm.base import Image, Prompt
from server.llm.person import vendor_name

DEFAULT_MAX_TOKENS: Final = 4096
"""The cap on output of a prompt that has none: the API insists on one."""

THINKING_TOKENS: Final = 8192
"""Tokens for thoughts, where they are switched on. They count against the API's cap, and would
otherwise leave nothing of it for the reply; so they come on top."""


def messages_body(
    prompt: Prompt,
    *,
    model: str,
    temperature: float | None,
    thinking: Mapping[str, object] | None = None,
    extra: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The body of a streamed request.

    Args:
        prompt: its temperature is not read.
        model: the model's name at the vendor.
        temperature: within what the vendor takes. Left out where the model is to think, which
            bears no other than its own.
        thinking: the object that switches thinking, such as ``{"type": "enabled"}``; the budget
            that this one needs is added.
        extra: fields that go before all others.
    """
    extra = extra or {}
    thoughts = _thoughts(thinking, extra)
    conversation = alternate(prompt.messages)
    body: dict[str, object] = {
        "model": model,
        "max_tokens": _cap(prompt, thoughts),
        "messages": [_message(side) for side in conversation.sides],
        "stream": True,
    }
    if conversation.instructions:
        body["system"] = conversation.instructions
    if temperature is not None and not _thinks(thoughts):
        body["temperature"] = temperature
    if prompt.user:
        body["metadata"] = {"user_id": vendor_name(prompt.user)}
    body.update(extra)
    if thoughts:
        body["thinking"] = thoughts
    return body


def cap_for(
    prompt: Prompt, *, thinking: Mapping[str, object] | None = None, extra: Mapping[str, object] | None = None
) -> int:
    """The ``max_tokens`` of :func:`messages_body`, unless ``extra`` has its own."""
    return _cap(prompt, _thoughts(thinking, extra or {}))


def _thoughts(thinking: Mapping[str, object] | None, extra: Mapping[str, object]) -> dict[str, object]:
    """The object that switches thinking, with its budget; empty: nothing is said about it."""
    switch = extra.get("thinking", thinking)
    thoughts = dict(switch) if isinstance(switch, Mapping) else {}
    if thoughts.get("type") == "enabled":
        thoughts.setdefault("budget_tokens", THINKING_TOKENS)
    return thoughts


def _thinks(thoughts: Mapping[str, object]) -> bool:
    return bool(thoughts) and thoughts.get("type") != "disabled"


def _cap(prompt: Prompt, thoughts: Mapping[str, object]) -> int:
    return (prompt.max_output_tokens or DEFAULT_MAX_TOKENS) + (_room(thoughts) if _thinks(thoughts) else 0)


def _room(thoughts: Mapping[str, object]) -> int:
    budget = thoughts.get("budget_tokens")
    return budget if isinstance(budget, int) else THINKING_TOKENS


def _message(side: Side) -> dict[str, object]:
    # Only people show pictures, and a picture is best seen before what is asked about it.
    blocks: list[dict[str, object]] = []
    for message in side.messages:
        if side.by_person:
            blocks.extend({"type": "image", "source": _source(image)} for image in message.images)
        if message.text.strip():
            blocks.append({"type": "text", "text": message.text})
    return {"role": "user" if side.by_person else "assistant", "content": blocks}


def _source(image: Image) -> dict[str, str]:
    if image.data:
        return {"type": "base64", "media_type": image.mime_type, "data": b64encode(image.data).decode("ascii")}
    return {"type": "url", "url": image.uri}
