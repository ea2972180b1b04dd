"""What calls cost."""

import math
from typing import Final

from server.domain import Usage
from server.routing.limit_state import MONEY_UNITS
from server.settings import PriceSettings

_PRICED_TOKENS: Final = 1_000_000
"""Tokens that a price is for."""


FREE: Final = PriceSettings()
"""The price of a model that has none: no cap on spending is over it, see ``checks.py``."""


def cost_of(price: PriceSettings, usage: Usage) -> float:
    """In the currency of the settings. What the backend had in its own cache is a part of what it read."""
    cached = min(usage.cached_input_token_count, usage.input_token_count)
    cached_price = price.input if price.cached_input is None else price.cached_input
    read = (usage.input_token_count - cached) * price.input + cached * cached_price
    return (read + usage.output_token_count * price.output) / _PRICED_TOKENS


class Rate:
    """A price in whole billionths, for counting against a cap."""

    __slots__ = ("_cached", "_input", "_output", "free")

    def __init__(self, price: PriceSettings) -> None:
        units = MONEY_UNITS / _PRICED_TOKENS
        self._input = price.input * units
        self._cached = self._input if price.cached_input is None else price.cached_input * units
        self._output = price.output * units
        self.free = not (self._input or self._cached or self._output)
        """Whether nothing that the model does costs anything."""

    def of(self, read: int, written: int, cached: int = 0) -> int:
        """What a call costs, rounded up.

        Args:
            read: tokens, those included that were ``cached``.
        """
        cached = min(cached, read)
        exactly = (read - cached) * self._input + cached * self._cached + written * self._output
        # A thousandth of a unit is the rounding of binary fractions, not money.
        return max(0, math.ceil(exactly - 0.001))
