"""Times during which something that failed is left alone."""

from typing import Final

LONGEST_HINT_SECONDS: Final = 600.0
"""Who asks for a longer rest is called again after so long: hints have been wrong before."""

_HIGHEST_LEVEL: Final = 16

_FIRST_PROBE_SECONDS: Final = 1.0
_LONGEST_PROBE_SECONDS: Final = 60.0


class Rest:
    """A rest that doubles as long as what follows it fails too.

    Calls that were under way when a rest began say nothing new: neither does their
    failure prolong it, nor their success end it. So fifty calls that fail together
    begin one rest, not the fiftieth doubling of one.
    """

    __slots__ = ("_first", "_level", "_longest", "_probe_at", "_since", "until")

    def __init__(self, first_seconds: float, longest_seconds: float) -> None:
        """Args: how long the first rest is, and where doubling ends."""
        self._first = first_seconds
        self._longest = longest_seconds
        self._level = 0
        self._since = 0.0
        self._probe_at = 0.0
        self.until = 0.0
        """When it is over; in the past or 0 while there is none."""

    def begin(self, now: float, called_at: float, hint: float | None = None) -> bool:
        """A call failed; gives whether that was news.

        Args:
            called_at: when the call that failed was made.
            hint: seconds the backend asked for; they replace the doubling, up to :data:`LONGEST_HINT_SECONDS`.
        """
        if self._level and called_at < self._since:
            if hint is not None:
                self.until = max(self.until, now + min(hint, LONGEST_HINT_SECONDS))
            return False
        if hint is None:
            self.until = now + min(self._first * float(2**self._level), self._longest)
        else:
            self.until = now + min(hint, LONGEST_HINT_SECONDS)
        self._since = now
        self._level = min(self._level + 1, _HIGHEST_LEVEL)
        self._probe_at = now + self._probe_gap()
        return True

    def end(self, called_at: float) -> None:
        """A call succeeded that was made at ``called_at``."""
        if self._level and called_at >= self._since:
            self.clear()

    def clear(self) -> None:
        """The reason is gone."""
        self._level = 0
        self.until = 0.0

    def remaining(self, now: float) -> float:
        """Seconds that it still lasts, never below 0."""
        return max(0.0, self.until - now)

    def takes_probe(self, now: float) -> bool:
        """Whether one call may look if the rest is still needed; asking again soon says no.

        For the case that nothing else is left: what recovered early is noticed, and what
        did not is called 1, 2, 4 … 60 seconds apart, however many turns are asking.
        """
        if now < self._probe_at:
            return False
        self._probe_at = now + self._probe_gap()
        return True

    def _probe_gap(self) -> float:
        return min(_LONGEST_PROBE_SECONDS, _FIRST_PROBE_SECONDS * float(2 ** max(0, self._level - 1)))
