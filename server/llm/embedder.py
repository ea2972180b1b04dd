"""What turns texts into vectors, and one that never gets in the way.

A vector is an array of 32-bit floats of length 1, so that the product of two is the
cosine of the angle between them.
"""

import math
import operator
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import structlog

from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.failure_lines import log_failure

_log = structlog.get_logger(__name__)

FAILURES_IN_A_ROW: Final = 3
"""After so many, an embedder is left alone for a while: its time-out would be added to every turn."""

REST_SECONDS: Final = 30.0
"""How long it is left alone. One ask goes through afterwards; if that fails too, it rests again."""


class Embedder(Protocol):
    """A model that turns texts into vectors."""

    @property
    def identity(self) -> str:
        """The model. Vectors of different ones cannot be compared."""
        ...

    async def embed(self, text: str, budget: Budget) -> "array[float]":
        """The vector of one text; the call may be shared with others.

        Raises:
            ProviderError: with the class of what went wrong.
        """
        ...

    async def embed_all(self, texts: Sequence[str], budget: Budget) -> "list[array[float]]":
        """The vectors of many texts, in their order.

        Raises:
            ProviderError: if a single one of them failed.
        """
        ...

    async def aclose(self) -> None:
        """Closes connections. Calls under way fail."""
        ...


def unit(values: Iterable[float]) -> "array[float]":
    """The vector of length 1 in the same direction.

    Raises:
        ValueError: if there is no direction: nothing but zeros, or a value that is no number.
    """
    wide = array("d", values)
    length = math.sqrt(sum(map(operator.mul, wide, wide)))
    if not 0 < length < math.inf:
        raise ValueError("a vector must have finite values that are not all zero")
    return array("f", [value / length for value in wide])


class OptionalEmbedder:
    """An embedder for those who can do without: ``None`` takes the place of every failure."""

    def __init__(self, embedder: Embedder, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: how long one text may take, whatever the budget; what counts the seconds of a rest."""
        self._embedder = embedder
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._rests_until = -math.inf

    async def vector(self, text: str, budget: Budget) -> "array[float] | None":
        """The vector of ``text``, or ``None`` if there is none within the budget. Never raises."""
        if self._clock() < self._rests_until:
            return None
        if self._failures >= FAILURES_IN_A_ROW:
            # This ask finds out for all the others whether it works again.
            self._rests_until = self._clock() + REST_SECONDS
        try:
            vector = await self._embedder.embed(text, budget.part(self._seconds))
        except ProviderError as error:
            self._failed(error, hurried=budget.spent())
            return None
        self._failures, self._rests_until = 0, -math.inf
        return vector

    def _failed(self, error: ProviderError, *, hurried: bool) -> None:
        log_failure(_log.warning, "embedding_failed", error, model=error.model)
        # A caller in a hurry, or a text that is refused, says nothing about the next one.
        if hurried or error.kind in (ErrorClass.CONTENT, ErrorClass.CONTEXT):
            return
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            self._rests_until = self._clock() + REST_SECONDS
