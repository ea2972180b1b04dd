"""Turns the body of an OpenAI-style answer into chunks. Pure: bytes in, chunks out.

A reply is complete when a finish reason was seen, and by nothing else: not by
``[DONE]``, not by a clean end. What comes behind a finish reason can no longer spoil it.
"""

from collections.abc import Mapping

from server.domain import Usage
from server.llm.base import ErrorClass
from server.llm.openai.shapes import Choice, Delta, TokenCounts, decode, holds
from server.llm.sse import ServerSentEvent
from server.llm.tagged_reader import TaggedReader


class ReplyReader(TaggedReader):
    """Reads one reply, as a stream of events or as one JSON body: whichever comes."""

    def __init__(self, model: str, *, overrides: Mapping[str, ErrorClass] | None = None) -> None:
        """Args: see :class:`~server.llm.body_reader.BodyReader`."""
        super().__init__(model, overrides=overrides)
        self._in_pieces = False

    def _read_event(self, event: ServerSentEvent) -> None:
        if event.data.startswith(b"[DONE]"):
            self.done = True
        elif event.event == b"error":
            self._broken_off(event.data)
        else:
            self._read_body(event.data)

    def _read_body(self, body: bytes) -> None:
        """A piece of a stream, or a whole reply: the two have one form."""
        try:
            found = decode(body)
        except ValueError as error:
            self._malformed(error)
            return
        if found.is_error:
            self._broken_off(body)
            return
        if found.usage is not None:
            # The last one stands: some servers count up from piece to piece.
            self.usage = _usage(found.usage)
        for choice in found.choices or ():
            if choice.index == 0:
                self._read_choice(choice)
        if self.finished and self.usage is not None:
            self.done = True

    def _read_choice(self, choice: Choice) -> None:
        if choice.usage is not None:
            self.usage = _usage(choice.usage)
        if choice.delta is not None:
            self._in_pieces = True
            self._read_delta(choice.delta)
        elif choice.message is not None and not self._in_pieces:
            # MiniMax repeats the whole text as a message behind the last piece.
            self._read_delta(choice.message)
        if choice.finish_reason:
            self.end(choice.finish_reason)

    def _read_delta(self, delta: Delta) -> None:
        # Proxies that rename the field send both names; they hold the same text.
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._read_thought(thought)
        text = delta.content or delta.refusal
        if text:
            self._read_text(text)
        if not self.asked_for_tool:
            self.asked_for_tool = holds(delta.tool_calls) or holds(delta.function_call)


def _usage(counts: TokenCounts) -> Usage:
    # xAI leaves thoughts out of the completion tokens, but not out of the total.
    output = max(counts.completion_tokens, counts.total_tokens - counts.prompt_tokens)
    cached = max(0, min(counts.cached, counts.prompt_tokens))
    return Usage(counts.prompt_tokens, output, cached_input_token_count=cached)
