"""Asking a model again in the way that its refusal asks for."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Generic, Protocol, Self, TypeVar

import msgspec
import structlog

from server.llm.base import Chunk, ProviderError

_log = structlog.get_logger(__name__)

Body = Mapping[str, object]


class Manners(Protocol):
    """What is known of what a model bears: an immutable struct."""

    def after(self, error: ProviderError, body: Body) -> Self:
        """What is known after the model refused ``body``; the same if that taught nothing.

        Whatever is refused, a few steps come to an end: each knows more than the one before.
        """
        ...


M = TypeVar("M", bound=Manners)


class Learning(Generic[M]):
    """The manners of one model, kept between calls.

    A call that is refused for want of them is made once more as the refusal asks for, and
    later ones are made that way at once.
    """

    def __init__(self, model: str, manners: M) -> None:
        """Args: the name of the route, for the log; what is known at first."""
        self._model = model
        self._manners = manners

    async def generate(
        self, body: Callable[[M], Body], ask: Callable[[Body], AsyncGenerator[Chunk, None]]
    ) -> AsyncGenerator[Chunk, None]:
        """One reply, over as many calls as there is to learn.

        Args:
            body: makes the request in the way that the model bears.
            ask: makes one call.

        Raises:
            ProviderError: as ``ask``, and as ``body``.
        """
        # What others learn meanwhile is not looked at: so each round of this call knows more than the one before.
        manners = self._manners
        while True:
            asked = body(manners)
            try:
                async with aclosing(ask(asked)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except ProviderError as error:
                # Only refusals teach, and those come before the first chunk.
                learnt = manners.after(error, asked)
                if learnt == manners:
                    raise
            manners = self._manners = learnt
            known = msgspec.to_builtins(learnt, order="sorted")
            _log.warning("llm_manners_learnt", model=self._model, **known)
