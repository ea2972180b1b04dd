"""What has come of one reply so far, and when it counts as complete. Pure.

Readers of a wire put in what they find; chunks come out. A reply is complete when a
finish reason was seen, and by nothing else: not by a clean end. What comes behind a
finish reason can no longer spoil it.
"""

from server.domain import FinishReason, Usage
from server.llm.base import Chunk, ErrorClass, ProviderError
from server.llm.finish_reasons import ENDS, FAILURES, TOOL_CALLS


class Reply:
    """One reply that is being read."""

    def __init__(self, model: str) -> None:
        """Args: the name of the route, which goes into the first and the last chunk."""
        self._model = model
        self._named = False
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._finish: FinishReason | None = None
        self.arrived = False
        """Whether text or a thought has come. Comments, roles and empty pieces do not count."""
        self.failure: ProviderError | None = None
        """What broke the reply off; :meth:`close` raises it."""
        self.unknown_finish = ""
        """A finish reason that nobody has heard of. It counts as STOP; the log should name it."""
        self.usage: Usage | None = None
        """What the backend has counted, as far as it said."""
        self.asked_for_tool = False
        """Whether the model called a tool. This service offers none, so nothing can come of it."""

    @property
    def finished(self) -> bool:
        """Whether a finish reason was seen: the reply is complete, but for the token counts."""
        return self._finish is not None

    def put(self, text: str = "", thought: str = "") -> None:
        """Adds what was said, or thought."""
        if thought:
            self.arrived = True
            self._reasoning.append(thought)
        if text:
            self.arrived = True
            self._text.append(text)

    def end(self, reason: str) -> None:
        """Takes a finish reason, in the backend's word for it. The last one stands."""
        word = reason.lower()
        end = ENDS.get(word)
        if word in FAILURES:
            self.fail(ProviderError(FAILURES[word], f"the reply ended with {reason[:64]!r}"))
        elif word in TOOL_CALLS or (self.asked_for_tool and end is not FinishReason.PROVIDER_BLOCKED):
            # Some backends end a tool call with their word for a full stop, so the call counts.
            self.fail(ProviderError(ErrorClass.INCOMPLETE, "the model waits for a tool, and none was offered"))
        elif end is None:
            self.unknown_finish = reason[:64]
            self._finish = FinishReason.STOP
        else:
            self._finish = end

    def fail(self, failure: ProviderError) -> None:
        """Breaks the reply off, unless it is complete already."""
        if not self.finished and self.failure is None:
            self.failure = failure

    def take(self) -> Chunk | None:
        """What was put in since the last time, together; ``None`` if there is nothing."""
        return self._chunk() if self._text or self._reasoning else None

    def close(self) -> Chunk:
        """The last chunk: what is left, the end, and the token counts if there were any.

        Raises:
            ProviderError: if the reply is not complete.
        """
        if self.failure is not None:
            raise self.failure
        if self._finish is None:
            raise ProviderError(ErrorClass.INCOMPLETE, "the reply ended without a finish reason")
        rest = self._chunk()
        return Chunk(rest.text, rest.reasoning, self._finish, self.usage, self._model)

    def _chunk(self) -> Chunk:
        chunk = Chunk("".join(self._text), "".join(self._reasoning), model="" if self._named else self._model)
        self._named = True
        self._text.clear()
        self._reasoning.clear()
        return chunk
