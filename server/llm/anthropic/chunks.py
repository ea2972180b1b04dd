"""Turns the body of an Anthropic-style answer (Messages API) into chunks. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from server.domain import Usage
from server.llm.base import ErrorClass, ProviderError
from server.llm.body_reader import PatientDecoder
from server.llm.sse import ServerSentEvent
from server.llm.tagged_reader import TaggedReader


class Counts(msgspec.Struct, gc=False):
    """``usage``. A later one leaves out what has not changed."""

    input_tokens: int | None = None
    """Without those that were read from the cache, or written to it."""
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class Block(msgspec.Struct, gc=False):
    """A stretch of a message: text, a thought, a tool call. Or its beginning, or a piece of it."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    stop_reason: str | None = None
    """Of the delta that ends a message."""


class Message(msgspec.Struct, gc=False):
    """A whole message, or what its first event knows of it."""

    content: list[Block] | None = None
    stop_reason: str | None = None
    usage: Counts | None = None


class Event(Message, gc=False):
    """An event of a stream, or a whole message in its place: their fields do not clash."""

    type: str = ""
    message: Message | str | None = None
    """Text in errors that have a shape of their own."""
    content_block: Block | None = None
    delta: Block | None = None
    error: Any = None


_decode: Final = PatientDecoder(Event)

_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})


class ReplyReader(TaggedReader):
    """Reads one reply of a Messages API, streamed or not."""

    def __init__(self, model: str, *, overrides: Mapping[str, ErrorClass] | None = None) -> None:
        """Args: see :class:`~server.llm.body_reader.BodyReader`."""
        super().__init__(model, overrides=overrides)
        self._counts = Counts()

    def _read_event(self, event: ServerSentEvent) -> None:
        if event.event == b"error":
            self._broken_off(event.data)
        elif not event.data.startswith(b"[DONE]"):
            self._read(event.data, event.event)

    def _read_body(self, body: bytes) -> None:
        self._read(body, b"")

    def _read(self, data: bytes, named: bytes) -> None:
        try:
            event = _decode(data)
        except ValueError as error:
            self._malformed(error)
            return
        kind = event.type or named.decode("ascii", "replace")
        if event.error or kind in ("", "error"):
            # An object without a type is none of this protocol's: at best an error in a shape of its own.
            self._broken_off(data)
        elif kind == "message":
            self._read_message(event)
        elif kind == "message_start" and isinstance(event.message, Message):
            self._read_message(event.message)
        elif kind in ("content_block_start", "content_block_delta"):
            self._read_block(event.content_block or event.delta)
        elif kind == "message_delta":
            self._count(event.usage)
            if event.delta is not None and event.delta.stop_reason:
                self.end(event.delta.stop_reason)
        elif kind == "message_stop":
            self.done = True
            self.fail(ProviderError(ErrorClass.INCOMPLETE, "the reply ended without a finish reason"))

    def _read_message(self, message: Message) -> None:
        self._count(message.usage)
        for block in message.content or ():
            self._read_block(block)
        if message.stop_reason:
            self.end(message.stop_reason)

    def _read_block(self, block: Block | None) -> None:
        if block is None:
            return
        if block.type == "tool_use":
            self.asked_for_tool = True
        elif block.type in _THOUGHTS:
            # Newer models keep their thoughts to themselves unless asked, but say that they think.
            self.arrived = True
        if block.thinking:
            self._read_thought(block.thinking)
        if block.text:
            self._read_text(block.text)

    def _count(self, counts: Counts | None) -> None:
        if counts is None:
            return
        for field in Counts.__struct_fields__:
            value = getattr(counts, field)
            if value is not None:
                setattr(self._counts, field, value)
        known = self._counts
        cached = known.cache_read_input_tokens or 0
        read = (known.input_tokens or 0) + cached + (known.cache_creation_input_tokens or 0)
        self.usage = Usage(read, known.output_tokens or 0, cached_input_token_count=cached)
