"""Turns Gemini's answers into chunks, whatever brings them. Pure."""

from typing import Any, Final

import msgspec

from server.domain import Usage
from server.llm.base import ErrorClass, ProviderError
from server.llm.body_reader import BodyReader, PatientDecoder
from server.llm.reply import Reply
from server.llm.sse import ServerSentEvent


class Part(msgspec.Struct, gc=False, rename="camel"):
    """A stretch of a candidate's content."""

    text: str | None = None
    thought: bool | None = None
    """Whether the text was thought, not said."""
    function_call: Any = None


class Content(msgspec.Struct, gc=False):
    """What a candidate says."""

    parts: list[Part] | None = None


class Candidate(msgspec.Struct, gc=False, rename="camel"):
    """One of the replies; this service asks for one and reads index 0."""

    index: int | None = None
    content: Content | None = None
    finish_reason: str | None = None


class PromptFeedback(msgspec.Struct, gc=False, rename="camel"):
    """What Gemini holds of the question."""

    block_reason: str | None = None
    """Set when it was refused, and no reply was begun."""


class UsageMetadata(msgspec.Struct, gc=False, rename="camel"):
    """Token counts so far."""

    prompt_token_count: int | None = None
    """Cached ones included."""
    candidates_token_count: int | None = None
    """Without thoughts."""
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None


class Response(msgspec.Struct, gc=False, rename="camel"):
    """A ``GenerateContentResponse``: a piece of a stream, or a whole reply."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    error: Any = None


_decode: Final = PatientDecoder(Response)
_decode_list: Final = PatientDecoder(list[Response])

_UNSET: Final = frozenset({"", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED"})


def read_response(reply: Reply, response: Response) -> None:
    """Takes one response into a reply."""
    if response.usage_metadata is not None:
        # The last one stands: Gemini counts up from piece to piece.
        reply.usage = _usage(response.usage_metadata)
    for candidate in response.candidates or ():
        if not candidate.index:
            _read_candidate(reply, candidate)
    refusal = response.prompt_feedback.block_reason if response.prompt_feedback is not None else None
    if refusal and refusal not in _UNSET:
        reply.fail(ProviderError(ErrorClass.CONTENT, "the prompt was refused", said=refusal[:64], code=refusal[:64]))


def _read_candidate(reply: Reply, candidate: Candidate) -> None:
    for part in (candidate.content.parts if candidate.content is not None else None) or ():
        if part.function_call is not None:
            reply.asked_for_tool = True
        elif part.thought:
            reply.put(thought=part.text or "")
        else:
            reply.put(part.text or "")
    if candidate.finish_reason and candidate.finish_reason not in _UNSET:
        reply.end(candidate.finish_reason)


def _usage(counts: UsageMetadata) -> Usage:
    return Usage(
        counts.prompt_token_count or 0,
        (counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0),
        cached_input_token_count=counts.cached_content_token_count or 0,
    )


class ReplyReader(BodyReader):
    """Reads one reply that came over HTTP: events, a JSON array of responses, or one response.

    Nothing but the end of the body says that no more comes, so :attr:`done` stays false.
    """

    def _read_event(self, event: ServerSentEvent) -> None:
        if event.event == b"error":
            self._broken_off(event.data)
        elif not event.data.startswith(b"[DONE]"):
            self._read_body(event.data)

    def _read_body(self, body: bytes) -> None:
        try:
            responses = _decode_list(body) if body.startswith(b"[") else [_decode(body)]
        except ValueError as error:
            self._malformed(error)
            return
        for response in responses:
            if response.error:
                self._broken_off(msgspec.json.encode({"error": response.error}))
            read_response(self, response)
