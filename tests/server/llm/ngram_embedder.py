"""An embedder without a model: texts are near when they share stretches of characters.

It knows nothing of meaning; what it gives has the shape of the real thing: dense vectors,
deterministic, the same on every machine.
"""

import hashlib
from array import array
from collections.abc import Sequence
from typing import Final

from server.budget import Budget
from server.llm.embedder import unit

DIMENSION: Final = 256

_WEIGHTS: Final = {1: 0.5, 2: 1.0, 3: 0.5}
"""By the length of a stretch: single characters say little, long ones rarely meet."""


class NgramEmbedder:
    """An :class:`~server.llm.embedder.Embedder` that computes on the spot and never fails."""

    @property
    def identity(self) -> str:
        """Changes whenever vectors do."""
        return f"ngrams-1:{DIMENSION}"

    async def embed(self, text: str, budget: Budget) -> "array[float]":
        """See :meth:`server.llm.embedder.Embedder.embed`."""
        return ngram_vector(text)

    async def embed_all(self, texts: Sequence[str], budget: Budget) -> "list[array[float]]":
        """See :meth:`server.llm.embedder.Embedder.embed_all`."""
        return [ngram_vector(text) for text in texts]

    async def aclose(self) -> None:
        """Has nothing to close."""


def ngram_vector(text: str) -> "array[float]":
    """The sum of one pseudo-random direction for each stretch of up to three characters."""
    padded = f"\x02{text.casefold()}\x03"
    total = [0.0] * DIMENSION
    for length, weight in _WEIGHTS.items():
        for start in range(len(padded) - length + 1):
            direction = hashlib.shake_128(padded[start : start + length].encode("utf-8", "replace")).digest(DIMENSION)
            for place, byte in enumerate(direction):
                total[place] += weight * (byte - 127.5)
    return unit(total)
