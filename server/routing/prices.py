"""What calls cost."""

import math
from typing import Final

from server.domain import Usage
from server.routing.limit_state import MONEY_UNITS
from server.settings import PriceSettings

_PRICED_TOKENS: Final = 1_000_000
"""Tokens that a price is for."""


def cost_of(price: PriceSettings, usage: Usage) -> float:
    """In the currency of the settings. What the backend had in its own cache is a part of what it read."""
    cached = min(usage.cached_input_token_count, usage.input_token_count)
    cached_price = price.input if price.cached_input is None else price.cached_input
    read = (usage.input_token_count - cached) * price.input + cached * cached_price
    return (read + usage.output_token_count * price.output) / _PRICED_TOKENS


def in_units(money: float) -> int:
    """Whole billionths, rounded up; so a sum of costs is never below what was spent."""
    # The smallest fractions are those of the binary form, not of the money.
    return math.ceil(round(money * MONEY_UNITS, 3))


def is_free(price: PriceSettings) -> bool:
    """Whether nothing that the model does costs anything."""
    return not (price.input or price.cached_input or price.output)
