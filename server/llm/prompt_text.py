"""How messages become one prompt for a model that takes text: ``chatml``, ``plain``, or a file's template."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from server.llm.base import ErrorClass, Message, ProviderError, Role
from server.llm.engine.chat_template import ChatTemplate, TemplateError

Write = Callable[[Sequence[Message]], str]
"""The prompt for some messages, up to where the model's answer begins.

Raises:
    ProviderError: BAD_REQUEST, if a template refuses them.
"""

MAX_TEMPLATE_BYTES: Final = 1 << 20
"""Bytes of a template file."""

_NAMES: Final = {Role.SYSTEM: "System", Role.USER: "User", Role.ASSISTANT: "Assistant"}


def writer(choice: str) -> Write:
    """The way of writing prompts that a setting names.

    Raises:
        ValueError: if the file cannot be read or is no template.
    """
    if choice == "chatml":
        return chatml
    if choice == "plain":
        return plain
    return _from_file(Path(choice))


def chatml(messages: Sequence[Message]) -> str:
    """The format of Qwen and many others. Nobody can end a message from inside of it."""
    written = [f"<|im_start|>{message.role.value}\n{_defused(message.text)}<|im_end|>\n" for message in messages]
    return "".join(written) + "<|im_start|>assistant\n"


def plain(messages: Sequence[Message]) -> str:
    """A dialogue with names, for models without a format of their own."""
    written = [f"{_NAMES[message.role]}: {message.text}\n\n" for message in messages]
    return "".join(written) + "Assistant:"


def _defused(text: str) -> str:
    """The marks of the format, taken apart wherever they are something that was said."""
    return text.replace("<|im_", "< |im_")


def _from_file(path: Path) -> Write:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"neither `chatml` nor `plain`, and as a file {path} cannot be read: {error.strerror}"
        ) from error
    if len(source) > MAX_TEMPLATE_BYTES:
        raise ValueError(f"{path} has more than {MAX_TEMPLATE_BYTES} bytes, which is no template")
    try:
        template = ChatTemplate(source.decode(), lambda: datetime.datetime.now().astimezone())
    except ImportError as error:
        raise ValueError(
            "a template in a file needs the package jinja2: pip install -r requirements-extras.lock"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

    def write(messages: Sequence[Message]) -> str:
        spoken = [{"role": message.role.value, "content": message.text} for message in messages]
        try:
            return template.render(spoken, bos_token="", eos_token="")
        except TemplateError as error:
            raise ProviderError(ErrorClass.BAD_REQUEST, "the template refuses the prompt", said=str(error)) from None

    return write
