"""What a model is asked: instructions, what was said before, and the question."""

import msgspec

from server.domain import Ask, MediaPart, Missing, Round, TurnOptions
from server.errors import MediaNotSupported
from server.llm.base import Image, Message, Prompt, Role
from server.memory.base import Memory
from server.memory.window import select_rounds
from server.routing.base import Choice
from server.turn.assistants import Assistant

_PICTURE_ONLY = "（图片）"
"""Stands for an earlier message without text: several vendors refuse an empty one."""


class Question(msgspec.Struct, frozen=True):
    """A prompt, and whether it holds anything that only this person may be answered with."""

    prompt: Prompt
    personal: bool


class Prompting:
    """Builds prompts."""

    def __init__(self, memory: Memory, max_prompt_tokens: int) -> None:
        self._memory = memory
        self._max_prompt_tokens = max_prompt_tokens

    async def question(self, ask: Ask, assistant: Assistant, choice: Choice) -> Question:
        """The prompt of a turn, for the models that were chosen.

        Raises:
            MediaNotSupported: for a part that could not be read, and one that no model takes, whatever its vendor.
            StoreUnavailable: if memory cannot be read.
        """
        images = tuple(_image(part) for part in ask.input.media)
        said = _history(ask) or await self._remembered(ask, assistant)
        instructions, options = assistant.settings.instructions, ask.options
        messages = [Message(Role.SYSTEM, instructions)] if instructions else []
        messages += said
        messages.append(Message(Role.USER, ask.question, images))
        first, *rest = choice.models
        prompt = Prompt(
            model=first,
            messages=tuple(messages),
            temperature=_first(options.temperature, choice.temperature, assistant.settings.temperature),
            max_output_tokens=_most(options, choice, assistant),
            request_id=ask.name.request_id,
            user=ask.sender.id if ask.sender else "",
            fallbacks=tuple(rest),
            caller=ask.caller,
            conversation=ask.name.conversation,
            patient=ask.patient,
            via=ask.via,
        )
        return Question(prompt, personal=bool(said or images))

    async def _remembered(self, ask: Ask, assistant: Assistant) -> list[Message]:
        entry = assistant.settings
        if not entry.memory_rounds or ask.options.bypass_memory:
            return []
        rounds: tuple[Round, ...] = await self._memory.recall(
            ask.name.conversation, entry.memory_rounds, entry.memory_idle_minutes * 60
        )
        rounds = select_rounds(rounds, entry.instructions, ask.question, max_prompt_tokens=self._max_prompt_tokens)
        messages = []
        for past in rounds:
            messages.append(Message(Role.USER, past.question or _PICTURE_ONLY))
            messages.append(Message(Role.ASSISTANT, past.answer))
        return messages


def _history(ask: Ask) -> list[Message]:
    """What the caller remembers itself; all of it, because the caller has chosen it."""
    return [Message(Role.USER if said.by_person else Role.ASSISTANT, said.text) for said in ask.history]


def _image(part: MediaPart) -> Image:
    if isinstance(part.missing, Missing):
        raise MediaNotSupported(part.mime_type, part.missing.name)
    if not part.mime_type.lower().startswith("image/"):
        raise MediaNotSupported(part.mime_type)
    if part.inline_data:
        return Image(part.mime_type, data=part.inline_data)
    if part.uri and part.uri.lower().startswith("https://"):
        return Image(part.mime_type, uri=part.uri)
    raise MediaNotSupported(part.mime_type)


def _first(*values: float | None) -> float | None:
    """The first that is set; 0 is set."""
    return next((value for value in values if value is not None), None)


def _most(options: TurnOptions, choice: Choice, assistant: Assistant) -> int:
    return options.max_output_tokens or choice.max_output_tokens or assistant.settings.max_output_tokens
