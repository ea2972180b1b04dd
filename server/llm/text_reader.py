"""Reads replies of backends that know nothing but text, in which thoughts stand between tags."""

from abc import ABC
from typing import TypeVar

from google.protobuf.message import Message

from server.llm.base import Chunk
from server.llm.grpc_call import MessageReader
from server.llm.think import ThinkSplitter

M = TypeVar("M", bound=Message)


class TextReader(MessageReader[M], ABC):
    """A :class:`~server.llm.grpc_call.MessageReader` that tells thoughts from text by ``<think>``."""

    def __init__(self, model: str, *, thinking: bool = False) -> None:
        """Args: the name of the route; whether the prompt ended with the opening tag, so that the
        reply begins inside of a thought.
        """
        super().__init__(model)
        self._think = ThinkSplitter()
        if thinking:
            self._think.feed("<think>")

    def say(self, text: str) -> None:
        """Adds what the model wrote, tags included."""
        if text:
            thought, said = self._think.feed(text)
            self.put(said, thought)

    def close(self) -> Chunk:
        """See :meth:`server.llm.reply.Reply.close`."""
        thought, said = self._think.close()
        self.put(said, thought)
        return super().close()
