"""The turns of the fake service: what a script makes of a request, kept as the real one keeps it."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from weconverse._requests import duration, text_of
from weconverse.errors import ERROR_DOMAIN, InternalError, TurnCancelled, WeConverseError
from weconverse.v1.conversation_pb2 import (
    Choice,
    Content,
    ConverseRequest,
    Part,
    Progress,
    StreamConverseResponse,
    TextDelta,
    TextReplacement,
    Turn,
    TurnCompleted,
    TurnStarted,
)

Piece = str | TextReplacement | Progress | WeConverseError
"""What a scripted reply is made of: text to append, a replacement, a sign of life, or a failure."""


@dataclass(frozen=True)
class HandOver:
    """A scripted reply with which the conversation goes to a person, where the caller can bring one in."""

    text: str


@dataclass(frozen=True)
class Offer:
    """A scripted reply with short replies on offer, as guided flows give them."""

    text: str
    choices: Sequence[str | Choice]
    """A plain text is shown as it is said."""


Answer = str | Content | HandOver | Offer | WeConverseError | Sequence[Piece] | AsyncIterator[Piece]
"""A scripted reply. A text is streamed in deltas, and so are those of a content, whose files come at the end; an
async iterator may wait for what a test decides."""

Script = Mapping[str, Answer] | Callable[[ConverseRequest], Answer]
"""What the fake service answers: by the text of the message, or computed from the request."""

APOLOGY = "抱歉,我暂时无法回答,请稍后再试。"
"""What a person is shown when a turn that is owed fails."""

DELTA_CHARACTERS = 4
"""How many characters of a scripted text travel in one delta."""


def status_of(error: WeConverseError) -> status_pb2.Status:
    """The status that arrives as ``error`` at a client: the reverse of ``weconverse.from_status``."""
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    if error.reason:
        info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)
        status.details.add().Pack(info)
    if error.retry_after is not None:
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration(error.retry_after)))
    return status


def now() -> Timestamp:
    """The time on the wall."""
    timestamp = Timestamp()
    timestamp.FromNanoseconds(time.time_ns())
    return timestamp


async def pieces_of(answer: str | WeConverseError | Sequence[Piece] | AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    """The pieces of a scripted reply, one at a time."""
    if isinstance(answer, WeConverseError):
        yield answer
    elif isinstance(answer, str):
        for start in range(0, len(answer), DELTA_CHARACTERS):
            yield answer[start : start + DELTA_CHARACTERS]
    elif isinstance(answer, Sequence):
        for piece in answer:
            yield piece
    else:
        async for piece in answer:
            yield piece


@dataclass
class Floor:
    """Who has a conversation."""

    handed_off: bool = False


class FakeTurn:
    """One turn: its row, its events, and the task that answers it."""

    def __init__(
        self, name: str, request: ConverseRequest, floor: Floor, *, owed: bool, on_change: Callable[[], None]
    ) -> None:
        self.request = request
        self.floor = floor
        self.repeatable = bool(request.request_id)
        self.owed = owed
        self.followers = 0
        self.error: WeConverseError | None = None
        self.events: list[StreamConverseResponse] = []
        self.turn = Turn(
            name=name,
            state=Turn.QUEUED,
            input=request.input,
            create_time=now(),
            delivery_state=Turn.OWED if owed else Turn.DELIVERY_STATE_UNSPECIFIED,
            sender=request.sender if request.HasField("sender") else None,
            assistant=request.assistant or "assistants/default",
            channel=request.channel,
        )
        self._text = ""
        self._whole: Content | None = None
        self._choices: Sequence[Choice] = ()
        self._on_change = on_change
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.turn.state >= Turn.SUCCEEDED

    def start(self, answer: Answer, after: "FakeTurn | None") -> None:
        """Begins to answer, when the turn before it in the conversation has ended."""
        self._task = asyncio.create_task(self._run(answer, after))

    def push(self, content: Content) -> None:
        """Ends at once as a message that a program pushed."""
        self._text = text_of(content)
        self._emit(StreamConverseResponse(started=TurnStarted(turn=self.turn.name)))
        self._end(Turn.SUCCEEDED)
        for message in (self.turn, self.events[-1].completed.turn):
            message.reply.CopyFrom(content)

    async def aclose(self) -> None:
        """Stops answering, and waits until that is so; raises what the script raised."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    def cancel(self) -> None:
        """Stops the turn as ``CancelTurn`` does."""
        if not self.ended and self._task is not None:
            self._task.cancel()
            self._end(Turn.CANCELLED, TurnCancelled("the turn was stopped"))

    async def follow(
        self, after_sequence: int, broken: Callable[[], bool]
    ) -> AsyncGenerator[StreamConverseResponse, None]:
        """The events behind ``after_sequence``; raises how the turn failed. Ends early when ``broken`` says so."""
        position = after_sequence
        self.followers += 1
        try:
            while not broken():
                if position < len(self.events):
                    position += 1
                    yield self.events[position - 1]
                elif self.ended:
                    if self.error is not None and not self.owed:
                        raise self.error
                    return
                else:
                    await self._news.wait()
        finally:
            self.followers -= 1
            self.wake()

    async def finished(self) -> Turn:
        """The turn when it has ended; raises how it failed."""
        async for _ in self.follow(len(self.events), lambda: False):
            pass
        return self.turn

    def wake(self) -> None:
        """Lets everybody who waits for this turn look again."""
        news, self._news = self._news, asyncio.Event()
        news.set()
        self._on_change()

    async def _run(self, answer: Answer, after: "FakeTurn | None") -> None:
        self._emit(StreamConverseResponse(started=TurnStarted(turn=self.turn.name)))
        while after is not None and not after.ended:
            await after._news.wait()  # noqa: SLF001 — another one of the same class
        if self.floor.handed_off:
            self._end(Turn.SUCCEEDED, reason=Turn.HANDED_OFF)
            return
        self.turn.state = Turn.RUNNING
        if isinstance(answer, HandOver):
            self._emit_piece(answer.text)
            self.floor.handed_off = self.request.options.can_hand_off
            self._end(Turn.SUCCEEDED, reason=Turn.HANDED_OFF)
            return
        if isinstance(answer, Offer):
            self._choices = [Choice(label=one, text=one) if isinstance(one, str) else one for one in answer.choices]
            answer = answer.text
        if isinstance(answer, Content):
            self._whole = answer
            answer = text_of(answer)
        try:
            async for piece in pieces_of(answer):
                if isinstance(piece, WeConverseError):
                    self._end(Turn.FAILED, piece)
                    return
                self._emit_piece(piece)
        except Exception as error:
            # A script that is wrong must fail the call that used it, not leave it waiting.
            self._end(Turn.FAILED, InternalError(f"the script raised {error!r}", metadata={"errorId": "script"}))
            raise
        self._end(Turn.SUCCEEDED)

    def _emit_piece(self, piece: str | TextReplacement | Progress) -> None:
        if isinstance(piece, str):
            self._text += piece
            self._emit(StreamConverseResponse(delta=TextDelta(text=piece)))
        elif isinstance(piece, TextReplacement):
            self._text = piece.text
            self._emit(StreamConverseResponse(replacement=piece))
        else:
            self._emit(StreamConverseResponse(progress=piece))

    def _end(
        self,
        state: Turn.State.ValueType,
        error: WeConverseError | None = None,
        *,
        reason: Turn.FinishReason.ValueType = Turn.STOP,
    ) -> None:
        self.error = error
        if error is not None and self.owed:
            self._emit_piece(TextReplacement(text=APOLOGY, cause=TextReplacement.FAILED))
        self.turn.state = state
        self.turn.end_time.CopyFrom(now())
        if state == Turn.FAILED and error is not None:
            self.turn.error.CopyFrom(status_of(error))
        if error is None:
            self.turn.finish_reason = reason
        if error is None:
            self.turn.choices.extend(self._choices)
        if error is None and reason == Turn.STOP:
            self.turn.cache_outcome = Turn.MISS
            self.turn.model = "fake"
        if error is None or self.owed:
            self._emit(StreamConverseResponse(completed=TurnCompleted(turn=self.turn)))
        self.wake()

    def _emit(self, event: StreamConverseResponse) -> None:
        self.turn.reply.CopyFrom(Content(parts=[Part(text=self._text)] if self._text else []))
        if event.HasField("completed"):
            if self._whole is not None and self.error is None:
                self.turn.reply.CopyFrom(self._whole)
            event.completed.turn.reply.CopyFrom(self.turn.reply)
        event.sequence = len(self.events) + 1
        self.events.append(event)
        self.wake()


def without_bytes(turn: Turn) -> Turn:
    """The turn as a list has it: with what its media are, but not what is in them."""
    listed = Turn()
    listed.CopyFrom(turn)
    for part in (*listed.input.parts, *listed.reply.parts):
        if part.media.HasField("inline_data"):
            part.media.ClearField("inline_data")
    return listed


def without_input(turn: Turn) -> Turn:
    """The turn as somebody gets it who knows what was said."""
    asked = Turn()
    asked.CopyFrom(turn)
    asked.ClearField("input")
    return asked


def answer_to(script: Script, request: ConverseRequest) -> Answer:
    """What the script answers to a request; an echo where it has nothing."""
    text = text_of(request.input)
    if callable(script):
        return script(request)
    return script.get(text, f"你说:{text}")
