"""How many second attempts a model gets, so that an outage does not multiply its load."""

from typing import Final

from server.routing.recent import RecentCounts

WINDOW_SECONDS: Final = 10.0

FLOOR: Final = 3
"""Second attempts in a window that are always allowed: a lone call may try again."""


class RetryBudget:
    """Second attempts of turns at one model, as a share of all its calls in the last ten seconds."""

    __slots__ = ("_recent", "_share")

    def __init__(self, share: float) -> None:
        """Args: from 0 (none but the floor) to 1."""
        self._share = share
        self._recent = RecentCounts(WINDOW_SECONDS)

    def called(self, now: float, *, again: bool) -> None:
        """A call is made; ``again``: the same turn has called this model before."""
        self._recent.add(now, marked=again)

    def allows(self, now: float) -> bool:
        """Whether one more second attempt stays within the share."""
        calls, again = self._recent.totals(now)
        return again < FLOOR or again + 1 <= self._share * (calls + 1)
