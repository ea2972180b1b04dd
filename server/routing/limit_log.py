"""Log lines about limits: a few, however many calls run into them."""

from collections.abc import Callable
from typing import Final

import structlog

SECONDS_BETWEEN_LINES: Final = 10.0
"""Between two lines about one scope."""

_log = structlog.get_logger(__name__)


class LimitLog:
    """Writes one line for each scope in ten seconds, with how many calls it stands for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Args: seconds that only grow."""
        self._clock = clock
        self._written: dict[tuple[str, bool], float] = {}
        self._since: dict[tuple[str, bool], int] = {}

    def limited(self, model: str, scope: str, limit: str, *, enforced: bool) -> None:
        """Says that a call was refused, or would have been. Nobody is named: persons are counted, not watched."""
        key = (scope, enforced)
        count = self._since.get(key, 0) + 1
        now = self._clock()
        if now - self._written.get(key, float("-inf")) < SECONDS_BETWEEN_LINES:
            self._since[key] = count
            return
        self._since[key] = 0
        self._written[key] = now
        _log.info("limit_reached", model=model, scope=scope, limit=limit, enforced=enforced, calls=count)
