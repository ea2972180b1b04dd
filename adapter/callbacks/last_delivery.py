"""Whether a callback comes for the last time: WeCom delivers up to three times, five seconds apart (DOC 90238)."""

import time
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

_DELIVERIES: Final = 3
_LAST_AFTER: Final = 9
"""Seconds between a message and its third delivery, by WeCom's own clock on both sides."""
_REMEMBERED_SECONDS: Final = 60.0
_MOST: Final = 10_000
"""Messages that are counted at a time; beyond it the oldest go, and are told by their age alone."""


class LastDelivery:
    """Counts the deliveries of messages that were not taken."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._seen: TTLCache[tuple[str, str], int] = TTLCache(_MOST, _REMEMBERED_SECONDS, clock)

    def is_it(self, account: str, request_id: str, *, written_at: int, delivered_at: int) -> bool:
        """Whether WeCom will not come again with this message; to be asked once for each delivery.

        The age tells it where another replica saw the deliveries before; the count, where
        WeCom gives all of them the same time.

        Args: POSIX seconds, both as WeCom says.
        """
        count = self._seen.get((account, request_id), 0) + 1
        self._seen[account, request_id] = count
        return count >= _DELIVERIES or delivered_at - written_at >= _LAST_AFTER
