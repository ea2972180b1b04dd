"""Prompt → request of another WeConverse server, and its events → chunks. Pure.

This server keeps the memory and the other one the instructions: what was said before
travels as ``history``, the system message does not travel at all.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from server.domain import FinishReason, Usage
from server.llm.base import ROUTE_LOOP, Chunk, ErrorClass, Image, LimitReached, Message, Prompt, ProviderError, Role
from weconverse.v1 import conversation_pb2 as pb

MAX_HOPS: Final = 8
"""Servers that may have passed a turn on, this one included (``ConverseRequest.via``)."""

MAX_HISTORY: Final = 200
"""Earlier messages that the contract allows."""

MAX_HISTORY_CHARACTERS: Final = 20_000
"""Characters of one of them. Longer answers lose their end, as the other server would refuse the whole."""

MAX_HISTORY_BYTES: Final = 1 << 20
"""Bytes of all of them: beside a picture of 2 MiB they fit into the 4 MiB of a message."""

_ID_CHARACTERS: Final = 128
_encode = msgspec.msgpack.Encoder().encode


# --- the request -------------------------------------------------------------------------


def request_of(prompt: Prompt, *, assistant: str, node_id: str) -> pb.ConverseRequest:
    """What the other server is asked.

    The same prompt gives the same ``request_id``, so that a second attempt attaches to the
    turn of the first; another prompt of the same turn (a classifier's, another
    assistant's) gives another one.

    Args:
        assistant: the one that answers there; empty for its default.
        node_id: this server's name.

    Raises:
        ProviderError: with code ``ROUTE_LOOP`` if the turn has passed too many servers.
    """
    via = (*prompt.via, node_id)
    if len(via) > MAX_HOPS:
        raise ProviderError(ErrorClass.BAD_REQUEST, f"passed {MAX_HOPS} servers already: {via}", code=ROUTE_LOOP)
    *earlier, question = prompt.messages
    request = pb.ConverseRequest(
        conversation=f"conversations/{prompt.conversation or _digest(prompt.request_id)}",
        input=_input(question),
        request_id=_request_id(prompt, assistant),
        assistant=f"assistants/{assistant}" if assistant else "",
        history=_history(earlier),
        via=via,
    )
    if prompt.user:
        request.sender.id = prompt.user if len(prompt.user) <= _ID_CHARACTERS else _digest(prompt.user)
    options = request.options
    if prompt.temperature is not None:
        options.temperature = prompt.temperature
    if prompt.max_output_tokens is not None:
        options.max_output_tokens = prompt.max_output_tokens
    options.include_reasoning = True
    # Without history, the other server would take its own memory of the conversation, which
    # knows nothing of a reset here.
    options.bypass_memory = True
    return request


def _input(question: Message) -> pb.Content:
    content = pb.Content()
    if question.text or not question.images:
        content.parts.add(text=question.text)
    for image in question.images:
        content.parts.add(media=_media(image))
    return content


def _media(image: Image) -> pb.Media:
    if image.data:
        return pb.Media(mime_type=image.mime_type, inline_data=image.data)
    return pb.Media(mime_type=image.mime_type, uri=image.uri)


def _history(earlier: Sequence[Message]) -> list[pb.HistoryMessage]:
    """As much of what was said as may travel, oldest first; the oldest is left out first."""
    kept: list[pb.HistoryMessage] = []
    room = MAX_HISTORY_BYTES
    for message in reversed(earlier):
        if message.role is Role.SYSTEM or not message.text:
            continue
        text = message.text[:MAX_HISTORY_CHARACTERS]
        room -= len(text.encode())
        if room < 0 or len(kept) == MAX_HISTORY:
            break
        role = pb.HistoryMessage.PERSON if message.role is Role.USER else pb.HistoryMessage.ASSISTANT
        kept.append(pb.HistoryMessage(role=role, text=text))
    kept.reverse()
    return kept


def _request_id(prompt: Prompt, assistant: str) -> str:
    """The turn's own id, to be found in both logs, and a digest of what is asked."""
    asked = (
        prompt.request_id,
        prompt.conversation,
        assistant,
        prompt.user,
        prompt.temperature,
        prompt.max_output_tokens,
        [(message.role.value, message.text, message.images) for message in prompt.messages],
    )
    digest = _digest(asked)
    return f"{prompt.request_id[: _ID_CHARACTERS - len(digest) - 1]}-{digest}" if prompt.request_id else digest


def _digest(value: object) -> str:
    return hashlib.blake2b(_encode(value), digest_size=12).hexdigest()


# --- the reply ---------------------------------------------------------------------------


_WITHHELD: Final = frozenset({FinishReason.INPUT_BLOCKED, FinishReason.OUTPUT_BLOCKED})


class EventReader:
    """Puts the events of one turn into chunks, over as many streams as it takes.

    A stream that attaches to the turn again repeats its events, which are passed over. If
    the other server has lost the turn, it answers anew from the first event: then the next
    text begins the reply anew (:attr:`Chunk.restart`).

    What is shown is never replaced by nothing. A replacement without visible text waits for
    the text that follows it; thoughts meanwhile are passed on. If none follows, because the
    other server's filter has withdrawn the reply and has no sentence for it, that is a
    refusal of the content, for which this server has a sentence of its own.
    """

    def __init__(self, model: str) -> None:
        """Args: the route's name, for the chunks."""
        self._model = model
        self._end: Chunk | None = None
        self._void = False
        self._held = ""
        self.text_passed_on = False
        """Whether there is text to be replaced."""
        self.arrived = False
        """Whether text or a thought has come."""
        self.sequence = 0
        """The number of the last event."""
        self.unknown_finish = 0
        """A finish reason that a newer server has and this one does not know, for the log."""

    @property
    def finished(self) -> bool:
        """Whether the last event came."""
        return self._end is not None

    @property
    def done(self) -> bool:
        """Whether nothing more is to be expected: the last event has it all."""
        return self._end is not None

    def close(self) -> Chunk:
        """The last chunk, with the end and the token counts.

        Raises:
            ProviderError: ``INCOMPLETE`` if the last event did not come.
        """
        if self._end is None:
            raise ProviderError(ErrorClass.INCOMPLETE, f"the stream ended behind event {self.sequence}")
        return self._end

    def feed(self, message: pb.StreamConverseResponse) -> Chunk | None:
        """The text or the thoughts of one event; ``None`` for one that brings neither, or nothing new.

        Raises:
            ProviderError: ``INCOMPLETE`` if an event is missing or the turn did not succeed,
                ``CONTENT`` if the reply was withdrawn.
        """
        kind = message.WhichOneof("event")
        if kind == "started" and not message.started.attached:
            self._begin_anew()
        if 0 < message.sequence <= self.sequence:
            return None
        if message.sequence != self.sequence + 1:
            raise ProviderError(ErrorClass.INCOMPLETE, f"event {self.sequence + 1} of the reply is missing")
        self.sequence = message.sequence
        match kind:
            case "delta":
                return self._text(message.delta.text)
            case "reasoning":
                self.arrived = True
                return Chunk(reasoning=message.reasoning.text, model=self._model)
            case "replacement":
                self._take_back()
                return self._text(message.replacement.text)
            case "completed":
                self._end = self._end_of(message.completed.turn)
        return None

    def _begin_anew(self) -> None:
        """The events that follow are those of a new turn."""
        self.sequence = 0
        self._take_back()

    def _take_back(self) -> None:
        self._void, self._held = self.text_passed_on, ""

    def _text(self, text: str) -> Chunk | None:
        if self._void:
            self._held += text
            if not self._held or self._held.isspace():
                return None
            text = self._held
        if not text:
            return None
        restart, self._void = self._void, False
        self.text_passed_on = self.arrived = True
        return Chunk(text, model=self._model, restart=restart)

    def _end_of(self, turn: pb.Turn) -> Chunk:
        if turn.state != pb.Turn.SUCCEEDED:
            raise ProviderError(ErrorClass.INCOMPLETE, f"the turn ended as {turn.state}")
        finish = self._finish_reason(turn.finish_reason)
        standing = self.text_passed_on and not self._void
        if not standing and finish in _WITHHELD:
            raise ProviderError(ErrorClass.CONTENT, f"the reply was withheld without a sentence: {finish.name}")
        if self._void and finish is not FinishReason.PROVIDER_BLOCKED:
            raise ProviderError(ErrorClass.INCOMPLETE, "the reply was taken back, and nothing came in its place")
        usage = None
        if turn.HasField("usage"):
            usage = Usage(turn.usage.input_token_count, turn.usage.output_token_count)
        return Chunk(finish=finish, usage=usage, model=self._model)

    def _finish_reason(self, number: int) -> FinishReason:
        try:
            reason = FinishReason(number)
        except ValueError:
            # It completed the turn, so the reply is whole. ``FLOW`` because that is what
            # neither memory nor cache keeps.
            self.unknown_finish = number
            return FinishReason.FLOW
        if reason in (FinishReason.UNSPECIFIED, FinishReason.MERGED):
            raise ProviderError(ErrorClass.INCOMPLETE, f"a reply cannot end as {reason.name}")
        return reason


# --- errors ------------------------------------------------------------------------------

REASONS: Final[Mapping[str, ErrorClass]] = {
    "INVALID_FIELD": ErrorClass.BAD_REQUEST,
    "INPUT_TOO_LONG": ErrorClass.CONTEXT,
    "MEDIA_NOT_SUPPORTED": ErrorClass.BAD_REQUEST,
    "REQUEST_ID_REUSED": ErrorClass.BAD_REQUEST,
    "RESOURCE_NOT_FOUND": ErrorClass.NOT_FOUND,
    "CALLER_UNKNOWN": ErrorClass.AUTH,
    "CALLER_NOT_ALLOWED": ErrorClass.AUTH,
    "RATE_LIMITED": ErrorClass.RATE_LIMIT,
    # Of one conversation only: no reason to let the whole server rest.
    "CONVERSATION_BUSY": ErrorClass.TRANSIENT,
    "OVERLOADED": ErrorClass.OVERLOADED,
    # It has tried its models already, more than once: another server is better than asking again.
    "NO_ROUTE_AVAILABLE": ErrorClass.OVERLOADED,
    "REPLY_INTERRUPTED": ErrorClass.INCOMPLETE,
    "SHUTTING_DOWN": ErrorClass.TRANSIENT,
    "STORE_UNAVAILABLE": ErrorClass.TRANSIENT,
    "TURN_TIMED_OUT": ErrorClass.TIMEOUT,
    "INTERNAL_ERROR": ErrorClass.TRANSIENT,
    "TURN_QUARANTINED": ErrorClass.BAD_REQUEST,
    "TURN_CANCELLED": ErrorClass.TRANSIENT,
    "PROVIDER_REFUSED": ErrorClass.BAD_REQUEST,
    "ROUTE_LOOP": ErrorClass.BAD_REQUEST,
}
"""What each reason of the contract means here."""


def error_of(
    reason: str, message: str, metadata: Mapping[str, str], *, status: int, retry_after: float | None
) -> ProviderError | None:
    """The error for a reason of the contract; ``None`` for one that this version does not know.

    A limit of a person there is a limit of that person here: nobody else has to wait for it.
    """
    if reason == "RATE_LIMITED" and metadata.get("scope") == "person":
        return LimitReached("person", metadata.get("limit", ""), retry_after or 0.0)
    kind = REASONS.get(reason)
    if kind is None:
        return None
    return ProviderError(kind, f"{reason}: {message}", status=status, code=reason, retry_after=retry_after)
