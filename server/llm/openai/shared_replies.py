"""Reads answers that hold the replies to several prompts, told apart by their index. Pure."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

import msgspec
from msgspec import Raw

from server.domain import Usage
from server.llm.base import Chunk, ErrorClass, ProviderError
from server.llm.body_reader import PatientDecoder
from server.llm.failures import failure_in_stream
from server.llm.microbatch import own_copy
from server.llm.openai.chunks import ReplyReader
from server.llm.openai.shapes import Choice, Delta, TokenCounts, holds
from server.llm.sse import EventTooLarge, ServerSentEvent, SseDecoder

MAX_BYTES_PER_REPLY: Final = 2 << 20
"""Bytes of an answer for each reply in it. A stream has some 250 for each token."""

_BLANKS: Final = b" \t\r\n\xef\xbb\xbf"


class _Choice(msgspec.Struct, frozen=True):
    """A whole reply (``message``), or a piece of one (``text``)."""

    index: int = 0
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice] | None = None
    usage: TokenCounts | None = None
    error: Raw = Raw()


_decode: Final = PatientDecoder(_Answer)


class SharedReplies:
    """The replies to several prompts, of ``/chat/completions/batch`` or of ``/completions`` with an array.

    A :class:`~server.llm.http_call.Reader` that gives no chunks: the replies are there
    when the answer has ended, in :meth:`outcomes`. Each is complete when its own finish
    reason was seen, so what breaks the answer off breaks off only those that were not.
    """

    def __init__(
        self, model: str, lengths: Sequence[int], *, overrides: Mapping[str, ErrorClass] | None = None
    ) -> None:
        """Args: the route's name; the length of each prompt, by which the tokens are shared out that the
        backend counts for all together; codes that it uses in its own way.
        """
        self._model = model
        self._lengths = lengths
        self._overrides = overrides
        self._replies = [_OneReply(model, overrides=overrides) for _ in lengths]
        self._sse = SseDecoder()
        self._json: bytearray | None = None
        self._sniffed = False
        self._bytes_left = MAX_BYTES_PER_REPLY * len(lengths)
        self._usage: Usage | None = None
        self.arrived = False
        self.done = False
        self.failure: ProviderError | None = None
        self.unknown_finish = ""

    @property
    def finished(self) -> bool:
        """Whether every reply is complete."""
        return all(reply.finished for reply in self._replies)

    def feed(self, data: bytes) -> None:
        """Takes what has arrived."""
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            self._fail(ProviderError(ErrorClass.INCOMPLETE, "the replies are too long to be kept"))
            return
        if not self._sniffed and (begin := data.lstrip(_BLANKS)):
            self._sniffed = True
            if begin[0] in b"{[":
                self._json = bytearray()
        if self._json is None:
            self._read_events(data)
        else:
            self.arrived = True
            self._json += data

    def close(self) -> Chunk:
        """Takes the end of the answer. The chunk says only that it was reached.

        Raises:
            ProviderError: what broke the answer off before all replies were complete.
        """
        if self._json is not None:
            self._read_answer(bytes(self._json.strip(_BLANKS)))
        else:
            self._read_events(None)
        if self.failure is not None:
            raise self.failure
        return Chunk(model=self._model)

    def outcomes(self, error: ProviderError | None = None) -> list[Chunk | ProviderError]:
        """Each reply as one chunk with its end, or why there is none.

        Args:
            error: what ended the call, if it did not come to its end.
        """
        usages = _shares(self._usage, self._lengths, [reply.length for reply in self._replies])
        return [reply.outcome(usage, error) for reply, usage in zip(self._replies, usages, strict=True)]

    def _read_events(self, data: bytes | None) -> None:
        """Args: ``None`` at the end."""
        if self.failure is not None:
            return
        try:
            events = self._sse.close() if data is None else self._sse.feed(data)
        except EventTooLarge as error:
            self._fail(ProviderError(ErrorClass.INCOMPLETE, str(error)))
            return
        for event in events:
            self._read_event(event)

    def _read_event(self, event: ServerSentEvent) -> None:
        if event.data.startswith(b"[DONE]"):
            self.done = True
        elif event.event == b"error":
            self._fail(failure_in_stream(event.data, overrides=self._overrides))
        elif event.data.strip():
            self._read_answer(event.data)

    def _read_answer(self, data: bytes) -> None:
        """A piece of a stream, or the whole."""
        try:
            answer = _decode(data)
        except ValueError as error:
            self._fail(ProviderError(ErrorClass.INCOMPLETE, "a piece of the replies is malformed", said=str(error)))
            return
        if holds(answer.error) or not (answer.choices or answer.usage):
            self._fail(failure_in_stream(data, overrides=self._overrides))
            return
        if answer.usage is not None:
            counts = answer.usage
            self._usage = Usage(counts.prompt_tokens, counts.completion_tokens, cached_input_token_count=counts.cached)
        for choice in answer.choices or ():
            if 0 <= choice.index < len(self._replies):
                reply = self._replies[choice.index]
                reply.read(choice)
                self.arrived = self.arrived or reply.arrived
                self.unknown_finish = self.unknown_finish or reply.unknown_finish

    def _fail(self, failure: ProviderError) -> None:
        if self.failure is None and not self.finished:
            self.failure = failure


class _OneReply(ReplyReader):
    """One of the replies, read as if it were the only one."""

    def __init__(self, model: str, *, overrides: Mapping[str, ErrorClass] | None = None) -> None:
        super().__init__(model, overrides=overrides)
        self.length = 0
        """Characters of text and thoughts."""

    def read(self, choice: _Choice) -> None:
        said = choice.message or Delta(content=choice.text)
        for text in (said.content, said.reasoning_content or said.reasoning):
            self.length += len(text or "")
        if self.failure is None and not self.finished:
            self._read_choice(Choice(delta=said, finish_reason=choice.finish_reason))

    def outcome(self, usage: Usage | None, error: ProviderError | None) -> Chunk | ProviderError:
        if error is not None and not self.finished and self.failure is None:
            return own_copy(error)
        self.usage = usage
        try:
            return self.close()
        except ProviderError as failure:
            return failure


def _shares(total: Usage | None, lengths: Sequence[int], reply_lengths: Sequence[int]) -> list[Usage | None]:
    """What each reply took of tokens that were counted for all of them; together exactly the total."""
    if total is None:
        return [None for _ in lengths]
    read = _parts(total.input_token_count, lengths)
    written = _parts(total.output_token_count, reply_lengths)
    cached = _parts(total.cached_input_token_count, lengths)
    return [Usage(*part[:2], cached_input_token_count=part[2]) for part in zip(read, written, cached, strict=True)]


def _parts(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` in whole parts that go by the weights. Each counts one more, so that weights of nothing are equal."""
    sums = list(accumulate(weight + 1 for weight in weights))
    borders = [0, *(total * so_far // sums[-1] for so_far in sums)]
    return [end - begin for begin, end in pairwise(borders)]
