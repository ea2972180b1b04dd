"""Money is counted exactly, and never too little."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain import Usage
from server.routing.limit_state import MONEY_UNITS
from server.routing.prices import Rate, cost_of
from server.settings import PriceSettings

PRICES = st.decimals(0, 100, places=4)
TOKENS = st.integers(0, 1_000_000)


@given(PRICES, st.none() | PRICES, PRICES, TOKENS, TOKENS, TOKENS)
def test_like_counting_in_fractions(
    read_price: object, cached_price: object, written_price: object, read: int, written: int, cached: int
) -> None:
    price = PriceSettings(
        input=float(str(read_price)),
        cached_input=None if cached_price is None else float(str(cached_price)),
        output=float(str(written_price)),
    )
    of_cached = Fraction(str(read_price if cached_price is None else cached_price))
    cached_part = min(cached, read)
    exactly = (
        (read - cached_part) * Fraction(str(read_price))
        + cached_part * of_cached
        + written * Fraction(str(written_price))
    ) / 1_000_000
    rate = Rate(price)
    free = not (Fraction(str(read_price)) or of_cached or Fraction(str(written_price)))
    assert rate.free == free
    assert rate.of(read, written, cached) == math.ceil(exactly * MONEY_UNITS)
    assert cost_of(price, Usage(read, written, cached_input_token_count=cached)) == pytest.approx(float(exactly))
