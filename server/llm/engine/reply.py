"""Reads the replies of token engines. Pure: messages with tokens in, text out."""

from collections.abc import Sequence
from typing import Any

from server.domain import Usage
from server.llm.base import ErrorClass, ProviderError
from server.llm.engine.dialects import Dialect, Piece
from server.llm.engine.stop_strings import StopStrings
from server.llm.engine.vocabulary import Detokenizer, Vocabulary
from server.llm.prompt_messages import Tokenized
from server.llm.text_reader import TextReader


class EngineReader(TextReader[Any]):
    """Reads one reply. Tokens are counted here: in a stream each message only counts its own."""

    def __init__(
        self, model: str, dialect: Dialect, vocabulary: Vocabulary, prompt: Tokenized, stops: Sequence[str] = ()
    ) -> None:
        """Args: the name of the route; how the engine speaks; what its tokens write; what it was asked;
        strings that end the reply. Engines end their tokens behind such a string, so it is cut off here,
        and if the engine should miss one, the call is left.
        """
        super().__init__(model, thinking=prompt.thinking)
        self._dialect = dialect
        self._detokenizer = Detokenizer(vocabulary)
        self._stops = StopStrings(stops)
        self._read_count = len(prompt.ids)
        self._written_count = 0
        self._cached_count = 0

    def feed(self, message: Any) -> None:
        """See :meth:`server.llm.grpc_call.MessageReader.feed`."""
        piece = self._dialect.piece(message)
        if piece is not None and piece.index == 0:
            self._take(piece)

    def _take(self, piece: Piece) -> None:
        # The last message of a stream holds tokens that came before. It is the only one
        # that says something where the engine does not stream.
        if piece.finish is None or not self._written_count:
            self._written_count += len(piece.ids)
            self.say(self._stops.feed(self._detokenizer.feed(piece.ids)))
        self._cached_count = max(self._cached_count, piece.cached)
        self.usage = Usage(self._read_count, self._written_count, cached_input_token_count=self._cached_count)
        if self._stops.hit:
            self.end("stop")
            self.enough = piece.finish is None
        elif piece.finish is not None:
            self.say(self._stops.close())
            self._finish_with(piece.finish)
        self.done = piece.finish is not None

    def _finish_with(self, reason: str) -> None:
        if reason:
            self.end(reason)
        else:
            self.fail(ProviderError(ErrorClass.INCOMPLETE, "the engine gave no finish reason"))
