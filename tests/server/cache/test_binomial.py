"""The exact bound, against published values and against exact arithmetic."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.cache.binomial import sample_needed, upper_bound


@pytest.mark.parametrize(
    ("seen", "total", "confidence", "bound"),
    [
        # One-sided 95 %; with nothing seen it is 1 - 0.05 ** (1 / n), near the rule of three.
        (0, 10, 0.95, 0.258866),
        (0, 299, 0.95, 0.009969),
        (1, 10, 0.95, 0.394163),
        (2, 20, 0.95, 0.282619),
        # The upper ends of two-sided intervals of 95 %, as tables have them.
        (0, 10, 0.975, 0.308497),
        (5, 100, 0.975, 0.112835),
        (10, 10, 0.95, 1.0),
        (0, 0, 0.95, 1.0),
    ],
)
def test_known_values(seen: int, total: int, confidence: float, bound: float) -> None:
    assert upper_bound(seen, total, confidence) == pytest.approx(bound, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 120), st.data())
def test_exact_arithmetic_agrees(total: int, data: st.DataObject) -> None:
    seen = data.draw(st.integers(0, total - 1))
    bound = Fraction(upper_bound(seen, total, 0.99))
    tail = sum(comb(total, count) * bound**count * (1 - bound) ** (total - count) for count in range(seen + 1))
    assert float(tail) == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize(("share", "confidence", "needed"), [(0.01, 0.95, 299), (0.05, 0.95, 59), (0.01, 0.99, 459)])
def test_the_smallest_sample_without_a_mistake(share: float, confidence: float, needed: int) -> None:
    assert sample_needed(0, share, confidence) == needed


@given(st.integers(0, 20), st.floats(0.005, 0.3))
@settings(max_examples=30, deadline=None)
def test_the_sample_needed_is_the_smallest(seen: int, share: float) -> None:
    needed = sample_needed(seen, share, 0.95)
    assert upper_bound(seen, needed, 0.95) <= share < upper_bound(seen, needed - 1, 0.95)


@pytest.mark.parametrize(("seen", "total", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0.0), (1, 5, 1.0)])
def test_what_is_no_sample(seen: int, total: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        upper_bound(seen, total, confidence)
    with pytest.raises(ValueError, match="must be"):
        sample_needed(0, 1.0, 0.95)
