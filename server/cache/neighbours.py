"""The nearest of many vectors, without arithmetic on all of them.

A vector's sketch is one bit for each of its numbers: the sign. Two vectors at a small
angle differ in few signs, and counting those takes a tenth of a microsecond where a
product of 1,024 numbers takes forty. So sketches choose who is looked at, and the exact
cosine decides. A near one can be overlooked, which costs a model call; a far one is
never taken for a near one.
"""

import heapq
import operator
from array import array
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

LOOKED_AT: Final = 16
"""Vectors whose exact cosine is computed. With fewer in all, nobody is overlooked."""


class Sketched(Protocol):
    """Something with a vector of length 1 and its sketch."""

    @property
    def vector(self) -> "array[float]": ...
    @property
    def sketch(self) -> int: ...


S = TypeVar("S", bound=Sketched)


class Near(NamedTuple):
    """One that was found."""

    similarity: float
    """The cosine, from -1 to 1."""
    place: int
    """Where it stands in what was searched."""


def sketch_of(vector: "array[float]") -> int:
    """The signs of a vector's numbers."""
    return int("".join(["1" if number > 0 else "0" for number in vector]) or "0", 2)


def cosine(one: "array[float]", other: "array[float]") -> float:
    """Of two vectors of length 1. 0 where their lengths in numbers differ: they cannot be compared."""
    return sum(map(operator.mul, one, other)) if len(one) == len(other) else 0.0


def nearest(vector: "array[float]", sketch: int, others: Sequence[Sketched], at_least: float) -> list[Near]:
    """Those of ``others`` whose cosine with ``vector`` is ``at_least`` so much, the nearest first."""
    chosen: Iterable[int] = range(len(others))
    if len(others) > LOOKED_AT:
        differ = [(other.sketch ^ sketch).bit_count() for other in others]
        chosen = heapq.nsmallest(LOOKED_AT, range(len(others)), key=differ.__getitem__)
    found = [Near(cosine(vector, others[index].vector), index) for index in chosen]
    return sorted(
        (near for near in found if near.similarity >= at_least), key=lambda near: (-near.similarity, near.place)
    )
