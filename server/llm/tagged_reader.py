"""Readers for servers that may leave thoughts in the text, between tags. Pure."""

from abc import ABC
from collections.abc import Mapping

from server.llm.base import ErrorClass
from server.llm.body_reader import BodyReader
from server.llm.think import ThinkSplitter


class TaggedReader(BodyReader, ABC):
    """A :class:`~server.llm.body_reader.BodyReader` that tells tagged thoughts from text.

    It does so until the server has shown that it tells them apart itself; then every tag
    in the text is meant as text.
    """

    def __init__(self, model: str, *, overrides: Mapping[str, ErrorClass] | None = None) -> None:
        """Args: see :class:`~server.llm.body_reader.BodyReader`."""
        super().__init__(model, overrides=overrides)
        self._think: ThinkSplitter | None = ThinkSplitter()

    def _read_text(self, text: str) -> None:
        """Takes a piece of what the server sent as text."""
        if self._think is None:
            self.put(text)
            return
        # It may be held back whole, as the beginning of a tag; something has arrived all the same.
        self.arrived = True
        thought, rest = self._think.feed(text)
        self.put(rest, thought)
        if self._think.plain:
            self._think = None

    def _read_thought(self, thought: str) -> None:
        """Takes a piece of what the server sent as a thought."""
        self._let_go()
        self.put(thought=thought)

    def _let_go(self) -> None:
        """See :meth:`server.llm.body_reader.BodyReader._let_go`."""
        if self._think is not None:
            thought, rest = self._think.close()
            self.put(rest, thought)
            self._think = None
