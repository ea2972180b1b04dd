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
from server.llm.grpc_call import MessageReader
from weconverse.v1 import conversation_pb2 as pb

MAX_HOPS: Final = 8
"""Servers that may have passed a turn on, this one included (``ConverseRequest.via``)."""

MAX_HISTORY: Final = 200
"""Earlier messages that the contract allows."""

MAX_HISTORY_CHARACTERS: Final = 20_000
"""Characters of one of them. Longer answers lose their end, as the other server would refuse the whole."""

MAX_HISTORY_BYTES: Final = 1 << 20
"""Bytes of all of them: beside the pictures of a message they fit into what another server takes at once."""

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


class EventReader(MessageReader[pb.StreamConverseResponse]):
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
        super().__init__(model)
        self.sequence = 0
        """The number of the last event."""
        self._shown = False
        self._void = False
        self._restart = False
        self._held = ""

    def feed(self, message: pb.StreamConverseResponse) -> None:
        """Takes the next event. One that came before brings nothing."""
        kind = message.WhichOneof("event")
        if kind == "started" and not message.started.attached:
            # What follows are the events of a new turn.
            self.sequence = 0
            self._take_back()
        if 0 < message.sequence <= self.sequence:
            return
        if message.sequence != self.sequence + 1:
            self.fail(ProviderError(ErrorClass.INCOMPLETE, f"event {self.sequence + 1} of the reply is missing"))
            return
        self.sequence = message.sequence
        match kind:
            case "delta":
                self._say(message.delta.text)
            case "reasoning":
                self.put(thought=message.reasoning.text)
            case "replacement":
                self._take_back()
                self._say(message.replacement.text)
            case "completed":
                self._complete(message.completed.turn)

    def take(self) -> Chunk | None:
        """See :meth:`server.llm.reply.Reply.take`."""
        chunk = super().take()
        if chunk is None or not self._restart:
            return chunk
        self._restart = False
        return msgspec.structs.replace(chunk, restart=True)

    def _take_back(self) -> None:
        self._void, self._held = self._shown, ""

    def _say(self, text: str) -> None:
        if self._void:
            self._held += text
            if not self._held or self._held.isspace():
                return
            text = self._held
            self._void, self._restart = False, True
        if text:
            self._shown = True
            self.put(text)

    def _complete(self, turn: pb.Turn) -> None:
        self.done = True
        if turn.HasField("usage"):
            self.usage = Usage(turn.usage.input_token_count, turn.usage.output_token_count)
        finish = self._finish_reason(turn.finish_reason)
        if turn.state != pb.Turn.SUCCEEDED or finish is None:
            self.fail(ProviderError(ErrorClass.INCOMPLETE, f"the turn ended as {turn.state}, {turn.finish_reason}"))
        elif finish in _WITHHELD and (self._void or not self._shown):
            self.fail(ProviderError(ErrorClass.CONTENT, f"the reply was withheld without a sentence: {finish.name}"))
        elif self._void and finish is not FinishReason.PROVIDER_BLOCKED:
            self.fail(ProviderError(ErrorClass.INCOMPLETE, "the reply was taken back, and nothing came in its place"))
        else:
            self._finish = finish

    def _finish_reason(self, number: int) -> FinishReason | None:
        """How a reply ended; ``None`` for what is no end of a reply."""
        try:
            reason = FinishReason(number)
        except ValueError:
            # It completed the turn, so the reply is whole. ``FLOW`` because that is what
            # neither memory nor cache keeps.
            self.unknown_finish = str(number)
            return FinishReason.FLOW
        return None if reason in (FinishReason.UNSPECIFIED, FinishReason.MERGED) else reason


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
    "LEXICON_REFUSED": ErrorClass.BAD_REQUEST,
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
    return ProviderError(kind, reason, said=message, status=status, code=reason, retry_after=retry_after)
