"""The nearest of many: exact for few, and nearly always for many."""

import random
from array import array

from hypothesis import given
from hypothesis import strategies as st

from server.cache.neighbours import LOOKED_AT, cosine, nearest, sketch_of
from server.llm.embedder import unit


class Point:
    def __init__(self, vector: "array[float]") -> None:
        self.vector = vector
        self.sketch = sketch_of(vector)


def points(count: int, dimension: int, seed: int = 1) -> list[Point]:
    chance = random.Random(seed)
    return [Point(unit(chance.gauss(0, 1) for _ in range(dimension))) for _ in range(count)]


def near(point: Point, share: float, seed: int) -> Point:
    """A point whose cosine with ``point`` is about ``share``."""
    chance = random.Random(seed)
    noise = unit(chance.gauss(0, 1) for _ in point.vector)
    rest = (1 - share**2) ** 0.5
    return Point(unit(share * one + rest * other for one, other in zip(point.vector, noise, strict=True)))


@given(st.integers(0, LOOKED_AT), st.integers(0, 10**6), st.floats(-1, 1))
def test_few_are_all_looked_at(count: int, seed: int, at_least: float) -> None:
    *others, asked = points(count + 1, 8, seed)
    found = nearest(asked.vector, asked.sketch, others, at_least)
    similar = [cosine(asked.vector, other.vector) for other in others]
    assert [item.place for item in found] == sorted(
        (place for place, value in enumerate(similar) if value >= at_least), key=lambda place: (-similar[place], place)
    )
    assert all(item.similarity == similar[item.place] for item in found)


def test_the_near_one_is_found_among_many() -> None:
    others = points(2000, 256)
    found = 0
    for place in range(0, 2000, 10):
        asked = near(others[place], 0.85, place)
        first = next(iter(nearest(asked.vector, asked.sketch, others, 0.7)), None)
        found += first is not None and first.place == place
    assert found == 200


def test_a_far_one_is_never_taken_for_a_near_one() -> None:
    others = points(500, 64)
    for asked in points(200, 64, seed=2):
        for item in nearest(asked.vector, asked.sketch, others, 0.3):
            assert cosine(asked.vector, others[item.place].vector) == item.similarity >= 0.3


def test_vectors_of_another_length_are_near_to_nothing() -> None:
    assert cosine(unit([1.0]), unit([1.0, 0.0])) == 0
