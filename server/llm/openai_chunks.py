"""Turns the body of an OpenAI-style answer into chunks. Pure: bytes in, chunks out.

A reply is complete when a finish reason was seen, and by nothing else: not by
``[DONE]``, not by a clean end. What comes behind a finish reason can no longer spoil it.
"""

from collections.abc import Callable, Mapping
from typing import Final

from server.domain import FinishReason, Usage
from server.llm.base import Chunk, ErrorClass, ProviderError
from server.llm.failures import failure_in_stream
from server.llm.finish_reasons import ENDS, FAILURES, TOOL_CALLS
from server.llm.openai_shapes import Choice, Delta, TokenCounts, decode, holds
from server.llm.sse import EventTooLarge, ServerSentEvent, SseDecoder
from server.llm.think import ThinkSplitter

MAX_JSON_BYTES: Final = 8 << 20
"""Bytes of a reply that comes as one JSON body."""

_BLANKS: Final = b" \t\r\n\xef\xbb\xbf"


class ReplyReader:
    """Reads one reply, as a stream of events or as one JSON body: whichever comes.

    Feed it what the network gives until there is a :attr:`failure`, or until the end;
    then call :meth:`close`. The texts put together, the end and the failure are the same
    for every way of cutting the bytes.
    """

    def __init__(self, model: str, *, overrides: Mapping[str, ErrorClass] | None = None) -> None:
        """Args: the name of the route, which goes into the first and the last chunk; codes that the
        backend uses in its own way (see :func:`server.llm.failures.failure_of`).
        """
        self._model = model
        self._overrides = overrides
        self._named = False
        self._sse = SseDecoder()
        self._json: bytearray | None = None
        self._sniffed = False
        self._think: ThinkSplitter | None = ThinkSplitter()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._counts: TokenCounts | None = None
        self._in_pieces = False
        self._saw_tool_call = False
        self._finish: FinishReason | None = None
        self.arrived = False
        """Whether text or a thought has come. Comments, roles and empty pieces do not count."""
        self.failure: ProviderError | None = None
        """What broke the reply off; :meth:`close` raises it."""
        self.done = False
        """Whether nothing more is to be expected."""
        self.unknown_finish = ""
        """A finish reason that nobody has heard of. It counts as STOP; the log should name it."""

    @property
    def finished(self) -> bool:
        """Whether a finish reason was seen: the reply is complete, but for the token counts."""
        return self._finish is not None

    def feed(self, data: bytes) -> Chunk | None:
        """The text and thoughts that came with these bytes, together; ``None`` if there were none.

        What comes with the end is left for :meth:`close`, so that a short reply is one chunk.
        """
        if not self._sniffed:
            self._sniff(data)
        if self._json is not None:
            self._collect(data)
            return None
        self._read_from(lambda: self._sse.feed(data))
        if (self.done and self.finished) or not (self._text or self._reasoning):
            return None
        return self._take()

    def close(self) -> Chunk:
        """The last chunk: what text is left, the end, and the token counts if there were any.

        Raises:
            ProviderError: if the reply is not complete.
        """
        if self.failure is None:
            self._read_from(self._sse.close if self._json is None else self._whole_body)
        if self.failure is not None:
            raise self.failure
        if self._finish is None:
            raise ProviderError(ErrorClass.INCOMPLETE, "the reply ended without a finish reason")
        self._stop_splitting()
        rest = self._take()
        return Chunk(rest.text, rest.reasoning, self._finish, _usage(self._counts), self._model)

    def _take(self) -> Chunk:
        chunk = Chunk("".join(self._text), "".join(self._reasoning), model="" if self._named else self._model)
        self._named = True
        self._text.clear()
        self._reasoning.clear()
        return chunk

    def _sniff(self, data: bytes) -> None:
        """Tells a JSON body from events by its first character. Content types are not to be trusted."""
        begin = data.lstrip(_BLANKS)
        if begin:
            self._sniffed = True
            if begin[0] in b"{[":
                self._json = bytearray()
                self.arrived = True

    def _collect(self, data: bytes) -> None:
        assert self._json is not None
        self._json += data
        if len(self._json) > MAX_JSON_BYTES:
            self._fail(ProviderError(ErrorClass.INCOMPLETE, f"the reply exceeds {MAX_JSON_BYTES} bytes"))

    def _whole_body(self) -> list[ServerSentEvent]:
        assert self._json is not None
        return [ServerSentEvent(bytes(self._json.strip(_BLANKS)))]

    def _read_from(self, source: Callable[[], list[ServerSentEvent]]) -> None:
        try:
            events = source()
        except EventTooLarge as error:
            self._fail(ProviderError(ErrorClass.INCOMPLETE, str(error)))
            return
        for event in events:
            if self.failure is not None:
                return
            if event.data.startswith(b"[DONE]"):
                self.done = True
            elif event.event == b"error":
                self._fail(failure_in_stream(event.data, overrides=self._overrides))
            elif event.data.strip():
                self._read_piece(event.data)

    def _read_piece(self, data: bytes) -> None:
        try:
            body = decode(data)
        except ValueError as error:
            self._fail(ProviderError(ErrorClass.INCOMPLETE, f"a piece of the reply is malformed: {error}"))
            return
        if body.is_error:
            self._fail(failure_in_stream(data, overrides=self._overrides))
            return
        if body.usage is not None:
            # The last one stands: some servers count up from piece to piece.
            self._counts = body.usage
        for choice in body.choices or ():
            if choice.index == 0:
                self._read_choice(choice)
        if self.finished and self._counts is not None:
            self.done = True

    def _read_choice(self, choice: Choice) -> None:
        if choice.usage is not None:
            self._counts = choice.usage
        if choice.delta is not None:
            self._in_pieces = True
            self._read_delta(choice.delta)
        elif choice.message is not None and not self._in_pieces:
            # MiniMax repeats the whole text as a message behind the last piece.
            self._read_delta(choice.message)
        if choice.finish_reason:
            self._end(choice.finish_reason)

    def _end(self, reason: str) -> None:
        word = reason.lower()
        end = ENDS.get(word)
        if word in FAILURES:
            self._fail(ProviderError(FAILURES[word], f"the reply ended with {reason[:64]!r}"))
        elif word in TOOL_CALLS or (self._saw_tool_call and end is not FinishReason.PROVIDER_BLOCKED):
            # vLLM ends a call of a named tool with `stop`, so the call counts, not the word.
            self._fail(ProviderError(ErrorClass.INCOMPLETE, "the model waits for a tool, and none was offered"))
        elif end is None:
            self.unknown_finish = reason[:64]
            self._finish = FinishReason.STOP
        else:
            self._finish = end

    def _fail(self, failure: ProviderError) -> None:
        if not self.finished:
            self.failure = failure

    def _read_delta(self, delta: Delta) -> None:
        # Proxies that rename the field send both names; they hold the same text.
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self.arrived = True
            self._stop_splitting()
            self._reasoning.append(thought)
        text = delta.content or delta.refusal
        if text:
            self.arrived = True
            if self._think is None:
                self._text.append(text)
            else:
                self._put(*self._think.feed(text))
                if self._think.plain:
                    self._think = None
        if not self._saw_tool_call:
            self._saw_tool_call = holds(delta.tool_calls) or holds(delta.function_call)

    def _stop_splitting(self) -> None:
        """A server that tells thoughts apart itself means every tag in the text as text."""
        if self._think is not None:
            self._put(*self._think.close())
            self._think = None

    def _put(self, thought: str, text: str) -> None:
        if thought:
            self._reasoning.append(thought)
        if text:
            self._text.append(text)


def _usage(counts: TokenCounts | None) -> Usage | None:
    if counts is None:
        return None
    # xAI leaves thoughts out of the completion tokens, but not out of the total.
    output = max(counts.completion_tokens, counts.total_tokens - counts.prompt_tokens)
    cached = max(0, min(counts.cached, counts.prompt_tokens))
    return Usage(counts.prompt_tokens, output, cached_input_token_count=cached)
